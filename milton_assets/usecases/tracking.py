"""A campaign told to an MLflow tracking server: a run for the campaign, and a run below it for each model.

    told = tell_mlflow(mlflow_runs_of(settings), sources, "benchmark_20260111_142500")
    print(told.address)

What belongs here: what these runs say. What does not: MLflow's protocol (`resources.mlflow_runs`), and when they are
told, which no campaign hangs on.

Every figure that may be relied on is a metric, `reasoning/cove_pass_rate`, and its confidence interval two more,
`…/low` and `…/high`. What was skipped, failed or is invalid is no metric: it is named with its reason in a tag. Figures
and digests are told; questions, answers and paths are not, but for what the report shows, which is kept with the run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from milton_assets import __version__
from milton_assets.selection import card
from milton_assets.selection.decision import CandidateReport, Decision
from milton_assets.selection.replay import read_pinned
from milton_assets.selection.summary import RunSummary, read_summary
from milton_assets.settings.model import MlflowSettings
from milton_assets.usecases.reporting import Sources
from milton_assets.vocabulary import markdown
from milton_assets.vocabulary.keys import RunId
from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.terminal import printable
from milton_assets.vocabulary.tier import TierResult
from resources.mlflow_runs import MAX_TEXT, NOTE_TAG, PARENT_TAG, MlflowRefused, MlflowRuns, Run
from resources.mlflow_server import MlflowServer

RUN_ID_TAG: Final = "milton.run_id"
MODEL_TAG: Final = "milton.model_version"
NO_MODEL: Final = "none"
_NOT_IN_A_KEY = re.compile(r"[^\w./ :-]")


class MlflowMissing(MlflowRefused):
    """A tracking server does not have what it was asked for."""


@dataclass(frozen=True)
class MlflowTracking:
    """Where campaigns are told: a server's runs, and the experiment among them."""

    runs: MlflowRuns
    experiment: str

    @classmethod
    def from_settings(cls, settings: MlflowSettings) -> MlflowTracking:
        """The server that the settings name."""
        server = MlflowServer(settings.url.rstrip("/"), "mlflow.url", MlflowRefused, MlflowMissing)
        return cls(MlflowRuns(server), settings.experiment)


@dataclass(frozen=True)
class Said:
    """What one run says. `known_by` are the tags by which it is found again."""

    name: str
    known_by: Mapping[str, str]
    metrics: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Told:
    """A campaign that was told: its run's page in MLflow's UI, and how many models' runs are below it.

    `left_out` says why the report is not kept with it, when it is not.
    """

    run_id: RunId
    address: str
    models: int
    left_out: str | None = None


def tell_mlflow(tracking: MlflowTracking, sources: Sources, run_id: str) -> Told:
    """Tell everything that is known of that run by now; what was told before is brought up to date.

    Raises `MlflowRefused` when the server does not take it, `EvidenceMismatch` when a table does not hold, and
    `BadInput` when there is no such run, or the server keeps files where only its own clients can put them.
    """
    summary = read_summary(sources.store.runs, run_id)
    measured = read_pinned(sources.store.read_bytes, summary.manifest)
    page, left_out = _page(sources, summary)
    experiment = tracking.runs.experiment(tracking.experiment)
    above = _tell(tracking.runs, experiment, campaign_run(summary), summary.decision)
    if page is not None:
        tracking.runs.keep(above, "report.html", page)
    models = list(model_runs(summary.decision, measured))
    for said in models:
        _tell(tracking.runs, experiment, said, summary.decision, {PARENT_TAG: above.run_id})
    return Told(run_id, tracking.runs.address(experiment, above), len(models), left_out)


def campaign_run(summary: RunSummary) -> Said:
    """What the campaign's own run says: the outcome, its reasons, its digests, and where its bundle went."""
    decision = summary.decision
    tags = {
        "milton.verdict": decision.verdict.value,
        "milton.winner": decision.winner or NO_MODEL,
        "milton.incumbent": decision.incumbent or NO_MODEL,
        "milton.decision_sha256": decision.digest(),
        "milton.manifest_sha256": decision.manifest_sha256,
        "milton.deployed_to": ", ".join(sorted({told.target for told in summary.deployments})) or NO_MODEL,
        "mlflow.source.name": f"milton-autobench {__version__}",
        NOTE_TAG: _note(decision),
    }
    if summary.bundle:
        tags["milton.release_digest"] = summary.bundle.release_digest
    return Said(
        name=summary.run_id,
        known_by={RUN_ID_TAG: summary.run_id, MODEL_TAG: NO_MODEL},
        metrics={"candidates": len(decision.candidates), "eligible": len(decision.eligible)},
        parameters={
            "policy": f"{decision.policy.name} v{decision.policy.version}",
            "policy_sha256": decision.policy_sha256,
        },
        tags=tags,
    )


def model_runs(decision: Decision, measured: Mapping[str, Mapping[str, TierResult]]) -> Iterator[Said]:
    """What each model's run says: every figure of every tier with its interval, its score and its standing."""
    for report in decision.candidates:
        metrics: dict[str, float] = dict(_standing(report))
        left_out = []
        for tier, result in measured.get(report.version, {}).items():
            for metric in result.metrics:
                if metric.value is None or not metric.valid:
                    left_out.append(f"{tier}/{metric.name}: {metric.why}")
                else:
                    metrics |= _figures(tier, metric)
        yield Said(
            name=report.version,
            known_by={RUN_ID_TAG: decision.run_id, MODEL_TAG: report.version},
            metrics=metrics,
            parameters={"model_version": report.version, "artefact_size_bytes": str(report.artefact_size_bytes)},
            tags={
                "milton.standing": report.standing.value,
                "milton.why": printable(report.why),
                "milton.is_winner": str(report.version == decision.winner).lower(),
                "milton.not_told": printable("; ".join(left_out)),
            },
        )


def _tell(
    runs: MlflowRuns, experiment: str, said: Said, decision: Decision, more: Mapping[str, str] | None = None
) -> Run:
    at = decision.decided_at
    run = runs.ensure(experiment, said.name, said.known_by, at)
    runs.log(run, at=at, metrics=said.metrics, parameters=said.parameters, tags={**said.tags, **(more or {})})
    runs.end(run.run_id, "FINISHED", at)
    return run


def _standing(report: CandidateReport) -> Iterator[tuple[str, float]]:
    for name, value in (
        ("score", report.score),
        ("rank", report.rank),
        ("probability_best", report.probability_best),
    ):
        if value is not None:
            yield name, float(value)


def _figures(tier: str, metric: Metric) -> Iterator[tuple[str, float]]:
    assert metric.value is not None  # noqa: S101 - the caller asked
    key = _key(f"{tier}/{metric.name}")
    yield key, metric.value
    if metric.interval is not None:
        yield f"{key}/low", metric.interval.low
        yield f"{key}/high", metric.interval.high


def _key(name: str) -> str:
    """The name as MLflow takes it: `nDCG@10` is `nDCG_at_10`."""
    return _NOT_IN_A_KEY.sub("_", name.replace("@", "_at_"))


def _note(decision: Decision) -> str:
    """Verdict and reasons as Markdown, whole lines of it."""
    lines = [f"**{markdown.text(card.headline(decision))}**", ""]
    for reason in decision.reasons:
        line = f"- {markdown.text(reason)}"
        if len("\n".join([*lines, line])) > MAX_TEXT:
            break
        lines.append(line)
    return "\n".join(lines)


def _page(sources: Sources, summary: RunSummary) -> tuple[bytes | None, str | None]:
    """The page that lies beside the summary, and why there is none."""
    if summary.report is None:
        return None, "no page was made of this run; `milton report` says why"
    place = sources.store.runs / f"{summary.run_id}.html"
    try:
        return bytes(place.read_bytes()), None
    except OSError as error:
        return None, f"{place} cannot be read ({error.strerror or error})"
