"""What stands behind the gateway: one model server for the release in service, changed when `current` changes.

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(supervisor.run())
        server = await supervisor.take()             # held while nothing can answer
        try: …
        finally: server.end()

What belongs here: which model server gets the requests, when one is started and stopped, and who waits meanwhile. What
does not: how servers are started (`model_server`), requests themselves (`gateway`), and whether a release is well
(`watch`).

The rules:

 1. A request that was given to a server is that server's until it ends: no swap cuts it.
 2. With memory for two, the new server is up and has answered a question before it gets requests; the old one is
    stopped when it has drained. If the new one does not come up, the old one stays.
 3. With memory for one, requests are held while the old server drains and the new one loads.
 4. A held request waits in order, and no longer than the limit; then its user is told when to try again.
 5. A release is tried in the memory of what serves only while users are held (`lending`, `shadowing`).
 6. A server that died is started again, at once and then ever less often; requests are held meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from milton_assets.edge.deployment.capacity import Memory, device_memory
from milton_assets.edge.deployment.loadtest import EdgeLauncher
from milton_assets.edge.manifest import Probe
from milton_assets.edge.serving.asking import Unanswered, ask
from milton_assets.edge.serving.health_journal import EventKind, HealthEvent, shortened
from milton_assets.edge.serving.http1 import Limits, Refused
from milton_assets.edge.serving.model_server import ModelServer
from milton_assets.edge.serving.released import Released, current_digest, read_release
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.server import ServingSettings

DEFAULT_MODEL = "milton"
"""The name under which every release is served, so that users need not learn of a swap."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_ALIVE_EVERY_S = 1.0
_PROBE_TOKENS = 4
_RETRY_AFTER_S = 10


class Mode(StrEnum):
    """Memory for how many models a device has. `auto` finds out at each swap, from what the new release says it
    needs.
    """

    ONE = "one"
    TWO = "two"
    AUTO = "auto"


@dataclass(kw_only=True)
class Borrowed:
    """A server for a release that is tried in the memory of what serves, users held since `closed_at`.

    `is_in_service` is whether it is the server that serves; `is_alike` whether it is set up as it would serve; `is_up`
    whether it answered a question.
    """

    server: ModelServer
    closed_at: float
    said_before: str | None
    is_in_service: bool
    is_alike: bool
    is_up: bool = False
    load_s: float = 0.0
    drain_s: float = 0.0


class Supervisor:
    """Serves the release that `current` of the folder `target` points to, with `launcher`.

    `model` is the name it is served under; `slots` overrides how many requests the server works on at once, which else
    is what its contract was measured with. `drain_s` is how long an old server's requests are waited for before they
    are cut, `probe_s` how long a new one may take to answer its first question.
    """

    def __init__(
        self,
        target: Path,
        launcher: EdgeLauncher,
        *,
        mode: Mode = Mode.AUTO,
        model: str = DEFAULT_MODEL,
        slots: int | None = None,
        limits: Limits | None = None,
        on_event: Callable[[HealthEvent], None] = lambda _: None,
        memory: Callable[[], Memory] = device_memory,
        poll_s: float = 0.2,
        drain_s: float = 600.0,
        probe_s: float = 60.0,
    ) -> None:
        self.target = target
        self.mode = mode
        self.model = model
        self.serving: ModelServer | None = None
        self.held = 0
        self.restarts = 0
        self.since: datetime | None = None
        self._launcher = launcher
        self._slots = slots
        self._limits = limits or Limits()
        self._on_event = on_event
        self._memory = memory
        self._poll_s = poll_s
        self._drain_s = drain_s
        self._probe_s = probe_s
        self._mode_now = mode
        self._open = False
        self._stopping = False
        self._lent = False
        self._changing = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._woken = asyncio.Event()
        self._retiring: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._next_try_s = 0.0
        self._failed: str | None = None
        self._said: str | None = None

    # ------------------------------------------------------------------------------------------ for requests

    def take_at_once(self) -> ModelServer | None:
        """As `take`, where there is a server; None where the request would have to wait."""
        if self._open and self.serving is not None:
            self.serving.begin()
            return self.serving
        return None

    async def take(self) -> ModelServer:
        """The server that the request is given to; it is to be told `end()` when the request is done.

        Waits while there is none. Raises `Refused` (503) when that takes longer than the limit, or too many wait
        already.
        """
        if (server := self.take_at_once()) is not None:
            return server
        if self.held >= self._limits.held:
            raise self._not_now(f"{self.held} requests wait for the model already")
        self.held += 1
        try:
            async with asyncio.timeout(self._limits.hold_s):
                while not (self._open and self.serving is not None):
                    if self._stopping:
                        raise self._not_now("the gateway is being stopped")
                    turn = asyncio.get_running_loop().create_future()
                    self._waiting.append(turn)
                    await turn
                self.serving.begin()
                return self.serving
        except TimeoutError:
            raise self._not_now(f"no model was ready within {self._limits.hold_s:g} s") from None
        finally:
            self.held -= 1

    def _not_now(self, why: str) -> Refused:
        return Refused(503, why if self._said is None else f"{why}: {self._said}", retry_after_s=_RETRY_AFTER_S)

    async def suspect(self, server: ModelServer) -> None:
        """A request was lost on `server`: if it is gone, hold what comes and start it again."""
        if server is self.serving and not await server.listens():
            self._close()
            self._woken.set()

    def wake(self) -> None:
        """Look at `current` now, and try again at once what failed."""
        self._next_try_s = 0.0
        self._woken.set()

    # ------------------------------------------------------------------------------------------ behind the scenes

    async def run(self) -> None:
        """Serve until cancelled."""
        looked_at = 0.0
        while True:
            self._woken.clear()
            if self.serving is not None and (not self._open or time.monotonic() - looked_at > _ALIVE_EVERY_S):
                looked_at = time.monotonic()
                if not await self.serving.listens():
                    await self._bury()
            wanted = self._wanted()
            serves = self.serving.release.digest if self.serving else None
            if not self._lent and wanted != serves and (time.monotonic() >= self._next_try_s or wanted != self._failed):
                self._changing = True
                try:
                    await self._change(wanted)
                finally:
                    self._changing = False
            if self.serving is not None and not self._open and not self._lent:
                self._let_in()
            try:
                async with asyncio.timeout(self._poll_s):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def stop(self, grace_s: float) -> None:
        """Let what is being answered end, `grace_s` seconds at most, and stop every server."""
        self._stopping = True
        self._close()
        self._wake_waiting()
        if (server := self.serving) is not None:
            self.serving = None
            await self._retire(server, grace_s)
        for task in tuple(self._retiring):
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)

    def _wanted(self) -> str | None:
        try:
            wanted = current_digest(self.target)
        except (MiltonError, OSError) as error:
            # A link that cannot be read is no order to stop serving.
            self._not_served(None, str(error))
            return self.serving.release.digest if self.serving else None
        if wanted is None:
            self._said = "nothing is deployed here yet"
        return wanted

    async def _change(self, wanted: str | None) -> None:
        if wanted is None:
            self._close()
            await self._retire_serving()
            return
        try:
            release = read_release(self.target, wanted)
        except (MiltonError, OSError) as error:
            self._not_served(wanted, str(error))
            return
        self._mode_now = self._mode_for(release)
        closed_at = time.monotonic()
        if self._mode_now is Mode.ONE:
            self._close()
            await self._retire_serving()
            # What was given up while it loaded has memory until it is gone.
            await asyncio.gather(*self._retiring, return_exceptions=True)
        was_held = not self._open
        began = time.monotonic()
        drained_s = began - closed_at
        server = await self._started(release)
        if server is None:
            return
        old, self.serving = self.serving, server
        if old is not None:
            self._behind(self._retire(old, self._drain_s))
        self._in_service(release, closed_at if was_held else None, time.monotonic() - began, drained_s)

    def _in_service(self, release: Released, closed_at: float | None, load_s: float, drain_s: float) -> None:
        """Let users in to the server of `release`, who were held since `closed_at`, if they were."""
        self._failures, self._failed, self._said = 0, None, None
        self.since = datetime.now(UTC)
        self._let_in()
        figures: dict[str, float | str | None] = {
            "load_s": round(load_s, 3),
            "drain_s": round(drain_s, 3),
            "held_s": 0.0 if closed_at is None else round(time.monotonic() - closed_at, 3),
            "mode": str(self._mode_now),
        }
        said = f"{release.model_version}, release {short(release.digest)}, answers"
        self._tell(EventKind.SWAPPED, said, release.digest, figures)

    def _mode_for(self, release: Released) -> Mode:
        """How to swap to `release`, with memory as it is now."""
        if self.mode is not Mode.AUTO:
            return self.mode
        has_room = 0 < release.ram_bytes <= self._memory().available_bytes
        return Mode.TWO if has_room else Mode.ONE

    async def _started(self, release: Released) -> ModelServer | None:
        """A server that answered a question; None when none came up (which is told), or `current` moved on
        meanwhile.
        """
        server = ModelServer(self._launcher.configured(self._settings(release)), release, self.model)
        starting = asyncio.get_running_loop().create_task(self._start(server))
        try:
            while not starting.done():
                await asyncio.wait({starting}, timeout=self._poll_s)
                if self._wanted() != release.digest and not starting.done():
                    starting.cancel()
                    self._behind(self._stopped(server))
                    return None
                if self._open and self.serving is not None and not await self.serving.listens():
                    self._close()
            starting.result()
        except (MiltonError, Unanswered) as error:
            await server.stop()
            self._not_served(release.digest, str(error))
            return None
        except asyncio.CancelledError:
            starting.cancel()
            server.abandon()
            raise
        return server

    async def beside(self, release: Released) -> ModelServer:
        """A server for `release` beside the one in service, which answered a question; the caller stops it.

        Raises `MiltonError` and `Unanswered` when none comes up.
        """
        server = self.prepared(release)
        try:
            await self.bring_up(server)
        except asyncio.CancelledError:
            server.abandon()
            raise
        return server

    def prepared(self, release: Released) -> ModelServer:
        """A server for `release` as the one in service is set up, to be brought up and stopped by the caller."""
        return ModelServer(self._launcher.configured(self._settings(release)), release, self.model)

    async def bring_up(self, server: ModelServer) -> None:
        """Start it and have it answer a question; it is stopped again where it does not. Raises as `beside`."""
        try:
            await self._start(server)
        except (MiltonError, Unanswered):
            await server.stop()
            raise

    async def lend(self) -> bool:
        """Stop what serves, so that its memory is free until `take_back`; whether it could be had.

        It cannot while a request is worked on or waits. Whoever asks from then on is held.
        """
        server = self.serving
        if server is None or self._lent or self._changing or not self._open or server.in_flight or self.held:
            return False
        self._lent = True
        self._close()
        self._said = "another release is being tried in its memory"
        await self._retire_serving()
        return True

    def take_back(self) -> None:
        """Start what serves again: its memory is free."""
        self._lent = False
        self.wake()

    @property
    def is_lent(self) -> bool:
        """Whether somebody else asks in the memory of what serves, so that nobody is let in."""
        return self._lent

    def begin_trial(self, release: Released) -> Borrowed | None:
        """Hold users and let what serves drain, so that `release` can be tried in its memory; None while a swap goes
        on, or the memory is lent.

        What serves stays up when it is that very release, set up as it was measured. `end_trial` has to follow.
        """
        if self._lent or self._changing:
            return None
        self._lent, closed_at, said_before = True, time.monotonic(), self._said
        self._close()
        self._said = "another release is being tried in its memory"
        measured = release.contract.served_with or ServingSettings()
        serving, is_alike = self.serving, self._settings(release) == measured
        if serving is not None and serving.release.digest == release.digest and is_alike:
            server, is_in_service = serving, True
        else:
            server = ModelServer(self._launcher.configured(measured), release, self.model)
            is_in_service = False
        return Borrowed(
            server=server,
            closed_at=closed_at,
            said_before=said_before,
            is_in_service=is_in_service,
            is_alike=is_alike,
        )

    async def bring_to_trial(self, borrowed: Borrowed, is_wanted: Callable[[], bool]) -> None:
        """Drain what serves, and have the borrowed server answer a question in its place, unless nobody wants it any
        more. Raises as `beside`.
        """
        if borrowed.is_in_service:
            async with asyncio.timeout(self._drain_s):
                await borrowed.server.drained()
            return
        await self._retire_serving()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        borrowed.drain_s = time.monotonic() - borrowed.closed_at
        if not is_wanted():
            return
        began = time.monotonic()
        await self.bring_up(borrowed.server)
        borrowed.load_s, borrowed.is_up = time.monotonic() - began, True

    async def end_trial(self, borrowed: Borrowed) -> None:
        """Serve the release that was tried if it has become current, else what is; it is stopped then."""
        server, self._said = borrowed.server, borrowed.said_before
        try:
            if borrowed.is_in_service:
                return
            if not borrowed.is_up:
                server.abandon()  # it was stopped already, or we are being ended while it loads
            elif borrowed.is_alike and self._wanted() == server.release.digest and await server.listens():
                self.serving, self._mode_now = server, Mode.ONE
                self._in_service(server.release, borrowed.closed_at, borrowed.load_s, borrowed.drain_s)
            else:
                await server.stop()
        finally:
            self.take_back()

    async def _start(self, server: ModelServer) -> None:
        question = server.release.contract.probes[0]
        few = Probe(prompt=question.prompt, max_tokens=min(question.max_tokens, _PROBE_TOKENS))
        await server.start()
        await ask(server, few, timeout_s=self._probe_s)

    async def _stopped(self, server: ModelServer) -> None:
        await server.stop()

    def _settings(self, release: Released) -> ServingSettings:
        settings = release.contract.served_with or ServingSettings()
        return settings if self._slots is None else settings.model_copy(update={"slots": self._slots})

    async def _retire_serving(self) -> None:
        old, self.serving = self.serving, None
        if old is not None:
            await self._retire(old, self._drain_s)

    def _behind(self, work: Coroutine[None, None, None]) -> None:
        """Do that behind the scenes; `stop` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _retire(self, server: ModelServer, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                await server.drained()
        except TimeoutError:
            cut = f"{server.in_flight} requests of the old release took longer than {within_s:g} s and were cut"
            self._tell(EventKind.STOPPED, cut, server.release.digest, {"requests": server.in_flight})
        finally:
            await server.stop()

    async def _bury(self) -> None:
        server, self.serving = self.serving, None
        self._close()
        if server is None:
            return
        how = await server.stop()
        self.restarts += 1
        self._back_off()
        said = f"the model server died: {how or 'it listens no more'}"
        self._tell(EventKind.SERVER_DIED, said, server.release.digest, {"restarts": self.restarts})
        self._said = "the model server died and is started again"

    def _not_served(self, digest: str | None, why: str) -> None:
        self._back_off()
        self._failed = digest
        said = f"the release {short(digest)} is not served: {why}" if digest else f"`current` cannot be read: {why}"
        if said != self._said:
            self._said = said
            self._tell(EventKind.NOT_SERVED, said, digest, {"failures": self._failures})

    def _back_off(self) -> None:
        """At once the first time; then after half a second, twice that, and so on."""
        pause_s = 0.0 if not self._failures else min(_FIRST_PAUSE_S * 2 ** (self._failures - 1), _LONGEST_PAUSE_S)
        self._failures += 1
        self._next_try_s = time.monotonic() + pause_s

    def _close(self) -> None:
        self._open = False

    def _let_in(self) -> None:
        self._open = True
        self._wake_waiting()

    def _wake_waiting(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)

    def _tell(self, kind: EventKind, said: str, release: str | None, figures: Mapping[str, float | str | None]) -> None:
        self._on_event(
            HealthEvent(at=datetime.now(UTC), kind=kind, said=shortened(said), release=release, figures=dict(figures))
        )

    @property
    def runs_as_measured(self) -> bool:
        """Whether what serves is set up as its contract was measured: only then do promised answers compare."""
        if self.serving is None or (measured := self.serving.release.contract.served_with) is None:
            return False
        return self._settings(self.serving.release) == measured

    @property
    def problem(self) -> str | None:
        """Why what is current is not served as it should be; None while it is."""
        return self._said
