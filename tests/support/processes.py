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


def left_behind(mark: str, within_s: float = 60.0) -> list[str]:
    """The command lines that hold `mark` and are still there after that time; none as soon as there is none."""
    deadline = time.monotonic() + within_s
    while True:
        lines = [str(process.info["cmdline"]) for process in psutil.process_iter(["cmdline"])]
        left = [line for line in lines if mark in line]
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(0.2)
