"""The address that users know: it takes their requests, gives each to the model server in service, and passes back what
that says, chunk by chunk, as it is said.

    gateway = Gateway(supervisor, Metrics())
    server = await gateway.listen("127.0.0.1", 8080)

What belongs here: users' connections and requests, from the first byte to the last. What does not: which model server
there is (`supervisor`), HTTP's rules (`http1`), and what is told of a request (`observe`, `metrics`).

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
from http import HTTPStatus
from typing import Any

import h11

from milton_assets.edge.serving.http1 import Limits, Refused, Request, answered, forwarded
from milton_assets.edge.serving.metrics import CONTENT_TYPE, Metrics, Outcome, Told
from milton_assets.edge.serving.model_server import Exchange, ModelServer, UpstreamLost
from milton_assets.edge.serving.observe import Watched
from milton_assets.edge.serving.splitting import Drawn, Splitter
from milton_assets.edge.serving.supervisor import Supervisor

_TRIES = 4
_LINGER_S = 2.0
_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v1/responses": "chat",
}
"""The conventions' names of what is asked; the rest (lists of models) is no inference and has no figures."""
_PASSED_GETS = frozenset({"/props"})


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
        self._wire = h11.Connection(h11.SERVER, limits.header_bytes)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._arrived: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._unread = 0
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
        self._wire.receive_data(data)
        self._unread += len(data)
        if self._is_busy and self._unread > self._limits.header_bytes and self._transport is not None:
            # Pipelined requests wait in the user's own buffers.
            self._transport.pause_reading()
        _wake(self._arrived)

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
        self._wire.receive_data(b"")
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
        self._is_busy = False
        try:
            try:
                async with asyncio.timeout(self._limits.idle_s):
                    head = await self._event()
            except TimeoutError:
                if self._unread:
                    raise Refused(408, "the request's head did not arrive in time") from None
                return None
            if not isinstance(head, h11.Request):
                return None
            self._is_busy = True
            # h11 bounds a head that is still arriving, and lets one pass that came at once.
            if sum(len(name) + len(value) for name, value in head.headers) > self._limits.header_bytes:
                raise Refused(431, f"the request's head is larger than {self._limits.header_bytes} bytes")
            try:
                async with asyncio.timeout(self._limits.request_s):
                    return Request(head, await self._body())
            except TimeoutError:
                raise Refused(408, f"the request did not arrive within {self._limits.request_s:g} s") from None
        except h11.RemoteProtocolError as error:
            raise Refused(error.error_status_hint or 400, str(error)) from None

    async def _body(self) -> bytes:
        if self._wire.they_are_waiting_for_100_continue:
            self._write(h11.InformationalResponse(status_code=100, headers=[]))
        body = bytearray()
        while not isinstance(event := await self._event(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                raise ClientLeft
            body += event.data
            if len(body) > self._limits.body_bytes:
                raise Refused(413, f"the request's body is larger than {self._limits.body_bytes} bytes")
        return bytes(body)

    async def _event(self) -> object:
        while (event := self._wire.next_event()) is h11.NEED_DATA:
            if self._has_left:
                raise ClientLeft
            self._arrived = asyncio.get_running_loop().create_future()
            await self._arrived
        self._unread = len(self._wire.trailing_data[0])
        return event

    async def send(self, *events: h11.Event) -> None:
        """Send these, and wait until the user has taken enough of it. Raises `ClientLeft`."""
        for event in events:
            self._write(event)
        if self._writable is not None:
            try:
                async with asyncio.timeout(self._limits.stall_s):
                    await asyncio.shield(self._writable)
            except TimeoutError:
                raise ClientLeft from None
        if self._has_left:
            raise ClientLeft

    def _write(self, event: h11.Event) -> None:
        if self._transport is None or self._has_left:
            raise ClientLeft
        raw = self._wire.send(event)
        head, self._head = self._head, b""
        if head or raw:
            self._transport.write(head + (raw or b""))

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

    def pass_head(self, response: h11.Response) -> None:
        """Write the head of a response whose body follows by `pass_body` or `pass_bytes`. Raises `ClientLeft`.

        It goes with the first bytes of the body if they are there in this turn of the loop: one call of the kernel less
        before the first token.
        """
        if self._has_left:
            raise ClientLeft
        self._head = self._wire.send(response) or b""
        asyncio.get_running_loop().call_soon(self._flush_head)

    def _flush_head(self) -> None:
        if self._head and self._transport is not None and not self._has_left:
            head, self._head = self._head, b""
            self._transport.write(head)

    def pass_body(self, data: bytes) -> None:
        """Write a piece of the body, framed as this connection has it. Raises `ClientLeft`."""
        self._write(h11.Data(data=data))

    def pass_bytes(self, raw: bytes) -> None:
        """Write bytes that are framed already, in chunks as the head said. Raises `ClientLeft`."""
        if self._transport is None or self._has_left:
            raise ClientLeft
        head, self._head = self._head, b""
        self._transport.write(head + raw if head else raw)

    def has_passed(self) -> None:
        """The body that was written as it was framed has ended, with its own last chunk."""
        self._wire.send(h11.EndOfMessage())

    @property
    def takes_chunks(self) -> bool:
        """Whether the user understands a body in chunks (HTTP/1.1)."""
        return bool(self._wire.their_http_version == b"1.1")

    @property
    def can_still_be_told(self) -> bool:
        """Whether no response has begun, so that one can still say what went wrong."""
        return not self._has_left and self._wire.our_state in {h11.IDLE, h11.SEND_RESPONSE}

    def next(self) -> bool:
        """Get ready for another request on this connection; false when there can be none."""
        if self._wire.our_state is not h11.DONE or self._wire.their_state is not h11.DONE or self._has_left:
            return False
        self._wire.start_next_cycle()
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
    """One request being passed on: what is known of it so far. Times are `time.perf_counter` seconds."""

    arrived_s: float
    held_s: float = 0.0
    status: int = 0
    model: str = ""
    watched: Watched | None = None
    drawn: Drawn | None = None

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
    """Takes requests and passes them to what `supervisor` serves, some of them to what `splitter` serves beside it.

    `on_told` hears of every request that had figures.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        metrics: Metrics,
        *,
        splitter: Splitter | None = None,
        limits: Limits | None = None,
        on_told: Callable[[Told], None] = lambda _: None,
        health: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self.supervisor = supervisor
        self.metrics = metrics
        self._splitter = splitter
        self.last_request_s = time.monotonic()
        self.in_progress = 0
        self._limits = limits or Limits()
        self._on_told = on_told
        self._health = health
        self._clients: set[Client] = set()
        self._server: asyncio.Server | None = None
        self._stopping = False

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
            await self._refuse(client, Refused(404, f"there is no {path[:200]} here"), request)

    async def _own_page(self, client: Client, request: Request) -> None:
        if request.path == "/metrics":
            status, page, kind = 200, self.metrics.page(), CONTENT_TYPE
        else:
            status = 200 if self.supervisor.serving is not None else 503
            page, kind = json.dumps(dict(self._health())), "application/json"
        await _send_whole(client, status, page.encode(), kind, with_body=request.method != "HEAD")

    async def _refuse(
        self, client: Client, refused: Refused, request: Request | None = None, *, is_last: bool = False
    ) -> None:
        if not client.can_still_be_told:
            client.cut()
            return
        error = {"message": refused.message, "type": refused.kind, "code": refused.status}
        more = [] if refused.retry_after_s is None else [("retry-after", str(refused.retry_after_s))]
        if is_last:
            more.append(("connection", "close"))
        page = json.dumps({"error": error}).encode()
        with_body = request is None or request.method != "HEAD"
        await _send_whole(client, refused.status, page, "application/json", more, with_body=with_body)

    async def _relay(self, client: Client, request: Request) -> None:
        passing = _Passing(time.perf_counter())
        self.in_progress += 1
        outcome = Outcome.ANSWERED
        try:
            await self._pass_on(client, request, passing)
        except Refused as refused:
            outcome, passing.status = Outcome.REFUSED, refused.status
            await self._refuse(client, refused, request)
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
                if self._splitter is not None and passing.drawn is not None:
                    self._splitter.ended(passing.drawn, told)

    async def _pass_on(self, client: Client, request: Request, passing: _Passing) -> None:
        if self._splitter is not None and request.path in _OPERATIONS:
            passing.drawn = self._splitter.draw(request.head.headers)
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

    def head(self, response: h11.Response, comes_in_chunks: bool) -> None:
        """See `model_server.OnHead`."""
        self.has_begun = True
        self._passing.status = response.status_code
        kind = next((value for name, value in response.headers if name == b"content-type"), b"")
        self._passing.watched = Watched(streamed=kind.startswith(b"text/event-stream"))
        self._passes_as_is = comes_in_chunks and self._client.takes_chunks
        added = [
            ("x-milton-release", self._server.release.digest),
            ("x-milton-model-version", self._server.release.model_version),
        ]
        if self._passing.drawn is not None:
            added.append(("x-milton-response-id", self._passing.drawn.response))
        self._client.pass_head(answered(response, added))

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

    async def end(self) -> None:
        """The response has come to its end."""
        if self._passes_as_is:
            self._client.has_passed()
            await self._client.send()
        else:
            await self._client.send(h11.EndOfMessage())


class _NotYetAnswered(Exception):
    """The request was lost before a byte of its answer: it can be sent again."""


async def _send_whole(
    client: Client,
    status: int,
    body: bytes,
    kind: str,
    more: Sequence[tuple[str, str]] = (),
    *,
    with_body: bool = True,
) -> None:
    headers = [("content-type", kind), ("content-length", str(len(body))), *more]
    data = [h11.Data(data=body)] if with_body else []
    reason = HTTPStatus(status).phrase.encode()
    await client.send(h11.Response(status_code=status, headers=headers, reason=reason), *data, h11.EndOfMessage())
