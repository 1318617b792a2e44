"""HTTP/1.1 for measuring: when the request's bytes went out, and when each piece of the answer came in.

What belongs here: keeping connections alive, replacing those that the server closed, and the limits of an exchange.
What does not: what happens on a connection (`connection`), and figures.

    async with aclosing(Transport(endpoint)) as transport:
        timing, stream = await transport.post("/v1/chat/completions", body, ChatStream)

A kept-alive connection that the server closed in the meantime is replaced, and the start is stamped anew: that is
neither an error nor latency. One that it closes when it had the request is an error, like a fresh one that it closes.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import h11

from milton_assets.tiers.inference.clock import now_ns, sleep_until
from milton_assets.tiers.inference.connection import Connection, Exchange, Pump, Sink, StampCount, connect
from milton_assets.tiers.inference.stream import Failure
from milton_assets.vocabulary.chat import CallErrorKind
from milton_assets.vocabulary.server import Endpoint
from milton_assets.vocabulary.tls import trusting

AnySink = TypeVar("AnySink", bound=Sink)
_CROSSING_NS = 100_000_000
_SENT_BETWEEN_POLLS = 8
"""Some two milliseconds' worth."""


@dataclass(slots=True)
class Timing:
    """The instants of one exchange (ns of `now_ns`), None where it never came that far, and what it died of.

    `due_ns` is when it was scheduled to be sent, moved by the time that a reconnection took, if there was one.
    `connecting_ns` is what new connections for it took, each as long as the quickest to this endpoint: what one takes
    longer on a busy client is the client's.
    """

    due_ns: int | None = None
    sent_ns: int | None = None
    first_byte_ns: int | None = None
    ended_ns: int | None = None
    reconnected: bool = False
    connecting_ns: int = 0
    failure: Failure | None = None


@dataclass(frozen=True)
class Timeouts:
    """Limits in seconds: to connect, without a byte from the server, and for the whole request."""

    connect_s: float = 10.0
    stall_s: float = 60.0
    request_s: float = 300.0


_DEFAULT_TIMEOUTS = Timeouts()


class Turnstile:
    """Lets a few requests through between two polls of the sockets, in order of their coming.

    Hundreds of streams that begin together would otherwise all send before any answer is read, and what waits to be
    read is joined by what follows it. Whoever comes alone is not held up.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._passed = 0

    async def passed(self) -> None:
        """Return when it is this request's turn."""
        loop = asyncio.get_running_loop()
        if self._passed == _SENT_BETWEEN_POLLS:
            turn = loop.create_future()
            self._waiting.append(turn)
            await turn
            return
        self._passed += 1
        if self._passed == 1:
            loop.call_soon(self._polled)

    def _polled(self) -> None:
        """Runs after a poll, and lets the next ones run after the next."""
        self._passed = 0
        while self._waiting and self._passed < _SENT_BETWEEN_POLLS:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._passed += 1
        if self._passed:
            asyncio.get_running_loop().call_soon(self._polled)


class Transport:
    """Connections to one endpoint, kept alive between requests. To be made inside the event loop that uses it."""

    def __init__(self, endpoint: Endpoint, timeouts: Timeouts = _DEFAULT_TIMEOUTS) -> None:
        parts = urlsplit(endpoint.base_url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._prefix = parts.path
        self._tls = trusting(endpoint.ca_file) if parts.scheme == "https" else None
        self._timeouts = timeouts
        self._headers = [
            ("Host", parts.netloc),
            ("Accept", "text/event-stream"),
            ("Accept-Encoding", "identity"),
            ("Content-Type", "application/json"),
            ("User-Agent", "milton-autobench"),
        ]
        if endpoint.api_key:
            self._headers.append(("Authorization", f"Bearer {endpoint.api_key}"))
        self._idle: list[Connection] = []
        self._pump = Pump(asyncio.get_running_loop())
        self._turnstile = Turnstile()
        self._quickest_ns: int | None = None
        self.stamps = StampCount()

    async def aclose(self) -> None:
        """Close every connection that is not in use."""
        for connection in self._idle:
            connection.close()
        self._idle.clear()
        await asyncio.sleep(0)

    async def post(
        self, path: str, body: Mapping[str, Any], make_sink: Callable[[], AnySink], *, due_ns: int | None = None
    ) -> tuple[Timing, AnySink]:
        """Send `body` as JSON to `path` (at `due_ns`, when given) and hand the answer to a sink from `make_sink`.

        Returns the instants, and the sink that saw the answer. Never raises for what the server or the network
        does: `Timing.failure` says what went wrong.
        """
        raw = json.dumps(body, ensure_ascii=False).encode()
        head = h11.Request(
            method="POST", target=self._prefix + path, headers=[*self._headers, ("Content-Length", str(len(raw)))]
        )
        timing = Timing(due_ns=due_ns)
        lost_ns: int | None = None
        while True:
            sink = make_sink()
            reused = self._reusable() if lost_ns is None else None
            connection = reused or await self._connect(timing)
            if connection is None:
                return timing, sink
            await sleep_until(due_ns or 0)
            await self._turnstile.passed()
            begun_ns = now_ns()
            if lost_ns is not None and timing.due_ns is not None:
                timing.due_ns += begun_ns - lost_ns
            if reused is not None and not reused.usable():
                timing.reconnected, lost_ns = True, begun_ns
                continue
            exchange = await self._exchange(connection, head, raw, sink)
            if reused is None or not _closed_unheard(reused, exchange, begun_ns):
                break
            timing.reconnected, lost_ns = True, exchange.lost_ns
        timing.sent_ns, timing.first_byte_ns = exchange.sent_ns, exchange.first_byte_ns
        timing.ended_ns, timing.failure = exchange.last_byte_ns, exchange.failure
        return timing, sink

    def _reusable(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable():
                return connection
        return None

    async def _connect(self, timing: Timing) -> Connection | None:
        try:
            async with asyncio.timeout(self._timeouts.connect_s):
                connection = await connect(self._host, self._port, self._tls, self._pump, self.stamps)
        except TimeoutError:
            timing.failure = Failure(CallErrorKind.TIMEOUT, f"no connection within {self._timeouts.connect_s:g} s")
        except OSError as error:
            timing.failure = Failure(CallErrorKind.REFUSED, f"no connection to {self._host}:{self._port}: {error}")
        else:
            self._quickest_ns = min(self._quickest_ns or connection.connect_ns, connection.connect_ns)
            timing.connecting_ns += self._quickest_ns
            return connection
        return None

    async def _exchange(self, connection: Connection, head: h11.Request, raw: bytes, sink: Sink) -> Exchange:
        exchange = connection.send(head, raw, sink)
        begun_ns = now_ns()
        try:
            while not exchange.finished.is_set():
                quiet_since = max(exchange.last_byte_ns or 0, exchange.sent_ns or 0, begun_ns)
                stalls = quiet_since + int(self._timeouts.stall_s * 1e9)
                ends = begun_ns + int(self._timeouts.request_s * 1e9)
                left_ns = min(stalls, ends) - now_ns()
                if left_ns <= 0:
                    what = "no byte" if stalls <= ends else "no end"
                    limit = self._timeouts.stall_s if stalls <= ends else self._timeouts.request_s
                    exchange.fail(Failure(CallErrorKind.TIMEOUT, f"{what} within {limit:g} s"))
                    break
                with suppress(TimeoutError):
                    async with asyncio.timeout(left_ns / 1e9):
                        await exchange.finished.wait()
        finally:
            if not exchange.finished.is_set():
                connection.close()
            elif connection.finish():
                self._idle.append(connection)
        return exchange


def _closed_unheard(connection: Connection, exchange: Exchange, begun_ns: int) -> bool:
    """Whether the server closed the kept-alive connection while the request was on its way to it.

    Its closing then shows within a round trip (making the connection took at least one) and what a crowded machine
    needs to run the two ends. One that comes later, or after a byte, was made by a server that had the request.
    """
    if exchange.lost_ns is None or exchange.first_byte_ns is not None:
        return False
    return exchange.lost_ns - begun_ns <= connection.connect_ns + _CROSSING_NS
