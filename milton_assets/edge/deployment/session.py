"""A target in hand: locked, its folder open, its journal read.

What belongs here: taking a target into hand, creating it when it is new, and keeping its mirror. What does not: what
is then done with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from milton_assets import MADE_ON
from milton_assets.edge.deployment.file_system import check_file_system
from milton_assets.edge.deployment.fileops import FileOps
from milton_assets.edge.deployment.history import Deployment, check_against_mirror, deployments, mirror, read_mirror
from milton_assets.edge.deployment.journal import Journal, Line, Reading, keep_reserve, read_journal
from milton_assets.edge.deployment.layout import NotATarget, is_target, set_up
from milton_assets.edge.deployment.lock import Holder, locked
from milton_assets.edge.deployment.states import Owned, TargetCreated, TargetState
from milton_assets.edge.release.disk import Fd, opened
from milton_assets.vocabulary.edge_target import EdgeTarget
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.ownership import Claim, claim, owner_around

Clock = Callable[[], datetime]
CLOCK_TOLERANCE = timedelta(minutes=1)


class ClockSetBack(MiltonError):
    """The device's clock is behind the target's own journal, so nobody can say what has expired."""


class NotOurs(BadInput):
    """The target belongs to another state folder."""


class NeverDeployed(BadInput):
    """A target that nothing was ever deployed to has nothing to tell yet."""


@dataclass(frozen=True)
class Session:
    """A target under its lock. `folder` and `lock` are descriptors, open for as long as the session lasts."""

    target: EdgeTarget
    ops: FileOps
    folder: Fd
    journal: Journal
    now: Clock
    lock: Fd
    notes: list[str] = field(default_factory=list)

    @property
    def state(self) -> TargetState:
        """What the journal says."""
        return self.journal.state

    def deployments(self) -> tuple[Deployment, ...]:
        """Every attempt so far, oldest first."""
        return deployments(self.journal.lines, self.target)

    def deployment(self, deployment_id: str) -> Deployment:
        """The attempt of that id."""
        return next(d for d in self.deployments() if d.id == deployment_id)

    def mirror(self) -> None:
        """Bring the target's mirror up to date. A mirror that cannot be written is noted; it stops nothing."""
        try:
            mirror(self.ops, self.target, self.deployments())
        except (OSError, BadInput) as error:
            self.note(f"the history could not be mirrored, the next run will: {error}")

    def note(self, text: str) -> None:
        """Keep a note, once."""
        if text not in self.notes:
            self.notes.append(text)


@contextmanager
def in_hand(
    target: EdgeTarget,
    ops: FileOps,
    *,
    actor: str,
    now: Clock,
    wait_s: float = 0.0,
    create: bool = False,
    adopt: bool = False,
) -> Iterator[Session]:
    """Lock and open `target` for the length of a `with` block; with `create`, set it up when it is new.

    With `adopt` it is taken over from whoever it belongs to. Raises `NotOurs`, `TargetBusy`, `NotATarget`,
    `JournalDamaged`, `NeverDeployed` for a target that is not there, and `FileSystemLacks` where none can be.
    """
    if create:
        if not is_target(ops, target.path):
            check_owner(target, TargetState())
        _make_folder(target.path)
        if not is_target(ops, target.path):
            with opened(ops, ops.open_folder(target.path)) as folder:
                check_file_system(ops, folder, target.path)
    elif not is_target(ops, target.path):
        raise no_such_target(target)
    is_target(ops, target.path)
    with (
        locked(target.path, Holder.me(actor, now()), wait_s=wait_s, ops=ops) as lock,
        opened(ops, ops.open_folder(target.path)) as folder,
    ):
        journal = Journal(ops, folder)
        if not adopt:
            check_owner(target, journal.state)
        if create:
            set_up(ops, folder)
        keep_reserve(ops, folder)
        if create and journal.state.name is None:
            journal.append(TargetCreated(at=now(), name=target.name))
        if target.owner is not None and journal.state.owner != target.owner:
            journal.append(Owned(at=now(), actor=actor, owner=target.owner))
        session = Session(target, ops, folder, journal, now, lock)
        try:
            _check_mirror(target, journal.lines, read_mirror(target))
        except (OSError, BadInput) as error:
            session.note(f"the history's mirror could not be read: {error}")
        yield session


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir()
        path.chmod(0o755)
    except (FileExistsError, NotADirectoryError):
        if path.is_dir():
            return
        raise NotATarget(f"{path} is no folder", expected="a folder, or a path where nothing is yet") from None


def no_such_target(target: EdgeTarget) -> NeverDeployed:
    """The error for a target that nothing was ever deployed to."""
    return NeverDeployed(
        f"nothing was ever deployed to the target {target.name} ({target.path})",
        expected="a target with a journal",
        remedy="`milton deploy` makes it; `milton status` lists the targets there are",
    )


def read_target(target: EdgeTarget, ops: FileOps) -> Reading:
    """The target's journal, without its lock. Raises `NeverDeployed` when there is none, `JournalDamaged`."""
    return look_at(target, ops)[0]


def look_at(target: EdgeTarget, ops: FileOps) -> tuple[Reading, tuple[Deployment, ...]]:
    """The target's journal, without its lock, and every attempt in it, oldest first. Raises as `read_target`.

    Whoever asks a thousand targets waits for this, so the journal is read once.
    """
    if not os.path.lexists(target.path):
        raise no_such_target(target)
    # The mirror follows the journal, so it is read first: someone may be deploying meanwhile.
    mirrored = read_mirror(target)
    reading = _journal_in(target.path, ops)
    if reading is None or reading.state.name is None:
        if not is_target(ops, target.path):
            raise no_such_target(target)
        return look_at(target, ops)  # it was made meanwhile
    found = deployments(reading.lines, target)
    check_against_mirror(reading.lines[0].sha256, found, mirrored)
    return reading, found


def _journal_in(path: Path, ops: FileOps) -> Reading | None:
    try:
        handle = ops.open_folder(path)
    except (NotADirectoryError, FileNotFoundError):
        return None
    with opened(ops, handle) as folder:
        return read_journal(ops, folder)


def _check_mirror(target: EdgeTarget, lines: Sequence[Line], mirrored: Sequence[Deployment]) -> None:
    if lines:
        check_against_mirror(lines[0].sha256, deployments(lines, target), mirrored)


def check_owner(target: EdgeTarget, state: TargetState) -> None:
    """Raise `NotOurs` when the target belongs to another state folder than the one from which it is spoken to."""
    if problem := owner_problem(target, state):
        raise NotOurs(
            problem,
            expected="a target of this state folder, or nobody's",
            remedy="work from the folder that it belongs to; if it is to belong to this one from now on, "
            f"`milton target adopt {target.name}`",
        )


def owner_problem(target: EdgeTarget, state: TargetState) -> str | None:
    """Whose the target is, when it is not ours; None when it is."""
    if target.owner is None:
        return None
    recorded = state.owner or owner_around(target.path)
    if recorded is None:
        return None
    where = {
        Claim.FOREIGN: f"belongs to another state folder, {recorded.path}",
        Claim.COPY: f"belongs to {recorded.path}, which is there too: one of the two state folders is a copy",
        Claim.OTHER_MACHINE: f"belongs to this state folder as it lies, or lay, at {recorded.path} on another machine",
    }.get(claim(target.owner, recorded))
    return where and f"the target {target.name} ({target.path}) {where}"


def check_clock(state: TargetState, now: datetime) -> None:
    """Raise `ClockSetBack` when `now` is more than `CLOCK_TOLERANCE` before the journal's latest record."""
    if state.last_at is not None and now < state.last_at - CLOCK_TOLERANCE:
        raise ClockSetBack(
            f"the clock says {now.isoformat(timespec='seconds')}, but the target's journal has a record from "
            f"{state.last_at.isoformat(timespec='seconds')}",
            expected="a clock that does not run backwards",
            remedy="set the clock; if it is right now and was wrong then, pass --accept-clock",
        )


def judged_at(now: datetime, last_at: datetime | None, *, accept_clock: bool) -> datetime:
    """The time by which age is judged: the latest of the clock, the journal's latest record at `last_at` and `MADE_ON`.

    With `accept_clock` the journal is left out: whoever accepts it says that its records came from a wrong clock. That
    the clock stands before a bundle was made is told by the bundle's own signed time (`admission`).
    """
    return max(now, MADE_ON) if accept_clock or last_at is None else max(now, last_at, MADE_ON)
