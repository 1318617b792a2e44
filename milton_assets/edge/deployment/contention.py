"""How much of the device's processors others took while a release was probed.

What belongs here: taking the processors' times and comparing two takings. What does not: what is made of it
(`loadtest.judge`).

A device is seldom idle when it is updated: what serves goes on serving beside the probe. A speed that was promised of
the whole device is then out of reach, whatever the release is like.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import psutil

LEAST_SHARE = 0.1
"""Even on a device that is wholly taken, a release is held to this share of its promised speed."""


@dataclass(frozen=True)
class ProcessorTimes:
    """Seconds of all cores together since some moment: `total_s` in all, `busy_s` at work, `ours_s` of it for us."""

    total_s: float
    busy_s: float
    ours_s: float


def processor_times() -> ProcessorTimes:
    """The times now. Ours are those of this process and of all that it started and that still run."""
    times = psutil.cpu_times()
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    idle = times.idle + getattr(times, "iowait", 0.0)
    return ProcessorTimes(total, total - idle, sum(map(_seconds_of, [this := psutil.Process(), *_below(this)])))


def _below(process: psutil.Process) -> list[psutil.Process]:
    below: list[psutil.Process] = process.children(recursive=True)
    return below


def _seconds_of(process: psutil.Process) -> float:
    with suppress(psutil.Error):  # it ended meanwhile: what it did counts as others', which is the milder mistake
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def share_left(before: ProcessorTimes, after: ProcessorTimes) -> float:
    """The share of the processors that others left us between two takings, from `LEAST_SHARE` to 1."""
    total = after.total_s - before.total_s
    if total <= 0:
        return 1.0
    others = (after.busy_s - before.busy_s) - (after.ours_s - before.ours_s)
    return min(1.0, max(LEAST_SHARE, 1.0 - others / total))
