"""Parts of a table on every core that there is, told in their order as soon as they are known.

    with processes() as each:
        for found in each([partial(ever_promoted, chain, chains=4000, seed=1), …]): …

What belongs here: sharing jobs out, and leaving nothing behind. What does not: any table. What a job finds may
depend on its own arguments only, its seed among them, so that a table is the same on however many cores it is made.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

_PR_SET_PDEATHSIG = 1

Found = TypeVar("Found")


class Each(Protocol):
    """What each job finds, in their order."""

    def __call__(self, jobs: Sequence[Callable[[], Found]], /) -> Iterator[Found]: ...


@contextmanager
def processes() -> Iterator[Each]:
    """As many processes as this one has cores. However this one ends, killed or by Ctrl-C, the kernel ends them.

    Started by fork: what is loaded here is loaded there.
    """
    # An exception that a signal raises between two lines may be lost; what the system does is not.
    was = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        context = multiprocessing.get_context("fork")
        with context.Pool(len(os.sched_getaffinity(0)), _end_with, (os.getpid(),)) as pool:
            yield lambda jobs: pool.imap(_done, jobs)
    finally:
        signal.signal(signal.SIGINT, was)


def _done(job: Callable[[], Found]) -> Found:
    return job()


def _end_with(parent: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it ended before
        os._exit(1)
