"""Killing a real deployer process at the n-th thing it does to the disk.

What belongs here: a disk that can be stopped at a step, and running a verb on it in a process of its own. What does
not: what must hold afterwards; that is in `tests/edge_deploy`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from milton_assets.edge.deployment import (
    EdgeTarget,
    FileOps,
    HealthWindow,
    collect_garbage,
    deploy,
    recover_target,
    rollback,
)
from milton_assets.edge.deployment.states import ProbeReport
from milton_assets.edge.manifest import HealthContract

STEPS = (
    "create",
    "open_append",
    "write",
    "overwrite",
    "truncate",
    "allocate",
    "fsync",
    "mkdir",
    "rename",
    "exchange",
    "symlink",
    "unlink",
    "rmdir",
)
"""Every method of `FileOps` that changes the disk or makes a change durable."""

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["tests.support.crashing"])


class When(StrEnum):
    """When at a step the process dies: before it, after it, or with half of its bytes written."""

    BEFORE = "before"
    HALFWAY = "halfway"
    AFTER = "after"


class WatchedOps(FileOps):
    """The real disk, with `before` and `after` told of each step: its name and its arguments."""

    def before(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Called before each step."""

    def after(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Called after each step that did not raise."""


def _watched(name: str) -> Callable[..., Any]:
    real = getattr(FileOps, name)

    def method(self: WatchedOps, *arguments: Any) -> Any:
        self.before(name, arguments)
        result = real(self, *arguments)
        self.after(name, arguments)
        return result

    return method


for _name in STEPS:
    setattr(WatchedOps, _name, _watched(_name))


class KillingOps(WatchedOps):
    """Kills its process, by SIGKILL, at step `at` (from 0)."""

    def __init__(self, at: int, when: When) -> None:
        self._left = at
        self._when = when

    def before(self, name: str, arguments: tuple[Any, ...]) -> None:
        if self._left == 0 and self._when is When.HALFWAY:
            do_half(name, arguments)
        if self._left == 0 and self._when is not When.AFTER:
            self.kill()

    def after(self, name: str, arguments: tuple[Any, ...]) -> None:
        if self._left == 0:
            self.kill()
        self._left -= 1

    def kill(self) -> None:
        """End this process at once."""
        os.kill(os.getpid(), signal.SIGKILL)


def do_half(name: str, arguments: tuple[Any, ...]) -> None:
    """Write half of what a step was to write; nothing for steps that write no bytes."""
    match name, arguments:
        case "write", (handle, data):
            os.write(handle, data[: len(data) // 2])
        case "overwrite", (handle, data):
            os.pwrite(handle, data[: len(data) // 2], 0)


class GuardKillingOps(KillingOps):
    """Kills the target's guard, and no other, at its step `at`; with `deployer_too`, first whoever started it."""

    def __init__(self, at: int, when: When, *, deployer_too: bool) -> None:
        super().__init__(at, when)
        self._deployer = os.getpid()
        self._deployer_too = deployer_too

    def before(self, name: str, arguments: tuple[Any, ...]) -> None:
        if os.getpid() != self._deployer:
            super().before(name, arguments)

    def after(self, name: str, arguments: tuple[Any, ...]) -> None:
        if os.getpid() != self._deployer:
            super().after(name, arguments)

    def kill(self) -> None:
        """End the guard, and the deployer if so wanted."""
        if self._deployer_too:
            os.kill(self._deployer, signal.SIGKILL)
        super().kill()


class InterruptingOps(FileOps):
    """Sends its own process the signal `number` once: before or after the fsync of the journal's record `word`."""

    def __init__(self, number: signal.Signals, word: str, when: When) -> None:
        self._number = number
        self._word = f'"kind":"{word}"'.encode()
        self._when = when
        self._sent = False

    def fsync(self, handle: int) -> None:
        """The real one, with the signal arriving meanwhile."""
        path = Path(f"/proc/self/fd/{handle}").resolve()
        is_now = path.name == "journal.jsonl" and self._word in path.read_bytes().splitlines()[-1]
        if is_now and self._when is When.BEFORE:
            self._send()
        super().fsync(handle)
        if is_now and self._when is When.AFTER:
            self._send()

    def _send(self) -> None:
        if not self._sent:
            self._sent = True
            signal.raise_signal(self._number)


class CountingOps(WatchedOps):
    """Counts steps, and remembers their names."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def before(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.steps.append(name)


def healthy(artefact: Path, model: str, contract: HealthContract) -> ProbeReport:
    """A load test that reads the whole model and is content with it."""
    size = sum(f.stat().st_size for f in artefact.rglob("*")) if artefact.is_dir() else len(artefact.read_bytes())
    return ProbeReport(load_s=0.0, output_tokens_per_s=1.0, answers=(str(size),), answer_sha256=("a" * 64,))


def ailing(artefact: Path, model: str, contract: HealthContract) -> ProbeReport:
    """A load test that nothing passes."""
    return healthy(artefact, model, contract).model_copy(update={"problems": ("it only says baa",)})


def clock() -> datetime:
    """The real time."""
    return datetime.now(UTC)


def do_deploy(bundle: Path, target: EdgeTarget, ops: FileOps) -> None:
    """Deploy with a load test and a health window."""
    window = HealthWindow(healthy, rounds=2, interval_s=0, detached=False)
    deploy(bundle, target, load_test=healthy, health=window, actor="crash test", now=clock, ops=ops)


def do_watched_deploy(bundle: Path, target: EdgeTarget, ops: FileOps) -> None:
    """Deploy with a health window in the target's guard, which is the usual way."""
    window = HealthWindow(healthy, rounds=1, interval_s=0)
    deploy(bundle, target, load_test=None, health=window, actor="crash test", now=clock, ops=ops)


def do_collect(bundle: Path, target: EdgeTarget, ops: FileOps) -> None:
    """Free what is not in service. The bundle plays no part."""
    collect_garbage(target, actor="crash test", now=clock, ops=ops)


def do_rollback(bundle: Path, target: EdgeTarget, ops: FileOps) -> None:
    """Roll back. The bundle plays no part."""
    rollback(target, load_test=healthy, actor="crash test", now=clock, ops=ops)


def do_recover(bundle: Path, target: EdgeTarget, ops: FileOps) -> None:
    """Recover. The bundle plays no part."""
    recover_target(target, actor="crash test", now=clock, ops=ops)


Verb = Callable[[Path, EdgeTarget, FileOps], None]


def killed_at(step: int, when: When, verb: Verb, bundle: Path, target: EdgeTarget) -> bool:
    """Run `verb` in a process that dies at `step`; false when it finished before it came that far."""
    return _is_killed(_run, step, when, verb, bundle, target)


def killed_with_guard_at(step: int, when: When, bundle: Path, target: EdgeTarget) -> bool:
    """Deploy in a process that dies together with the target's guard at the guard's `step`; false as in `killed_at`."""
    return _is_killed(_run_watched, step, when, bundle, target)


def _is_killed(run: Callable[..., None], *arguments: object) -> bool:
    process = _forks.Process(target=run, args=arguments)
    process.start()
    process.join()
    if process.exitcode not in {0, -signal.SIGKILL}:
        raise AssertionError(f"the deployer ended with {process.exitcode}")
    return process.exitcode != 0


def _run(step: int, when: When, verb: Verb, bundle: Path, target: EdgeTarget) -> None:
    verb(bundle, target, KillingOps(step, when))


def _run_watched(step: int, when: When, bundle: Path, target: EdgeTarget) -> None:
    do_watched_deploy(bundle, target, GuardKillingOps(step, when, deployer_too=True))


class FailingOps(WatchedOps):
    """Fails with the error `code` at step `at` (from 0) and, when it `stays` broken, at every later step too."""

    def __init__(self, at: int, code: int, *, stays: bool) -> None:
        self._left = at
        self._code = code
        self._stays = stays
        self.has_failed = False

    def before(self, name: str, arguments: tuple[Any, ...]) -> None:
        if self._left == 0 or (self._left < 0 and self._stays):
            self.has_failed = True
            self._left = -1
            do_half(name, arguments)
            raise OSError(self._code, os.strerror(self._code))
        if self._left > 0:
            self._left -= 1
