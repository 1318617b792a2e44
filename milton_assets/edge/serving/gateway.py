"""The address that users know: it takes their requests, gives each to the model server in service, and passes back what
that says, chunk by chunk, as it is said.

    gateway = Gateway(supervisor, Metrics())
    server = await gateway.listen("127.0.0.1", 8080)

What belongs here: what becomes of a request, until its last byte is back. What does not: the user's connection
(`users`), a request and its response while they pass (`passing`), which model server there is (`supervisor`), and what
is told of a request (`observe`, `metrics`).

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
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, TypeAlias

from milton_assets.edge.serving.heads import Headers
from milton_assets.edge.serving.http1 import Limits, Refused, Request, forwarded
from milton_assets.edge.serving.metrics import CONTENT_TYPE, Metrics, Outcome, Told
from milton_assets.edge.serving.model_server import Exchange, ModelServer, UpstreamLost
from milton_assets.edge.serving.passing import Back, Passing
from milton_assets.edge.serving.receiving import receive_buffer
from milton_assets.edge.serving.shadowing import Shadow
from milton_assets.edge.serving.splitting import Splitter
from milton_assets.edge.serving.supervisor import Supervisor
from milton_assets.edge.serving.users import Client, ClientLeft, Framing

_TRIES = 4
_TOLD_AFTER_S = 0.01
"""Streams that end together come back together: what is told of them waits until the next requests are out."""
_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v1/responses": "chat",
}
"""The conventions' names of what is asked; the rest (lists of models) is no inference and has no figures."""
_PASSED_GETS = frozenset({"/props"})

_User: TypeAlias = "Client[_Straight]"


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
        self._clients: set[_User] = set()
        self._buffer = receive_buffer()
        self._server: asyncio.Server | None = None
        self._stopping = False
        self._untold: list[tuple[Request, Passing, Outcome, float]] = []

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

    def _new_client(self) -> _User:
        client: _User = Client(self._serve, self._goes_straight, self._limits, self._clients.discard, self._buffer)
        self._clients.add(client)
        return client

    def _goes_straight(self, client: _User, request: Request) -> bool:
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

    async def _serve(self, client: _User) -> None:
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

    async def _respond(self, client: _User, request: Request) -> None:
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

    async def _own_page(self, client: _User, request: Request) -> None:
        if request.path == "/metrics":
            self._tell_all()
            status, page, kind = 200, self.metrics.page(), CONTENT_TYPE
        else:
            status = 200 if self.supervisor.serving is not None else 503
            page, kind = json.dumps(dict(self._health())), "application/json"
        await _send_whole(client, status, page.encode(), kind)

    async def _refuse(self, client: _User, refused: Refused, *, is_last: bool = False) -> None:
        if not client.can_still_be_told:
            client.cut()
            return
        error = {"message": refused.message, "type": refused.kind, "code": refused.status}
        more = [] if refused.retry_after_s is None else [(b"retry-after", b"%d" % refused.retry_after_s)]
        if is_last:
            client.end_after_this()
        page = json.dumps({"error": error}).encode()
        await _send_whole(client, refused.status, page, "application/json", more)

    async def _relay(self, client: _User, request: Request) -> None:
        straight, client.straight = client.straight, None
        passing = Passing(time.perf_counter()) if straight is None else straight.passing
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

    async def _went_straight(self, client: _User, straight: _Straight) -> bool:
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

    def tell_later(self, request: Request, passing: Passing, outcome: Outcome) -> None:
        """Tell of a request that has ended, once those that came with it are on their way."""
        if not self._untold:
            asyncio.get_running_loop().call_later(_TOLD_AFTER_S, self._tell_all)
        self._untold.append((request, passing, outcome, time.perf_counter()))

    def _tell_all(self) -> None:
        untold, self._untold = self._untold, []
        for one in untold:
            self._tell(*one)

    def _tell(self, request: Request, passing: Passing, outcome: Outcome, ended_s: float) -> None:
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

    async def _pass_on(self, client: _User, request: Request, passing: Passing) -> None:
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
        self, splitter: Splitter, client: _User, request: Request, passing: Passing
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

    async def _passed(self, client: _User, request: Request, server: ModelServer, passing: Passing) -> None:
        """Pass the request on and its response back. Raises `_NotYetAnswered` when it is lost before the response."""
        while True:
            try:
                exchange = await server.exchange()
            except UpstreamLost as error:
                raise _NotYetAnswered(str(error)) from error
            back = Back(client, server, passing)
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


class _Straight:
    """A request that is passed on in the call that read it, to a server and over a connection that were there.

    No task is woken for it, and its figures are told a moment later. Whatever else happens to it, it is handed over to
    the connection's task: see `Gateway._went_straight`.
    """

    def __init__(
        self, gateway: Gateway, client: _User, request: Request, server: ModelServer, exchange: Exchange
    ) -> None:
        self.server = server
        self.passing = Passing(time.perf_counter(), model=server.release.model_version)
        self.back = Back(client, server, self.passing)
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


async def _send_whole(client: _User, status: int, body: bytes, kind: str, more: Headers = ()) -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body)), *more]
    client.pass_head(status, HTTPStatus(status).phrase.encode(), headers, Framing.AS_THE_HEAD_SAYS)
    if not client.asked_head_only:
        client.pass_bytes(body)
    await client.finish()
