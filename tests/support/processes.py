"""Whether a process that should have ended has.

What belongs here: waiting for processes, zombies counted as ended since nobody may be there to reap them. What does
not: starting any.
"""

from __future__ import annotations

import time

import psutil


def gone(pid: int, within_s: float = 30.0) -> bool:
    """Whether that process ends within the time. A zombie has ended, though its parent has not asked yet."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)
