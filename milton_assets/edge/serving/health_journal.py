"""What happened while a device served: one JSON line an event, in a journal that never grows beyond its bound.

    journal = HealthJournal(target / "health.jsonl")
    journal.write(HealthEvent(kind=EventKind.SWAPPED, …))

What belongs here: the events and keeping them. What does not: what makes them (`supervisor`, `watch`), and the journal
of deployments, which is the truth about what is served and is never cut (`edge.deployment.journal`).

Lines are written whole and in order, and the journal is moved to `<name>.1` when it is full, so that two files of half
the bound hold the latest. A line that was torn by a power cut is left out when it is read. A full disk loses events and
says so with the next that fits: an event never stops the serving.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from milton_assets.vocabulary.digest import Sha256

HEALTH_VERSION: Final = 1
MAX_JOURNAL_BYTES = 4 << 20
_SAID_CHARACTERS = 2000


class EventKind(StrEnum):
    """What kinds of things happen to a device that serves."""

    STARTED = "started"
    STOPPED = "stopped"
    SWAPPED = "swapped"
    SERVER_DIED = "server_died"
    NOT_SERVED = "not_served"
    CHECKED = "checked"
    ALARM = "alarm"
    WENT_BACK = "went_back"
    STAYED = "stayed"
    CANARY = "canary"
    LOST = "lost"


class HealthEvent(BaseModel):
    """One event. `said` is a sentence; `figures` are named with their units; `needs_person` when nobody else can
    help.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = HEALTH_VERSION
    at: AwareDatetime
    kind: EventKind
    said: Annotated[str, Field(min_length=1, max_length=_SAID_CHARACTERS + 1)]
    release: Sha256 | None = None
    figures: dict[str, Annotated[float, Field(allow_inf_nan=False)] | str | None] = Field(default_factory=dict)
    needs_person: bool = False


def shortened(text: str) -> str:
    """At most as much as an event may say."""
    return text if len(text) <= _SAID_CHARACTERS else text[:_SAID_CHARACTERS] + "…"


class HealthJournal:
    """The journal at `path`. For one writer; any number may read."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_JOURNAL_BYTES) -> None:
        self.path = path
        self._half = max_bytes // 2
        self._lost = 0

    def write(self, event: HealthEvent) -> bool:
        """Add an event; whether it was kept. An event that the disk does not take is counted, and told with the
        next.
        """
        lines = [event]
        if self._lost:
            said = f"{self._lost} events could not be written"
            lines = [HealthEvent(at=event.at, kind=EventKind.LOST, said=said, figures={"events": self._lost}), event]
        raw = "".join(f"{line.model_dump_json()}\n" for line in lines).encode()
        try:
            self._append(raw)
        except OSError:
            self._lost += 1
            return False
        self._lost = 0
        return True

    def _append(self, raw: bytes) -> None:
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            size = os.fstat(handle).st_size
            if size and size + len(raw) > self._half:
                self.path.replace(self._older)
                os.close(handle)
                handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
                size = 0
            if size and os.pread(handle, 1, size - 1) != b"\n":
                raw = b"\n" + raw
            if os.write(handle, raw) != len(raw):
                os.ftruncate(handle, size)
                raise OSError("the disk took half of the line")
            os.fsync(handle)
        finally:
            os.close(handle)

    @property
    def _older(self) -> Path:
        return self.path.with_name(f"{self.path.name}.1")

    def events(self) -> tuple[HealthEvent, ...]:
        """What is kept, oldest first. A torn line is left out."""
        return tuple(self._events())

    def _events(self) -> Iterator[HealthEvent]:
        for path in (self._older, self.path):
            try:
                raw = path.read_bytes()
            except FileNotFoundError:
                continue
            for line in raw.split(b"\n"):
                if not line:
                    continue
                try:
                    yield HealthEvent.model_validate_json(line)
                except ValidationError:
                    continue
