"""Several calls at once, results in order, nothing left running.

What belongs here: the one bounded map that both ways of asking use. What does not: what a call is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_LOOKAHEAD = 4


def map_in_order(call: Callable[[T], R], items: Iterable[T], concurrency: int) -> Iterator[R]:
    """`call` of each item, `concurrency` of them at a time, yielded in the items' order.

    A few items a thread are kept waiting, so that no thread idles while a slow one holds the order up; memory stays
    bounded however many items there are. When the caller stops early (an exception, Ctrl-C), what has not begun is
    cancelled.
    """
    with ThreadPoolExecutor(concurrency, thread_name_prefix="retrieval") as executor:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(executor.submit(call, item))
                if len(waiting) >= concurrency * _LOOKAHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
