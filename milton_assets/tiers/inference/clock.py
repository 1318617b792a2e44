"""The one clock, and an event loop that wakes on it to the microsecond.

What belongs here: reading time, sleeping until an instant, the loop, and keeping the interpreter out of the way while
something is measured. What does not: what is measured.

The clock is `time.perf_counter_ns`: monotonic, and on Linux CLOCK_MONOTONIC, so that processes of one machine can
compare instants.
"""

from __future__ import annotations

import asyncio
import gc
import os
import select
import selectors
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import perf_counter_ns as now_ns

__all__ = ["measuring_loop", "now_ns", "old_heap_left_alone", "prefer_this_thread", "quiet_interpreter", "sleep_until"]

_SWITCH_INTERVAL_S = 1e-4
_FIRST = -15


class _MicrosecondSelector(selectors.EpollSelector):
    """Epoll waits in whole milliseconds, which would make every scheduled send up to 1 ms late; select does not."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            select.select([self.fileno()], [], [], timeout)
            timeout = 0
        return super().select(timeout)


def measuring_loop() -> asyncio.AbstractEventLoop:
    """A new event loop whose timers are exact to the kernel's timer slack (about 50 µs)."""
    return asyncio.SelectorEventLoop(_MicrosecondSelector())


async def sleep_until(instant_ns: int) -> None:
    """Sleep until that instant of `now_ns`; return at once when it is past."""
    while (left := instant_ns - now_ns()) > 0:
        await asyncio.sleep(left / 1e9)


def prefer_this_thread() -> int:
    """Ask that this thread run before others, and return its nice value: lower where that is allowed, else unchanged.

    A measuring thread needs little of a core, but at once: bytes that wait to be read are joined by those that follow,
    and then only the last one's arrival is known. The value is the thread's own and ends with it.
    """
    thread = threading.get_native_id()
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, thread, _FIRST)
    return os.getpriority(os.PRIO_PROCESS, thread)


@contextmanager
def old_heap_left_alone() -> Iterator[None]:
    """No garbage collection inside the block looks at what lives already.

    Everything that a campaign imports and holds takes a third of a second to look through, and every round of a
    measurement begins with a collection. Where it is left alone already, nothing more is done.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def quiet_interpreter() -> Iterator[None]:
    """No garbage collection inside the block, and other threads give the interpreter back within 0.1 ms.

    A collection of a large heap stops a thread for tens of milliseconds, which would be read as the server's latency.
    """
    was_enabled, interval = gc.isenabled(), sys.getswitchinterval()
    gc.collect()
    gc.disable()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        if was_enabled:
            gc.enable()
