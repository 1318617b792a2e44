"""What passes between a user, the gateway and a model server, and within which limits: HTTP/1.1 as RFC 9110 and 9112.

What belongs here: the limits, which headers go no further than one connection, writing the forwarded request, and
finding the end of a body in chunks that passes as it is. What does not: heads (`heads`), sockets (`gateway`,
`model_server`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from milton_assets.edge.serving.heads import Headers, RequestHead
from milton_assets.vocabulary.errors import BadInput

VIA = b"1.1 milton"
_ONE_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""RFC 9110, 7.6.1: these speak of one connection, and so does whatever `Connection` names."""
_OURS = frozenset({b"host", b"content-length", b"expect", b"via"})
"""What the gateway writes itself: it has the whole body, and has answered `Expect` already."""

_NOT_FORWARDED = _ONE_HOP | _OURS

_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r\n")
_LONGEST_LINE = 4096


@dataclass(frozen=True)
class Limits:
    """What one user may take. Sizes are bytes, times seconds.

    `held` is how many requests may wait for a model server at once, `hold_s` how long each may; `idle_s` how long a
    connection may say nothing between requests, `request_s` how long a request may take to arrive, `stall_s` how long
    its reader may take nothing while there is something to read.
    """

    header_bytes: int = 64 << 10
    body_bytes: int = 32 << 20
    connections: int = 1024
    held: int = 256
    hold_s: float = 120.0
    idle_s: float = 75.0
    request_s: float = 60.0
    stall_s: float = 120.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise BadInput(f"the limit {name} is {value}", expected="more than 0")


class Refused(Exception):
    """A request that is not passed on: the status and sentence that its user gets."""

    def __init__(self, status: int, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s

    @property
    def kind(self) -> str:
        """OpenAI's name for this kind of error."""
        return "invalid_request_error" if self.status < 500 else "server_error"


class Request:
    """A request as it arrived: its head and its whole body. `path` is its path without the query."""

    def __init__(self, head: RequestHead, body: bytes) -> None:
        self.head = head
        self.body = body
        self._target = _origin_form(head.target)
        self.path = self._target.decode("ascii").partition("?")[0]

    @property
    def method(self) -> str:
        """The method, in capitals."""
        return self.head.method.decode("ascii")

    @property
    def climbs(self) -> bool:
        """Whether the path could lead out of the folder that it names, once somebody resolves it."""
        parts = self.path.lower().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/").replace("\\", "/")
        return ".." in parts.split("/")

    @property
    def first_line(self) -> bytes:
        """The first line for whoever it is passed on to."""
        return self.head.method + b" " + self._target + b" HTTP/1.1"


def _origin_form(target: bytes) -> bytes:
    """The target without scheme and host: users may write the absolute form (RFC 9112, 3.2.2)."""
    if target[:4].lower() == b"http" and target.lower().startswith((b"http://", b"https://")):
        _, slash, rest = target.partition(b"//")[2].partition(b"/")
        return slash + rest or b"/"
    return target


class Chunked:
    """Looks on at a body in chunks (RFC 9112, 7.1) that passes byte for byte: what it says, and where it ends."""

    def __init__(self) -> None:
        self._left = 0
        self._line = b""
        self._in_trailer = False
        self._ends_chunk = False

    def pieces(self, data: bytes) -> tuple[list[bytes], int | None]:
        """The pieces of the body in `data`, and where in it the body ends, None when it goes on.

        Raises `ValueError` for what is no body in chunks: its end could be anywhere.
        """
        found: list[bytes] = []
        at, size = 0, len(data)
        while at < size:
            if not (self._left or self._line or self._ends_chunk or self._in_trailer):
                # Nearly always whole chunks come; whatever is not one is looked at line by line.
                line_of_whole = _CHUNK_LINE.match(data, at)
                if line_of_whole is not None:
                    begins, length = line_of_whole.end(), int(line_of_whole[1], 16)
                    ends = begins + length
                    if length and data.startswith(b"\r\n", ends):
                        found.append(data[begins:ends])
                        at = ends + 2
                        continue
            if self._left:
                piece = data[at : at + self._left]
                found.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._ends_chunk = not self._left
                continue
            end = data.find(b"\n", at)
            if end < 0:
                self._line += data[at:]
                if len(self._line) > _LONGEST_LINE:
                    raise ValueError("a chunk's first line has no end")
                return found, None
            line, at = self._line + data[at : end + 1], end + 1
            self._line = b""
            if self._ends_chunk:
                if line != b"\r\n":
                    raise ValueError("a chunk goes on beyond its size")
                self._ends_chunk = False
            elif self._in_trailer:
                if line == b"\r\n":
                    return found, at
                if len(line) > _LONGEST_LINE:
                    raise ValueError("a trailer without end")
            else:
                match = _CHUNK_LINE.fullmatch(line)
                if match is None:
                    raise ValueError(f"a chunk begins with {line[:50]!r}")
                self._left = int(match[1], 16)
                self._in_trailer = not self._left
        return found, None


def end_to_end(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The headers that go further than one connection."""
    return _without(headers, _ONE_HOP)


def _without(headers: Headers, names: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """Those of other names, nor of such as `Connection` names."""
    for key, value in headers:
        if key == b"connection":
            names |= {name.strip().lower() for name in value.split(b",")}
    return [(name, value) for name, value in headers if name not in names]


def forwarded(request: Request, host: str) -> bytes:
    """The bytes of the request for the server at `host`. Every part of the head that is copied was checked."""
    head = request.head
    lines = [request.first_line, b"host: " + host.encode("ascii")]
    lines += [name + b": " + value for name, value in _without(head.headers, _NOT_FORWARDED)]
    lines.append(b"via: " + VIA)
    if request.body or head.method not in {b"GET", b"HEAD", b"OPTIONS"}:
        lines.append(b"content-length: %d" % len(request.body))
    return b"\r\n".join([*lines, b"", request.body])
