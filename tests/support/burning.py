"""Somebody else who wants the cores.

What belongs here: processes that only burn. What does not: watching the machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def burners(count: int) -> Iterator[None]:
    """Processes that keep cores busy, and that this one did not start: their parent has ended. They end by themselves
    after two minutes."""
    code = "import time\nend = time.time() + 120\nwhile time.time() < end: pass"
    pids = [
        int(subprocess.check_output(["sh", "-c", f'"{sys.executable}" -c "{code}" >/dev/null 2>&1 & echo $!']))
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
