"""A run's readable summary: `runs/benchmark_YYYYMMDD_HHMMSS[.CLASS].json` below the evidence store.

    write_summary(store.runs, RunSummary(run_id=..., decision=..., manifest=...))
    summary = read_summary(store.runs)               # the latest
    summary = read_summary(store.runs, "benchmark_20260111_142500")

What belongs here: the summary's noun, writing it, finding and reading it. What does not: the evidence it points to, and
how a document is changed where several hosts may (`vocabulary.documents`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from milton_assets.selection.decision import Decision
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.documents import Documents
from milton_assets.vocabulary.errors import BadInput, one_of
from milton_assets.vocabulary.evidence import EvidenceManifest
from milton_assets.vocabulary.format_version import of_this_version
from milton_assets.vocabulary.keys import RUN_ID, RunId, Slug, campaign_of, check_run_id
from milton_assets.vocabulary.places import Place


class BundleRecord(BaseModel):
    """The bundle that a run made: its folder, as `StateDir.tell` names it, its name and its release's digest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    name: str
    release_digest: Sha256


class DeploymentRecord(BaseModel):
    """A target that a run's bundle was taken to: the deployment's id, the target, its folder there as `StateDir.tell`
    names it, and the release."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    target: Slug
    path: str
    release: Sha256


class ReportRecord(BaseModel):
    """The page on the run that lies beside its summary: its path, as `StateDir.tell` names it, or its URL in an object
    store, and its digest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    sha256: Sha256


FORMAT_VERSION = 3
"""Version 2 tells paths inside the state folder relative to it, version 3 may name the run's page. Files of version 1
bear no version. Another version is not read."""


class RunSummary(BaseModel):
    """What one benchmark run came to. `bundle` is None where the run made none; `deployments` holds one for each
    target that the bundle was taken to, the newest last; `report` is the page on the run, once there is one. A bundle's
    copy of the summary names neither bundle nor deployments, which come after it, and the page as it was decided.

    `candidates` maps each version to whatever the run wants to tell about it beyond the decision. `notes` are sentences
    about how the run came to its profile and policy.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[3] = 3
    run_id: RunId
    decision: Decision
    manifest: EvidenceManifest
    bundle: BundleRecord | None = None
    deployments: tuple[DeploymentRecord, ...] = ()
    report: ReportRecord | None = None
    candidates: dict[str, dict[str, Any]] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _of_this_version(cls, given: Any) -> Any:
        return of_this_version(given, what="summary", field="format_version", version=FORMAT_VERSION)

    @model_validator(mode="after")
    def _one_run(self) -> Self:
        for what, run_id in (("decision", self.decision.run_id), ("manifest", self.manifest.run_id)):
            if run_id != self.run_id:
                raise ValueError(f"the {what} is that of {run_id}, not of {self.run_id}")
        if self.manifest.digest() != self.decision.manifest_sha256:
            raise ValueError(
                f"the decision rests on manifest {self.decision.manifest_sha256}, "
                f"the manifest here is {self.manifest.digest()}"
            )
        return self


def as_decided(summary: RunSummary) -> RunSummary:
    """The summary without what is added to it after the decision."""
    return summary.model_copy(update={"bundle": None, "deployments": (), "report": None})


def write_summary(runs: Place, summary: RunSummary) -> Place:
    """Write the summary as `<run_id>` in `runs`, whole or not at all, and return where it lies."""
    documents = Documents(runs)
    documents.change(summary.run_id, lambda _: _to_bytes(summary))
    return documents.place(summary.run_id)


def change_summary(runs: Place, run_id: str, change: Callable[[RunSummary], RunSummary]) -> None:
    """Change what the run's summary says; others may do so at the same time, here or on other hosts.

    `change` is asked again where another was faster. Raises as `read_summary`.
    """

    def changed(raw: bytes | None) -> bytes:
        if raw is None:
            raise BadInput(f"there is no run {run_id} in {runs}", expected="a run that was decided")
        return _to_bytes(change(_parsed(raw, f"{runs}/{run_id}")))

    Documents(runs).change(run_id, changed)


def add_deployments(runs: Place, run_id: str, deployments: Sequence[DeploymentRecord]) -> None:
    """Add to the run's summary where its bundle was taken; several processes, or hosts, may do so at once."""
    if not deployments:
        return
    change_summary(
        runs,
        run_id,
        lambda summary: summary.model_copy(update={"deployments": (*summary.deployments, *deployments)}),
    )


def run_ids(runs: Place) -> tuple[str, ...]:
    """Ids of the runs that have a summary, oldest first. An absent folder has none."""
    return tuple(name for name in Documents(runs).names() if RUN_ID.fullmatch(name))


def read_summary(runs: Place, run_id: str | None = None) -> RunSummary:
    """The summary of `run_id`, or of the latest run. Raises `BadInput` saying which runs there are."""
    known = run_ids(runs)
    if run_id is None:
        if not known:
            raise BadInput(
                f"no benchmark run has ended yet (nothing in {runs})",
                remedy="`milton autobench` measures the candidates and decides",
            )
        run_id = known[-1]
    if check_run_id(run_id) not in known:
        raise BadInput(
            f"there is no run {run_id} in {runs}",
            expected=one_of(reversed(known), 10) if known else "a run, and none has ended yet",
            remedy="`milton results --list` shows them" if known else "`milton autobench` measures and decides",
        )
    return _parsed(Documents(runs).read(run_id) or b"", f"{runs}/{run_id}.json")


def _to_bytes(summary: RunSummary) -> bytes:
    return f"{summary.model_dump_json(indent=2)}\n".encode()


def _parsed(raw: bytes, where: str) -> RunSummary:
    try:
        return RunSummary.model_validate_json(raw)
    except ValidationError as error:
        raise BadInput(
            f"{where} is no valid summary: {_first(error)}",
            expected="the file as the run wrote it",
            remedy="restore it, or benchmark and decide again",
        ) from error


def summaries_beside(runs: Place, summary: RunSummary) -> tuple[RunSummary, ...]:
    """The summaries of the run's campaign, one a device class that was decided for by itself; this one among them."""
    campaign = campaign_of(summary.run_id)
    beside = [run_id for run_id in run_ids(runs) if campaign_of(run_id) == campaign]
    return tuple(summary if run_id == summary.run_id else read_summary(runs, run_id) for run_id in beside)


def _first(error: ValidationError) -> str:
    details = error.errors()[0]
    where = ".".join(map(str, details["loc"]))
    return f"{where}: {details['msg']}" if where else details["msg"]
