"""What a device shows of itself without being asked a question: memory, disk, heat, throttling, power, killed
processes.

What belongs here: reading them, cheaply and without privileges, and saying what cannot be read and why. What does not:
judging them (`watch`), and what the device *is* (`resources.inventory`).

Everything is a file of the kernel's; `root` is where they lie, `/` but for tests. Power is RAPL's (root may read it
alone, since CVE-2020-8694) or a hwmon sensor's, as boards have them. What a GPU shows is NVML's (`edge.gpu_signs`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from milton_assets.edge.gpu_signs import GpuSigns, gpu_signs
from milton_assets.vocabulary.powercap import PackageCounter, package_counters, taken_j
from milton_assets.vocabulary.throttling import firmware_flags, throttle_count

_KIB = 1024
_MILLI, _MICRO = 1e-3, 1e-6


@dataclass(frozen=True)
class Signs:
    """What was read at one moment. None is what could not be read; `absent` says why, by name.

    `oom_kills` and `throttled` are counts since some beginning: what matters is that they grow. `model_rss_bytes` is
    that of every process below this one. `gpu_slowed_because` is empty where no GPU is slowed.
    """

    memory_available_bytes: int | None = None
    model_rss_bytes: int | None = None
    disk_free_bytes: int | None = None
    oom_kills: int | None = None
    temperature_c: float | None = None
    throttled: int | None = None
    power_w: float | None = None
    gpu_temperature_c: float | None = None
    gpu_power_w: float | None = None
    gpu_slowed_because: str | None = None
    absent: Mapping[str, str] = field(default_factory=dict)

    def figures(self) -> dict[str, float | str | None]:
        """What was read, by name; why not, for what was not."""
        read = {name: value for name, value in vars(self).items() if name != "absent" and value is not None}
        return read | {f"{name}_absent": why for name, why in self.absent.items()}


class SignsReader:
    """Reads the signs of the machine below `root`; `disk` is a folder on the disk that matters."""

    def __init__(
        self,
        disk: Path,
        *,
        root: Path = Path("/"),
        clock: Callable[[], float] = time.monotonic,
        gpus: Callable[[], GpuSigns] = gpu_signs,
    ) -> None:
        self._disk = disk
        self._gpus = gpus
        self._root = root
        self._clock = clock
        self._energy: tuple[float, Mapping[str, PackageCounter]] | None = None

    def read(self) -> Signs:
        """The signs now. Never raises: a device that cannot tell something is no reason to stop watching it."""
        found: dict[str, float | int | str] = {}
        absent: dict[str, str] = {}
        for name, read in {
            "memory_available_bytes": self._memory,
            "model_rss_bytes": self._rss,
            "disk_free_bytes": self._free,
            "oom_kills": self._oom_kills,
            "temperature_c": self._temperature,
            "throttled": self._throttled,
            "power_w": self._power,
        }.items():
            try:
                value = read()
            except (OSError, ValueError, IndexError) as error:
                absent[name] = _why(error)
                continue
            if value is None:
                absent[name] = "nothing on this machine tells it"
            else:
                found[name] = value
        gpus = self._gpus()
        for name in ("temperature_c", "power_w", "slowed_because"):
            if (seen := getattr(gpus, name)) is not None:
                found[f"gpu_{name}"] = seen
        absent |= {f"gpu_{name}": why for name, why in gpus.absent.items()}
        return Signs(**found, absent=absent)  # type: ignore[arg-type]

    def _memory(self) -> int | None:
        for line in (self._root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * _KIB
        return None

    def _rss(self) -> int:
        page = os.sysconf("SC_PAGE_SIZE")
        total = 0
        for pid in self._below(os.getpid()):
            try:
                total += int((self._root / f"proc/{pid}/statm").read_text().split()[1]) * page
            except (OSError, IndexError):
                continue  # it ended meanwhile
        return total

    def _below(self, pid: int) -> Iterable[int]:
        children: list[int] = []
        for task in (self._root / f"proc/{pid}/task").glob("*/children"):
            try:
                children += map(int, task.read_text().split())
            except OSError:
                continue
        for child in children:
            yield child
            yield from self._below(child)

    def _free(self) -> int:
        found = os.statvfs(self._disk)
        return found.f_bavail * found.f_frsize

    def _oom_kills(self) -> int | None:
        """Our control group's count, else the machine's."""
        for line in (self._root / "proc/self/cgroup").read_text().splitlines():
            if line.startswith("0::"):
                events = self._root / "sys/fs/cgroup" / line[3:].lstrip("/") / "memory.events"
                if events.is_file():
                    return _named(events, "oom_kill")
        return _named(self._root / "proc/vmstat", "oom_kill")

    def _temperature(self) -> float | None:
        sys = self._root / "sys/class"
        found = [_number(p) * _MILLI for p in (*sys.glob("thermal/*/temp"), *sys.glob("hwmon/*/temp*_input"))]
        return max(found, default=None)

    def _throttled(self) -> int | None:
        flags = firmware_flags(self._root / "sys")
        return throttle_count(self._root / "sys") if flags is None else flags

    def _power(self) -> float | None:
        sensors = [_number(p) * _MICRO for p in (self._root / "sys/class/hwmon").glob("*/power*_input")]
        if sensors:
            return sum(sensors)
        packages = package_counters(self._root)
        if not packages:
            return None
        now = (self._clock(), packages)
        before, self._energy = self._energy, now
        if before is None or now[0] <= before[0]:
            raise ValueError("it is a difference of two readings, and this is the first")
        return taken_j(before[1], packages) / (now[0] - before[0])


def _number(path: Path) -> float:
    return float(path.read_text())


def _named(path: Path, name: str) -> int | None:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return None


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return str(error)
