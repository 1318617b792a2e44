"""A target on disk, scripted model servers behind a gateway, and the gateway itself, all of them real sockets and
files.

What belongs here: putting them together and taking them apart. What does not: assertions.

    place = Place(tmp_path)
    place.deploy("v1")
    with served(place, Scripts(v1=answer("one"))) as gateway:
        httpx.post(gateway.chat, json=…)
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from milton_assets.edge.deployment import EdgeTarget, deploy
from milton_assets.edge.deployment.capacity import Memory
from milton_assets.edge.manifest import HealthContract, Probe
from milton_assets.edge.serving.gateway import Gateway
from milton_assets.edge.serving.health_journal import EventKind, HealthEvent
from milton_assets.edge.serving.http1 import Limits
from milton_assets.edge.serving.lending import Lender
from milton_assets.edge.serving.metrics import Metrics, Told
from milton_assets.edge.serving.service import in_thread
from milton_assets.edge.serving.shadowing import Shadow
from milton_assets.edge.serving.signs import Signs
from milton_assets.edge.serving.splitting import Splitter
from milton_assets.edge.serving.supervisor import Mode, Supervisor
from milton_assets.edge.serving.watch import Schedule, Watch
from milton_assets.tiers.reasoning.marking import marks_of
from milton_assets.vocabulary.errors import ServerFailed
from milton_assets.vocabulary.fingerprint import ServerFingerprint
from milton_assets.vocabulary.processor_times import ProcessorTimes
from milton_assets.vocabulary.server import Endpoint, RunningServer, ServingSettings
from tests.support.crashing import clock
from tests.support.edge_bundles import make_bundle, read_manifest
from tests.support.scripted_server import Handler, Reply, ScriptedServer, answer, scripted_server

T = TypeVar("T")
CONTRACT = HealthContract(probes=(Probe(prompt="Say hello.", max_tokens=8),))


class Place:
    """A target in a folder, to which small releases are deployed by the engine."""

    def __init__(self, root: Path) -> None:
        self.target = EdgeTarget("edge", root / "target", root / "history" / "edge.jsonl")
        self._bundles = root / "bundles"
        self._counter = 0

    @property
    def path(self) -> Path:
        """The target's folder."""
        return self.target.path

    def deploy(self, version: str, health: HealthContract = CONTRACT, *, ram_bytes: int = 0) -> str:
        """Deploy a release of that version, which was never deployed here before, unprobed; its digest."""
        bundle = self.bundle(version, health, ram_bytes=ram_bytes)
        done = deploy(bundle, self.target, load_test=None, actor="ada", now=clock)
        assert done.release is not None
        return done.release

    def bundle(self, version: str, health: HealthContract = CONTRACT, *, ram_bytes: int = 0) -> Path:
        """A bundle of that version, which was never deployed here before."""
        self._counter += 1
        folder = self._bundles / str(self._counter)
        return make_bundle(folder, version, counter=self._counter, health=health, ram_bytes=ram_bytes)


@dataclass
class Scripts:
    """An `EdgeLauncher` of scripted servers: by model version, what each answers; how long it loads, and whether it
    can.

    `running` are the servers that run now, by version; `most` is how many ever ran at once, `started` every version in
    order.
    """

    scripts: dict[str, Any] = field(default_factory=dict)
    load_s: float = 0.0
    broken: set[str] = field(default_factory=set)
    running: dict[str, list[ScriptedServer]] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    settings: list[ServingSettings] = field(default_factory=list)
    most: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _dying: dict[str, ExitStack] = field(default_factory=dict)

    def configured(self, settings: ServingSettings) -> Scripts:
        """See `EdgeLauncher`."""
        self.settings.append(settings)
        return self

    @contextmanager
    def serve(self, artefact: Path, model: str) -> Iterator[RunningServer]:
        """See `Launcher`."""
        version = _version(artefact)
        with self._lock:
            self.started.append(version)
        time.sleep(self.load_s)
        if version in self.broken:
            raise ServerFailed(f"{version} cannot be loaded", remedy="deploy another")
        with ExitStack() as life:
            server = life.enter_context(scripted_server(_probed(version, self.scripts.get(version)), models=[model]))
            with self._lock:
                self._dying[version] = life
                self.running.setdefault(version, []).append(server)
                self.most = max(self.most, sum(map(len, self.running.values())))
            try:
                yield RunningServer(Endpoint(server.base_url, model), ServerFingerprint(name="scripted"))
            finally:
                with self._lock:
                    self.running[version].remove(server)

    def die(self, version: str) -> None:
        """Let the server of that version be gone, as one that was killed: it listens no more, its connections break."""
        self._dying[version].close()

    def server(self, version: str) -> ScriptedServer:
        """The server of that version that runs now."""
        return self.running[version][-1]


def _probed(version: str, script: Reply | str | Sequence[Reply | str] | Handler | None) -> Handler:
    """What a server of that version answers: its own name when it is probed, else what the script says."""
    in_order = iter(script) if isinstance(script, list) else None

    def reply(body: dict[str, Any]) -> Reply | str:
        if script is None or body["messages"] == [{"role": "user", "content": CONTRACT.probes[0].prompt}]:
            return answer(version)
        if in_order is not None:
            return next(in_order)
        return script(body) if callable(script) else script

    return reply


def _version(artefact: Path) -> str:
    return str(read_manifest(artefact.parents[1]).model_version)


@dataclass
class ServedTarget:
    """A gateway that runs in a thread of its own."""

    base_url: str
    supervisor: Supervisor
    gateway: Gateway
    metrics: Metrics
    loop: asyncio.AbstractEventLoop
    events: list[HealthEvent]
    told: list[Told]
    watch: Watch
    splitter: Splitter

    @property
    def chat(self) -> str:
        """Where chat completions are asked for."""
        return f"{self.base_url}/v1/chat/completions"

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self.base_url.rpartition(":")[2])

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` gives, in the gateway's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def kinds(self) -> list[EventKind]:
        """The kinds of the events so far."""
        return [event.kind for event in self.events]

    def serves(self, release: str, within_s: float = 20.0) -> None:
        """Wait until that release gets the requests."""
        wait_for(
            lambda: self.supervisor.serving is not None and self.supervisor.serving.release.digest == release, within_s
        )


def wait_for(what: Callable[[], Any], within_s: float = 20.0) -> None:
    """Wait until it is so; fails when it never is."""
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, "it never came to be so"
        time.sleep(0.01)


@contextmanager
def served(
    place: Place,
    launcher: Any,
    *,
    mode: Mode = Mode.TWO,
    limits: Limits | None = None,
    memory: Callable[[], Memory] | None = None,
    schedule: Schedule | None = None,
    signs: Callable[[], Signs] = Signs,
    go_back: Callable[[str], Any] | None = None,
    standing: Callable[[], tuple[str, ...]] = tuple,
    shadow_idle_s: float = 60.0,
    settle_s: float = 5.0,
    **options: Any,
) -> Iterator[ServedTarget]:
    """A gateway in front of what is current at `place`, on a free port of 127.0.0.1, until the block ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="gateway", daemon=True)
    thread.start()
    events: list[HealthEvent] = []
    told: list[Told] = []
    limits = limits or Limits()
    if memory is not None:
        options["memory"] = memory

    async def begin() -> tuple[
        Supervisor, Splitter, Gateway, Metrics, Watch, tuple[str, int], list[asyncio.Task[None]]
    ]:
        supervisor = Supervisor(
            place.path, launcher, mode=mode, limits=limits, on_event=events.append, poll_s=0.02, **options
        )
        metrics = Metrics()
        splitter = Splitter(supervisor, marks_of, on_event=events.append, poll_s=0.02)
        shadow = Shadow(
            supervisor, marks_of, lambda: gateway.is_idle(shadow_idle_s), on_event=events.append, poll_s=0.02, batch=10
        )
        gateway = Gateway(supervisor, metrics, splitter=splitter, shadow=shadow, limits=limits, on_told=told.append)
        where = await gateway.listen("127.0.0.1", 0)
        watch = Watch(
            supervisor,
            gateway,
            reads=signs,
            on_event=events.append,
            schedule=schedule,
            go_back=in_thread(go_back),
            times=lambda: ProcessorTimes(0.0, 0.0, 0.0),
            standing=standing,
        )
        lender = Lender(supervisor, poll_s=0.02, settle_s=settle_s)
        work = [supervisor.run(), splitter.run(), shadow.run(), lender.run(), *([watch.run()] if schedule else [])]
        loop = asyncio.get_running_loop()
        return supervisor, splitter, gateway, metrics, watch, where, [loop.create_task(task) for task in work]

    begun = asyncio.run_coroutine_threadsafe(begin(), loop).result(30)
    supervisor, splitter, gateway, metrics, watch, (host, port), running = begun

    async def end() -> None:
        gateway.stop_listening()
        for task in running:
            task.cancel()
        ended = await asyncio.gather(*running, return_exceptions=True)
        assert all(isinstance(error, asyncio.CancelledError) for error in ended), ended
        await supervisor.stop(0.5)
        await splitter.stop(0.5)
        await gateway.farewell(0.2)

    try:
        yield ServedTarget(f"http://{host}:{port}", supervisor, gateway, metrics, loop, events, told, watch, splitter)
    finally:
        try:
            asyncio.run_coroutine_threadsafe(end(), loop).result(60)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()
