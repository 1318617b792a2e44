"""A server as a child process that never outlives us: start it, wait until it answers, stop it whatever happens.

What belongs here: the life of the process, its log, its port and its readiness. What does not: any particular server's
command line (`llama_cpp`, `vllm`), and ending the tree of processes, which is the `warden`'s.
"""

from __future__ import annotations

import logging
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import httpx
import psutil

from milton_assets.vocabulary.errors import BadInput, ServerFailed
from milton_assets.vocabulary.secrets import without_secrets
from resources.servers import warden

_log = logging.getLogger(__name__)

DEFAULT_GRACE_S = 10.0
LAST_LINES = 20
_KILL_MARGIN_S = 10.0
_LAST_MOMENTS_S = 3.0
_PROBE_TIMEOUT_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.5
_MAX_LINE_CHARACTERS = 500
_TAIL_BYTES = 1 << 18
_TAKEN = ("address already in use", "couldn't bind")
"""How servers say that somebody else has the port: Python's and libc's words, and llama.cpp's."""


class AddressTaken(ServerFailed):
    """The port that was free a moment ago is somebody else's now. Starting again on another one helps."""


@dataclass(frozen=True)
class Command:
    """What to run, in the folder `cwd` or our own. `env` is added to our own environment; `memory_limit_bytes` bounds
    what it may hold, mapped files not counted.

    Only a program that `is_ours` finds modules where we do: PYTHONPATH, which a device's agent and guard hand on, would
    give another Python libraries that were made for ours.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    memory_limit_bytes: int | None = None
    cwd: Path | None = None
    is_ours: bool = False

    def environment(self) -> dict[str, str]:
        """All of what it is going to have in its environment."""
        handed_on = {**os.environ}
        if not self.is_ours:
            handed_on.pop("PYTHONPATH", None)
        return {**handed_on, **self.env}

    def __str__(self) -> str:
        """The command line for people, without its secrets."""
        return shlex.join(without_secrets(self.argv))


class Child:
    """A running server process, seen from us."""

    def __init__(self, command: Command, guard: subprocess.Popen[bytes], log: IO[bytes], grace_s: float) -> None:
        self.command = command
        self._log = log
        self._guard = guard
        self._grace_s = grace_s

    @property
    def pid(self) -> int:
        """The process id of the warden, below which all of the server's processes are."""
        return self._guard.pid

    @property
    def exit_status(self) -> int | None:
        """Its exit status as a shell would give it (128 + N after signal N), or None while it runs."""
        return self._guard.poll()

    def ended(self) -> str | None:
        """How the server ended on its own, or None while it runs."""
        status = self.exit_status
        if status is None:
            return None
        if status == warden.TOO_MUCH_MEMORY and (limit_bytes := self.command.memory_limit_bytes) is not None:
            return f"was ended because it took more than the {limit_bytes / 1e9:.1f} GB of memory that it may hold"
        return f"was ended by signal {status - 128}" if status > 128 else f"ended with exit status {status}"

    def failed(self, what: str, remedy: str | None = None, kind: type[ServerFailed] = ServerFailed) -> ServerFailed:
        """An error that shows the command and the server's last lines."""
        said = "\n".join(f"    {line}" for line in self.last_lines()) or "    (it wrote nothing)"
        return kind(
            f"{self.command.name} {what}\n  command: {self.command}\n  its last lines:\n{said}\n",
            remedy=remedy,
        )

    def last_lines(self, count: int = LAST_LINES) -> list[str]:
        """The last lines that it wrote to standard output or standard error, each cut to a readable length."""
        return self.log_lines()[-count:]

    def log_lines(self) -> list[str]:
        """All of its lines, cut likewise; of a log longer than 256 KiB, those of its end."""
        size = os.fstat(self._log.fileno()).st_size
        # Read at a place of our own: the server writes at the end through the same open file.
        tail = os.pread(self._log.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        lines = tail.decode(errors="replace").splitlines()
        return [line.rstrip()[:_MAX_LINE_CHARACTERS] for line in lines]

    def listens_on(self, port: int) -> bool:
        """Whether a process of ours listens on that TCP port."""
        for process in self._processes():
            with suppress(psutil.Error):
                for found in process.net_connections(kind="tcp"):
                    if found.status == psutil.CONN_LISTEN and found.laddr.port == port:
                        return True
        return False

    def wait(self, timeout_s: float) -> None:
        """Wait until it has ended on its own, but no longer than that."""
        with suppress(subprocess.TimeoutExpired):
            self._guard.wait(timeout_s)

    def stop(self) -> None:
        """End the server and everything that it started; returns when all of it is gone."""
        # The signal is for the case that a fork of ours holds the other end of the warden's standard input.
        self._guard.terminate()
        if self._guard.stdin:
            self._guard.stdin.close()
        try:
            self._guard.wait(self._grace_s + _KILL_MARGIN_S)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()

    def _processes(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).children(recursive=True)
        return []


@contextmanager
def running(command: Command, *, log_dir: Path | None = None, grace_s: float = DEFAULT_GRACE_S) -> Iterator[Child]:
    """Run the command until the block ends: by its end, an exception, Ctrl-C, or our own death, be it by SIGKILL.

    What the server writes goes to a new file in `log_dir`, which stays; without a `log_dir`, to one without a name.
    """
    limit = str(command.memory_limit_bytes or 0)
    with _log_file(command.name, log_dir) as log:
        guard = subprocess.Popen(
            [sys.executable, "-I", "-S", warden.__file__, str(os.getpid()), str(grace_s), limit, *command.argv],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=command.environment(),
            cwd=command.cwd,
            start_new_session=True,
        )
        child = Child(command, guard, log, grace_s)
        try:
            yield child
        finally:
            child.stop()


def _log_file(name: str, log_dir: Path | None) -> IO[bytes]:
    if log_dir is None:
        # It has no name, so that not even a SIGKILL leaves it behind.
        return tempfile.TemporaryFile("ab+")
    log_dir.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return tempfile.NamedTemporaryFile("ab+", prefix=f"{name}-{stamp}-", suffix=".log", dir=log_dir, delete=False)


def wait_until_ready(child: Child, port: int, deadline_s: float) -> None:
    """Wait until the server answers `/health` (where it has one) and `/v1/models` at that port of 127.0.0.1.

    Raises `ServerFailed` with the server's last lines when it ends or the deadline passes, `AddressTaken` when another
    process answers in its place.
    """
    url = f"http://127.0.0.1:{port}"
    started = time.monotonic()
    pause = _FIRST_PAUSE_S
    with httpx.Client(timeout=_PROBE_TIMEOUT_S, verify=False, trust_env=False) as client:  # noqa: S501 - loopback
        while True:
            if how := child.ended():
                taken = any(words in line.lower() for line in child.last_lines(LAST_LINES * 5) for words in _TAKEN)
                raise child.failed(f"{how} before it was ready", kind=AddressTaken if taken else ServerFailed)
            if not (seen := _not_ready_because(client, url)):
                break
            waited = time.monotonic() - started
            if waited > deadline_s:
                raise child.failed(
                    f"was not ready after {deadline_s:g} s ({seen})",
                    remedy="read its last lines, or allow it more time with the start deadline",
                )
            time.sleep(min(pause, max(deadline_s - waited, 0.01)))
            pause = min(pause * 1.5, _LONGEST_PAUSE_S)
    if not child.listens_on(port):
        raise child.failed(f"does not listen at {url}: another process answers there", kind=AddressTaken)


def _not_ready_because(client: httpx.Client, url: str) -> str:
    """Empty when the server is ready."""
    try:
        health = client.get(f"{url}/health").status_code
        if health not in {httpx.codes.OK, httpx.codes.NOT_FOUND}:
            return f"/health answered {health}"
        models = client.get(f"{url}/v1/models").status_code
        return "" if models == httpx.codes.OK else f"/v1/models answered {models}"
    except httpx.TransportError as error:
        return f"{type(error).__name__} at {url}"


def _only(port: int, host: str = "127.0.0.1") -> int:
    """That port. Raises `BadInput` when it cannot be listened at."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise BadInput(
                f"nothing can listen at {host}:{port} ({error.strerror})",
                expected="a port that is free",
                remedy="choose another one, or stop the program that listens there",
            ) from error
    return port


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port nobody listens on at this moment. Another process may take it before the caller does."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True)
class Listening:
    """A server that is ready, and where."""

    child: Child
    port: int
    ready_after_s: float

    @property
    def base_url(self) -> str:
        """The server's root."""
        return f"http://127.0.0.1:{self.port}"

    def death(self) -> ServerFailed | None:
        """The error that says how the server ended while it was in use; None when it runs."""
        if not self.child.listens_on(self.port):
            # The socket goes before the warden can tell how the process ended.
            self.child.wait(_LAST_MOMENTS_S)
        how = self.child.ended()
        return self.child.failed(f"{how} while it was in use") if how else None


@contextmanager
def listening(
    command_for: Callable[[int], Command],
    *,
    start_deadline_s: float,
    log_dir: Path | None = None,
    grace_s: float = DEFAULT_GRACE_S,
    attempts: int = 3,
    port: int | None = None,
) -> Iterator[Listening]:
    """Run `command_for(port)` on a free port of 127.0.0.1 until the block ends; begin it when the server is ready.

    When another process snatched the port, start again on another one, at most `attempts` times. With `port`, it is
    that one or none: `BadInput` when another program listens there. Raises `ServerFailed`
    with the server's last lines when it does not become ready, or had ended on its own by the end of the block; an
    error of the block's own gets them as a note.
    """
    with ExitStack() as stack:
        ports = [free_port] * attempts if port is None else [lambda: _only(port)]
        server = _start(stack, command_for, start_deadline_s, log_dir, grace_s, ports)
        try:
            yield server
        except Exception as error:
            if death := server.death():
                error.add_note(str(death))
            raise
        if death := server.death():
            raise death


def _start(
    stack: ExitStack,
    command_for: Callable[[int], Command],
    start_deadline_s: float,
    log_dir: Path | None,
    grace_s: float,
    ports: Sequence[Callable[[], int]],
) -> Listening:
    for number, choose in enumerate(ports, start=1):
        port = choose()
        started = time.monotonic()
        command = command_for(port)
        _log.info("starting %s: %s", command.name, command)
        with ExitStack() as trial:
            child = trial.enter_context(running(command, log_dir=log_dir, grace_s=grace_s))
            try:
                wait_until_ready(child, port, start_deadline_s)
            except AddressTaken:
                if number == len(ports):
                    raise
                continue
            stack.push(trial.pop_all())
            server = Listening(child, port, time.monotonic() - started)
            _log.info("%s is ready at %s after %.1f s", child.command.name, server.base_url, server.ready_after_s)
            return server
    raise BadInput(f"{len(ports)} attempts to start a server", expected="at least 1")
