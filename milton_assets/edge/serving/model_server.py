"""A model server behind the gateway: started for one release, asked over connections that are kept, drained and
stopped.

What belongs here: its life as the gateway sees it, its connections, and counting the requests it works on. What does
not: how it is started (the launcher's; a warden ends its processes however we end), and when (`supervisor`).

A launcher blocks, so it works in a thread of its own. That thread is a daemon: when we are ended while a model loads,
nobody waits for it, and the server goes with us because its warden sees us go.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import h11

from milton_assets.edge.serving.http1 import Chunked
from milton_assets.edge.serving.released import Released
from milton_assets.vocabulary.errors import MiltonError, ServerFailed
from milton_assets.vocabulary.server import Launcher, RunningServer

_KEPT_CONNECTIONS = 32
_CONNECT_S = 5.0
_HEAD_BYTES = 1 << 20
_NO_BODY = [(b"host", b"-"), (b"content-length", b"0")]
_ASKED = {method: h11.Request(method=method, target=b"/", headers=_NO_BODY) for method in (b"GET", b"POST", b"HEAD")}
_ALL_ASKED = h11.EndOfMessage()


class UpstreamLost(Exception):
    """The model server did not answer, or stopped in the middle of it."""


OnHead = Callable[[h11.Response, bool], None]
"""Told the response's head, and whether its body comes as it was sent: in chunks, each with its size before it."""
OnBody = Callable[[bytes, Sequence[bytes]], None]
"""Told the bytes that came, as they were sent, and the pieces of the body that lie in them."""


class Exchange(asyncio.Protocol):
    """A connection to the model server, and one request after the other on it, each with its response.

    A response is either read (`head`, `chunk`) or passed on (`pass_to`), which tells each piece in the very call that
    took it from the socket: nothing is woken, and nothing waits for another turn of the loop.
    """

    def __init__(self, server: ModelServer) -> None:
        self.server = server
        self.used_before = False
        self._transport: asyncio.Transport | None = None
        self._wire = h11.Connection(h11.CLIENT, _HEAD_BYTES)
        self._arrived: asyncio.Future[None] | None = None
        self._passed: asyncio.Future[None] | None = None
        self._on_head: OnHead | None = None
        self._on_body: OnBody | None = None
        self._chunked: Chunked | None = None
        self._has_ended = False
        self._is_whole = False
        self._asked_head_only = False

    # ------------------------------------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a TCP connection makes
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._passed is None:
            self._wire.receive_data(data)
            _wake(self._arrived)
        else:
            self._pass_on(data)

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`."""
        self._over("it closed the connection")
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._over(f"the connection broke: {error}" if error else "it closed the connection")

    def _over(self, how: str) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        if self._passed is None:
            self._wire.receive_data(b"")
            _wake(self._arrived)
        else:
            self._pass_on(b"")  # a body without a length ends with its connection
            self._fail(UpstreamLost(how))

    def _fail(self, error: Exception) -> None:
        if self._passed is not None and not self._passed.done():
            self._passed.set_exception(error)

    # ------------------------------------------------------------------------------------------ one request

    def send(self, method: bytes, raw: bytes) -> None:
        """Send the request's bytes, whole. Raises `UpstreamLost`."""
        if self._transport is None or self._has_ended:
            raise UpstreamLost("it closed the connection")
        self._transport.write(raw)
        self._asked_head_only = method == b"HEAD"
        # h11 wrote none of it; it has to know what was asked to find the response's end.
        self._wire.send(_ASKED.get(method) or h11.Request(method=method, target=b"/", headers=_NO_BODY))
        self._wire.send(_ALL_ASKED)

    async def head(self) -> h11.Response:
        """The response's head. Raises `UpstreamLost`."""
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise UpstreamLost("it closed the connection without an answer")

    async def chunk(self) -> bytes | None:
        """What arrived next of the response's body; None at its end. Raises `UpstreamLost` when it ends early."""
        event = await self._event()
        if isinstance(event, h11.Data):
            return bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            return None
        raise UpstreamLost("it closed the connection in the middle of an answer")

    async def _event(self) -> object:
        try:
            while (event := self._wire.next_event()) is h11.NEED_DATA:
                self._arrived = asyncio.get_running_loop().create_future()
                await self._arrived
        except h11.RemoteProtocolError as error:
            raise UpstreamLost(str(error) or type(error).__name__) from error
        return event

    async def pass_to(self, on_head: OnHead, on_body: OnBody) -> None:
        """Have the response told as it comes; returns at its end. Raises `UpstreamLost`, and what either raises."""
        self._on_head, self._on_body = on_head, on_body
        self._passed = asyncio.get_running_loop().create_future()
        if self._has_ended:
            self._fail(UpstreamLost("it closed the connection"))
        await self._passed

    def pause(self) -> None:
        """Read no more for now: whoever it is passed to takes nothing."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _pass_on(self, data: bytes) -> None:
        """Tell what came. Whatever it or its hearers raise is raised by `pass_to`, which waits for the end."""
        if self._passed is None or self._passed.done():
            return
        try:
            if self._chunked is not None:
                self._pass_chunks(self._chunked, data)
            else:
                self._wire.receive_data(data)
                while self._pass_event(self._wire.next_event()):
                    pass
        except (ValueError, h11.RemoteProtocolError) as error:
            self._fail(UpstreamLost(str(error) or type(error).__name__))
        except Exception as error:  # noqa: BLE001
            self._fail(error)

    def _pass_event(self, event: object) -> bool:
        """Tell what h11 found; whether there may be more."""
        if event is h11.NEED_DATA or self._on_head is None or self._on_body is None:
            return False
        if isinstance(event, h11.InformationalResponse):
            return True
        if isinstance(event, h11.Response):
            in_chunks = not self._asked_head_only and _comes_in_chunks(event)
            self._on_head(event, in_chunks)
            if in_chunks:
                self._chunked = Chunked()
                self._pass_chunks(self._chunked, self._wire.trailing_data[0])
            return not in_chunks
        if isinstance(event, h11.Data):
            raw = bytes(event.data)
            self._on_body(raw, (raw,))
            return True
        if isinstance(event, h11.EndOfMessage):
            self._end(is_whole=self._wire.their_state is h11.DONE and not self._wire.trailing_data[0])
            return False
        raise UpstreamLost("it closed the connection without an answer")

    def _pass_chunks(self, chunked: Chunked, data: bytes) -> None:
        if self._on_body is None or not data:
            return
        pieces, end = chunked.pieces(data)
        self._on_body(data if end is None else data[:end], pieces)
        if end is not None:
            self._end(is_whole=end == len(data))

    def _end(self, *, is_whole: bool) -> None:
        self._is_whole = is_whole
        if self._passed is not None and not self._passed.done():
            self._passed.set_result(None)

    # ------------------------------------------------------------------------------------------ afterwards

    @property
    def is_usable(self) -> bool:
        """Whether another request can go over it."""
        return not self._has_ended and self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Give the connection back when the response was read to its end, else close it: that cancels the request."""
        wire = self._wire
        was_read = wire.our_state is h11.DONE and wire.their_state is h11.DONE and not wire.trailing_data[0]
        if self.is_usable and (self._is_whole if self._passed is not None else was_read):
            self._wire = h11.Connection(h11.CLIENT, _HEAD_BYTES)
            self._passed = self._on_head = self._on_body = self._chunked = None
            self._is_whole, self.used_before = False, True
            self.go_on()
            self.server.keep(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Close it now."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def spoke_unasked(self) -> bool:
        """Whether something arrived that nobody asked for: then nobody can tell whose answer comes next."""
        return bool(self._wire.trailing_data[0])


def _comes_in_chunks(response: h11.Response) -> bool:
    """Whether the body comes in chunks and nothing else, on a connection that stays: then it can pass as it is."""
    if response.http_version != b"1.1" or response.status_code in {204, 304}:
        return False
    coded = [value.lower() for name, value in response.headers if name == b"transfer-encoding"]
    closes = any(name == b"connection" and b"close" in value.lower() for name, value in response.headers)
    return coded == [b"chunked"] and not closes


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


class ModelServer:
    """A model server for `release`, which serves it under the name `model`."""

    def __init__(self, launcher: Launcher, release: Released, model: str) -> None:
        self.release = release
        self.model = model
        self.in_flight = 0
        self.running: RunningServer | None = None
        self._launcher = launcher
        self._host, self._port = "", 0
        self._kept: list[Exchange] = []
        self._stop = threading.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._ended: asyncio.Future[MiltonError | None] = asyncio.get_running_loop().create_future()

    @property
    def host(self) -> str:
        """What its `Host` header says."""
        return f"{self._host}:{self._port}"

    async def start(self) -> None:
        """Start it; returns when it answers. Raises `MiltonError` when it does not."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[RunningServer] = loop.create_future()

        def tell_ready(served: RunningServer) -> None:
            if not ready.done():
                ready.set_result(served)

        def tell_end(error: MiltonError | None) -> None:
            if not self._ended.done():
                self._ended.set_result(error)
            if not ready.done():
                ready.set_exception(error or ServerFailed("the model server ended before it was ready"))

        def tell(what: object, *about: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(what, *about)  # type: ignore[arg-type]

        def serve() -> None:
            try:
                with self._launcher.serve(self.release.artefact, self.model) as served:
                    tell(tell_ready, served)
                    self._stop.wait()
            except MiltonError as error:
                tell(tell_end, error)
            except OSError as error:
                tell(tell_end, ServerFailed(f"the model server could not be started: {error}"))
            else:
                tell(tell_end, None)

        threading.Thread(target=serve, name=f"model-server-{self.release.digest[:8]}", daemon=True).start()
        self.running = await asyncio.shield(ready)
        place = urlsplit(self.running.endpoint.base_url)
        self._host, self._port = place.hostname or "127.0.0.1", place.port or 80

    async def stop(self) -> MiltonError | None:
        """Stop it; returns when all of it is gone, with how it had ended before, if it had."""
        self._stop.set()
        for exchange in self._kept:
            exchange.abort()
        self._kept.clear()
        return await asyncio.shield(self._ended)

    def abandon(self) -> None:
        """Let it be stopped as soon as it can be, without waiting for that."""
        self._stop.set()

    def begin(self) -> None:
        """A request is its."""
        self.in_flight += 1
        self._idle.clear()

    def end(self) -> None:
        """A request is done, however it ended."""
        self.in_flight -= 1
        if not self.in_flight:
            self._idle.set()

    async def drained(self) -> None:
        """Wait until it works on nothing."""
        await self._idle.wait()

    async def exchange(self) -> Exchange:
        """A connection to it, kept from before or new. Raises `UpstreamLost`."""
        while self._kept:
            exchange = self._kept.pop()
            if exchange.is_usable and not exchange.spoke_unasked:
                return exchange
            exchange.abort()
        return await self.fresh()

    async def fresh(self) -> Exchange:
        """A new connection to it. Raises `UpstreamLost`."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_S):
                _, exchange = await loop.create_connection(lambda: Exchange(self), self._host, self._port)
        except (OSError, TimeoutError) as error:
            raise UpstreamLost(f"nothing answers at {self.host}: {error}") from error
        return exchange

    def keep(self, exchange: Exchange) -> None:
        """Keep a connection whose response was read to its end."""
        if len(self._kept) >= _KEPT_CONNECTIONS or self._stop.is_set():
            exchange.abort()
        else:
            self._kept.append(exchange)

    async def listens(self) -> bool:
        """Whether something still accepts connections there."""
        try:
            async with asyncio.timeout(_CONNECT_S):
                _, writer = await asyncio.open_connection(self._host, self._port)
        except (OSError, TimeoutError):
            return False
        writer.transport.abort()
        return True
