"""One HTTP/1.1 connection for measuring, carrying one exchange at a time.

What belongs here: writing a request, stamping what comes in before anything else happens to it, and parsing it
afterwards. What does not: keeping connections and replacing closed ones (`transport`), and what the body says
(`stream`).

How the stamps stay true:
- On a plain connection the kernel stamps what leaves and what arrives (`stamps`), so it does not matter when this
  process got to look. On TLS, and where the kernel does not, this process stamps: before parsing what arrives, after
  the kernel took the last byte of what leaves.
- Pieces are only queued when they arrive. A shared `Pump` parses them in slices of at most 0.1 ms between two polls of
  the sockets, so that one stream's parsing does not hold up another's reading.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import h11

from milton_assets.tiers.inference import stamps
from milton_assets.tiers.inference.clock import now_ns
from milton_assets.tiers.inference.durations import Durations
from milton_assets.tiers.inference.stream import Failure
from milton_assets.vocabulary.chat import CallErrorKind

_SLICE_NS = 100_000
_MAX_QUEUED = 4096
_DONE_GRACE_S = 0.25
_WRITE_NS = 100_000
_NEARLY_ALL = 0.99


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


@dataclass(frozen=True)
class StampSummary:
    """Whether the kernel stamped (nearly) everything, and how late this process read what arrived, in ms."""

    by_kernel: bool
    pieces: int
    reading_delay_ms_median: float
    reading_delay_ms_p99: float


@dataclass
class StampCount:
    """How many pieces the kernel stamped on arrival and how many this process did, and how late they were read."""

    by_kernel: int = 0
    by_process: int = 0
    delays: Durations = field(default_factory=Durations)

    def count(self, arrival: stamps.Arrival) -> None:
        """Count one piece, just read."""
        if arrival.by_kernel:
            self.by_kernel += 1
            self.delays.add(max(now_ns() - arrival.stamp_ns, 0))
        else:
            self.by_process += 1

    def summary(self) -> StampSummary:
        """What was counted so far."""
        pieces = self.by_kernel + self.by_process
        median_ms, p99_ms = (self.delays.quantile_ns(q) / 1e6 if self.delays.n else 0.0 for q in (0.5, 0.99))
        return StampSummary(self.by_kernel > _NEARLY_ALL * pieces, pieces, median_ms, p99_ms)


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


class Exchange:
    """One request on one connection. `finished` is set when the response ended, well or not."""

    def __init__(self, state: h11.Connection, sink: Sink) -> None:
        self._state = state
        self._sink = sink
        self.finished = asyncio.Event()
        self.sent_ns: int | None = None
        self.first_byte_ns: int | None = None
        self.last_byte_ns: int | None = None
        self.lost_ns: int | None = None
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


class Link(Protocol):
    """What carries a connection's bytes, and tells it of arrivals, departures and the end."""

    def write(self, data: bytes) -> None:
        """Write all of `data`, at once as far as the kernel takes it."""
        ...

    def close(self) -> None:
        """Close at once; may be called again."""
        ...

    def hung_up(self) -> bool:
        """Whether the peer has closed, or said what nobody asked for, though nobody may have noticed yet."""
        ...


class Connection:
    """An HTTP/1.1 connection. `closed` once either side closed it; `connect_ns` is how long it took to be made."""

    link: Link
    connect_ns = 0

    def __init__(self, pump: Pump, count: StampCount) -> None:
        self._pump = pump
        self._count = count
        self._exchange: Exchange | None = None
        self._state = h11.Connection(h11.CLIENT)
        self.closed = False

    def send(self, head: h11.Request, body: bytes, sink: Sink) -> Exchange:
        """Write the request in one piece."""
        exchange = self._exchange = Exchange(self._state, sink)
        parts = (self._state.send(head), self._state.send(h11.Data(data=body)), self._state.send(h11.EndOfMessage()))
        self.link.write(b"".join(part for part in parts if part))
        return exchange

    def usable(self) -> bool:
        """Whether a request may be written, as far as this end can know at this instant."""
        if not self.closed and self.link.hung_up():
            self.close()
        return not self.closed

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
        self.link.close()

    def departed(self, stamp_ns: int) -> None:
        """The link tells when the request's last byte went out; a later word is a better one."""
        if self._exchange is not None:
            self._exchange.sent_ns = stamp_ns

    def arrived(self, arrival: stamps.Arrival) -> None:
        """The link tells of bytes that came in."""
        exchange = self._exchange
        if exchange is None:
            self.close()  # nothing was asked, so this cannot be the answer to the next request
            return
        if exchange.first_byte_ns is None:
            exchange.first_byte_ns = arrival.stamp_ns
        exchange.last_byte_ns = arrival.stamp_ns
        self._count.count(arrival)
        self._pump.put(exchange.parse, arrival.stamp_ns, arrival.data)

    def lost(self, stamp_ns: int) -> None:
        """The link tells that the connection is gone."""
        self.closed = True
        if self._exchange is not None:
            self._exchange.lost_ns = stamp_ns
            self._pump.put(self._exchange.parse, stamp_ns, b"")


class _PlainLink:
    """TCP, stamped by the kernel where it can."""

    def __init__(self, raw: socket.socket, connection: Connection) -> None:
        self._socket = raw
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._unsent = memoryview(b"")
        self._sent_bytes = 0
        self._stamped = stamps.enable(raw)
        self._loop.add_reader(raw, self._readable)

    def write(self, data: bytes) -> None:
        self._unsent = memoryview(data)
        self._flush()

    def _flush(self) -> None:
        begun_ns, size = now_ns(), len(self._unsent)
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._lose()
            return
        stamp_ns = now_ns()
        self._sent_bytes += sent
        self._unsent = self._unsent[sent:]
        if self._unsent:
            self._loop.add_writer(self._socket, self._flush)
            return
        self._loop.remove_writer(self._socket)
        self._connection.departed(_write_ended(begun_ns, stamp_ns, size))
        self._ask_when_it_left()

    def _ask_when_it_left(self) -> None:
        left_ns = stamps.departure(self._socket, self._sent_bytes - 1) if self._stamped else None
        if left_ns is not None:
            self._connection.departed(left_ns)

    def _readable(self) -> None:
        try:
            arrivals = stamps.receive(self._socket)
        except BlockingIOError:
            self._ask_when_it_left()  # the kernel wakes us for a departure's stamp too
            return
        except OSError:
            self._lose()
            return
        for arrival in arrivals:
            if arrival.data:
                self._connection.arrived(arrival)
            else:
                self._lose()

    def hung_up(self) -> bool:
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def _lose(self) -> None:
        self.close()
        self._connection.lost(now_ns())

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()


class _TLSLink(asyncio.Protocol):
    """TLS, whose records hide from the kernel what they carry: stamped by this process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (tells the type checker what asyncio promises)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self._connection.arrived(stamps.Arrival(now_ns(), data, by_kernel=False))

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.lost(now_ns())

    def write(self, data: bytes) -> None:
        begun_ns = now_ns()
        self._transport.write(data)
        self._connection.departed(_write_ended(begun_ns, now_ns(), len(data)))

    def hung_up(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._transport.abort()


def _write_ended(begun_ns: int, stamp_ns: int, size: int) -> int:
    """When a write ended that was stamped afterwards.

    A stamp that comes later than a write takes is put back: the kernel then ran somebody else, often the very server
    that the write woke, while the request was already on its way.
    """
    return min(stamp_ns, begun_ns + _WRITE_NS + size)


async def connect(host: str, port: int, tls: ssl.SSLContext | None, pump: Pump, count: StampCount) -> Connection:
    """A new connection. Raises `OSError` when no address of `host` takes it."""
    loop = asyncio.get_running_loop()
    begun_ns = now_ns()
    connection = Connection(pump, count)
    if tls is not None:
        _, connection.link = await loop.create_connection(lambda: _TLSLink(connection), host, port, ssl=tls)
    else:
        connection.link = _PlainLink(await _connected(host, port), connection)
    connection.connect_ns = now_ns() - begun_ns
    return connection


async def _connected(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    problem: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in await _addresses(host, port):
        raw = socket.socket(family, kind, protocol)
        try:
            raw.setblocking(False)
            await loop.sock_connect(raw, address)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raw.close()
            problem = error
        except BaseException:
            raw.close()
            raise
        else:
            return raw
    raise problem


async def _addresses(host: str, port: int) -> list[Any]:
    """What `getaddrinfo` tells of a host. One that is an address already needs no thread to be looked up in."""
    with suppress(socket.gaierror):
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
