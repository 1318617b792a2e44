"""Runs on an MLflow tracking server: made, found again, and told parameters, metrics, tags and files.

    runs = MlflowRuns(MlflowServer(url, "mlflow.url", MlflowRefused, MlflowRefused))
    run = runs.ensure(runs.experiment("milton"), "benchmark_20260111_142500", {KEY: "benchmark_20260111_142500"}, now)
    runs.log(run, metrics={"reasoning/cove_pass_rate": 0.4}, at=now)

What belongs here: what is asked, and the bounds that MLflow sets. What does not: what a campaign's runs say
(`milton_assets.usecases.tracking`), and a request's bounds and credentials (`mlflow_server`).

What is said again changes nothing: a metric of the same value and time is one, a tag is replaced, a file too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from milton_assets.vocabulary.errors import MiltonError
from resources.mlflow_server import MlflowNoun, MlflowServer

METRICS_AT_ONCE: Final = 1_000
OTHERS_AT_ONCE: Final = 100
MAX_TEXT: Final = 5_000
"""MLflow's own bounds on one request, and on the text of a tag (older releases take no more)."""

PARENT_TAG: Final = "mlflow.parentRunId"
NOTE_TAG: Final = "mlflow.note.content"
"""MLflow's own tags: the run above, and the Markdown that a run's page shows."""

Part = TypeVar("Part")


class MlflowRefused(MiltonError):
    """A tracking server does not answer, refuses, or is none."""


class Run(MlflowNoun):
    """A run, and where its files go."""

    run_id: str
    artifact_uri: str


class _Body(MlflowNoun):
    info: Run


class _Run(MlflowNoun):
    run: _Body


class _Found(MlflowNoun):
    runs: tuple[_Body, ...] = ()


class _Experiment(MlflowNoun):
    experiment_id: str


class _Named(MlflowNoun):
    experiment: _Experiment


@dataclass(frozen=True)
class MlflowRuns:
    """The runs of a server. Every method raises what the server's requests raise."""

    server: MlflowServer

    def experiment(self, name: str) -> str:
        """The id of the experiment of that name, made when there is none."""
        query = {"experiment_name": name}
        try:
            return self.server.get("/experiments/get-by-name", query, _Named).experiment.experiment_id
        except self.server.missing:
            made = self.server.send("POST", "/experiments/create", {"name": name})
            return self.server.read(made, _Experiment).experiment_id

    def ensure(self, experiment: str, name: str, known_by: Mapping[str, str], at: datetime) -> Run:
        """The run that has the tags `known_by`, made at that time when there is none."""
        # A value is quoted, and has no escape: ours are slugs and run ids.
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in known_by.items())
        body = {"experiment_ids": [experiment], "filter": wanted, "max_results": 1}
        found = self.server.read(self.server.send("POST", "/runs/search", body), _Found).runs
        return found[0].info if found else self.create(experiment, name, known_by, at)

    def create(self, experiment: str, name: str, tags: Mapping[str, str], at: datetime | None = None) -> Run:
        """A new run, begun at that time."""
        body: dict[str, Any] = {"experiment_id": experiment, "run_name": name, "tags": _pairs(tags)}
        if at is not None:
            body["start_time"] = _milliseconds(at)
        return self.server.read(self.server.send("POST", "/runs/create", body), _Run).run.info

    def log(
        self,
        run: Run,
        *,
        at: datetime,
        metrics: Mapping[str, float] | None = None,
        parameters: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Tell the run these, metrics as of that time. What a parameter was told once, it stays."""
        time_ms = _milliseconds(at)
        told = [{"key": key, "value": value, "timestamp": time_ms, "step": 0} for key, value in (metrics or {}).items()]
        for some in _parts(told, METRICS_AT_ONCE):
            self._log_batch(run, {"metrics": some})
        for what, pairs in (("params", _pairs(parameters or {})), ("tags", _pairs(tags or {}))):
            for part in _parts(pairs, OTHERS_AT_ONCE):
                self._log_batch(run, {what: part})

    def keep(self, run: Run, name: str, content: bytes) -> None:
        """Keep a file with the run. Raises `BadInput` too where the server takes no files itself."""
        self.server.upload(run.artifact_uri, name, content)

    def end(self, run_id: str, status: str, at: datetime | None = None) -> None:
        """End a run as FINISHED or FAILED."""
        body: dict[str, str | int] = {"run_id": run_id, "status": status}
        if at is not None:
            body["end_time"] = _milliseconds(at)
        self.server.send("POST", "/runs/update", body)

    def address(self, experiment: str, run: Run) -> str:
        """The run's page in MLflow's own UI."""
        return f"{self.server.base_url}/#/experiments/{experiment}/runs/{run.run_id}"

    def _log_batch(self, run: Run, body: Mapping[str, object]) -> None:
        self.server.send("POST", "/runs/log-batch", {"run_id": run.run_id, **body})


def _pairs(named: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value[:MAX_TEXT]} for key, value in named.items()]


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _parts(parts: Sequence[Part], size: int) -> Iterator[Sequence[Part]]:
    for start in range(0, len(parts), size):
        yield parts[start : start + size]
