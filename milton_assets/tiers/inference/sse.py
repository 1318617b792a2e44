"""Server-sent events from bytes that arrive in any pieces.

    parser = EventParser()
    for piece in pieces:
        for event in parser.feed(piece): ...

What belongs here: the event stream format of the WHATWG HTML standard (section 9.2.6, "Interpreting an event
stream"): CRLF, LF and CR line ends, comments, multi-line data, unknown fields, a leading byte order mark. What does
not: what the data means (`stream`), and when it arrived (`transport`).
"""

from __future__ import annotations

from dataclasses import dataclass

from milton_assets.vocabulary.errors import BadInput

MAX_EVENT_BYTES = 8 << 20
_BOM = b"\xef\xbb\xbf"


class EventTooLarge(BadInput):
    """An event that would not end. Bounded so that a hostile server cannot fill the client's memory."""


@dataclass(frozen=True, slots=True)
class Event:
    """One dispatched event: its data lines joined by LF, and its type (`message` unless it says otherwise)."""

    data: bytes
    name: bytes = b"message"


class EventParser:
    """An incremental parser. Bytes in, whole events out; an event that the stream leaves unfinished is dropped."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._name = b""
        self._after_cr = False
        self._at_start = True

    def feed(self, piece: bytes) -> list[Event]:
        """The events that `piece` completes, in order. Raises `EventTooLarge` for one beyond `MAX_EVENT_BYTES`."""
        if self._after_cr and piece:
            self._after_cr = False
            piece = piece.removeprefix(b"\n")
        self._rest += piece
        if len(self._rest) + self._data_bytes > MAX_EVENT_BYTES:
            raise EventTooLarge(
                f"an event of more than {MAX_EVENT_BYTES} bytes", expected="events of a few hundred bytes"
            )
        if b"\n" not in piece and b"\r" not in piece:
            return []
        if self._at_start:
            self._at_start = False
            if self._rest.startswith(_BOM):
                del self._rest[: len(_BOM)]
        lines = bytes(self._rest).splitlines(keepends=True)
        self._rest.clear()
        if not lines:
            return []
        if not lines[-1].endswith((b"\n", b"\r")):
            self._rest += lines.pop()
        elif lines[-1].endswith(b"\r"):
            self._after_cr = True
        return [event for line in lines if (event := self._line(line.rstrip(b"\r\n"))) is not None]

    def _line(self, line: bytes) -> Event | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._data_bytes += len(value) + 1
        elif field == b"event":
            self._name = value
        return None

    def _dispatch(self) -> Event | None:
        name, self._name = self._name, b""
        if not self._data:
            return None
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data.clear()
        self._data_bytes = 0
        return Event(data, name or b"message")
