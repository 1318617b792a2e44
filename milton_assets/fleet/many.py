"""Asking many targets at once, so that one that is slow holds up nobody.

    for name, answer in ask_each(targets, lambda target: target.status(), within_s=20): …

What belongs here: the threads and the deadline of each question. What does not: what is asked, and what becomes of it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from milton_assets.fleet.target import Target
from milton_assets.vocabulary.errors import MiltonError

T = TypeVar("T")
AT_ONCE = 32
"""So many questions, and connections, are open at a time."""


class NoAnswer(MiltonError):
    """A target did not answer in time. It may later."""


def ask_each(
    targets: Sequence[Target], ask: Callable[[Target], T], *, within_s: float | None, at_once: int = AT_ONCE
) -> list[T | MiltonError]:
    """What each target answers, in their order, or the error that it raised: `NoAnswer` after `within_s` seconds of its
    own (None waits for ever). An error that is no `MiltonError` is raised."""
    waiting = deque(enumerate(targets))
    heard: queue.SimpleQueue[tuple[int, T | BaseException]] = queue.SimpleQueue()
    asked: dict[int, float] = {}
    answers: dict[int, T | MiltonError] = {}

    def answer(number: int, target: Target) -> None:
        try:
            heard.put((number, ask(target)))
        except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that asked
            heard.put((number, error))

    while waiting or asked:
        while waiting and len(asked) < at_once:
            number, target = waiting.popleft()
            asked[number] = time.monotonic()
            # Not a pool: a thread whose target never answers is left behind, and ends with the process.
            threading.Thread(target=answer, args=(number, target), name=f"ask {target.name}", daemon=True).start()
        first = min(asked.values())
        try:
            left_s = None if within_s is None else max(0.0, first + within_s - time.monotonic())
            number, told = heard.get(timeout=left_s)
        except queue.Empty:
            for late in [number for number, since in asked.items() if since == first]:
                del asked[late]
                answers[late] = NoAnswer(
                    f"{targets[late].name} did not answer within {within_s:g} s",
                    remedy="ask it alone with --target, which waits",
                )
            continue
        if asked.pop(number, None) is None:
            continue  # it was given up on
        if isinstance(told, MiltonError):
            answers[number] = told
        elif isinstance(told, BaseException):
            raise told
        else:
            answers[number] = told
    return [answers[number] for number in range(len(targets))]
