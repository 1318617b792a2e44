"""Processors that are slowed for heat or for want of power, as a kernel's files tell it.

    because = slowed_now(Path("/sys"))                # None, or why cores are held back at this moment
    count = throttle_count(Path("/sys"))              # how often x86 cores were throttled since they started

What belongs here: reading it. What does not: GPUs (`edge.gpu_signs`), and what follows (`edge.serving.watch`,
`resources.machine_watch`).

x86 cores count how often they were throttled. Boards do not; there, the kernel lowers clocks through a cooling device
(`Documentation/driver-api/thermal/sysfs-api.rst`: `cur_state` is 0 where nothing is held back; its type is named by
`drivers/thermal/cpufreq_cooling.c` and `devfreq_cooling.c`), and a Raspberry Pi's firmware does it by itself and tells
it in bits (raspberrypi/linux, pull request 2397).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_COOLED_BY_CLOCK = ("thermal-cpufreq", "cpufreq", "thermal-devfreq", "devfreq")
"""How the types begin of cooling devices that lower a processor's clock; others are fans and the like."""
_UNDER_VOLTAGE, _HELD_BACK = 0b0001, 0b1110
"""A Raspberry Pi's bits of now: too little voltage; frequency capped, throttled, soft temperature limit."""
HEAT = "cores were slowed for their temperature"
POWER = "cores were slowed for their power supply"


def throttle_count(sys: Path) -> int | None:
    """How often the cores were throttled for their temperature; None where nothing counts it."""
    found = list(_numbers(sys, "devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count"))
    return sum(found) if found else None


def firmware_flags(sys: Path) -> int | None:
    """What a Raspberry Pi's firmware says of now, in four bits; None on other machines."""
    for path in sys.glob("devices/platform/soc*/soc*:firmware/get_throttled"):
        # The bits from 16 on are of ever since it started.
        return int(path.read_text().strip(), 16) & (_UNDER_VOLTAGE | _HELD_BACK)
    return None


def slowed_now(sys: Path) -> str | None:
    """Why processors run slower than they could at this moment; None where they do not, or nothing tells it."""
    with suppress(OSError, ValueError):
        if flags := firmware_flags(sys):
            return POWER if flags & _UNDER_VOLTAGE else HEAT
    for kind in sys.glob("class/thermal/cooling_device*/type"):
        with suppress(OSError, ValueError):
            if kind.read_text().startswith(_COOLED_BY_CLOCK) and int((kind.parent / "cur_state").read_text()) > 0:
                return HEAT
    return None


def clock_share(sys: Path) -> float | None:
    """The mean share of its highest clock that a core runs at now; None where it is not told.

    Governors lower clocks where there is little to do, so a low share is no fault by itself.
    """
    shares = []
    for policy in sys.glob("devices/system/cpu/cpufreq/policy[0-9]*"):
        now, most = (list(_numbers(policy, name)) for name in ("scaling_cur_freq", "cpuinfo_max_freq"))
        if now and most and most[0] > 0:
            shares.append(now[0] / most[0])
    return sum(shares) / len(shares) if shares else None


def _numbers(below: Path, pattern: str) -> Iterator[int]:
    for path in below.glob(pattern):
        with suppress(OSError, ValueError):
            yield int(path.read_text())
