"""The address that users know: it takes their requests, gives each to the model server in service, and passes back what
that says, chunk by chunk, as it is said.

    gateway = Gateway(supervisor, Metrics())
    server = await gateway.listen("127.0.0.1", 8080)

What belongs here: users' connections and requests, from the first byte to the last. What does not: which model server
there is (`supervisor`), HTTP's rules (`heads`, `http1`), and what is told of a request (`observe`, `metrics`).

What is passed on: `/v1/…` and the server's own read-only `/props`. What the gateway answers itself: `/health`,
`/metrics` and, while two releases are compared (`splitting`), `POST /feedback`. Everything else that model servers
offer, their slots and switches, is nobody's business from outside.

A request for which a server and a connection are there goes straight: it is passed on in the call that read it, and
its answer back, without a task (docs/adr/0256). Whatever has to wait, or goes wrong, is the connection's task's.

A request's body is taken whole before it is passed on, so that it can wait for a model and be sent again: a server that
dies before it answered a single byte costs its user nothing but time. A response is never kept: each piece goes to the
user in the very call that took it from the model server's socket, and that socket is read no further while the user
takes nothing. When the user leaves, the connection to the model server is closed, which cancels the work there.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from milton_assets.edge.serving.heads import END, BadHead, Headers, RequestHead, ResponseHead, response_head
from milton_assets.edge.serving.http1 import Chunked, Limits, Refused, Request, end_to_end, forwarded
from milton_assets.edge.serving.metrics import CONTENT_TYPE, Metrics, Outcome, Told
from milton_assets.edge.serving.model_server import Exchange, ModelServer, UpstreamLost
from milton_assets.edge.serving.observe import Watched
from milton_assets.edge.serving.receiving import Receiver, receive_buffer
from milton_assets.edge.serving.shadowing import Shadow
from milton_assets.edge.serving.splitting import Drawn, Splitter
from milton_assets.edge.serving.supervisor import Supervisor
from milton_assets.edge.serving.texts import NoAnswer, streamed_text, whole_text

_TRIES = 4
_MOST_KEPT_BYTES = 1 << 20
"""An answer to a golden question that comes in more bytes is not marked."""
_LINGER_S = 2.0
_TOLD_AFTER_S = 0.01
"""Streams that end together come back together: what is told of them waits until the next requests are out."""
_CONTINUE = response_head(100, b"Continue", ())
_LAST_CHUNK = b"0\r\n\r\n"
_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v1/responses": "chat",
}
"""The conventions' names of what is asked; the rest (lists of models) is no inference and has no figures."""
_PASSED_GETS = frozenset({"/props"})


class _Framing(Enum):
    """How a user finds the end of a response's body."""

    AS_THE_HEAD_SAYS = auto()
    """By the length that the head tells; or there is none."""
    CHUNKS = auto()
    """It is put into chunks here."""
    CHUNKS_AS_THEY_ARE = auto()
    """It came in chunks, and passes byte for byte with its own last one."""
    UNTIL_CLOSED = auto()
    """By the connection's end, for a user of HTTP/1.0."""


_IN_CHUNKS = frozenset({_Framing.CHUNKS, _Framing.CHUNKS_AS_THEY_ARE})


class ClientLeft(Exception):
    """The user closed the connection, or takes nothing any more."""


class Client(Receiver):
    """One user's connection.

    Each request is read in the very call that takes its last bytes from the socket, and given to `goes_straight`. What
    that does not take is for `serve`, a task that is run once for the connection, and cancelled when the user leaves in
    the middle of something.
    """

    def __init__(
        self,
        serve: Callable[[Client], Any],
        goes_straight: Callable[[Client, Request], bool],
        limits: Limits,
        on_close: Callable[[Client], None],
        buffer: memoryview,
    ) -> None:
        super().__init__(buffer)
        self._loop = asyncio.get_running_loop()
        self.straight: _Straight | None = None
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
        self._framing: _Framing | None = None
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

    def pass_head(self, status: int, reason: bytes, headers: Headers, framing: _Framing) -> None:
        """Write the head of a response whose body follows by `pass_body` or `pass_bytes`. Raises `ClientLeft`."""
        self._begin_answer(framing)
        self._head = _head(status, reason, headers, framing, self._ends_after)

    def pass_head_of(self, response: ResponseHead, signed: tuple[tuple[bytes, bytes], ...], framing: _Framing) -> None:
        """Write the head of a model server's response, signed by who answered, as `pass_head` does.

        It goes with the first of those, or by itself where they are empty: one call of the kernel less before the first
        token.
        """
        self._begin_answer(framing)
        self._head = _head_of(response, signed, framing, self._ends_after)

    def _begin_answer(self, framing: _Framing) -> None:
        if self._has_left:
            raise ClientLeft
        self._framing = framing
        self._ends_after = self._ends_after or framing is _Framing.UNTIL_CLOSED

    def pass_body(self, data: bytes) -> None:
        """Write a piece of the body, framed as this connection has it. Raises `ClientLeft`."""
        if self._framing is _Framing.CHUNKS:
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
        self.pass_bytes(_LAST_CHUNK if self._framing is _Framing.CHUNKS else b"")
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


def _head(status: int, reason: bytes, headers: Headers, framing: _Framing, is_last: bool) -> bytes:
    more = [(b"transfer-encoding", b"chunked")] if framing in _IN_CHUNKS else []
    if is_last:
        more.append((b"connection", b"close"))
    return response_head(status, reason, [*headers, *more])


@lru_cache(maxsize=64)
def _head_of(response: ResponseHead, signed: Headers, framing: _Framing, is_last: bool) -> bytes:
    return _head(response.status, response.reason, [*end_to_end(response.headers), *signed], framing, is_last)


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


@dataclass
class _Passing:
    """One request being passed on: what is known of it so far. Times are `time.perf_counter` seconds. `kept` is its
    answer, while it passes, where a golden question was asked."""

    arrived_s: float
    held_s: float = 0.0
    status: int = 0
    model: str = ""
    watched: Watched | None = None
    drawn: Drawn | None = None
    kept: bytearray | None = None

    def answer(self) -> str:
        """The text of the answer that was kept. Raises `NoAnswer`."""
        if self.kept is None or self.watched is None or len(self.kept) > _MOST_KEPT_BYTES:
            raise NoAnswer("the answer was not kept")
        return (streamed_text if self.watched.streamed else whole_text)(bytes(self.kept))

    def told(self, operation: str, outcome: Outcome, ended_s: float) -> Told:
        """What is told of it, which ended then."""
        duration_s = ended_s - self.arrived_s
        if self.watched is None:
            return Told(operation, self.model, outcome, self.status, duration_s, self.held_s)
        tokens = self.watched.tokens()
        first_s, last_s = self.watched.first_token_s, self.watched.last_s
        output = tokens.output if tokens.output is not None else (tokens.events or None)
        per_token = None
        if first_s is not None and last_s is not None and output is not None and output > 1:
            per_token = (last_s - first_s) / (output - 1)
        return Told(
            operation,
            self.model,
            outcome,
            self.status,
            duration_s,
            self.held_s,
            time_to_first_token_s=None if first_s is None else first_s - self.arrived_s,
            time_per_output_token_s=per_token,
            input_tokens=tokens.input,
            output_tokens=tokens.output,
        )


class Gateway:
    """Takes requests and passes them to what `supervisor` serves, some of them to what `splitter` serves beside it;
    `shadow` may record them.

    `on_told` hears of every request that had figures.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        metrics: Metrics,
        *,
        splitter: Splitter | None = None,
        shadow: Shadow | None = None,
        limits: Limits | None = None,
        on_told: Callable[[Told], None] = lambda _: None,
        health: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self.supervisor = supervisor
        self.metrics = metrics
        self._splitter = splitter
        self._shadow = shadow
        self.last_request_s = time.monotonic()
        self.in_progress = 0
        self._limits = limits or Limits()
        self._on_told = on_told
        self._health = health
        self._clients: set[Client] = set()
        self._buffer = receive_buffer()
        self._server: asyncio.Server | None = None
        self._stopping = False
        self._untold: list[tuple[Request, _Passing, Outcome, float]] = []

    def is_idle(self, for_s: float) -> bool:
        """Whether nobody asks, and nobody has asked for so many seconds."""
        return not self.in_progress and time.monotonic() - self.last_request_s >= for_s

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Take connections at that address, port 0 for any free one; where it listens. Raises `OSError`."""
        self._server = await asyncio.get_running_loop().create_server(
            self._new_client, host, port, backlog=512, reuse_address=True
        )
        where = self._server.sockets[0].getsockname()
        return str(where[0]), int(where[1])

    def stop_listening(self) -> None:
        """Take no more connections, and end those on which nothing is going on."""
        self._stopping = True
        if self._server is not None:
            self._server.close()
        for client in tuple(self._clients):
            client.hang_up()

    async def farewell(self, within_s: float) -> None:
        """Wait until every connection has closed, that long at most, and close the rest."""
        deadline = time.monotonic() + within_s
        while self._clients and time.monotonic() < deadline:
            for client in tuple(self._clients):
                client.hang_up()
            await asyncio.sleep(0.02)
        for client in tuple(self._clients):
            client.cut()
        self._tell_all()

    def _new_client(self) -> Client:
        client = Client(self._serve, self._goes_straight, self._limits, self._clients.discard, self._buffer)
        self._clients.add(client)
        return client

    def _goes_straight(self, client: Client, request: Request) -> bool:
        """Pass the request on here and now, if nothing has to be waited for or decided."""
        if (
            self._stopping
            or request.path not in _OPERATIONS
            or len(self._clients) > self._limits.connections
            or (self._splitter is not None and self._splitter.splits is not None)
            or (server := self.supervisor.take_at_once()) is None
        ):
            return False
        if (exchange := server.kept()) is None:
            server.end()
            return False
        _Straight(self, client, request, server, exchange).begin()
        return True

    async def _serve(self, client: Client) -> None:
        try:
            while (request := await client.request()) is not None:
                await self._respond(client, request)
                if self._stopping or not client.next():
                    break
        except Refused as refused:
            await self._refuse(client, refused, is_last=True)
        except ClientLeft:
            return
        client.close_in_peace()

    async def _respond(self, client: Client, request: Request) -> None:
        path, method = request.path, request.method
        if len(self._clients) > self._limits.connections:
            raise Refused(503, f"more than {self._limits.connections} connections are open", retry_after_s=1)
        if path in {"/health", "/metrics"} and method in {"GET", "HEAD"}:
            await self._own_page(client, request)
        elif path == "/feedback" and method == "POST" and self._splitter is not None:
            self._splitter.rate(request.body)
            await _send_whole(client, 200, b'{"taken": true}', "application/json")
        elif not request.climbs and (path.startswith("/v1/") or (path in _PASSED_GETS and method == "GET")):
            await self._relay(client, request)
        else:
            await self._refuse(client, Refused(404, f"there is no {path[:200]} here"))

    async def _own_page(self, client: Client, request: Request) -> None:
        if request.path == "/metrics":
            self._tell_all()
            status, page, kind = 200, self.metrics.page(), CONTENT_TYPE
        else:
            status = 200 if self.supervisor.serving is not None else 503
            page, kind = json.dumps(dict(self._health())), "application/json"
        await _send_whole(client, status, page.encode(), kind)

    async def _refuse(self, client: Client, refused: Refused, *, is_last: bool = False) -> None:
        if not client.can_still_be_told:
            client.cut()
            return
        error = {"message": refused.message, "type": refused.kind, "code": refused.status}
        more = [] if refused.retry_after_s is None else [(b"retry-after", b"%d" % refused.retry_after_s)]
        if is_last:
            client.end_after_this()
        page = json.dumps({"error": error}).encode()
        await _send_whole(client, refused.status, page, "application/json", more)

    async def _relay(self, client: Client, request: Request) -> None:
        straight, client.straight = client.straight, None
        passing = _Passing(time.perf_counter()) if straight is None else straight.passing
        self.began()
        outcome = Outcome.ANSWERED
        try:
            if straight is None or not await self._went_straight(client, straight):
                await self._pass_on(client, request, passing)
        except Refused as refused:
            outcome, passing.status = Outcome.REFUSED, refused.status
            await self._refuse(client, refused)
        except UpstreamLost:
            # The answer has begun: only a connection that breaks off says that it is not whole.
            outcome = Outcome.CUT
            client.cut()
            raise ClientLeft from None
        except ClientLeft:
            outcome = Outcome.LEFT
            client.cut()
            raise
        except asyncio.CancelledError:
            outcome = Outcome.LEFT
            if not client.has_left:
                raise
            raise ClientLeft from None
        finally:
            self.ended()
            self._tell(request, passing, outcome, time.perf_counter())

    async def _went_straight(self, client: Client, straight: _Straight) -> bool:
        """Bring to its end what went straight as far as it could; false where nothing of an answer came."""
        if straight.lost_by is None:
            await client.finish()
            return True
        if not isinstance(straight.lost_by, UpstreamLost):
            raise straight.lost_by
        if straight.back.has_begun:
            await self.supervisor.suspect(straight.server)
            raise straight.lost_by
        return False

    def began(self) -> None:
        """A request is being worked on."""
        self.in_progress += 1

    def ended(self) -> None:
        """It no longer is."""
        self.in_progress -= 1
        self.last_request_s = time.monotonic()

    def tell_later(self, request: Request, passing: _Passing, outcome: Outcome) -> None:
        """Tell of a request that has ended, once those that came with it are on their way."""
        if not self._untold:
            asyncio.get_running_loop().call_later(_TOLD_AFTER_S, self._tell_all)
        self._untold.append((request, passing, outcome, time.perf_counter()))

    def _tell_all(self) -> None:
        untold, self._untold = self._untold, []
        for one in untold:
            self._tell(*one)

    def _tell(self, request: Request, passing: _Passing, outcome: Outcome, ended_s: float) -> None:
        if (operation := _OPERATIONS.get(request.path)) is None:
            return
        told = passing.told(operation, outcome, ended_s)
        self.metrics.add(told)
        self._on_told(told)
        if self._shadow is not None:
            self._shadow.saw(request.path, request.body, told)
        if self._splitter is not None and passing.drawn is not None:
            self._splitter.ended(passing.drawn, told, passing.answer)

    @property
    def is_stopping(self) -> bool:
        """Whether no more requests are taken."""
        return self._stopping

    async def _pass_on(self, client: Client, request: Request, passing: _Passing) -> None:
        if self._splitter is not None and request.path in _OPERATIONS:
            chat = request.body if _OPERATIONS[request.path] == "chat" else None
            passing.drawn = self._splitter.draw(request.head.headers, chat)
            if await self._answered_by_challenger(self._splitter, client, request, passing):
                return
        for tries_left in reversed(range(_TRIES)):
            waited_s = time.perf_counter()
            server = await self.supervisor.take()
            passing.held_s += time.perf_counter() - waited_s
            passing.model = server.release.model_version
            try:
                await self._passed(client, request, server, passing)
                return
            except _NotYetAnswered as lost:
                await self.supervisor.suspect(server)
                if not tries_left:
                    raise Refused(502, f"the model server did not answer: {lost}") from None
            except UpstreamLost:
                await self.supervisor.suspect(server)
                raise
            finally:
                server.end()

    async def _answered_by_challenger(
        self, splitter: Splitter, client: Client, request: Request, passing: _Passing
    ) -> bool:
        """Have the challenger answer if the request is its; false when the incumbent is to."""
        drawn = passing.drawn
        if drawn is None or (server := splitter.take(drawn)) is None:
            return False
        passing.model = server.release.model_version
        try:
            await self._passed(client, request, server, passing)
        except _NotYetAnswered:
            drawn.lost = True
            await splitter.suspect(server)
            return False
        except UpstreamLost:
            await splitter.suspect(server)
            raise
        finally:
            server.end()
        return True

    async def _passed(self, client: Client, request: Request, server: ModelServer, passing: _Passing) -> None:
        """Pass the request on and its response back. Raises `_NotYetAnswered` when it is lost before the response."""
        while True:
            try:
                exchange = await server.exchange()
            except UpstreamLost as error:
                raise _NotYetAnswered(str(error)) from error
            back = _Back(client, server, passing)
            try:
                with client.fed_by(exchange):
                    exchange.send(request.head.method, forwarded(request, server.host))
                    await exchange.pass_to(back.head, back.body)
                await back.end()
                return
            except UpstreamLost as error:
                if back.has_begun:
                    raise
                if not exchange.used_before:
                    raise _NotYetAnswered(str(error)) from error
            finally:
                exchange.close()


class _Back:
    """A response on its way back to its user: told what comes, it writes it at once, and watches it pass."""

    def __init__(self, client: Client, server: ModelServer, passing: _Passing) -> None:
        self.has_begun = False
        self._client = client
        self._server = server
        self._passing = passing
        self._passes_as_is = False

    def head(self, response: ResponseHead, comes_in_chunks: bool) -> None:
        """See `model_server.OnHead`."""
        self.has_begun = True
        self._passing.status = response.status
        kind = response.values(b"content-type")
        self._passing.watched = Watched(streamed=bool(kind) and kind[0].startswith(b"text/event-stream"))
        if self._passing.drawn is not None and self._passing.drawn.question is not None:
            self._passing.kept = bytearray()
        if not response.has_body(asked_head_only=self._client.asked_head_only) or response.length is not None:
            framing = _Framing.AS_THE_HEAD_SAYS
        elif not self._client.takes_chunks:
            framing = _Framing.UNTIL_CLOSED
        else:
            framing = _Framing.CHUNKS_AS_THEY_ARE if comes_in_chunks else _Framing.CHUNKS
        self._passes_as_is = framing is _Framing.CHUNKS_AS_THEY_ARE
        if self._passing.drawn is None:
            self._client.pass_head_of(response, self._server.signed, framing)
        else:
            drawn = (b"x-milton-response-id", self._passing.drawn.response.encode())
            headers = [*end_to_end(response.headers), *self._server.signed, drawn]
            self._client.pass_head(response.status, response.reason, headers, framing)

    def body(self, raw: bytes, pieces: Sequence[bytes]) -> None:
        """See `model_server.OnBody`."""
        if self._passes_as_is or not raw:
            self._client.pass_bytes(raw)
        else:
            for piece in pieces:
                self._client.pass_body(piece)
        if self._passing.watched is not None and pieces:
            self._passing.watched.see(pieces[0] if len(pieces) == 1 else b"".join(pieces), time.perf_counter())
        if self._passing.kept is not None and len(self._passing.kept) <= _MOST_KEPT_BYTES:
            for piece in pieces:
                self._passing.kept += piece

    async def end(self) -> None:
        """The response has come to its end."""
        await self._client.finish()


class _Straight:
    """A request that is passed on in the call that read it, to a server and over a connection that were there.

    No task is woken for it, and its figures are told a moment later. Whatever else happens to it, it is handed over to
    the connection's task: see `Gateway._went_straight`.
    """

    def __init__(
        self, gateway: Gateway, client: Client, request: Request, server: ModelServer, exchange: Exchange
    ) -> None:
        self.server = server
        self.passing = _Passing(time.perf_counter(), model=server.release.model_version)
        self.back = _Back(client, server, self.passing)
        self.lost_by: Exception | None = None
        self._is_over = False
        self._gateway = gateway
        self._client = client
        self._request = request
        self._exchange = exchange

    def begin(self) -> None:
        """Send it."""
        self._client.straight = self
        self._client.is_fed_by(self._exchange)
        self._gateway.began()
        try:
            self._exchange.send(self._request.head.method, forwarded(self._request, self.server.host))
        except UpstreamLost as error:
            self._over(error)
        else:
            self._exchange.tell(self.back.head, self.back.body, self._over)

    def left(self) -> None:
        """The user has left in the middle of it."""
        if not self._is_over:
            self._let_go()
        self._gateway.tell_later(self._request, self.passing, Outcome.LEFT)

    def _let_go(self) -> None:
        self._is_over = True
        self._client.is_fed_by(None)
        self._exchange.close()
        self.server.end()
        self._gateway.ended()

    def _over(self, lost_by: Exception | None) -> None:
        """See `model_server.OnOver`."""
        if self._is_over:
            return
        self._let_go()
        self.lost_by = lost_by
        if lost_by is None and not self._gateway.is_stopping and self._client.is_ready:
            self._client.write_end()
            self._gateway.tell_later(self._request, self.passing, Outcome.ANSWERED)
            self._client.straight = None
            self._client.next()
        else:
            self._client.hand_over(self._request)


class _NotYetAnswered(Exception):
    """The request was lost before a byte of its answer: it can be sent again."""


async def _send_whole(client: Client, status: int, body: bytes, kind: str, more: Headers = ()) -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body)), *more]
    client.pass_head(status, HTTPStatus(status).phrase.encode(), headers, _Framing.AS_THE_HEAD_SAYS)
    if not client.asked_head_only:
        client.pass_bytes(body)
    await client.finish()
