"""Serving a target until somebody ends it: gateway, supervisor and watch in one process, put together and taken apart.

What belongs here: starting them, what signals mean, and leaving nothing behind. What does not: what they do.

SIGTERM and Ctrl-C let what is being answered end, for as long as the grace; a second one ends at once. SIGHUP looks at
`current` now and tries again what failed.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from milton_assets.edge.canary.goldens import OpenGoldens
from milton_assets.edge.deployment.layout import HEALTH_FILE
from milton_assets.edge.deployment.loadtest import EdgeLauncher
from milton_assets.edge.deployment.standing import standing_problems
from milton_assets.edge.serving.gateway import Gateway
from milton_assets.edge.serving.health_journal import EventKind, HealthEvent, HealthJournal
from milton_assets.edge.serving.http1 import Limits
from milton_assets.edge.serving.lending import Lender
from milton_assets.edge.serving.metrics import Metrics
from milton_assets.edge.serving.patrolling import Patrolling
from milton_assets.edge.serving.shadowing import IDLE_S, Shadow
from milton_assets.edge.serving.signs import SignsReader
from milton_assets.edge.serving.splitting import Splitter
from milton_assets.edge.serving.supervisor import DEFAULT_MODEL, Mode, Supervisor
from milton_assets.edge.serving.watch import Schedule, Watch
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.os_errors import remedy_for

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
_FAREWELL_S = 2.0


class CannotListen(MiltonError):
    """The address cannot be listened on."""


@dataclass(frozen=True)
class Service:
    """How a target is served: what it is, with what, where, and how long what is under way may take at the end.

    `open_goldens` reads the golden questions of a canary that compares answers to such.
    `watched` asks canary questions and looks at the device's signs, as `schedule` says, and reads the release again a
    little at a time. `go_back` takes the target to the release before, for the reason that it is given, and says to
    which; None leaves it in service.
    """

    target: Path
    launcher: EdgeLauncher
    open_goldens: OpenGoldens
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    mode: Mode = Mode.AUTO
    model: str = DEFAULT_MODEL
    slots: int | None = None
    limits: Limits = field(default_factory=Limits)
    watched: bool = True
    schedule: Schedule = field(default_factory=Schedule)
    go_back: Callable[[str], str] | None = None
    drain_s: float = 600.0
    grace_s: float = 30.0
    say: Callable[[str], None] = lambda _: None


def serve(service: Service) -> None:
    """Serve until SIGTERM or SIGINT. Raises `CannotListen`."""
    asyncio.run(_serve(service))


async def _serve(service: Service) -> None:
    journal = HealthJournal(service.target / HEALTH_FILE)

    def on_event(event: HealthEvent) -> None:
        service.say(event.said)
        journal.write(event)

    supervisor = Supervisor(
        service.target,
        service.launcher,
        mode=service.mode,
        model=service.model,
        slots=service.slots,
        limits=service.limits,
        on_event=on_event,
        drain_s=service.drain_s,
    )
    splitter = Splitter(supervisor, service.open_goldens, on_event=on_event, drain_s=service.drain_s)
    shadow = Shadow(supervisor, service.open_goldens, lambda: gateway.is_idle(IDLE_S), on_event=on_event)
    metrics = Metrics(lambda: _gauges(supervisor))
    gateway = Gateway(
        supervisor,
        metrics,
        splitter=splitter,
        shadow=shadow,
        limits=service.limits,
        health=lambda: health_page(supervisor, watch) | {"canary": splitter.splits},
    )
    watch = Watch(
        supervisor,
        gateway,
        reads=SignsReader(service.target if service.target.exists() else service.target.parent).read,
        on_event=on_event,
        go_back=in_thread(service.go_back),
        schedule=service.schedule,
        standing=lambda: standing_problems(service.target, datetime.now(UTC)),
    )
    try:
        host, port = await gateway.listen(service.host, service.port)
    except OSError as error:
        raise CannotListen(
            f"{service.host}:{service.port} cannot be listened on: {error.strerror or error}",
            expected="an address of this machine, and a port nobody else has",
            remedy=remedy_for(error.errno) or "name another with --host and --port",
        ) from error
    service.say(f"listening at http://{f'[{host}]' if ':' in host else host}:{port}/v1")
    on_event(HealthEvent(at=datetime.now(UTC), kind=EventKind.STARTED, said=f"serving {service.target} began"))
    ended, at_once = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        (at_once if ended.is_set() else ended).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGHUP, supervisor.wake)
    work = [loop.create_task(one.run()) for one in (supervisor, splitter, shadow, Lender(supervisor))]
    if service.watched:
        work += [loop.create_task(watch.run()), loop.create_task(Patrolling(service.target, on_event).run())]
    waiting = loop.create_task(ended.wait())
    # What is there now stays: to look through it for rubbish again and again would only hold up users' streams.
    gc.collect()
    gc.freeze()
    try:
        await asyncio.wait({waiting, *work}, return_when=asyncio.FIRST_COMPLETED)
        for task in work:
            if task.done():
                task.result()
    finally:
        waiting.cancel()
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await _end(gateway, supervisor, splitter, service, at_once)
        on_event(HealthEvent(at=datetime.now(UTC), kind=EventKind.STOPPED, said=f"serving {service.target} ended"))


async def _end(
    gateway: Gateway, supervisor: Supervisor, splitter: Splitter, service: Service, at_once: asyncio.Event
) -> None:
    gateway.stop_listening()

    async def stop_both() -> None:
        await asyncio.gather(supervisor.stop(service.grace_s), splitter.stop(service.grace_s))

    stopping = asyncio.get_running_loop().create_task(stop_both())
    hurried = asyncio.get_running_loop().create_task(at_once.wait())
    await asyncio.wait({stopping, hurried}, return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        # The wardens end the servers when this process is gone.
        stopping.cancel()
    hurried.cancel()
    await asyncio.gather(stopping, hurried, return_exceptions=True)
    await gateway.farewell(0.0 if at_once.is_set() else _FAREWELL_S)


def in_thread(go_back: Callable[[str], str] | None) -> Callable[[str], Awaitable[str]] | None:
    """The same as something to await, done in a thread of its own: going back takes as long as it takes."""
    if go_back is None:
        return None
    return lambda reason: asyncio.to_thread(go_back, reason)


def health_page(supervisor: Supervisor, watch: Watch) -> dict[str, Any]:
    """What `/health` says: llama.cpp's own answer, which release it is, and what is wrong."""
    server = supervisor.serving
    return {
        "status": "ok" if server is not None else "unavailable",
        "release": server.release.digest if server else None,
        "model_version": server.release.model_version if server else None,
        "since": supervisor.since.isoformat(timespec="seconds") if server and supervisor.since else None,
        "problem": supervisor.problem,
        "alarms": list(watch.alarms),
        "signs": watch.signs.figures(),
    }


def _gauges(supervisor: Supervisor) -> Mapping[str, tuple[str, float]]:
    server = supervisor.serving
    return {
        "milton_serving": ("Whether a model server answers.", float(server is not None)),
        "milton_requests_in_flight": ("Requests that it works on.", float(server.in_flight if server else 0)),
        "milton_requests_held": ("Requests that wait for a model server.", float(supervisor.held)),
        "milton_model_server_restarts": ("How often a model server died and was replaced.", float(supervisor.restarts)),
    }
