"""Where a canary lies in a target's folder: `canary/<id>/` with its plan, its release, its records and its verdict.

What belongs here: those files, read and written. What does not: what is in them, and the release's own bytes
(`starting`).

    plan.json        written last when it starts: before that there is none
    release/         the challenger; gone when the canary is over
    key, requests    a shadow's recording, encrypted, and its key; gone when it is over
    goldens.jsonl    golden questions whose answers are compared, where it was started with such
    journal.jsonl    a record a request, for one writer, the gateway
    verdict.json     written once, by whoever ends it; from then on it is over

A gateway that is restarted reads the journal and goes on. Records are not fsynced one by one: a power cut costs the
latest, of either arm alike.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from milton_assets.edge.canary.goldens import MAX_GOLDENS_BYTES
from milton_assets.edge.canary.plan import CanaryPlan, check_canary_id
from milton_assets.edge.canary.recording import Recorder
from milton_assets.edge.canary.records import MAX_RECORD_BYTES, Record, line_of, records_in
from milton_assets.edge.canary.verdict import CanaryVerdict
from milton_assets.edge.deployment.layout import CANARY
from milton_assets.vocabulary.digest import Sha256, sha256_bytes
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import write_atomic, write_once

_MAX_DOCUMENT_BYTES = 64 << 10
_KEY_BYTES = 32

Noun = TypeVar("Noun", bound=BaseModel)


@dataclass(frozen=True)
class CanaryFolder:
    """One canary's files."""

    path: Path

    @property
    def id(self) -> str:
        """The canary's id."""
        return self.path.name

    @property
    def release(self) -> Path:
        """The challenger's release."""
        return self.path / "release"

    def make_key(self) -> None:
        """Make the key of its recording, readable by its owner alone."""
        handle = os.open(self._key, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, secrets.token_bytes(_KEY_BYTES))
            os.fsync(handle)
        finally:
            os.close(handle)

    def recorder(self) -> Recorder:
        """Its recording. Raises `OSError` without its key."""
        return Recorder(self.path / "requests", self._key.read_bytes())

    def forget_recording(self) -> None:
        """Remove the recording, its key first: without it the rest is noise."""
        self._key.unlink(missing_ok=True)
        (self.path / "requests").unlink(missing_ok=True)

    @property
    def _key(self) -> Path:
        return self.path / "key"

    @property
    def _journal(self) -> Path:
        return self.path / "journal.jsonl"

    def plan(self) -> CanaryPlan:
        """What is compared. Raises `BadInput`."""
        plan = _read(self.path / "plan.json", CanaryPlan)
        if plan.id != self.id:
            raise BadInput(f"{self.path} holds the plan of {plan.id}", expected=f"the plan of {self.id}")
        return plan

    def goldens(self, plan: CanaryPlan) -> bytes | None:
        """Its golden questions, as `plan` pins them; None where there are none. Raises `BadInput` for others."""
        if plan.goldens is None:
            return None
        with self._goldens.open("rb") as stream:
            raw = stream.read(MAX_GOLDENS_BYTES + 1)
        if sha256_bytes(raw) != plan.goldens:
            raise BadInput(
                f"{self._goldens} does not hold the golden questions that the plan pins",
                expected=f"a file with the digest {plan.goldens}",
                remedy="`milton canary stop` ends the canary; start another",
            )
        return raw

    def write_goldens(self, raw: bytes) -> Sha256:
        """Write its golden questions, before its plan; their digest."""
        write_atomic(self._goldens, raw)
        return sha256_bytes(raw)

    @property
    def _goldens(self) -> Path:
        return self.path / "goldens.jsonl"

    def write_plan(self, plan: CanaryPlan) -> None:
        """Start it."""
        write_atomic(self.path / "plan.json", plan.model_dump_json(indent=1))

    @property
    def has_plan(self) -> bool:
        """Whether it ever started."""
        return (self.path / "plan.json").exists()

    @property
    def is_over(self) -> bool:
        """Whether there is a verdict."""
        return (self.path / "verdict.json").exists()

    def verdict(self) -> CanaryVerdict | None:
        """How it ended; None while it goes on. Raises `BadInput`."""
        return _read(self.path / "verdict.json", CanaryVerdict) if self.is_over else None

    def end(self, verdict: CanaryVerdict) -> CanaryVerdict:
        """Write the verdict, unless somebody has ended it already; the one that counts."""
        write_once(self.path / "verdict.json", verdict.model_dump_json(indent=1))
        return _read(self.path / "verdict.json", CanaryVerdict)

    def records(self) -> tuple[Record, ...]:
        """What is kept of its requests; a torn last line is left out. Raises `BadInput`."""
        return tuple(records_in(self.journal(), self._journal))

    def journal(self) -> bytes:
        """The journal's bytes, without a torn last line. Raises `BadInput` for a journal that is too large."""
        most = CanaryPlan.model_fields["max_requests"].default * 2 * MAX_RECORD_BYTES
        try:
            with self._journal.open("rb") as stream:
                raw = stream.read(most + 1)
        except FileNotFoundError:
            return b""
        if len(raw) > most:
            raise BadInput(f"{self._journal} is larger than {most} bytes", expected="a journal that the gateway wrote")
        return raw[: raw.rfind(b"\n") + 1]

    def writer(self) -> JournalWriter:
        """What adds records; a torn last line is cut off first. Raises `OSError`."""
        return JournalWriter(self._journal)


class JournalWriter:
    """Adds records to a journal, each in one write."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        size = os.fstat(self._handle).st_size
        tail = os.pread(self._handle, 2 * MAX_RECORD_BYTES, max(0, size - 2 * MAX_RECORD_BYTES))
        torn = len(tail) - (tail.rfind(b"\n") + 1)
        if torn:
            os.ftruncate(self._handle, size - torn)

    def add(self, record: Record) -> None:
        """Add one. Raises `OSError` when the disk does not take it; then nothing of it is left."""
        raw = line_of(record)
        size = os.fstat(self._handle).st_size
        if os.write(self._handle, raw) != len(raw):
            os.ftruncate(self._handle, size)
            raise OSError("the disk took half of the record")

    def sync(self) -> None:
        """Make what was added durable."""
        os.fsync(self._handle)

    def close(self) -> None:
        """Add no more."""
        os.close(self._handle)


def canaries_of(target: Path) -> tuple[CanaryFolder, ...]:
    """The canaries of the target in that folder that ever started, oldest first."""
    found = []
    try:
        entries = sorted(entry.name for entry in os.scandir(target / CANARY) if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return ()
    for name in entries:
        if _is_id(name) and (folder := CanaryFolder(target / CANARY / name)).has_plan:
            found.append(folder)
    return tuple(found)


def running_canary(target: Path) -> CanaryFolder | None:
    """The canary that goes on; None where there is none."""
    return next((folder for folder in reversed(canaries_of(target)) if not folder.is_over), None)


def _is_id(name: str) -> bool:
    try:
        check_canary_id(name)
    except BadInput:
        return False
    return True


def _read(path: Path, noun: type[Noun]) -> Noun:
    with path.open("rb") as stream:
        raw = stream.read(_MAX_DOCUMENT_BYTES + 1)
    try:
        return noun.model_validate_json(raw)
    except ValidationError as error:
        raise BadInput(
            f"{path} does not hold: {error.errors()[0]['msg']:.200}",
            expected="the document as milton wrote it",
            remedy="remove its folder, and start another canary",
        ) from None
