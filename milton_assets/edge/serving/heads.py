"""The heads of HTTP/1.1 messages: read strictly, since what comes here is foreign, and written.

    request = RequestHead.read(b"POST /v1/chat/completions HTTP/1.1\\r\\nhost: x")
    request.body_length                                    # None where the body comes in chunks

What belongs here: reading and writing heads as RFC 9110 and 9112 have them, and what they say of the body that follows.
What does not: bodies (`http1`), sockets (`gateway`, `model_server`).

The rule is that no two readers can see two ends of a message: a line ends with CR LF and nothing else does, no space
stands before a colon, no line is folded, lengths agree and stand alone, `chunked` is the one coding. Whatever is let
through is let through by h11 with the same meaning, which the tests show; h11 takes four times as long for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

Headers = Sequence[tuple[bytes, bytes]]

END = b"\r\n\r\n"
"""What ends a head."""
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) HTTP/1\.([01])")
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_FIELD = _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*"
_FIELDS = re.compile(rb"(?:" + _FIELD + rb"\r\n)*" + _FIELD)
_LENGTH = re.compile(rb"[0-9]{1,18}")
_REMEMBERED_BYTES = 4096


class BadHead(Exception):
    """What arrived is no head that can be taken; `status` is the answer to whoever sent it."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class _Head:
    """What requests and responses have in common. Names are lower-case; `minor` is the version's, 1 for HTTP/1.1."""

    headers: Headers
    minor: int
    names: frozenset[bytes] = field(init=False, repr=False)
    """Which headers there are: most that are asked for are not."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", frozenset(name for name, _ in self.headers))

    def values(self, name: bytes) -> list[bytes]:
        """The values of the headers of that name."""
        return [value for key, value in self.headers if key == name] if name in self.names else []

    @property
    def in_chunks(self) -> bool:
        """Whether the body comes in chunks. Raises `BadHead` for every other coding."""
        coded = self.values(b"transfer-encoding")
        if not coded:
            return False
        if not self.minor or len(coded) > 1 or coded[0].lower() != b"chunked":
            raise BadHead(f"the body comes in a coding that is not known here: {b', '.join(coded)[:100]!r}", 501)
        if self.values(b"content-length"):
            raise BadHead("the body has a length and comes in chunks")
        return True

    @property
    def length(self) -> int | None:
        """The body's length in bytes, None where none is told. Raises `BadHead` for lengths that differ or are none."""
        lengths = self.values(b"content-length")
        if len(lengths) == 1 and _LENGTH.fullmatch(lengths[0]):
            return int(lengths[0])
        told = {one.strip() for value in lengths for one in value.split(b",")}
        if not told:
            return None
        if len(told) > 1 or not _LENGTH.fullmatch(next(iter(told))):
            raise BadHead(f"the length {b' and '.join(sorted(told))[:100]!r}")
        return int(next(iter(told)))

    @property
    def ends_connection(self) -> bool:
        """Whether nothing more comes over the connection after this message."""
        if not self.minor:
            return True
        return any(b"close" in map(bytes.strip, value.lower().split(b",")) for value in self.values(b"connection"))


@dataclass(frozen=True)
class RequestHead(_Head):
    """A request's head."""

    method: bytes
    target: bytes

    @classmethod
    def read(cls, raw: bytes) -> RequestHead:
        """Read the bytes before the empty line. Raises `BadHead`."""
        first, _, rest = raw.partition(b"\r\n")
        if (line := _REQUEST.fullmatch(first)) is None:
            raise BadHead(f"the request begins with {first[:100]!r}")
        head = cls(_fields(rest), int(line[3]), line[1], line[2])
        hosts = len(head.values(b"host"))
        if hosts > 1 or (head.minor and not hosts):
            raise BadHead(f"the request names {hosts or 'no'} hosts")
        return head

    @property
    def body_length(self) -> int | None:
        """How long the body is; None where it comes in chunks. Raises `BadHead`."""
        return None if self.in_chunks else self.length or 0

    @property
    def awaits_continue(self) -> bool:
        """Whether its sender waits to be told before it sends the body."""
        return bool(self.minor) and any(value.lower() == b"100-continue" for value in self.values(b"expect"))


@dataclass(frozen=True, eq=False)
class ResponseHead(_Head):
    """A response's head. What follows from one can be remembered: two are the same where they are one object."""

    status: int
    reason: bytes

    @classmethod
    def read(cls, raw: bytes) -> ResponseHead:
        """Read the bytes before the empty line. Raises `BadHead`.

        A server says much the same before each answer, so what was read of the latest heads is remembered.
        """
        return _remembered_response(raw) if len(raw) <= _REMEMBERED_BYTES else _response(raw)

    def has_body(self, *, asked_head_only: bool) -> bool:
        """Whether a body follows; `asked_head_only` is whether the request was `HEAD`."""
        return not (asked_head_only or self.status in {204, 304} or 100 <= self.status < 200)


def _response(raw: bytes) -> ResponseHead:
    first, _, rest = raw.partition(b"\r\n")
    if (line := _STATUS.fullmatch(first)) is None:
        raise BadHead(f"the response begins with {first[:100]!r}")
    return ResponseHead(_fields(rest), int(line[1]), int(line[2]), line[3] or b"")


_remembered_response = lru_cache(maxsize=64)(_response)


def _fields(raw: bytes) -> tuple[tuple[bytes, bytes], ...]:
    if not raw:
        return ()
    lines = raw.split(b"\r\n")
    if _FIELDS.fullmatch(raw) is None:
        bad = next((line for line in lines if _FIELDS.fullmatch(line) is None), raw)
        raise BadHead(f"a header line is {bad[:100]!r}")
    return tuple((name.lower(), value.strip(b" \t")) for name, _, value in [line.partition(b":") for line in lines])


def response_head(status: int, reason: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The bytes of a response's head, its empty line included. Whatever `headers` hold was read, or is ours."""
    lines = [b"HTTP/1.1 %d %s" % (status, reason), *(name + b": " + value for name, value in headers)]
    return b"\r\n".join(lines) + END
