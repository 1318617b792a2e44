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
    todo = deque(enumerate(targets))
    heard: queue.SimpleQueue[tuple[int, T | BaseException]] = queue.SimpleQueue()
    asked: dict[int, float] = {}
    answers: dict[int, T | MiltonError] = {}
    turn = threading.Lock()

    def work() -> None:
        """Ask one after the other; whoever was given up on meanwhile has been replaced, and ends."""
        while True:
            with turn:
                if not todo:
                    return
                number, target = todo.popleft()
                asked[number] = time.monotonic()
            told: T | BaseException
            try:
                told = ask(target)
            except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that asked
                told = error
            with turn:
                if asked.pop(number, None) is None:
                    return
            heard.put((number, told))

    def begin(workers: int) -> None:
        # Not a pool: a thread whose target never answers is left behind, and ends with the process. And not a thread a
        # target: each start waits for its thread to run, which takes milliseconds while others reckon.
        for _ in range(min(workers, len(todo))):
            threading.Thread(target=work, name="ask targets", daemon=True).start()

    begin(at_once)
    try:
        while len(answers) < len(targets):
            with turn:
                first = min(asked.values(), default=time.monotonic())
            left_s = None if within_s is None else max(0.0, first + within_s - time.monotonic())
            try:
                number, told = heard.get(timeout=left_s)
            except queue.Empty:
                late = _late(asked, turn, within_s or 0.0)
                answers |= {number: _no_answer(targets[number], within_s or 0.0) for number in late}
                begin(len(late))
                continue
            if isinstance(told, MiltonError):
                answers[number] = told
            elif isinstance(told, BaseException):
                raise told
            else:
                answers[number] = told
    finally:
        with turn:
            todo.clear()
    return [answers[number] for number in range(len(targets))]


def _late(asked: dict[int, float], turn: threading.Lock, within_s: float) -> list[int]:
    """The questions that took too long, which are open no more."""
    with turn:
        now = time.monotonic()
        late = [number for number, since in asked.items() if now - since >= within_s]
        for number in late:
            del asked[number]
    return late


def _no_answer(target: Target, within_s: float) -> NoAnswer:
    return NoAnswer(
        f"{target.name} did not answer within {within_s:g} s", remedy="ask it alone with --target, which waits"
    )
