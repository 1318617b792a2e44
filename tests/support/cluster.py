"""Several hosts on one machine: Postgres, Redis and an S3 server, a daemon, and workers with own state folders.

What belongs here: starting and ending these, from the packages that `.ci/run` installs. What does not: assertions. A
host ("box") is a state folder, a DAGSTER_HOME with `deploy/dagster.yaml`, and the settings that docs/scale.md gives it;
boxes share the three services and nothing else. A worker's host is in a network namespace of its own, whose one cable
leads to the services, and other hosts' folders are empty there; where nobody may make namespaces, all is on loopback.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moto.server import ThreadedMotoServer

from milton_assets.vocabulary.state import StateDir
from tests.support.namespaces import Machine, NoNamespaces, held
from tests.support.object_store import forget_object_stores
from tests.support.own_sshd import free_port

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
POSTGRES = next((path for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), Path("/usr/bin"))
BUCKET = "milton"
REGISTRY_URL = f"s3://{BUCKET}/models/registry.json"
EVIDENCE_URL = f"s3://{BUCKET}/evidence"


@dataclass
class Service:
    """A process that listens on `port` and can be stopped and started again, on the same data."""

    start: Callable[[], subprocess.Popen[bytes]]
    port: int
    process: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        """Start it, and wait until it listens."""
        self.process = self.start()
        wait_until(lambda: listens(self.port), 60, f"a service on port {self.port}")

    def down(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it and everything that it started."""
        if self.process is not None:
            end(self.process, how)
            self.process = None


class Objects:
    """An S3 server, moto's, in this process: it holds what it was given while nobody can reach it."""

    def __init__(self, address: str) -> None:
        self.address, self.port = address, free_port()
        self._server: ThreadedMotoServer | None = None

    def up(self) -> None:
        """Listen."""
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(ip_address=self.address, port=self.port, verbose=False)
        self._server.start()
        wait_until(lambda: listens(self.port, self.address), 60, "the S3 server")

    def down(self) -> None:
        """Refuse connections."""
        if self._server is not None:
            self._server.stop()
            self._server = None


@dataclass(frozen=True)
class Hosts:
    """Where hosts are: namespaces and the near ends of their cables, for those that have some, by name, and the address
    at which all find services."""

    address: str = "127.0.0.1"
    machines: Mapping[str, Machine] = field(default_factory=dict)
    cables: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def hosts_apart(*names: str) -> Iterator[Hosts]:
    """Namespaces for these hosts, each with a cable to this machine; none where none can be made."""
    with ExitStack() as stack:
        try:
            machines = {name: Machine(stack.enter_context(held())) for name in names}
        except NoNamespaces as why:
            print(f"all hosts are on loopback: {why}")
            yield Hosts()
            return
        here, net = "10.213.9.1", "10.213.9"
        cables = {name: f"box{machine.pid}" for name, machine in machines.items()}
        for number, (name, machine) in enumerate(machines.items(), 2):
            cable = cables[name]
            ours = ["ip", "link", "add", cable, "type", "veth", "peer", "name", "near", "netns", str(machine.pid)]
            address = ["ip", "address", "add", here, "peer", f"{net}.{number}", "dev", cable]
            for command in (ours, address, ["ip", "link", "set", cable, "up"]):
                subprocess.run(command, check=True, capture_output=True)
            machine.run(["ip", "address", "add", f"{net}.{number}", "peer", here, "dev", "near"])
            machine.run(["ip", "link", "set", "near", "up"])
        yield Hosts(here, machines, cables)


@dataclass
class Box:
    """One host; `machine` are its namespaces, where it has some."""

    name: str
    state: StateDir
    environment: dict[str, str]
    machine: Machine | None = None
    cable: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def log(self) -> Path:
        """What its processes said."""
        return self.state.root / "box.log"

    def start(self, *command: str | Path) -> subprocess.Popen[bytes]:
        """Start a process of this host, in a group of its own."""
        with self.log.open("ab") as out:
            process = subprocess.Popen(
                self._there(command),
                env=self.environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
                cwd=self.state.root,
            )
        self.processes.append(process)
        return process

    def worker(self, queue: str | None = None) -> subprocess.Popen[bytes]:
        """Start a Celery worker on that queue, or the one of this host's name, as docs/scale.md has it."""
        return self.start(
            *(BIN / "celery", "-A", "resources.celery_worker", "worker", "-Q", queue or self.name),
            *("-n", f"{self.name}@%h"),
            *("-c", "1", "--disable-prefetch", "--without-mingle"),
        )

    def daemon(self) -> subprocess.Popen[bytes]:
        """Start Dagster's daemon over the workplace's graph."""
        return self.start(BIN / "dagster-daemon", "run", "-m", "tests.support.served_module", "-d", str(ROOT))

    def go_for_ever(self) -> None:
        """Cut its cable, if it has one: it works on and is not heard, and nobody is told. Else kill its processes."""
        if self.cable:
            subprocess.run(["ip", "link", "set", self.cable, "down"], check=True, capture_output=True)
        else:
            for process in self.processes:
                end(process, signal.SIGKILL)

    def milton(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run `milton` on this host, with further variables."""
        return subprocess.run(
            self._there([BIN / "milton", *words]),
            env=self.environment | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            cwd=self.state.root,
        )

    def _there(self, command: Sequence[str | Path]) -> list[str]:
        words = [str(word) for word in command]
        return words if self.machine is None else self.machine.inside(["env", "-C", str(self.state.root), *words])


@dataclass
class Cluster:
    """The services, and the boxes by name."""

    root: Path
    postgres: Service
    redis: Service
    objects: Objects
    boxes: dict[str, Box]

    def put(self, key: str, content: bytes) -> None:
        """Put an object into the bucket, as a trainer would."""
        self.file_system().pipe_file(f"{BUCKET}/{key}", content)

    def file_system(self) -> Any:
        """The S3 server as the tests see it."""
        import s3fs

        at = f"http://{self.objects.address}:{self.objects.port}"
        return s3fs.S3FileSystem(key="test", secret="test", endpoint_url=at, use_listings_cache=False)

    def logs(self) -> str:
        """The end of what every box said."""
        told = [f"== {box.name}\n{box.log.read_text()[-4000:]}" for box in self.boxes.values() if box.log.exists()]
        return "\n".join(told)


@contextmanager
def cluster(
    root: Path, hosts: Hosts, names: tuple[str, ...], variables: Mapping[str, str], settings: Any
) -> Iterator[Cluster]:
    """The services, and a box for each name with `settings` as its milton.yaml; everything ends with the block."""
    with ExitStack() as stack:
        data = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="milton-cluster-", ignore_cleanup_errors=True))
        )
        services = (postgres(data, hosts.address), redis(data, hosts.address), Objects(hosts.address))
        made = Cluster(root, *services, boxes={})
        stack.callback(forget_object_stores)
        for service in services:
            stack.callback(service.down)
            service.up()
        made.file_system().mkdir(BUCKET)
        create_database(made.postgres.port)
        for name in names:
            made.boxes[name] = _box(made, name, hosts, variables, settings)
        for name, machine in hosts.machines.items():
            machine.hide([box.state.root for box in made.boxes.values() if box.name != name])
        stack.callback(lambda: end_all([process for box in made.boxes.values() for process in box.processes]))
        yield made


def _box(made: Cluster, name: str, hosts: Hosts, variables: Mapping[str, str], settings: Any) -> Box:
    state = StateDir(made.root / name)
    state.dagster.mkdir(parents=True)
    (state.dagster / "dagster.yaml").symlink_to(ROOT / "deploy" / "dagster.yaml")
    (state.root / "milton.yaml").write_text(json.dumps(settings))
    environment = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(state.root / "home"),
        "PYTHONPATH": str(ROOT),
        "DAGSTER_HOME": str(state.dagster),
        "MILTON_STATE_DIR": str(state.root),
        "MILTON_EVIDENCE_URL": EVIDENCE_URL,
        "MILTON_REGISTRY": REGISTRY_URL,
        "MILTON_ACCELERATOR_POOL": f"accelerator-{name}",
        "PGUSER": "milton",
        "PGPASSWORD": "milton",
        "PGHOST": hosts.address,
        "PGPORT": str(made.postgres.port),
        "PGDATABASE": "milton",
        "MILTON_BROKER_URL": f"redis://{hosts.address}:{made.redis.port}/0",
        "AWS_ENDPOINT_URL": f"http://{hosts.address}:{made.objects.port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        **variables,
        **{key: value for key, value in os.environ.items() if key.startswith("COV")},
    }
    return Box(name, state, environment, hosts.machines.get(name), hosts.cables.get(name, ""))


def postgres(data: Path, address: str = "127.0.0.1") -> Service:
    """A Postgres that keeps what it is told, at that address too; it refuses to be run by root."""
    port, folder = free_port(), data / "postgres"
    owner = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
    folder.mkdir()
    if owner:
        data.chmod(0o711)
        shutil.chown(folder, **owner)
    subprocess.run(
        [POSTGRES / "initdb", "-D", folder / "data", "-U", "milton", "-A", "trust", "--no-sync"],
        check=True,
        capture_output=True,
        cwd=folder,
        **owner,
    )
    with (folder / "data" / "pg_hba.conf").open("a") as allowed:
        allowed.write(f"host all all {address}/24 trust\n")
    at = ",".join(dict.fromkeys(("127.0.0.1", address)))
    command = [POSTGRES / "postgres", "-D", folder / "data", "-p", str(port), "-k", str(folder), "-h", at]
    return Service(lambda: _quiet(command, data / "postgres.log", cwd=folder, **owner), port)


def create_database(port: int) -> None:
    """Make the database that the hosts share, once the server takes connections."""
    command = [POSTGRES / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "milton", "milton"]
    wait_until(lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0, 30, "Postgres")


def redis(data: Path, address: str = "127.0.0.1") -> Service:
    """A Redis that keeps nothing once it ends, at that address too."""
    port, folder = free_port(), data / "redis"
    folder.mkdir()
    command = ["redis-server", "--port", str(port), "--bind", *dict.fromkeys(("127.0.0.1", address))]
    command += ["--protected-mode", "no", "--dir", str(folder), "--save", ""]
    return Service(lambda: _quiet(command, data / "redis.log"), port)


def _quiet(command: list[Any], log: Path, **how: Any) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True, **how)


def listens(port: int, address: str = "127.0.0.1") -> bool:
    """Whether something on this machine takes connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def wait_until(holds: Callable[[], object], within_s: float, what: str, *, poll_s: float = 0.25) -> None:
    """Wait until it holds. Raises `AssertionError` naming `what` when it does not in that time."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {within_s:g} s"
        time.sleep(poll_s)


def end_all(processes: list[subprocess.Popen[bytes]]) -> None:
    """End them all at once, as `end` does."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    for process in processes:
        end(process)


def end(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> None:
    """End a process and its group; by force where it does not end by itself."""
    for way in (how, signal.SIGKILL):
        if process.poll() is None or way is signal.SIGKILL:
            try:
                os.killpg(process.pid, way)
            except ProcessLookupError:
                return
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            continue
