"""A user's connection: requests as they arrive, and answers as they leave.

What belongs here: reading requests in the very call that takes their last bytes from the socket, writing responses
framed as the user understands them, and how fast, how long and how much: the limits. What does not: what is made of a
request (`gateway`), and HTTP's rules (`heads`, `http1`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar

from milton_assets.edge.serving.heads import END, BadHead, Headers, RequestHead, ResponseHead, response_head
from milton_assets.edge.serving.http1 import Chunked, Limits, Refused, Request, end_to_end
from milton_assets.edge.serving.model_server import Exchange
from milton_assets.edge.serving.receiving import Receiver

_LINGER_S = 2.0
_CONTINUE = response_head(100, b"Continue", ())
_LAST_CHUNK = b"0\r\n\r\n"


class Framing(Enum):
    """How a user finds the end of a response's body."""

    AS_THE_HEAD_SAYS = auto()
    """By the length that the head tells; or there is none."""
    CHUNKS = auto()
    """It is put into chunks here."""
    CHUNKS_AS_THEY_ARE = auto()
    """It came in chunks, and passes byte for byte with its own last one."""
    UNTIL_CLOSED = auto()
    """By the connection's end, for a user of HTTP/1.0."""


_IN_CHUNKS = frozenset({Framing.CHUNKS, Framing.CHUNKS_AS_THEY_ARE})


class ClientLeft(Exception):
    """The user closed the connection, or takes nothing any more."""


class Straight(Protocol):
    """What passes a user's request on by itself, and hears when the user leaves in the middle of it."""

    def left(self) -> None:
        """The user has left."""
        ...


S = TypeVar("S", bound=Straight)


class Client(Receiver, Generic[S]):
    """One user's connection.

    Each request is read in the very call that takes its last bytes from the socket, and given to `goes_straight`. What
    that does not take is for `serve`, a task that is run once for the connection, and cancelled when the user leaves in
    the middle of something.
    """

    def __init__(
        self,
        serve: Callable[[Client[S]], Any],
        goes_straight: Callable[[Client[S], Request], bool],
        limits: Limits,
        on_close: Callable[[Client[S]], None],
        buffer: memoryview,
    ) -> None:
        super().__init__(buffer)
        self._loop = asyncio.get_running_loop()
        self.straight: S | None = None
        """What passes a request of its on by itself, if something does: the task waits meanwhile."""
        self._serve = serve
        self._goes_straight = goes_straight
        self._limits = limits
        self._on_close = on_close
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._arrived: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._unread = bytearray()
        self._asked: RequestHead | None = None
        self._length: int | None = None
        self._chunked: Chunked | None = None
        self._in_chunks = bytearray()
        self._arrived_whole: Request | None = None
        self._was_refused: Refused | None = None
        self._since_s = 0.0
        self._looks_at_s = 0.0
        self._is_busy = False
        self._framing: Framing | None = None
        self._has_answered = False
        self._ends_after = False
        self._has_left = False
        self._is_lingering = False
        self._head = b""
        self._source: Exchange | None = None
        self._stalled: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a TCP server makes
        self._transport = transport
        self._since_s = self._loop.time()
        self._task = self._loop.create_task(self._serve(self))
        self._task.add_done_callback(self._ended)

    def take(self, data: bytes) -> None:
        """See `Receiver`."""
        if self._is_lingering:
            return
        self._unread += data
        if not self._is_busy:
            self._read()
        elif len(self._unread) > self._limits.header_bytes and self._transport is not None:
            # Pipelined requests wait in the user's own buffers.
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`."""
        self._leave()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._leave()
        self._on_close(self)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        if self._writable is None:
            self._writable = self._loop.create_future()
        if self._source is not None:
            self._source.pause()
            self._stalled = self._loop.call_later(self._limits.stall_s, self.cut)

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        waiting, self._writable = self._writable, None
        _wake(waiting)
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        if self._source is not None:
            self._source.go_on()

    def _leave(self) -> None:
        if self._has_left:
            return
        self._has_left = True
        straight, self.straight = self.straight, None
        if straight is not None:
            self._arrived_whole = None
            straight.left()
        elif self._is_busy and self._task is not None:
            self._task.cancel()
        _wake(self._arrived)
        _wake(self._writable)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._transport is not None and not self._is_lingering:
            self._transport.close()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._loop.call_exception_handler(
                {"message": "a request was not served as it should be", "exception": error, "task": task}
            )

    # ------------------------------------------------------------------------------------------ for whoever serves it

    @property
    def has_left(self) -> bool:
        """Whether the user has closed the connection."""
        return self._has_left

    async def request(self) -> Request | None:
        """The next request that does not go straight, whole; None when the user is done.

        Raises `Refused` for what cannot be taken.
        """
        while True:
            if (request := self._arrived_whole) is not None:
                self._arrived_whole = None
                return request
            if self._was_refused is not None:
                raise self._was_refused
            if self._has_left:
                return None
            self._looks_at_s = self._deadline_s()
            try:
                async with asyncio.timeout_at(self._looks_at_s):
                    await self._more()
            except TimeoutError:
                if self._loop.time() < self._deadline_s():
                    continue
                if self._asked is not None:
                    message = f"the request did not arrive within {self._limits.request_s:g} s"
                elif self._unread:
                    message = "the request's head did not arrive in time"
                else:
                    return None
                raise Refused(408, message) from None

    def _deadline_s(self) -> float:
        """When what is awaited should be there. While a request goes straight nothing is: that is looked at later."""
        if self.straight is not None:
            return self._loop.time() + self._limits.idle_s
        return self._since_s + (self._limits.idle_s if self._asked is None else self._limits.request_s)

    def _read(self) -> None:
        """Take the request out of what is unread, if all of it is there, and have it passed on."""
        try:
            request = self._taken()
        except BadHead as error:
            self._refused(Refused(error.status, str(error)))
        except Refused as error:
            self._refused(error)
        else:
            if request is None:
                return
            self._is_busy = True
            if not self._goes_straight(self, request):
                self._arrived_whole = request
                _wake(self._arrived)

    def _refused(self, refused: Refused) -> None:
        self._is_busy, self._was_refused = True, refused
        _wake(self._arrived)

    def _taken(self) -> Request | None:
        if self._asked is None:
            if (head := self._taken_head()) is None:
                return None
            self._begin(head)
        head, length = self._asked, self._length
        if head is None:
            return None
        if self._chunked is not None:
            return self._taken_chunks(head, self._chunked)
        if length is None or len(self._unread) < length:
            return None
        request = Request(head, bytes(self._unread[:length]))
        del self._unread[:length]
        return request

    def _taken_head(self) -> RequestHead | None:
        most = self._limits.header_bytes
        end = self._unread.find(END)
        if end > most or (end < 0 and len(self._unread) > most):
            raise Refused(431, f"the request's head is larger than {most} bytes")
        if end < 0:
            if self._unread and not 0x20 < self._unread[0] < 0x7F:
                raise BadHead(f"the request begins with {bytes(self._unread[:20])!r}")
            return None
        raw = bytes(self._unread[:end])
        del self._unread[: end + len(END)]
        return RequestHead.read(raw)

    def _begin(self, head: RequestHead) -> None:
        """The head is there; what of the body is not has its own time to arrive."""
        self._asked = head
        self._ends_after = head.ends_connection
        self._length = length = head.body_length
        if length is None:
            self._chunked, self._in_chunks = Chunked(), bytearray()
        else:
            self._chunked = None
            self._check_size(length)
        if head.awaits_continue and length != 0 and self._transport is not None:
            self._transport.write(_CONTINUE)
        if length is None or length > len(self._unread):
            self._since_s = self._loop.time()
            if self._deadline_s() < self._looks_at_s:
                _wake(self._arrived)

    def _taken_chunks(self, head: RequestHead, chunked: Chunked) -> Request | None:
        try:
            pieces, end = chunked.pieces(bytes(self._unread))
        except ValueError as error:
            raise BadHead(str(error)) from None
        for piece in pieces:
            self._in_chunks += piece
        self._check_size(len(self._in_chunks))
        if end is None:
            self._unread.clear()
            return None
        del self._unread[:end]
        return Request(head, bytes(self._in_chunks))

    def _check_size(self, length: int) -> None:
        if length > self._limits.body_bytes:
            raise Refused(413, f"the request's body is larger than {self._limits.body_bytes} bytes")

    async def _more(self) -> None:
        """Wait until there is something for the task."""
        if self._transport is not None and self.straight is None and not self._transport.is_reading():
            self._transport.resume_reading()
        self._arrived = self._loop.create_future()
        try:
            await self._arrived
        finally:
            self._arrived = None

    async def settle(self) -> None:
        """Wait until the user has taken enough of what was written. Raises `ClientLeft`."""
        if self._writable is not None:
            try:
                async with asyncio.timeout(self._limits.stall_s):
                    await asyncio.shield(self._writable)
            except TimeoutError:
                raise ClientLeft from None
        if self._has_left:
            raise ClientLeft

    def is_fed_by(self, source: Exchange | None) -> None:
        """While `source` writes to this user by itself, it is read no faster than the user takes."""
        self._source = source
        if source is None and self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    @contextmanager
    def fed_by(self, source: Exchange) -> Iterator[None]:
        """The same, while the block lasts."""
        self.is_fed_by(source)
        try:
            yield
        finally:
            self.is_fed_by(None)

    def pass_head(self, status: int, reason: bytes, headers: Headers, framing: Framing) -> None:
        """Write the head of a response whose body follows by `pass_body` or `pass_bytes`. Raises `ClientLeft`."""
        self._begin_answer(framing)
        self._head = _head(status, reason, headers, framing, self._ends_after)

    def pass_head_of(self, response: ResponseHead, signed: tuple[tuple[bytes, bytes], ...], framing: Framing) -> None:
        """Write the head of a model server's response, signed by who answered, as `pass_head` does.

        It goes with the first of those, or by itself where they are empty: one call of the kernel less before the first
        token.
        """
        self._begin_answer(framing)
        self._head = _head_of(response, signed, framing, self._ends_after)

    def _begin_answer(self, framing: Framing) -> None:
        if self._has_left:
            raise ClientLeft
        self._framing = framing
        self._ends_after = self._ends_after or framing is Framing.UNTIL_CLOSED

    def pass_body(self, data: bytes) -> None:
        """Write a piece of the body, framed as this connection has it. Raises `ClientLeft`."""
        if self._framing is Framing.CHUNKS:
            data = b"%x\r\n%s\r\n" % (len(data), data) if data else b""
        self.pass_bytes(data)

    def pass_bytes(self, raw: bytes) -> None:
        """Write bytes that are framed already, as the head said. Raises `ClientLeft`."""
        if self._transport is None or self._has_left:
            raise ClientLeft
        head, self._head = self._head, b""
        if head or raw:
            self._transport.write(head + raw if head else raw)

    async def finish(self) -> None:
        """The body has ended; waits until the user has taken enough of it. Raises `ClientLeft`."""
        self.write_end()
        await self.settle()

    def write_end(self) -> None:
        """Write what ends the body, if anything does. Raises `ClientLeft`."""
        self.pass_bytes(_LAST_CHUNK if self._framing is Framing.CHUNKS else b"")
        self._has_answered = True

    @property
    def is_ready(self) -> bool:
        """Whether what was written is taken, and another request can follow."""
        return self._writable is None and not self._ends_after and not self._has_left

    def hand_over(self, request: Request) -> None:
        """Leave it to the task."""
        self._arrived_whole = request
        _wake(self._arrived)

    @property
    def takes_chunks(self) -> bool:
        """Whether the user understands a body in chunks (HTTP/1.1)."""
        return self._asked is not None and bool(self._asked.minor)

    @property
    def asked_head_only(self) -> bool:
        """Whether the user wants no body (`HEAD`)."""
        return self._asked is not None and self._asked.method == b"HEAD"

    @property
    def can_still_be_told(self) -> bool:
        """Whether no response has begun, so that one can still say what went wrong."""
        return not self._has_left and self._framing is None

    def end_after_this(self) -> None:
        """Say in the response that it is the connection's last."""
        self._ends_after = True

    def next(self) -> bool:
        """Get ready for another request on this connection, which may have arrived already; false when there can be
        none.
        """
        if not self._has_answered or self._ends_after or self._has_left:
            return False
        self._framing, self._has_answered = None, False
        if self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()
        self._is_busy, self._asked = False, None
        self._since_s = self._loop.time()
        if self._unread:
            self._read()
        return True

    def cut(self) -> None:
        """Close the connection in the middle, so that nobody takes half an answer for a whole one."""
        if self._transport is not None:
            self._transport.abort()

    def close_in_peace(self) -> None:
        """Close, but read and forget for a moment what still arrives: a reset would lose the answer on its way."""
        if self._transport is None or self._transport.is_closing() or self._has_left:
            return
        self._is_lingering = True
        self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._loop.call_later(_LINGER_S, self._transport.close)

    def hang_up(self) -> None:
        """End an idle connection; a busy one is ended by whoever serves it."""
        if not self._is_busy and self._asked is None and self._transport is not None:
            self._transport.close()


def _head(status: int, reason: bytes, headers: Headers, framing: Framing, is_last: bool) -> bytes:
    more = [(b"transfer-encoding", b"chunked")] if framing in _IN_CHUNKS else []
    if is_last:
        more.append((b"connection", b"close"))
    return response_head(status, reason, [*headers, *more])


@lru_cache(maxsize=64)
def _head_of(response: ResponseHead, signed: Headers, framing: Framing, is_last: bool) -> bytes:
    return _head(response.status, response.reason, [*end_to_end(response.headers), *signed], framing, is_last)


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
