"""How these benches print: shares with what chance leaves open, and how long a table took.

What belongs here: the words. What does not: any table.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from milton_assets.statistics.shares import wilson


def share(hits: int, n: int) -> str:
    """`hits` of `n` repetitions as a share, with Wilson's 95 % interval: the Monte-Carlo error."""
    interval = wilson(hits, n)
    return f"{hits / n:.1%} [{interval.low:.1%}, {interval.high:.1%}]"


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say at the end how long `what` took, by the wall and of this process's processor time."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    took_s, of_processor_s = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{what} took {took_s:.0f} s, {of_processor_s:.0f} s of processor time\n", flush=True)
