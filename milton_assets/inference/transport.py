"""HTTP/1.1 for measuring: when the request's bytes went out, and when each piece of the answer came in.

What belongs here: connections, their reuse, and one exchange on one of them. What does not: what the body says
(`stream` is handed its pieces) and figures.

    async with aclosing(Transport(endpoint)) as transport:
        timing, sink = await transport.post("/v1/chat/completions", body, ChatStream)

How the stamps stay true:
- `data_received` stamps a piece before anything else happens to it, and only queues it. A shared `Pump` parses what
  is queued in slices of at most 0.1 ms between two polls of the sockets, so that one stream's parsing does not make
  another stream's chunks look late.
- The start is stamped after the kernel has taken the request's last byte (when the socket's buffer is full, once it
  has drained). A stamp that comes later than a write takes is put back: the kernel then ran somebody else, often the
  very server that the write woke, while the request was already on its way.
- A kept-alive connection that the server closed in the meantime is replaced, and the start is stamped anew: that is
  neither an error nor latency. A fresh connection that closes without an answer is an error.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import h11

from milton_assets.inference.clock import now_ns, sleep_until
from milton_assets.inference.stream import Failure
from milton_assets.vocabulary.chat import CallErrorKind
from milton_assets.vocabulary.server import Endpoint

_SLICE_NS = 100_000
_WRITE_NS = 100_000  # and a nanosecond a byte
_MAX_QUEUED = 4096
_DONE_GRACE_S = 0.25


class Sink(Protocol):
    """Takes the response's head and the pieces of its body, in order."""

    @property
    def done(self) -> bool:
        """Whether the answer is complete, though the response may not be."""
        ...

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        """The status and headers, names in lower case."""
        ...

    def on_body(self, stamp_ns: int, piece: bytes) -> None:
        """A piece of the body and when it arrived."""
        ...


AnySink = TypeVar("AnySink", bound=Sink)


@dataclass(slots=True)
class Timing:
    """The instants of one exchange (ns of `now_ns`), None where it never came that far, and what it died of.

    `due_ns` is when it was scheduled to be sent; a reconnection moves it along with `sent_ns`.
    """

    due_ns: int | None = None
    sent_ns: int | None = None
    first_byte_ns: int | None = None
    ended_ns: int | None = None
    reconnected: bool = False
    failure: Failure | None = None


@dataclass(frozen=True)
class Timeouts:
    """Limits in seconds: to connect, without a byte from the server, and for the whole request."""

    connect_s: float = 10.0
    stall_s: float = 60.0
    request_s: float = 300.0


_DEFAULT_TIMEOUTS = Timeouts()


class Pump:
    """Runs queued work in short slices, so that polling the sockets is never held up for long."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: deque[tuple[Callable[[int, bytes], None], int, bytes]] = deque()
        self._scheduled = False
        self.most_queued = 0

    def put(self, parse: Callable[[int, bytes], None], stamp_ns: int, piece: bytes) -> None:
        """Have `parse(stamp_ns, piece)` called soon, after everything put before it."""
        self._queue.append((parse, stamp_ns, piece))
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        queue = self._queue
        self.most_queued = max(self.most_queued, len(queue))
        until = now_ns() + _SLICE_NS
        while queue:
            parse, stamp_ns, piece = queue.popleft()
            parse(stamp_ns, piece)
            if now_ns() >= until and len(queue) <= _MAX_QUEUED:
                break
        self._scheduled = bool(queue)
        if queue:
            self._loop.call_soon(self._run)


class _Exchange:
    """One request on one connection. `finished` is set when the response ended, well or not."""

    def __init__(self, state: h11.Connection, sink: Sink) -> None:
        self._state = state
        self._sink = sink
        self.finished = asyncio.Event()
        self.sent_ns: int | None = None
        self.first_byte_ns: int | None = None
        self.last_byte_ns: int | None = None
        self.failure: Failure | None = None

    def parse(self, stamp_ns: int, piece: bytes) -> None:
        """Take a piece that arrived at `stamp_ns`; an empty one says that the server closed the connection."""
        if self.finished.is_set():
            return
        try:
            self._state.receive_data(piece)
            self._events(stamp_ns)
        except h11.RemoteProtocolError as error:
            if piece:
                self.fail(Failure(CallErrorKind.MALFORMED, f"no HTTP/1.1: {error}"))
            else:
                self.fail(Failure(CallErrorKind.CUT_SHORT, "the server closed the connection amid its answer"))
        if self._sink.done and not self.finished.is_set():
            asyncio.get_running_loop().call_later(_DONE_GRACE_S, self.finished.set)

    def _events(self, stamp_ns: int) -> None:
        while True:
            event = self._state.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
            if isinstance(event, h11.Response):
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
                self._sink.on_head(event.status_code, headers)
            elif isinstance(event, h11.Data):
                self._sink.on_body(stamp_ns, bytes(event.data))
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                self.finished.set()
                return

    def fail(self, failure: Failure) -> None:
        """End the exchange with `failure`."""
        self.failure = self.failure or failure
        self.finished.set()


class _Connection(asyncio.Protocol):
    """One TCP (or TLS) connection, carrying one exchange at a time."""

    def __init__(self, pump: Pump) -> None:
        self._pump = pump
        self._exchange: _Exchange | None = None
        self._state = h11.Connection(h11.CLIENT)
        self._transport: asyncio.Transport | None = None
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (tells the type checker what asyncio promises)
        self._transport = transport
        transport.set_write_buffer_limits(high=0)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        stamp = now_ns()
        exchange = self._exchange
        if exchange is None:
            self.close()  # nothing was asked, so this cannot be the answer to the next request
            return
        if exchange.first_byte_ns is None:
            exchange.first_byte_ns = stamp
        exchange.last_byte_ns = stamp
        self._pump.put(exchange.parse, stamp, data)

    def resume_writing(self) -> None:
        stamp = now_ns()
        if self._exchange is not None and self._exchange.sent_ns is None:
            self._exchange.sent_ns = stamp

    def connection_lost(self, exc: Exception | None) -> None:
        stamp = now_ns()
        self.closed = True
        if self._exchange is not None:
            self._pump.put(self._exchange.parse, stamp, b"")

    def send(self, head: h11.Request, body: bytes, sink: Sink) -> _Exchange:
        """Write the request in one piece, and stamp the instant at which the kernel had taken it all."""
        assert self._transport is not None  # noqa: S101 (a connection is handed out only once it is made)
        exchange = self._exchange = _Exchange(self._state, sink)
        parts = (self._state.send(head), self._state.send(h11.Data(data=body)), self._state.send(h11.EndOfMessage()))
        data = b"".join(part for part in parts if part)
        begun_ns = now_ns()
        self._transport.write(data)
        stamp = now_ns()
        if self._transport.get_write_buffer_size() == 0:
            exchange.sent_ns = min(stamp, begun_ns + _WRITE_NS + len(data))
        return exchange

    def finish(self) -> bool:
        """Let go of the exchange, and say whether another request may follow; if not, the connection is closed."""
        self._exchange = None
        state = self._state
        if state.our_state is h11.DONE and state.their_state is h11.DONE and not self.closed:
            state.start_next_cycle()
            return True
        self.close()
        return False

    def close(self) -> None:
        """Close at once."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()


class Transport:
    """Connections to one endpoint, kept alive between requests. To be made inside the event loop that uses it."""

    def __init__(self, endpoint: Endpoint, timeouts: Timeouts = _DEFAULT_TIMEOUTS) -> None:
        parts = urlsplit(endpoint.base_url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._prefix = parts.path
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._timeouts = timeouts
        self._headers = [
            ("Host", parts.netloc.rpartition("@")[2]),
            ("Accept", "text/event-stream"),
            ("Accept-Encoding", "identity"),
            ("Content-Type", "application/json"),
            ("User-Agent", "milton-autobench"),
        ]
        if endpoint.api_key:
            self._headers.append(("Authorization", f"Bearer {endpoint.api_key}"))
        self._idle: list[_Connection] = []
        self._pump = Pump(asyncio.get_running_loop())

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
        stale_ns: int | None = None
        while True:
            sink = make_sink()
            reused = self._reusable() if stale_ns is None else None
            connection = reused or await self._connect(timing)
            if connection is None:
                return timing, sink
            await sleep_until(due_ns or 0)
            begun_ns = now_ns()
            exchange = await self._exchange(connection, head, raw, sink)
            if reused is None or exchange.first_byte_ns is not None or not connection.closed:
                break
            timing.reconnected, stale_ns = True, begun_ns
        timing.sent_ns, timing.first_byte_ns = exchange.sent_ns, exchange.first_byte_ns
        timing.ended_ns, timing.failure = exchange.last_byte_ns, exchange.failure
        if stale_ns is not None and timing.due_ns is not None:
            timing.due_ns += begun_ns - stale_ns
        return timing, sink

    def _reusable(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return None

    async def _connect(self, timing: Timing) -> _Connection | None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeouts.connect_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self._pump), self._host, self._port, ssl=self._tls
                )
        except TimeoutError:
            timing.failure = Failure(CallErrorKind.TIMEOUT, f"no connection within {self._timeouts.connect_s:g} s")
            return None
        except OSError as error:
            timing.failure = Failure(CallErrorKind.REFUSED, f"no connection to {self._host}:{self._port}: {error}")
            return None
        return connection

    async def _exchange(self, connection: _Connection, head: h11.Request, raw: bytes, sink: Sink) -> _Exchange:
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
