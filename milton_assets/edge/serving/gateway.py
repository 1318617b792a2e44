"""The address that users know: it takes their requests, gives each to the model server in service, and passes back what
that says, chunk by chunk, as it is said.

    gateway = Gateway(supervisor, Metrics())
    server = await gateway.listen("127.0.0.1", 8080)

What belongs here: users' connections and requests, from the first byte to the last. What does not: which model server
there is (`supervisor`), HTTP's rules (`heads`, `http1`), and what is told of a request (`observe`, `metrics`).

What is passed on: `/v1/…` and the server's own read-only `/props`. What the gateway answers itself: `/health`,
`/metrics` and, while two releases are compared (`splitting`), `POST /feedback`. Everything else that model servers
offer, their slots and switches, is nobody's business from outside.

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
from dataclasses import dataclass, replace
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

from milton_assets.edge.serving.heads import END, BadHead, Headers, RequestHead, ResponseHead, response_head
from milton_assets.edge.serving.http1 import Chunked, Limits, Refused, Request, end_to_end, forwarded
from milton_assets.edge.serving.metrics import CONTENT_TYPE, Metrics, Outcome, Told
from milton_assets.edge.serving.model_server import Exchange, ModelServer, UpstreamLost
from milton_assets.edge.serving.observe import Watched
from milton_assets.edge.serving.shadowing import Shadow
from milton_assets.edge.serving.splitting import Drawn, Splitter
from milton_assets.edge.serving.supervisor import Supervisor
from milton_assets.edge.serving.texts import NoAnswer, streamed_text, whole_text

_TRIES = 4
_MOST_KEPT_BYTES = 1 << 20
"""An answer to a golden question that comes in more bytes is not marked."""
_LINGER_S = 2.0
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


class ClientLeft(Exception):
    """The user closed the connection, or takes nothing any more."""


class Client(asyncio.Protocol):
    """One user's connection. `serve` is run once for it, and cancelled when the user leaves in the middle of
    something.
    """

    def __init__(self, serve: Callable[[Client], Any], limits: Limits, on_close: Callable[[Client], None]) -> None:
        self._serve = serve
        self._limits = limits
        self._on_close = on_close
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._arrived: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._unread = bytearray()
        self._asked: RequestHead | None = None
        self._framing: _Framing | None = None
        self._has_answered = False
        self._ends_after = False
        self._is_busy = False
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
        self._task = asyncio.get_running_loop().create_task(self._serve(self))
        self._task.add_done_callback(self._ended)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._is_lingering:
            return
        self._unread += data
        if self._arrived is not None:
            _wake(self._arrived)
        elif self._is_busy and len(self._unread) > self._limits.header_bytes and self._transport is not None:
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
        loop = asyncio.get_running_loop()
        if self._writable is None:
            self._writable = loop.create_future()
        if self._source is not None:
            self._source.pause()
            self._stalled = loop.call_later(self._limits.stall_s, self.cut)

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
        _wake(self._arrived)
        _wake(self._writable)
        if self._is_busy and self._task is not None:
            self._task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._transport is not None and not self._is_lingering:
            self._transport.close()
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a request was not served as it should be", "exception": error, "task": task}
            )

    # ------------------------------------------------------------------------------------------ for whoever serves it

    @property
    def has_left(self) -> bool:
        """Whether the user has closed the connection."""
        return self._has_left

    async def request(self) -> Request | None:
        """The next request, whole; None when the user is done. Raises `Refused` for what cannot be taken."""
        self._is_busy, self._asked = False, None
        try:
            try:
                async with asyncio.timeout(self._limits.idle_s):
                    while (head := self._taken_head()) is None:
                        await self._more()
            except TimeoutError:
                if self._unread:
                    raise Refused(408, "the request's head did not arrive in time") from None
                return None
            except ClientLeft:
                return None
            self._is_busy, self._asked = True, head
            self._ends_after = head.ends_connection
            try:
                length = head.body_length
                if length is not None and length <= len(self._unread) and not head.awaits_continue:
                    return Request(head, self._taken(length))
                async with asyncio.timeout(self._limits.request_s):
                    return Request(head, await self._body(head, length))
            except TimeoutError:
                raise Refused(408, f"the request did not arrive within {self._limits.request_s:g} s") from None
        except BadHead as error:
            raise Refused(error.status, str(error)) from None

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

    def _taken(self, length: int) -> bytes:
        if length > self._limits.body_bytes:
            raise Refused(413, f"the request's body is larger than {self._limits.body_bytes} bytes")
        body = bytes(self._unread[:length])
        del self._unread[:length]
        return body

    async def _body(self, head: RequestHead, length: int | None) -> bytes:
        most = self._limits.body_bytes
        if length is not None and length > most:
            raise Refused(413, f"the request's body is larger than {most} bytes")
        if head.awaits_continue and length != 0 and self._transport is not None:
            self._transport.write(_CONTINUE)
        if length is not None:
            while len(self._unread) < length:
                await self._more()
            return self._taken(length)
        chunked, whole = Chunked(), bytearray()
        while True:
            try:
                pieces, end = chunked.pieces(bytes(self._unread))
            except ValueError as error:
                raise BadHead(str(error)) from None
            for piece in pieces:
                whole += piece
            if len(whole) > most:
                raise Refused(413, f"the request's body is larger than {most} bytes")
            if end is not None:
                del self._unread[:end]
                return bytes(whole)
            self._unread.clear()
            await self._more()

    async def _more(self) -> None:
        """Wait until more has arrived. Raises `ClientLeft`."""
        if self._has_left:
            raise ClientLeft
        if self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()
        self._arrived = asyncio.get_running_loop().create_future()
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

    @contextmanager
    def fed_by(self, source: Exchange) -> Iterator[None]:
        """While `source` writes to this user by itself, it is read no faster than the user takes."""
        self._source = source
        try:
            yield
        finally:
            self._source = None
            if self._stalled is not None:
                self._stalled.cancel()
                self._stalled = None

    def pass_head(self, status: int, reason: bytes, headers: Headers, framing: _Framing) -> None:
        """Write the head of a response whose body follows by `pass_body` or `pass_bytes`. Raises `ClientLeft`.

        It goes with the first bytes of the body if they are there in this turn of the loop: one call of the kernel less
        before the first token.
        """
        if self._has_left:
            raise ClientLeft
        self._framing = framing
        self._ends_after = self._ends_after or framing is _Framing.UNTIL_CLOSED
        more = [(b"transfer-encoding", b"chunked")] if framing in {_Framing.CHUNKS, _Framing.CHUNKS_AS_THEY_ARE} else []
        if self._ends_after:
            more.append((b"connection", b"close"))
        self._head = response_head(status, reason, [*headers, *more])
        asyncio.get_running_loop().call_soon(self._flush_head)

    def _flush_head(self) -> None:
        if self._head and self._transport is not None and not self._has_left:
            head, self._head = self._head, b""
            self._transport.write(head)

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
        self.pass_bytes(_LAST_CHUNK if self._framing is _Framing.CHUNKS else b"")
        self._has_answered = True
        await self.settle()

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
        """Get ready for another request on this connection; false when there can be none."""
        if not self._has_answered or self._ends_after or self._has_left:
            return False
        self._framing, self._has_answered = None, False
        if self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()
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
        asyncio.get_running_loop().call_later(_LINGER_S, self._transport.close)

    def hang_up(self) -> None:
        """End an idle connection; a busy one is ended by whoever serves it."""
        if not self._is_busy and self._transport is not None:
            self._transport.close()


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

    def told(self, operation: str, outcome: Outcome) -> Told:
        """What is told of it, now that it has ended."""
        now_s = time.perf_counter()
        told = Told(operation, self.model, outcome, self.status, now_s - self.arrived_s, self.held_s)
        if self.watched is None:
            return told
        tokens = self.watched.tokens()
        first_s, last_s = self.watched.first_token_s, self.watched.last_s
        output = tokens.output if tokens.output is not None else (tokens.events or None)
        per_token = None
        if first_s is not None and last_s is not None and output is not None and output > 1:
            per_token = (last_s - first_s) / (output - 1)
        return replace(
            told,
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
        self._server: asyncio.Server | None = None
        self._stopping = False

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

    def _new_client(self) -> Client:
        client = Client(self._serve, self._limits, self._clients.discard)
        self._clients.add(client)
        return client

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
        passing = _Passing(time.perf_counter())
        self.in_progress += 1
        outcome = Outcome.ANSWERED
        try:
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
            self.in_progress -= 1
            self.last_request_s = time.monotonic()
            if (operation := _OPERATIONS.get(request.path)) is not None:
                told = passing.told(operation, outcome)
                self.metrics.add(told)
                self._on_told(told)
                if self._shadow is not None:
                    self._shadow.saw(request.path, request.body, told)
                if self._splitter is not None and passing.drawn is not None:
                    self._splitter.ended(passing.drawn, told, passing.answer)

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
        kind = next((value for name, value in response.headers if name == b"content-type"), b"")
        self._passing.watched = Watched(streamed=kind.startswith(b"text/event-stream"))
        if self._passing.drawn is not None and self._passing.drawn.question is not None:
            self._passing.kept = bytearray()
        if not response.has_body(asked_head_only=self._client.asked_head_only) or response.length is not None:
            framing = _Framing.AS_THE_HEAD_SAYS
        elif not self._client.takes_chunks:
            framing = _Framing.UNTIL_CLOSED
        else:
            framing = _Framing.CHUNKS_AS_THEY_ARE if comes_in_chunks else _Framing.CHUNKS
        self._passes_as_is = framing is _Framing.CHUNKS_AS_THEY_ARE
        headers = [*end_to_end(response.headers), *self._server.signed]
        if self._passing.drawn is not None:
            headers.append((b"x-milton-response-id", self._passing.drawn.response.encode()))
        self._client.pass_head(response.status, response.reason, headers, framing)

    def body(self, raw: bytes, pieces: Sequence[bytes]) -> None:
        """See `model_server.OnBody`."""
        if self._passes_as_is:
            self._client.pass_bytes(raw)
        else:
            for piece in pieces:
                self._client.pass_body(piece)
        if self._passing.watched is not None:
            now_s = time.perf_counter()
            for piece in pieces:
                self._passing.watched.see(piece, now_s)
        if self._passing.kept is not None and len(self._passing.kept) <= _MOST_KEPT_BYTES:
            for piece in pieces:
                self._passing.kept += piece

    async def end(self) -> None:
        """The response has come to its end."""
        await self._client.finish()


class _NotYetAnswered(Exception):
    """The request was lost before a byte of its answer: it can be sent again."""


async def _send_whole(client: Client, status: int, body: bytes, kind: str, more: Headers = ()) -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body)), *more]
    client.pass_head(status, HTTPStatus(status).phrase.encode(), headers, _Framing.AS_THE_HEAD_SAYS)
    if not client.asked_head_only:
        client.pass_bytes(body)
    await client.finish()
