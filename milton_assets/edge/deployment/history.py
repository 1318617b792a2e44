"""What happened on a target: each attempt, the failed ones too, as a `Deployment` derived from the journal.

What belongs here: deriving deployments from records, and their mirror. What does not: writing the journal.

The target's journal is the one truth. The mirror (`deployment_history/<target>.jsonl`) is a copy of what it says,
kept away from the target: it outlives the target, and it betrays a journal whose end was cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from milton_assets.edge.deployment.fileops import FileOps, exists, write_all
from milton_assets.edge.deployment.ids import DeploymentId
from milton_assets.edge.deployment.journal import JournalDamaged, Line
from milton_assets.edge.deployment.states import (
    Accepted,
    Activating,
    Committed,
    Failed,
    HealthChecked,
    LoadTested,
    Operation,
    ProbeReport,
    Release,
    RolledBack,
    Started,
)
from milton_assets.edge.release.disk import opened
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.edge_target import EdgeTarget
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import RunId, Slug
from milton_assets.vocabulary.strict_json import text_lines


class Outcome(StrEnum):
    """How an attempt ended. Only `committed` changed what the target serves, and for good."""

    IN_PROGRESS = "in_progress"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    WOULD_COMMIT = "would_commit"


class Deployment(BaseModel):
    """One attempt to change what a target serves: who, when, from what, to what, on what grounds, with what outcome.

    `release`, `model_version`, `run_id` and the digests are None when the attempt failed before they were known;
    `now_serving` is what `current` points to after it. `journal_sha256` is the digest of the journal's line that
    closed the attempt, `journal_id` that of its first line. `notes` tell what went wrong without changing the outcome.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: DeploymentId
    operation: Operation
    target: Slug
    target_path: str
    actor: str
    started_at: AwareDatetime
    finished_at: AwareDatetime | None
    outcome: Outcome
    reason: str | None = None
    bundle: str | None = None
    bundle_path: str | None = None
    release: Sha256 | None = None
    from_release: Sha256 | None = None
    now_serving: Sha256 | None = None
    model_version: Slug | None = None
    run_id: RunId | None = None
    manifest_sha256: Sha256 | None = None
    decision_sha256: Sha256 | None = None
    evidence_sha256: Sha256 | None = None
    load_test: ProbeReport | None = None
    health: tuple[ProbeReport, ...] = ()
    journal_id: Sha256 | None = None
    journal_sha256: Sha256 | None = None
    notes: tuple[str, ...] = ()

    @property
    def release_path(self) -> Path | None:
        """Where the release lies on the target."""
        return None if self.release is None else Path(self.target_path) / "releases" / self.release


def ended_at(deployment: Deployment) -> datetime:
    """When the attempt ended; of one that is under way, when it began."""
    return deployment.finished_at or deployment.started_at


def release_facts(release: Release) -> dict[str, object]:
    """A release's part of a `Deployment`."""
    return {
        "release": release.digest,
        "bundle": release.bundle,
        "model_version": release.model_version,
        "run_id": release.run_id,
        "manifest_sha256": release.manifest_sha256,
        "decision_sha256": release.decision_sha256,
        "evidence_sha256": release.evidence_sha256,
    }


def deployments(lines: Sequence[Line], target: EdgeTarget) -> tuple[Deployment, ...]:
    """Every attempt in the journal, oldest first."""
    found: list[Deployment] = []
    serving: str | None = None
    for line in lines:
        record = line.record
        if isinstance(record, Started):
            found.append(_begin(record, target, lines[0].sha256, serving))
        elif found and getattr(record, "deployment", None) == found[-1].id:
            found[-1] = _continue(found[-1], line)
            serving = found[-1].now_serving
    return tuple(found)


def _begin(record: Started, target: EdgeTarget, journal_id: str, serving: str | None) -> Deployment:
    return Deployment(
        id=record.deployment,
        operation=record.operation,
        target=target.name,
        target_path=str(target.path),
        actor=record.actor,
        started_at=record.at,
        finished_at=None,
        outcome=Outcome.IN_PROGRESS,
        bundle_path=None if record.bundle is None else target.place(record.bundle),
        from_release=serving,
        now_serving=serving,
        journal_id=journal_id,
    )


def _continue(deployment: Deployment, line: Line) -> Deployment:
    record = line.record
    changes: dict[str, object] = {}
    if isinstance(record, Accepted):
        changes = release_facts(record.release)
    elif isinstance(record, LoadTested):
        changes = {"load_test": record.report}
    elif isinstance(record, Activating):
        changes = {"now_serving": deployment.release}
    elif isinstance(record, HealthChecked):
        changes = {"health": (*deployment.health, record.report)}
    elif isinstance(record, Committed):
        changes = {"outcome": Outcome.COMMITTED}
    elif isinstance(record, Failed):
        outcome = Outcome.INTERRUPTED if record.interrupted else Outcome.FAILED
        changes = {"outcome": outcome, "reason": record.reason}
    elif isinstance(record, RolledBack):
        outcome = Outcome.INTERRUPTED if record.interrupted else Outcome.ROLLED_BACK
        changes = {"outcome": outcome, "reason": record.reason, "now_serving": record.to}
    if isinstance(record, Committed | Failed | RolledBack):
        changes |= {"finished_at": record.at, "journal_sha256": line.sha256}
    return deployment.model_copy(update=changes) if changes else deployment


def read_mirror(target: EdgeTarget) -> tuple[Deployment, ...]:
    """The deployments that the target's mirror holds, oldest first; none where it has no mirror.

    Raises `BadInput` naming the line that does not parse.
    """
    path = target.history_file
    if path is None or not path.exists():
        return ()
    return parse_mirror(path.read_bytes(), path, target.place)


def parse_mirror(raw: bytes, path: str | Path, place: Callable[[str], str]) -> tuple[Deployment, ...]:
    """The deployments in the bytes of the mirror at `path`, with paths as `place` has them. Raises as above."""
    found = []
    for number, line in text_lines(raw, path):
        try:
            told = Deployment.model_validate_json(line)
            found.append(_with_paths(told, place))
        except (ValidationError, BadInput) as error:
            problem = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.problem
            raise BadInput(
                f"line {number} of {path} is no deployment: {problem}",
                expected="a line a deployment, as written by this program",
                remedy="move the file away; it is written anew from the target's journal",
            ) from None
    return tuple(found)


def _with_paths(deployment: Deployment, change: Callable[[str], str]) -> Deployment:
    bundle = deployment.bundle_path
    return deployment.model_copy(
        update={
            "target_path": change(deployment.target_path),
            "bundle_path": None if bundle is None else change(bundle),
        }
    )


def check_against_mirror(journal_id: str, found: Iterable[Deployment], mirrored: Iterable[Deployment]) -> None:
    """Raise `JournalDamaged` when the journal no longer knows a finished deployment that was mirrored from it."""
    known = {deployment.id: deployment for deployment in found}
    for old in mirrored:
        if old.journal_id != journal_id:
            continue
        new = known.get(old.id)
        if new is None or new.journal_sha256 != old.journal_sha256:
            raise JournalDamaged(
                f"the target's journal {'lacks' if new is None else 'contradicts'} the deployment {old.id}, "
                f"which its mirror holds as {old.outcome}",
                expected="every finished deployment to stay in the journal",
                remedy="the journal's end was cut off or rewritten: restore it from a backup, or set up a fresh target",
            )


def mirror(ops: FileOps, target: EdgeTarget, found: Iterable[Deployment]) -> None:
    """Add the finished deployments that the target's mirror lacks, atomically; nothing where it has no mirror.

    Only for the holder of the target's lock. Paths are written as `EdgeTarget.tell` has them.
    """
    path = target.history_file
    if path is None:
        return
    mirrored = read_mirror(target)
    present = {deployment.id for deployment in mirrored}
    new = [d for d in found if d.finished_at is not None and d.id not in present]
    if not new:
        return
    told = (_with_paths(d, lambda text: target.tell(Path(text))) for d in (*mirrored, *new))
    raw = "".join(f"{d.model_dump_json()}\n" for d in told).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = f".{path.name}.next"
    with opened(ops, ops.open_folder(path.parent)) as folder:
        if exists(beside, folder):
            ops.unlink(beside, folder)
        with opened(ops, ops.create(beside, folder)) as handle:
            write_all(ops, handle, raw)
            ops.fsync(handle)
        ops.rename(beside, folder, path.name, folder)
        ops.fsync(folder)
