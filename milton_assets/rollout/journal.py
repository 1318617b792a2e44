"""A rollout's journal: append-only, fsynced, hash-chained JSON lines, and the lock of whoever runs the rollout.

    with opened(folder) as journal:               # raises `RolloutBusy` while somebody else runs it
        journal.append(Started(at=now, actor="ada"))

What belongs here: the lines, reading them as input that a crash or a hand may have altered, appending, and what is
asked of the process that runs the rollout. What does not: what an event means (`states`).

The lines are those of a target's journal too (`vocabulary.chained`). A crash can tear only the last line, which is
dropped and cut off before the next append; anything else that does not hold is tampering, and is never repaired.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from milton_assets.rollout.events import EVENTS, Event
from milton_assets.rollout.plan import PLAN_VERSION, Plan
from milton_assets.rollout.states import IllegalEvent, Rollout, step
from milton_assets.vocabulary.chained import GENESIS, ChainBroken, chained_lines, digest_of_line, line_bytes
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.files import fsync_dir, write_atomic
from milton_assets.vocabulary.locks import acquire

JOURNAL_FILE = "journal.jsonl"
LOCK_FILE = ".lock"
ASKED_FILE = "asked.json"
LOOKED_S = 0.5
"""So long a lock is waited for: whoever only looks whether it is held has it for less."""


class RolloutBusy(MiltonError):
    """Another process runs the rollout."""


class RolloutDamaged(MiltonError):
    """The rollout's journal is not what was written to it."""


@dataclass(frozen=True)
class Reading:
    """What a journal's bytes hold: events, what they amount to, the last line's digest, the bytes that are whole."""

    events: tuple[Event, ...]
    state: Rollout | None
    last_sha256: str
    whole_bytes: int


def parse(raw: bytes) -> Reading:
    """Read a journal's bytes, in time linear in their number. Raises `RolloutDamaged` for anything but a torn end."""
    events: list[Event] = []
    state: Rollout | None = None
    previous, whole = GENESIS, 0
    try:
        for link in chained_lines(raw, _read):
            state = step(state, link.record)
            events.append(link.record)
            previous, whole = link.sha256, link.whole_bytes
    except ChainBroken as error:
        raise _damaged(error.number, error.why) from error
    except IllegalEvent as error:
        raise _damaged(len(events), error.problem) from error
    return Reading(tuple(events), state, previous, whole)


def _read(number: int, record: Any) -> Event:
    if number == 0:
        _check_version(record)
    return EVENTS.validate_json(json.dumps(record))


def _check_version(first: Any) -> None:
    version = first["plan"].get("plan_version") if first.get("kind") == "planned" else PLAN_VERSION
    if version != PLAN_VERSION:
        raise RolloutDamaged(
            f"the rollout's plan has format version {version!r:.50}",
            expected=str(PLAN_VERSION),
            remedy="use the milton release that planned it, or plan the rollout again",
        )


def _damaged(number: int, why: str) -> RolloutDamaged:
    return RolloutDamaged(
        f"line {number + 1} of the rollout's journal does not hold: {why}",
        expected="an unbroken chain of the lines this program wrote",
        remedy="keep the file for whoever investigates; the devices' own journals say what each of them serves",
    )


def read_rollout(folder: Path) -> Reading:
    """The journal in that folder. Raises `BadInput` where there is none."""
    try:
        reading = parse((folder / JOURNAL_FILE).read_bytes())
    except FileNotFoundError:
        reading = parse(b"")
    _known(reading.state, folder)
    return reading


def _known(state: Rollout | None, folder: Path) -> Rollout:
    if state is None:
        raise BadInput(
            f"there is no rollout {folder.name}",
            expected="a rollout that was planned here",
            remedy="`milton rollout status` lists them, `milton rollout plan` plans one",
        )
    return state


def read_plan(folder: Path) -> Plan:
    """The plan alone, without what came after it. Raises as `read_rollout`."""
    try:
        with (folder / JOURNAL_FILE).open("rb") as stream:
            first = stream.readline()
    except FileNotFoundError:
        first = b""
    return _known(parse(first).state, folder).plan


class Journal:
    """A rollout's journal, open for appending; see `opened` and `created`."""

    def __init__(self, folder: Path, reading: Reading) -> None:
        self._path = folder / JOURNAL_FILE
        self._folder = folder
        self._state = reading.state
        self._previous, self._whole_bytes, self._lines = reading.last_sha256, reading.whole_bytes, len(reading.events)

    @property
    def state(self) -> Rollout:
        """What the events so far mean. Raises `BadInput` before the first."""
        if self._state is None:
            raise BadInput(f"the rollout {self._folder.name} has no plan yet", expected="an event `planned` first")
        return self._state

    def append(self, event: Event) -> None:
        """Write the event durably. Raises `IllegalEvent` before anything is written, `OSError` as the disk does.

        After an `OSError` it counts as not written, and what is there of it is cut off before the next.
        """
        state = step(self._state, event)
        record = event.model_dump(mode="json")
        sha256 = digest_of_line(self._lines, self._previous, record)
        raw = line_bytes(self._lines, self._previous, record, sha256)
        is_new = not self._path.exists()
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            os.ftruncate(handle, self._whole_bytes)
            if os.write(handle, raw) != len(raw):
                raise OSError("the disk took half of the line")
            os.fsync(handle)
        finally:
            os.close(handle)
        if is_new:
            fsync_dir(self._folder)
        self._state = state
        self._previous, self._whole_bytes, self._lines = sha256, self._whole_bytes + len(raw), self._lines + 1


class Watched:
    """A journal that also tells of each event, once it is kept."""

    def __init__(self, journal: Journal, heard: Callable[[Event, Rollout], None]) -> None:
        self._journal = journal
        self._heard = heard

    @property
    def state(self) -> Rollout:
        """See `Journal`."""
        return self._journal.state

    def append(self, event: Event) -> None:
        """See `Journal`."""
        self._journal.append(event)
        self._heard(event, self.state)


@contextmanager
def opened(folder: Path) -> Iterator[Journal]:
    """The journal of the rollout in that folder, whose lock is held meanwhile.

    Raises `RolloutBusy` while another process has it, `BadInput` where there is no rollout.
    """
    read_rollout(folder)
    with _locked(folder):
        yield Journal(folder, read_rollout(folder))


@contextmanager
def created(folder: Path) -> Iterator[Journal]:
    """The empty journal of a rollout that is about to be planned. Raises `BadInput` where there is one already."""
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        path = folder / JOURNAL_FILE
        reading = parse(path.read_bytes() if path.exists() else b"")
        if reading.state is not None:
            raise BadInput(f"there is a rollout {folder.name} already", expected="a name that is free")
        yield Journal(folder, reading)


def is_held(folder: Path) -> bool:
    """Whether a process runs the rollout now."""
    try:
        with _locked(folder, wait_s=0.0):
            return False
    except RolloutBusy:
        return True
    except FileNotFoundError:
        return False


@contextmanager
def _locked(folder: Path, wait_s: float = LOOKED_S) -> Iterator[None]:
    with (folder / LOCK_FILE).open("ab") as stream:
        if not acquire(stream.fileno(), wait_s=wait_s):
            raise RolloutBusy(
                f"another process runs the rollout {folder.name}",
                expected="one process at a time",
                remedy="`milton rollout pause` and `abort` reach that process; or wait until it is done",
            )
        yield


class Asked(BaseModel):
    """What a person asked of the process that runs the rollout: to pause, or to take everything back."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    abort: bool
    actor: str = Field(min_length=1)
    reason: str = Field(min_length=1, max_length=2000)


def ask(folder: Path, asked: Asked) -> None:
    """Leave that for the process that runs the rollout, which looks every second."""
    write_atomic(folder / ASKED_FILE, asked.model_dump_json())


def take_asked(folder: Path) -> Asked | None:
    """What was asked, which is then taken; None for nothing. Raises `BadInput` for a file that nobody of ours wrote."""
    path = folder / ASKED_FILE
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        asked = Asked.model_validate_json(raw)
    except ValidationError as error:
        raise BadInput(f"{path} does not hold: {error.errors()[0]['msg']}", remedy="remove it and ask again") from None
    path.unlink()
    return asked
