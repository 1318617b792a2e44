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
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import h11

from milton_assets.edge.serving.released import Released
from milton_assets.vocabulary.errors import MiltonError, ServerFailed
from milton_assets.vocabulary.server import Launcher, RunningServer

_READ_BYTES = 1 << 16
_KEPT_CONNECTIONS = 32
_CONNECT_S = 5.0
_HEAD_BYTES = 1 << 20


class UpstreamLost(Exception):
    """The model server did not answer, or stopped in the middle of it."""


@dataclass
class Exchange:
    """One request on its way to the model server, and the response on its way back."""

    server: ModelServer
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    used_before: bool = False
    wire: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT, _HEAD_BYTES))

    def send(self, method: bytes, raw: bytes) -> None:
        """Send the request's bytes, whole."""
        self.writer.write(raw)
        # h11 wrote none of it; it has to know what was asked to find the response's end.
        self.wire.send(h11.Request(method=method, target=b"/", headers=[(b"host", b"-"), (b"content-length", b"0")]))
        self.wire.send(h11.EndOfMessage())

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
            while (event := self.wire.next_event()) is h11.NEED_DATA:
                self.wire.receive_data(await self.reader.read(_READ_BYTES))
        except (OSError, h11.RemoteProtocolError) as error:
            raise UpstreamLost(str(error) or type(error).__name__) from error
        return event

    def close(self) -> None:
        """Give the connection back when the response was read to its end, else close it: that cancels the request."""
        is_done = self.wire.our_state is h11.DONE and self.wire.their_state is h11.DONE
        if is_done and not self.wire.trailing_data[0]:
            self.server.keep(self.reader, self.writer)
        else:
            self.writer.transport.abort()


class ModelServer:
    """A model server for `release`, which serves it under the name `model`."""

    def __init__(self, launcher: Launcher, release: Released, model: str) -> None:
        self.release = release
        self.model = model
        self.in_flight = 0
        self.running: RunningServer | None = None
        self._launcher = launcher
        self._host, self._port = "", 0
        self._kept: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
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
        for _, writer in self._kept:
            writer.transport.abort()
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
            reader, writer = self._kept.pop()
            if not (reader.at_eof() or writer.is_closing()):
                return Exchange(self, reader, writer, used_before=True)
            writer.transport.abort()
        return await self.fresh()

    async def fresh(self) -> Exchange:
        """A new connection to it. Raises `UpstreamLost`."""
        try:
            async with asyncio.timeout(_CONNECT_S):
                reader, writer = await asyncio.open_connection(self._host, self._port)
        except (OSError, TimeoutError) as error:
            raise UpstreamLost(f"nothing answers at {self.host}: {error}") from error
        return Exchange(self, reader, writer)

    def keep(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Keep a connection whose response was read to its end."""
        if len(self._kept) >= _KEPT_CONNECTIONS or self._stop.is_set():
            writer.transport.abort()
        else:
            self._kept.append((reader, writer))

    async def listens(self) -> bool:
        """Whether something still accepts connections there."""
        try:
            async with asyncio.timeout(_CONNECT_S):
                _, writer = await asyncio.open_connection(self._host, self._port)
        except (OSError, TimeoutError):
            return False
        writer.transport.abort()
        return True
