"""Sending bytes so that a cut link costs little: few in flight, none twice, no faster than allowed.

What belongs here: how much is in flight, how fast, and what was sent. What does not: what the bytes are, and going on
after a cut (`patience`).

What is in flight when a link is cut was sent for nothing, and the buffers on the way hold megabytes of it. So only so
much is sent ahead of the device's word as fills the link: as long as words come back soon the window grows, and it
shrinks when they wait in a queue (as LEDBAT does, RFC 6817). A link that was cut is filled less: then no more is
unheard of than 1.5 % of what came through between two cuts, so that cuts cost about 1 %, however near together.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from milton_assets.fleet.asking import Asking
from milton_assets.vocabulary.errors import BadInput

QUEUE_TARGET_S = 0.025
MIN_CHUNK_BYTES = 4 << 10
MAX_CHUNK_BYTES = 1 << 20
MIN_WINDOW_BYTES = 2 * MIN_CHUNK_BYTES
MAX_WINDOW_BYTES = 16 << 20
UNHEARD_SHARE = 0.015
"""Of what comes through between two cuts so much may be unheard of; some half of it has arrived, so that about a
hundredth is lost at a cut."""


@dataclass
class Pace:
    """No more than `bytes_per_s` on average since the first byte, and no more than a chunk ahead; None is no limit."""

    bytes_per_s: float | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _due: float | None = field(default=None, init=False)

    def wait(self, size_bytes: int) -> None:
        """Wait until so many bytes may go."""
        if self.bytes_per_s is None:
            return
        now = self.clock()
        due = now if self._due is None else max(self._due, now - 0.05)
        if due > now:
            self.sleep(due - now)
        self._due = due + size_bytes / self.bytes_per_s


@dataclass
class Tally:
    """What a transfer took: bytes that had to be sent, all that were sent, and how often the link was cut."""

    needed_bytes: int = 0
    sent_bytes: int = 0
    cuts: int = 0

    @property
    def most_in_flight(self) -> float:
        """How many bytes may be unheard of at the next cut, by how many were sent between those before."""
        return UNHEARD_SHARE * self.sent_bytes / self.cuts if self.cuts else MAX_WINDOW_BYTES


@dataclass
class Window:
    """How many bytes may be in flight, from how long the device's word takes to come back; `most_bytes` at most."""

    size_bytes: float = 4 * MIN_WINDOW_BYTES
    most_bytes: float = MAX_WINDOW_BYTES
    clock: Callable[[], float] = time.monotonic
    _in_flight: deque[tuple[int, float]] = field(default_factory=deque, init=False)
    _bytes: int = field(default=0, init=False)
    _least_s: float = field(default=float("inf"), init=False)
    _probing: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        self.most_bytes = max(MIN_WINDOW_BYTES, self.most_bytes)
        self.size_bytes = min(self.size_bytes, self.most_bytes)

    @property
    def chunk_bytes(self) -> int:
        """How many bytes to send at once: an eighth of the window."""
        return int(min(MAX_CHUNK_BYTES, max(MIN_CHUNK_BYTES, self.size_bytes / 8)))

    @property
    def is_full(self) -> bool:
        """Whether another chunk has to wait for the device's word."""
        return self._bytes > 0 and self._bytes + self.chunk_bytes > self.size_bytes

    @property
    def in_flight(self) -> int:
        """How many words are awaited."""
        return len(self._in_flight)

    def sent(self, size_bytes: int) -> None:
        """So many bytes went off now."""
        self._in_flight.append((size_bytes, self.clock()))
        self._bytes += size_bytes

    def heard(self) -> None:
        """The word for the oldest of them came."""
        size_bytes, at = self._in_flight.popleft()
        self._bytes -= size_bytes
        took_s = self.clock() - at
        self._least_s = min(self._least_s, took_s)
        spare = (QUEUE_TARGET_S - (took_s - self._least_s)) / QUEUE_TARGET_S
        if self._probing and spare < 0:
            self._probing = False
            grown = -self.size_bytes / 2  # it was doubled past what the link takes
        elif self._probing:
            grown = size_bytes
        elif spare < -1:
            grown = -size_bytes / 2.0  # others' queue, or ours: let it drain
        else:
            grown = spare * size_bytes * MIN_CHUNK_BYTES / self.size_bytes
        self.size_bytes = min(self.most_bytes, max(MIN_WINDOW_BYTES, self.size_bytes + grown))


@dataclass
class Sending:
    """Sends the rest of files, at a pace, and counts. `heard` is how many words of the device came."""

    pace: Pace
    tally: Tally
    heard: int = 0

    def rest_of(
        self, asking: Asking, verb: str, handle: int, have: int, size_bytes: int, what: str, **where: Any
    ) -> None:
        """Send what the open file `handle` holds from `have` on, as questions `verb` about `where`.

        Raises `BadInput` when the file, which `what` names, ends before `size_bytes`.
        """
        window, at = Window(most_bytes=self.tally.most_in_flight), have
        while at < size_bytes or window.in_flight:
            while at < size_bytes and not window.is_full:
                raw = os.pread(handle, min(window.chunk_bytes, size_bytes - at), at)
                if not raw:
                    raise BadInput(f"{what} ends at {at} of {size_bytes} bytes", expected="the file as it was offered")
                self.pace.wait(len(raw))
                asking.post(verb, raw, offset=at, **where)
                window.sent(len(raw))
                self.tally.sent_bytes += len(raw)
                at += len(raw)
                if asking.is_answered():
                    break
            if window.in_flight:
                asking.answer()
                window.heard()
                self.heard += 1
