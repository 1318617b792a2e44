"""How much of the device's processors others took while a release was probed.

What belongs here: taking the processors' times with psutil, and the share that is left. What does not: what is made of
it (`loadtest.judge`), and the watch of what is measured (`resources.machine_watch`).

A device is seldom idle when it is updated: what serves goes on serving beside the probe. A speed that was promised of
the whole device is then out of reach, whatever the release is like.
"""

from __future__ import annotations

import os
from contextlib import suppress

import psutil

from milton_assets.vocabulary.processor_times import ProcessorTimes, others_share

LEAST_SHARE = 0.1
"""Even on a device that is wholly taken, a release is held to this share of its promised speed."""


def processor_times(*besides: int) -> ProcessorTimes:
    """The times now. Ours are those of this process and of all that it started and that still run; so for the processes
    of the ids `besides`.
    """
    times = psutil.cpu_times()
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    idle = times.idle + getattr(times, "iowait", 0.0)
    ours = {process for pid in (os.getpid(), *besides) for process in _tree(pid)}
    return ProcessorTimes(total, total - idle, sum(map(_seconds_of, ours)))


def _tree(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def _seconds_of(process: psutil.Process) -> float:
    with suppress(psutil.Error):  # it ended meanwhile: what it did counts as others', which is the milder mistake
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def share_left(before: ProcessorTimes, after: ProcessorTimes) -> float:
    """The share of the processors that others left us between two takings, from `LEAST_SHARE` to 1."""
    others = others_share(before, after)
    return 1.0 if others is None else max(LEAST_SHARE, 1.0 - others)
