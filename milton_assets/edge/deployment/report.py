"""Looking at a target without touching it: its history and its status.

What belongs here: reading, without the lock. What does not: settling what is found (`recovery`).
"""

from __future__ import annotations

from pydantic import AwareDatetime, BaseModel, ConfigDict

from milton_assets.edge.deployment.fileops import FileOps
from milton_assets.edge.deployment.history import Deployment
from milton_assets.edge.deployment.layout import Link, NotATarget, read_link
from milton_assets.edge.deployment.lock import is_locked
from milton_assets.edge.deployment.session import NeverDeployed, look_at, owner_problem
from milton_assets.edge.deployment.states import InFlight, Release
from milton_assets.edge.release.disk import opened
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.edge_target import EdgeTarget


class TargetStatus(BaseModel):
    """What a target serves and could go back to. `problems` says where disk and journal disagree, a sentence each;
    `belongs_to` whose it is when it is not the asking state folder's, which then may look and not touch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str
    target_path: str
    belongs_to: str | None = None
    active: Release | None
    known_good: Release | None
    previous: Release | None
    in_flight: InFlight | None
    locked: bool
    last: Deployment | None
    problems: tuple[str, ...]


class Verification(BaseModel):
    """What a target's release in service was found to be: how much of it was read, and what is wrong with it.

    `release` is None where nothing is in service. `problems` are sentences; none means that every byte has its digest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str
    release: Sha256 | None
    verified_at: AwareDatetime
    files: int
    size_bytes: int
    problems: tuple[str, ...]


def history(target: EdgeTarget, *, ops: FileOps | None = None) -> tuple[Deployment, ...]:
    """Every attempt on the target, oldest first, the failed ones too; empty when nothing was ever deployed to it.

    Raises `NotATarget`, and `JournalDamaged` when the journal does not hold or lacks what its mirror knows.
    """
    try:
        return look_at(target, ops or FileOps())[1]
    except NeverDeployed:
        return ()


def status(target: EdgeTarget, *, ops: FileOps | None = None) -> TargetStatus:
    """What the target serves now. Raises `NeverDeployed`, `JournalDamaged`."""
    ops = ops or FileOps()
    reading, found = look_at(target, ops)
    state = reading.state
    locked = is_locked(target.path)
    problems = [] if locked else _problems(ops, target, {Link.CURRENT: state.active, Link.KNOWN_GOOD: state.known_good})
    if state.in_flight is not None and not locked:
        problems.append(f"{state.in_flight.deployment} was cut off while {state.in_flight.phase}")
    return TargetStatus(
        target=target.name,
        target_path=str(target.path),
        belongs_to=owner_problem(target, state),
        active=_release(state.releases, state.active),
        known_good=_release(state.releases, state.known_good),
        previous=_release(state.releases, state.previous),
        in_flight=state.in_flight,
        locked=locked,
        last=found[-1] if found else None,
        problems=tuple(problems),
    )


def _release(releases: dict[str, Release], digest: str | None) -> Release | None:
    return None if digest is None else releases[digest]


def _problems(ops: FileOps, target: EdgeTarget, wanted: dict[Link, str | None]) -> list[str]:
    problems = []
    with opened(ops, ops.open_folder(target.path)) as folder:
        for link, release in wanted.items():
            try:
                found = read_link(link, folder)
            except NotATarget as error:
                problems.append(error.problem)
                continue
            if found != release:
                problems.append(f"{link} points to {found or 'nothing'}, the journal says {release or 'nothing'}")
            elif not (target.path / link).exists() and release is not None:
                problems.append(f"{link} points to {release}, which is not there")
    return problems
