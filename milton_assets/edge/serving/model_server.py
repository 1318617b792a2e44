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

from milton_assets.edge.serving.heads import END, BadHead, ResponseHead
from milton_assets.edge.serving.http1 import Chunked
from milton_assets.edge.serving.receiving import Receiver, receive_buffer
from milton_assets.edge.serving.released import Released
from milton_assets.vocabulary.errors import MiltonError, ServerFailed
from milton_assets.vocabulary.server import Launcher, RunningServer

_KEPT_CONNECTIONS = 32
_CONNECT_S = 5.0
_HEAD_BYTES = 1 << 20


class UpstreamLost(Exception):
    """The model server did not answer, or stopped in the middle of it."""


OnHead = Callable[[ResponseHead, bool], None]
"""Told the response's head, and whether its body comes as it was sent: in chunks, each with its size before it."""
OnBody = Callable[[bytes, Sequence[bytes]], None]
"""Told the bytes that came, as they were sent, and the pieces of the body that lie in them; none where the head came by
itself."""
OnOver = Callable[[Exception | None], None]
"""Told once that the response is over: whole, or what it was lost by."""


class Exchange(Receiver):
    """A connection to the model server, and one request after the other on it, each with its response.

    A response is passed on: each piece is told in the very call that took it from the socket, so that nothing is woken,
    and nothing waits for another turn of the loop.
    """

    def __init__(self, server: ModelServer, buffer: memoryview) -> None:
        super().__init__(buffer)
        self.server = server
        self.used_before = False
        self.spoke_unasked = False
        """Whether something arrived that nobody asked for: then nobody can tell whose answer comes next."""
        self._transport: asyncio.Transport | None = None
        self._has_ended = False
        self._forget()

    def _forget(self) -> None:
        """Be ready for the next request."""
        self._on_head: OnHead | None = None
        self._on_body: OnBody | None = None
        self._on_over: OnOver | None = None
        self._unread = b""
        self._head: ResponseHead | None = None
        self._chunked: Chunked | None = None
        self._left: int | None = None
        self._is_whole = False
        self._asked_head_only = False

    # ------------------------------------------------------------------------------------------ asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a TCP connection makes
        self._transport = transport

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
        if self._head is not None and self._chunked is None and self._left is None:
            self._end(is_whole=False)  # a body without a length ends with its connection
        self._tell_over(UpstreamLost(how))

    def _tell_over(self, error: Exception | None) -> None:
        on_over, self._on_over = self._on_over, None
        if on_over is not None:
            on_over(error)

    # ------------------------------------------------------------------------------------------ one request

    def send(self, method: bytes, raw: bytes) -> None:
        """Send the request's bytes, whole. Raises `UpstreamLost`."""
        if self._transport is None or self._has_ended:
            raise UpstreamLost("it closed the connection")
        self._transport.write(raw)
        self._asked_head_only = method == b"HEAD"

    def tell(self, on_head: OnHead, on_body: OnBody, on_over: OnOver) -> None:
        """Have the response told as it comes, to its end or until it is lost. Whatever the first two raise loses it."""
        self._on_head, self._on_body, self._on_over = on_head, on_body, on_over
        if self._has_ended:
            self._tell_over(UpstreamLost("it closed the connection"))

    async def pass_to(self, on_head: OnHead, on_body: OnBody) -> None:
        """Have the response told as it comes; returns at its end. Raises `UpstreamLost`, and what either raises."""
        passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_over(error: Exception | None) -> None:
            if passed.done():
                return
            if error is None:
                passed.set_result(None)
            else:
                passed.set_exception(error)

        self.tell(on_head, on_body, on_over)
        await passed

    def pause(self) -> None:
        """Read no more for now: whoever it is passed to takes nothing."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def go_on(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def take(self, data: bytes) -> None:
        """See `Receiver`."""
        if self._on_over is None:
            self.spoke_unasked = True
            return
        try:
            if self._head is None:
                data = self._pass_head(data)
            if self._head is not None and data:
                self._pass_body(data)
        except (ValueError, BadHead) as error:
            self._tell_over(UpstreamLost(str(error) or type(error).__name__))
        except Exception as error:
            if self._on_over is None:
                raise  # it was over already: this is of whoever was told so
            self._tell_over(error)

    def _pass_head(self, data: bytes) -> bytes:
        """Tell the head once it is there; what came of the body with it."""
        data = self._unread + data
        while True:
            raw, found, rest = data.partition(END)
            if len(raw) > _HEAD_BYTES:
                raise BadHead(f"the response's head is larger than {_HEAD_BYTES} bytes")
            if not found:
                self._unread = data
                return b""
            head, data = ResponseHead.read(raw), rest
            if head.status == 101:
                raise BadHead("the server speaks another protocol from here on")
            if head.status >= 200:
                break
        self._unread = b""
        has_body = head.has_body(asked_head_only=self._asked_head_only)
        if has_body and head.in_chunks:
            self._chunked = Chunked()
        else:
            self._left = head.length if has_body else 0
        self._head = head
        if self._on_head is not None:
            self._on_head(head, self._chunked is not None)
        if self._left == 0:
            self._end(is_whole=not data)
            return b""
        if not data and self._on_body is not None:
            self._on_body(b"", ())
        return data

    def _pass_body(self, data: bytes) -> None:
        if self._on_body is None:
            return
        if self._chunked is not None:
            self._pass_chunks(self._chunked, data)
        elif self._left is None:
            self._on_body(data, (data,))
        else:
            mine = data[: self._left]
            self._left -= len(mine)
            self._on_body(mine, (mine,))
            if not self._left:
                self._end(is_whole=len(mine) == len(data))

    def _pass_chunks(self, chunked: Chunked, data: bytes) -> None:
        if self._on_body is None:
            return
        pieces, end = chunked.pieces(data)
        self._on_body(data if end is None else data[:end], pieces)
        if end is not None:
            self._end(is_whole=end == len(data))

    def _end(self, *, is_whole: bool) -> None:
        self._is_whole = is_whole
        self._tell_over(None)

    # ------------------------------------------------------------------------------------------ afterwards

    @property
    def is_usable(self) -> bool:
        """Whether another request can go over it."""
        return not self._has_ended and self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """Give the connection back when the response was read to its end, else close it: that cancels the request."""
        if self.is_usable and self._is_whole and self._head is not None and not self._head.ends_connection:
            self._forget()
            self.used_before = True
            self.go_on()
            self.server.keep(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Close it now."""
        if self._transport is not None:
            self._transport.abort()


class ModelServer:
    """A model server for `release`, which serves it under the name `model`."""

    def __init__(self, launcher: Launcher, release: Released, model: str) -> None:
        self.release = release
        self.model = model
        self.signed = (
            (b"x-milton-release", release.digest.encode()),
            (b"x-milton-model-version", release.model_version.encode()),
        )
        """What the gateway adds to its responses, to say whose they are."""
        self.in_flight = 0
        self.running: RunningServer | None = None
        self._launcher = launcher
        self._host, self._port = "", 0
        self._kept: list[Exchange] = []
        self._buffer = receive_buffer()
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
        return self.kept() or await self.fresh()

    def kept(self) -> Exchange | None:
        """A connection to it that was kept; None where none was."""
        while self._kept:
            exchange = self._kept.pop()
            if exchange.is_usable and not exchange.spoke_unasked:
                return exchange
            exchange.abort()
        return None

    async def fresh(self) -> Exchange:
        """A new connection to it. Raises `UpstreamLost`."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_S):
                _, exchange = await loop.create_connection(lambda: Exchange(self, self._buffer), self._host, self._port)
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
