"""The target's journal: append-only, fsynced, hash-chained JSON lines.

What belongs here: the lines, reading them as input that a crash or a hand may have altered, and appending. What does
not: what a record means (`states`).

How lines are chained, and what a crash may leave of the last one, `vocabulary.chained` says: a torn end is dropped, and
cut off before the next append; anything else that does not hold is reported with its line number and never repaired.

A file beside it holds some room in reserve, which an append gives up when the disk is full: that an attempt failed, was
rolled back, or that releases were freed, can then still be written.
"""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from milton_assets.edge.deployment.fileops import FileOps, exists, write_all
from milton_assets.edge.deployment.states import JOURNAL_VERSION, RECORDS, IllegalTransition, Record, TargetState, step
from milton_assets.edge.release.disk import Fd, opened
from milton_assets.vocabulary.chained import GENESIS, ChainBroken, chained_lines, digest_of_line, line_bytes
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.errors import MiltonError

JOURNAL_FILE = "journal.jsonl"
RESERVE_FILE = "journal.reserve"
RESERVE_BYTES = 64 << 10
MAX_JOURNAL_BYTES = 256 << 20
_READ_BYTES = 1 << 20
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class JournalDamaged(MiltonError):
    """The journal is not what was written to it."""


class Line(BaseModel):
    """One line of the journal."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seq: int
    previous: Sha256
    record: Record
    sha256: Sha256

    @classmethod
    def following(cls, last: Line | None, record: Record) -> Line:
        """The line that `record` makes after `last`."""
        seq, previous = (0, GENESIS) if last is None else (last.seq + 1, last.sha256)
        sha256 = digest_of_line(seq, previous, record.model_dump(mode="json"))
        return cls(seq=seq, previous=previous, record=record, sha256=sha256)

    def to_bytes(self) -> bytes:
        """The line as it is written, with its line feed."""
        return line_bytes(self.seq, self.previous, self.record.model_dump(mode="json"), self.sha256)


@dataclass(frozen=True)
class Reading:
    """What a journal's bytes hold: whole lines, the state they amount to, and the bytes that are whole and torn."""

    lines: tuple[Line, ...]
    state: TargetState
    whole_bytes: int
    torn_bytes: int

    @property
    def records(self) -> tuple[Record, ...]:
        """The records, oldest first."""
        return tuple(line.record for line in self.lines)


def parse(raw: bytes) -> Reading:
    """Read a journal's bytes, in time linear in their number. Raises `JournalDamaged` for anything but a torn end."""
    lines: list[Line] = []
    state = TargetState()
    whole = 0
    try:
        for link in chained_lines(raw, _read):
            state = step(state, link.record)
            # Not validated again: the record just was, and the chain holds.
            lines.append(
                Line.model_construct(seq=link.seq, previous=link.previous, record=link.record, sha256=link.sha256)
            )
            whole = link.whole_bytes
    except ChainBroken as error:
        raise _damaged(error.number, error.why) from error
    except IllegalTransition as error:
        raise _damaged(len(lines), error.problem) from error
    return Reading(tuple(lines), state, whole, len(raw) - whole)


def _read(number: int, record: Any) -> Record:
    if number == 0:
        _check_version(record)
    return RECORDS.validate_json(json.dumps(record))


def _check_version(first: Any) -> None:
    version = first.get("journal_version", 1)
    if first.get("kind") == "target_created" and version != JOURNAL_VERSION:
        raise JournalDamaged(
            f"the target's journal has format version {version!r:.50}",
            expected=str(JOURNAL_VERSION),
            remedy="use the milton release that wrote it, or set up a fresh target",
        )


def _damaged(number: int, why: str) -> JournalDamaged:
    return JournalDamaged(
        f"line {number + 1} of the target's journal does not hold: {why}",
        expected="an unbroken chain of the lines this program wrote",
        remedy="keep the file for whoever investigates; restore it from a backup, or set up a fresh target",
    )


def read_journal(ops: FileOps, folder: Fd) -> Reading:
    """The journal of the target whose folder is open; an absent one reads as empty."""
    if not exists(JOURNAL_FILE, folder):
        return parse(b"")
    with opened(ops, ops.open_read(JOURNAL_FILE, folder)) as handle:
        return parse(_read_all(ops, handle))


def has_begun(ops: FileOps, folder: Fd) -> bool:
    """Whether the journal of the folder says that it is a target: its first line does, the others are not read.

    Raises `JournalDamaged` for a first line that does not hold.
    """
    if not exists(JOURNAL_FILE, folder):
        return False
    with opened(ops, ops.open_read(JOURNAL_FILE, folder)) as handle:
        first = ops.read(handle, _READ_BYTES)
    end = first.find(b"\n") + 1
    if end == 0 or b"\0" in first[:end]:
        return read_journal(ops, folder).state.name is not None  # torn, or no journal of ours
    return parse(first[:end]).state.name is not None


def _read_all(ops: FileOps, handle: Fd) -> bytes:
    chunks = []
    size = 0
    while chunk := ops.read(handle, _READ_BYTES):
        size += len(chunk)
        if size > MAX_JOURNAL_BYTES:
            raise JournalDamaged(f"the journal is larger than {MAX_JOURNAL_BYTES} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


class Journal:
    """A journal open for appending. Only the holder of the target's lock may have one."""

    def __init__(self, ops: FileOps, folder: Fd) -> None:
        self._ops = ops
        self._folder = folder
        self.reload()

    def reload(self) -> None:
        """Read the journal again, after another process that has the lock from us wrote to it."""
        reading = read_journal(self._ops, self._folder)
        self._lines = list(reading.lines)
        self._state = reading.state
        self._whole_bytes = reading.whole_bytes
        self.torn_bytes = reading.torn_bytes
        self._is_appending = False

    def catch_up(self) -> None:
        """After an append that a signal interrupted: a record that is whole in the file counts, and is made durable.

        Does nothing otherwise. Raises `OSError`, after which the record counts as not written.
        """
        if not self._is_appending:
            return
        self._is_appending = False
        if exists(JOURNAL_FILE, self._folder):
            with opened(self._ops, self._ops.open_append(JOURNAL_FILE, self._folder)) as handle:
                self._ops.fsync(handle)
        self.reload()

    @property
    def state(self) -> TargetState:
        """What the journal so far means."""
        return self._state

    @property
    def lines(self) -> tuple[Line, ...]:
        """The lines, oldest first."""
        return tuple(self._lines)

    @property
    def records(self) -> tuple[Record, ...]:
        """The records, oldest first."""
        return tuple(line.record for line in self._lines)

    def append(self, record: Record) -> None:
        """Write `record` durably. Raises `IllegalTransition` before anything is written, `OSError` as the disk does.

        Returning means that the record is on the disk. Raising `OSError` means that it may or may not be: the next
        append cuts off whatever part of it was written. A signal may interrupt it after the record has become durable
        and before it counts here, so whoever goes on after anything else than an `OSError` calls `catch_up` first.
        """
        state = step(self._state, record)
        line = Line.following(self._lines[-1] if self._lines else None, record)
        raw = line.to_bytes()
        self._is_appending = True
        try:
            self._write_or_use_the_reserve(raw)
        except OSError:
            self._is_appending = False
            raise
        self._lines.append(line)
        self._state = state
        self._whole_bytes += len(raw)
        self._is_appending = False

    def _write_or_use_the_reserve(self, raw: bytes) -> None:
        try:
            self._write(raw)
        except OSError as error:
            if error.errno not in _NO_ROOM or not exists(RESERVE_FILE, self._folder):
                raise
            self._ops.unlink(RESERVE_FILE, self._folder)
            self._write(raw)

    def _write(self, raw: bytes) -> None:
        is_new = not exists(JOURNAL_FILE, self._folder)
        with opened(self._ops, self._ops.open_append(JOURNAL_FILE, self._folder)) as handle:
            self._ops.truncate(handle, self._whole_bytes)
            write_all(self._ops, handle, raw)
            self._ops.fsync(handle)
        if is_new:
            self._ops.fsync(self._folder)


def keep_reserve(ops: FileOps, folder: Fd) -> None:
    """Have room in reserve for the journal of the target whose folder is open, unless the disk is full already."""
    if exists(RESERVE_FILE, folder):
        return
    try:
        with opened(ops, ops.create(RESERVE_FILE, folder)) as handle:
            ops.allocate(handle, RESERVE_BYTES)
    except OSError as error:
        if exists(RESERVE_FILE, folder):
            ops.unlink(RESERVE_FILE, folder)
        if error.errno not in _NO_ROOM:
            raise
