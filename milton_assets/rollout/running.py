"""Running a rollout: the controller in one thread, devices in many, until nothing more happens without a person.

What belongs here: threads, the pace, and what a person asked for meanwhile. What does not: what is decided
(`controller`), and what a task does (`devices`).
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from milton_assets.rollout.controller import Answer, Cannot, Controller, Task
from milton_assets.rollout.events import Aborted, Joined, Paused
from milton_assets.rollout.journal import Watched, take_asked
from milton_assets.rollout.plan import Member
from milton_assets.rollout.states import Rollout, Stage

POLL_S = 1.0
"""How often the clock, and what a person asked for, are looked at while no device answers."""
JOIN_S = 30.0
"""How often it is looked whether a device was named since."""
_OVER = frozenset({Stage.DONE, Stage.ABORTED})


def _now() -> datetime:
    return datetime.now(UTC)


def run(
    journal: Watched,
    do: Callable[[Task], Answer],
    *,
    folder: Path,
    members: Callable[[], Iterable[Member]] = tuple,
    now: Callable[[], datetime] = _now,
    one_turn: bool = False,
) -> Rollout:
    """Run the rollout on until it is over, paused or stopped; the state then. `do` does a task, in a thread of its own.

    `one_turn`: no further than through the wave that is open, and no longer than something can be done: a freeze, and
    devices that are away, are left for another turn (`turns`).

    `members` are the devices that there are now: who was not when the rollout was planned joins it, where the plan lets
    it. At most `at_once` tasks that begin something are out at a time, so that so many threads are all there are.
    """
    controller = Controller(journal)
    answers: queue.SimpleQueue[tuple[Task, Answer]] = queue.SimpleQueue()
    looked = -JOIN_S
    if one_turn:
        controller.stay_in_the_open_wave(now())
    while True:
        _obey(journal, folder, now())
        if time.monotonic() - looked >= JOIN_S:
            looked = time.monotonic()
            _join(journal, members(), now())
        tasks = controller.tick(now())
        for task in tasks:
            # Not a pool: a device that never answers must keep no other from its turn, nor the process from its end.
            threading.Thread(
                target=_answer, args=(do, task, answers), name=f"{task.verb} {task.device}", daemon=True
            ).start()
        if controller.is_idle and not _obey(journal, folder, now()):
            return controller.state
        if one_turn and not tasks and controller.only_waits(now()):
            return controller.state
        with contextlib.suppress(queue.Empty):
            task, answer = answers.get(timeout=POLL_S)
            controller.hear(task, answer, now())
            while not answers.empty():
                task, answer = answers.get()
                controller.hear(task, answer, now())


def _answer(do: Callable[[Task], Answer], task: Task, answers: queue.SimpleQueue[tuple[Task, Answer]]) -> None:
    try:
        answer = do(task)
    except Exception as error:  # noqa: BLE001 - a fault of ours on one device is told as that device's, with its kind
        answer = Cannot(f"{type(error).__name__}: {error}")
    answers.put((task, answer))


def _obey(journal: Watched, folder: Path, now: datetime) -> bool:
    """Do what a person asked for meanwhile; whether there was anything to do."""
    asked = take_asked(folder)
    if asked is None:
        return False
    stage = journal.state.stage
    if asked.abort and stage not in {Stage.ABORTING, Stage.ABORTED}:
        journal.append(Aborted(at=now, actor=asked.actor, reason=asked.reason))
        return True
    if not asked.abort and stage is Stage.RUNNING:
        journal.append(Paused(at=now, actor=asked.actor, reason=asked.reason))
        return True
    return False


def _join(journal: Watched, members: Iterable[Member], now: datetime) -> None:
    state = journal.state
    if state.stage in _OVER or state.stage not in {Stage.RUNNING, Stage.PAUSED}:
        return
    for member in members:
        if member.name not in state.devices and member.labels & set(state.plan.late):
            journal.append(Joined(at=now, member=member))
