"""How these benches print: shares with what chance leaves open, and how long a table took.

What belongs here: the words. What does not: any table.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

from milton_assets.statistics.failure_rate import highest_rate
from milton_assets.statistics.shares import wilson


def share(hits: int, n: int) -> str:
    """`hits` of `n` repetitions as a share, with Wilson's 95 % interval: the Monte-Carlo error."""
    interval = wilson(hits, n)
    return f"{hits / n:.1%} [{interval.low:.1%}, {interval.high:.1%}]"


def at_most(hits: int, n: int) -> str:
    """`hits` of `n` repetitions as a share, and what the true one is at most, 95 % sure (Clopper and Pearson)."""
    return f"{hits / n:.2%} <= {highest_rate(hits, n):.2%}"


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say at the end how long `what` took, by the wall and of processor time, that of processes that ended included."""
    wall, cpu = time.perf_counter(), processor_s()
    yield
    took_s, of_processor_s = time.perf_counter() - wall, processor_s() - cpu
    print(f"{what} took {took_s:.0f} s, {of_processor_s:.0f} s of processor time\n", flush=True)


def processor_s() -> float:
    """The processor time so far of this process and of those that it started and that ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
