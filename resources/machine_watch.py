"""Watching the machine while its speed is measured: whether somebody else wanted what was measured.

    with MachineWatch(served).watching() as seen: …
    seen.complaint()                                  # None, or why the figures are not the server's

What belongs here: reading /proc, /sys and NVML at intervals, and judging what they said. What does not: what becomes of
figures taken meanwhile (`milton_assets.usecases.measuring`), and the client's own load (`tiers.inference.watch`).

An interval is disturbed when
- others (neither this process and what it started, nor the server) took more than a tenth of the cores while hardly any
  was left idle, or the hypervisor took more than a twentieth;
- some task waited for memory more than a tenth of the time, or pages came back from swap;
- a core was throttled for its temperature, or a board's cores were slowed for temperature or power supply when it was
  looked; a GPU was slowed for either, or computed for others.

Cores that this server and its client keep busy between them disturb nobody: pressure is recorded, and does not judge.
Nor do clocks, which governors lower without a fault. Sources: the kernel's `proc.rst` and `psi.rst`, those of
`vocabulary.throttling`, NVML's process utilisation and clock event reasons.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pynvml

from milton_assets.edge.gpu_signs import slowed_because
from milton_assets.vocabulary.local_address import is_here
from milton_assets.vocabulary.machine import Seen
from milton_assets.vocabulary.nvml import devices, opened
from milton_assets.vocabulary.processor_times import ProcessorTimes, others_share
from milton_assets.vocabulary.server import RunningServer
from milton_assets.vocabulary.throttling import HEAT, clock_share, slowed_now, throttle_count

INTERVAL_S = 2.0
OTHERS_SHARE = 0.10
IDLE_SHARE = 0.15
STEAL_SHARE = 0.05
MEMORY_STALL_SHARE = 0.10
SWAPPED_IN_PAGES_PER_S = 100.0
OTHERS_GPU_SHARE = 0.05

_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_IDLE, _STEAL = (_FIELDS.index("idle"), _FIELDS.index("iowait")), _FIELDS.index("steal")
_UTIME, _STIME, _CUTIME, _CSTIME, _PPID = 11, 12, 13, 14, 1


@dataclass(frozen=True)
class GpuState:
    """Of all GPUs together: the share that others' processes computed for, and why clocks were lowered, if for a
    fault."""

    others_share: float = 0.0
    slowed_because: str | None = None


def no_gpus(_: Collection[int]) -> GpuState:
    """Where there are none to watch."""
    return GpuState()


@dataclass(frozen=True)
class _Taking:
    """The machine's counters at one moment; None for what it does not tell."""

    at_s: float
    times: ProcessorTimes | None
    steal_s: float
    stalled_us: Mapping[str, int]
    swapped_in: int | None
    throttled: int
    slowed_because: str | None
    clock_share: float | None
    runnable: int | None
    gpu: GpuState


@dataclass(frozen=True)
class MachineWatch:
    """Watches this machine for what neither this process nor `servers` (process ids) cause.

    `proc` and `sys` are the roots of those file systems. `told_apart` is whether all of the server's processes are
    known; where not, nobody can say whose use of cores and GPUs is whose, and it is recorded only.
    `gpus` is given `servers`.
    """

    servers: tuple[int, ...] = ()
    told_apart: bool = True
    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    gpus: Callable[[Collection[int]], GpuState] = no_gpus
    interval_s: float = INTERVAL_S
    now: Callable[[], float] = time.monotonic

    @contextmanager
    def watching(self) -> Iterator[Seen]:
        """Watch for the length of the block, in a thread of its own; what was seen is complete when it ends."""
        seen, ended = Seen(), threading.Event()
        if not self.told_apart:
            seen.whose = "not known: the server's processes cannot be told from others'"
        takings = [self._take()]

        def work() -> None:
            while not ended.wait(self.interval_s):
                takings.append(self._take())
                self._add(seen, *takings[-2:])

        thread = threading.Thread(target=work, name="machine-watch", daemon=True)
        thread.start()
        try:
            yield seen
        finally:
            ended.set()
            thread.join()
            self._add(seen, takings[-1], self._take())

    def _take(self) -> _Taking:
        cpu = self._cpu_seconds()
        times = None
        if cpu is not None:
            total = sum(cpu)
            times = ProcessorTimes(total, total - sum(cpu[i] for i in _IDLE), self._ours_s())
        return _Taking(
            at_s=self.now(),
            times=times,
            steal_s=cpu[_STEAL] if cpu is not None else 0.0,
            stalled_us={name: us for name in ("cpu", "memory", "io") if (us := self._stalled_us(name)) is not None},
            swapped_in=self._swapped_in(),
            throttled=throttle_count(self.sys) or 0,
            slowed_because=slowed_now(self.sys),
            clock_share=clock_share(self.sys),
            runnable=self._runnable(),
            gpu=self.gpus(self.servers),
        )

    def _add(self, seen: Seen, before: _Taking, after: _Taking) -> None:
        seconds = after.at_s - before.at_s
        if seconds <= 0:
            return
        causes = list(self._causes(seen, before, after, seconds))
        seen.watched_s += seconds
        if causes:
            seen.disturbed_s += seconds
            for cause in causes:
                seen.reasons[cause] = seen.reasons.get(cause, 0.0) + seconds

    def _causes(self, seen: Seen, before: _Taking, after: _Taking, seconds: float) -> Iterator[str]:
        def over_time(mean: float, share: float) -> float:
            return (mean * seen.watched_s + share * seconds) / (seen.watched_s + seconds)

        if before.times is not None and after.times is not None:
            total = after.times.total_s - before.times.total_s
            others = others_share(before.times, after.times) or 0.0
            busy = (after.times.busy_s - before.times.busy_s) / total if total > 0 else 0.0
            steal = (after.steal_s - before.steal_s) / total if total > 0 else 0.0
            # What the hypervisor took is no work of another process here.
            others = max(0.0, others - steal)
            seen.others_share, seen.busy_share = over_time(seen.others_share, others), over_time(seen.busy_share, busy)
            seen.others_share_max = max(seen.others_share_max, others)
            seen.steal_share_max = max(seen.steal_share_max, steal)
            if self.told_apart and others > OTHERS_SHARE and busy > 1 - IDLE_SHARE:
                yield "other processes wanted the cores"
            if steal > STEAL_SHARE:
                yield "the hypervisor gave the cores to others"
        for name, stalled in after.stalled_us.items():
            share = max(0, stalled - before.stalled_us.get(name, stalled)) / 1e6 / seconds
            seen.stalled_shares[name] = over_time(seen.stalled_shares.get(name, 0.0), share)
            if name == "memory" and share > MEMORY_STALL_SHARE:
                yield "memory was short"
        if before.swapped_in is not None and after.swapped_in is not None:
            pages = max(0, after.swapped_in - before.swapped_in)
            seen.swapped_in_pages += pages
            if pages / seconds > SWAPPED_IN_PAGES_PER_S:
                yield "pages came back from swap"
        seen.throttled += (throttled := max(0, after.throttled - before.throttled))
        if throttled:
            yield HEAT
        elif after.slowed_because is not None:
            yield after.slowed_because
        if after.clock_share is not None:
            seen.clock_share_min = min(seen.clock_share_min or after.clock_share, after.clock_share)
        if after.runnable is not None:
            seen.runnable_max = max(seen.runnable_max or 0, after.runnable)
        seen.others_gpu_share_max = max(seen.others_gpu_share_max, after.gpu.others_share)
        if self.told_apart and after.gpu.others_share > OTHERS_GPU_SHARE:
            yield "a GPU computed for others"
        if after.gpu.slowed_because is not None:
            yield after.gpu.slowed_because

    def _cpu_seconds(self) -> list[float] | None:
        """Seconds of all cores by kind; guests' time stands in user's already."""
        for line in self._lines("stat"):
            if line.startswith("cpu "):
                ticks = [int(part) for part in line.split()[1 : 1 + len(_FIELDS)]]
                return [tick / _ticks_per_s() for tick in ticks] + [0.0] * (len(_FIELDS) - len(ticks))
        return None

    def _runnable(self) -> int | None:
        return next((int(line.split()[1]) for line in self._lines("stat") if line.startswith("procs_running ")), None)

    def _ours_s(self) -> float:
        """Seconds of this process, the servers, and all below them; of those that ended, as their parents were told."""
        stats: dict[int, list[str]] = {}
        with suppress(OSError):
            for entry in os.scandir(self.proc):
                if entry.name.isdigit() and (parts := self._stat(entry.name)):
                    stats[int(entry.name)] = parts
        below: dict[int, list[int]] = {}
        for pid, parts in stats.items():
            below.setdefault(int(parts[_PPID]), []).append(pid)
        found, left = set(), [os.getpid(), *self.servers]
        while left:
            if (pid := left.pop()) in stats and pid not in found:
                found.add(pid)
                left += below.get(pid, [])
        ticks = sum(int(stats[pid][part]) for pid in found for part in (_UTIME, _STIME, _CUTIME, _CSTIME))
        return ticks / _ticks_per_s()

    def _stat(self, pid: str) -> list[str]:
        """The fields of a process from its state on; its name may hold anything, so they count from its last
        bracket."""
        try:
            return (self.proc / pid / "stat").read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            return []

    def _stalled_us(self, what: str) -> int | None:
        for line in self._lines(f"pressure/{what}"):
            if line.startswith("some "):
                return int(line.rpartition("total=")[2])
        return None

    def _swapped_in(self) -> int | None:
        return next((int(line.split()[1]) for line in self._lines("vmstat") if line.startswith("pswpin ")), None)

    def _lines(self, name: str) -> Sequence[str]:
        try:
            return (self.proc / name).read_text().splitlines()
        except OSError:
            return ()


def _ticks_per_s() -> float:
    return float(os.sysconf("SC_CLK_TCK"))


def watch_of(served: RunningServer) -> MachineWatch | None:
    """A watch for that server; None where it runs on another machine, which cannot be watched from here."""
    if not is_here(served.endpoint.base_url):
        return None
    if served.fingerprint.launched_by_us:
        return MachineWatch(gpus=nvidia_gpus)
    servers = _listening_at(urlsplit(served.endpoint.base_url).port)
    return MachineWatch(servers=servers, told_apart=bool(servers), gpus=nvidia_gpus)


def _listening_at(port: int | None) -> tuple[int, ...]:
    """The processes that listen at that port, as far as this user may know them."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.Error:
        return ()
    return tuple(
        sorted(
            {
                c.pid
                for c in connections
                if c.status == psutil.CONN_LISTEN and c.pid and c.laddr and c.laddr.port == port
            }
        )
    )


def nvidia_gpus(servers: Collection[int] = ()) -> GpuState:
    """The GPUs that NVML knows, used by others than this process, `servers` (process ids) and what they started.

    Where it knows none, or does not tell, nothing is said of them.
    """
    try:
        with opened():
            handles = devices()
            ours = _with_children((os.getpid(), *servers))
            return GpuState(
                others_share=max((_others_on(handle, ours) for handle in handles), default=0.0),
                slowed_because=next((why for handle in handles if (why := _slowed(handle))), None),
            )
    except pynvml.NVMLError:
        return GpuState()


def _with_children(pids: Iterable[int]) -> set[int]:
    found = set(pids)
    for pid in tuple(found):
        with suppress(psutil.Error):
            found |= {process.pid for process in psutil.Process(pid).children(recursive=True)}
    return found


def _others_on(handle: object, ours: set[int]) -> float:
    """The share of the GPU's time that processes of others used in the last second."""
    since_us = int((time.time() - 1) * 1e6)
    try:
        samples = pynvml.nvmlDeviceGetProcessUtilization(handle, since_us)
    except pynvml.NVMLError:  # not supported, or nobody computed
        return 0.0
    return math.fsum(sample.smUtil for sample in samples if sample.pid not in ours) / 100


def _slowed(handle: object) -> str | None:
    try:
        return slowed_because(handle)
    except pynvml.NVMLError:
        return None
