"""What a response tells of itself while it passes: its first token, its last, and how many tokens there were.

What belongs here: watching the bytes of one response. What does not: changing them, and what becomes of the figures
(`metrics`). No text is kept but the response's last bytes, in which the token counts stand, and those only until it
ends.

A stream's first token is the first event whose delta holds text, reasoning or a tool call: a chunk that only names the
role is none. From then on events are counted, not read, so that watching costs a stream next to nothing. A stream whose
first token does not come within 256 KiB is none that we know, and has no time to first token. Its first few KiB are
kept with their times and read later, when no user waits for what is done with them.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_TAIL_BYTES = 16 << 10
_LONGEST_FIRST_BYTES = 256 << 10
_UNREAD_BYTES = 4 << 10
_EVENT_END = re.compile(rb"\r?\n\r?\n")
_TELLING = (b'"usage"', b'"timings"', b'"error"')
_SAYS = ("content", "reasoning_content", "reasoning", "refusal", "tool_calls")


@dataclass(frozen=True)
class Tokens:
    """How many tokens there were, as the server told; None where it did not. `events` is how many a stream had after
    its first token, which a server that sends a token an event did not have to tell."""

    input: int | None = None
    output: int | None = None
    events: int = 0


class Watched:
    """One response. Times are `time.perf_counter` seconds."""

    def __init__(self, *, streamed: bool) -> None:
        self.streamed = streamed
        self._first_token_s: float | None = None
        self.last_s: float | None = None
        self.error_inside = False
        self._is_odd = False
        self._unread: list[tuple[bytes, float]] = []
        self._unread_bytes = 0
        self._pending = bytearray()
        self._last: deque[bytes] = deque()
        self._last_bytes = 0
        self._events = 0

    def see(self, data: bytes, at_s: float) -> None:
        """These bytes of the body passed at that time."""
        self.last_s = at_s
        self._last.append(data)
        self._last_bytes += len(data)
        if self._last_bytes > _TAIL_BYTES:
            while self._last_bytes - len(self._last[0]) >= _TAIL_BYTES:
                self._last_bytes -= len(self._last.popleft())
        if not self.streamed:
            return
        if self._first_token_s is not None or self._is_odd:
            self._events += data.count(b"data: {")
            return
        self._unread.append((data, at_s))
        self._unread_bytes += len(data)
        if self._unread_bytes > _UNREAD_BYTES:
            self._read()

    @property
    def first_token_s(self) -> float | None:
        """When the first token passed; None where none did."""
        self._read()
        return self._first_token_s

    def _read(self) -> None:
        """Look for the first token in what was kept for it."""
        unread, self._unread, self._unread_bytes = self._unread, [], 0
        for data, at_s in unread:
            if self._first_token_s is not None or self._is_odd:
                self._events += data.count(b"data: {")
            else:
                self._look_for_first(data, at_s)

    def _look_for_first(self, data: bytes, at_s: float) -> None:
        # An end may lie across two pieces; what was searched before is not searched again.
        searched = max(0, len(self._pending) - 3)
        self._pending += data
        start = 0
        while (end := _EVENT_END.search(self._pending, max(start, searched))) is not None:
            says = _says_something(bytes(self._pending[start : end.start()]))
            start = end.end()
            if says:
                self._first_token_s = at_s
                self._events = self._pending.count(b"data: {", start)
                self._pending.clear()
                return
        del self._pending[:start]
        if len(self._pending) > _LONGEST_FIRST_BYTES:
            self._is_odd = True
            self._pending.clear()

    def tokens(self) -> Tokens:
        """The counts, from the response's last bytes."""
        self._read()
        tail = b"".join(self._last)[-_TAIL_BYTES:]
        events = map(_event, _telling_events(tail)) if self.streamed else iter((_loads(tail),))
        for event in events:
            self.error_inside = self.error_inside or "error" in event
            if counts := _counts(event):
                return Tokens(counts[0], counts[1], self._events)
        return Tokens(events=self._events)


def _telling_events(tail: bytes) -> Iterator[bytes]:
    """The events that can tell a count or an error, the last one first: the others, dozens of text, are not parsed."""
    end = len(tail)
    while (at := max(tail.rfind(name, 0, end) for name in _TELLING)) >= 0:
        begins = max(tail.rfind(b"\n\n", 0, at), tail.rfind(b"\n\r\n", 0, at)) + 1
        ends = _EVENT_END.search(tail, at)
        yield tail[begins : ends.start() if ends else None]
        end = begins


def _event(raw: bytes) -> dict[str, Any]:
    lines = [line[5:].strip() for line in raw.splitlines() if line.startswith(b"data:")]
    return _loads(b"\n".join(lines))


def _loads(raw: bytes) -> dict[str, Any]:
    """The JSON object; empty for anything else: what a model server says badly is its user's to see, not ours."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _says_something(raw: bytes) -> bool:
    choices = _event(raw).get("choices")
    if not isinstance(choices, list):
        return False
    for choice in choices:
        if not isinstance(choice, dict):
            continue
        delta = choice.get("delta")
        if isinstance(delta, dict) and any(delta.get(name) for name in _SAYS):
            return True
        if choice.get("text"):
            return True
    return False


def _counts(event: dict[str, Any]) -> tuple[int | None, int | None] | None:
    for place, given, made in (
        ("usage", "prompt_tokens", "completion_tokens"),
        ("timings", "prompt_n", "predicted_n"),
    ):
        told = event.get(place)
        if isinstance(told, dict) and (_count(told.get(given)) is not None or _count(told.get(made)) is not None):
            return _count(told.get(given)), _count(told.get(made))
    return None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
