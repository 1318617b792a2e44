"""Progress of a campaign on the terminal: which model, which tier, how far, how long to go.

What belongs here: turning `Progress` steps into lines on standard error, and estimating what is left. What does not:
the steps themselves. The estimate is kept per campaign in this process, because a conductor runs its candidates there.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

from milton_assets.vocabulary.progress import OnProgress, Progress


@dataclass
class Meter:
    """How long the stages of one campaign took, and so how long the rest may take.

    `stages` are the tiers in order, `candidates` how many models go through all of them.
    """

    stages: tuple[str, ...]
    candidates: int
    clock: Callable[[], float] = time.monotonic
    out: TextIO = field(default_factory=lambda: sys.stderr)
    every_s: float = 2.0
    _spent: dict[str, list[float]] = field(default_factory=dict)
    _began: float = 0.0
    _shown: float = -1e9

    def __post_init__(self) -> None:
        self._began = self.clock()

    def listener(self, candidate: str, index: int, stage: str, also: Callable[[str], None] | None = None) -> OnProgress:
        """A listener for one stage of the `index`-th candidate (from 1). `also` is told every line that is shown."""
        started = self.clock()

        def say(line: str) -> None:
            self._say(line)
            if also:
                also(line)

        say(f"{self._place(candidate, index)} {stage}: starting")

        def listen(step: Progress) -> None:
            now = self.clock()
            if step.done < step.total and now - self._shown < self.every_s:
                return
            self._shown = now
            spent = now - started
            in_stage = spent / step.done * (step.total - step.done) if step.done else None
            if step.done >= step.total:
                self._spent.setdefault(stage, []).append(spent)
                in_stage = 0.0
            left = self._left(index, stage, in_stage)
            tail = f" · about {_duration(left)} left" if left is not None else ""
            note = f" · {step.note}" if step.note else ""
            say(f"{self._place(candidate, index)} {stage} {step.done}/{step.total}{note}{tail}")

        return listen

    def say(self, line: str) -> None:
        """A line between the stages."""
        self._say(line)

    def _place(self, candidate: str, index: int) -> str:
        return f"model {index}/{self.candidates} {candidate}"

    def _left(self, index: int, stage: str, in_stage: float | None) -> float | None:
        """Seconds left of the whole campaign: the mean of what each stage took, for each stage still to come."""
        if in_stage is None:
            return None
        left = in_stage
        known = [sum(v) / len(v) for v in self._spent.values()]
        guess = sum(known) / len(known) if known else in_stage
        position = self.stages.index(stage)
        for number, name in enumerate(self.stages):
            mean = sum(self._spent[name]) / len(self._spent[name]) if self._spent.get(name) else guess
            runs = self.candidates - index + (1 if number > position else 0)
            left += mean * runs
        return left

    def _say(self, line: str) -> None:
        elapsed = _duration(self.clock() - self._began)
        print(f"[{elapsed}] {line}", file=self.out, flush=True)


def _duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02d}"


def terminal_listener(every_s: float = 2.0) -> OnProgress:
    """A listener for work outside the tiers: every step of a deployment, and bytes copied or read now and then."""
    shown = float("-inf")

    def listen(step: Progress) -> None:
        nonlocal shown
        now = time.monotonic()
        if step.stage != DEPLOY_STAGE and now - shown < every_s:
            return
        shown = now
        sys.stderr.write(f"{step.stage} {step.done}/{step.total} {step.note}\n")
        sys.stderr.flush()

    return listen


DEPLOY_STAGE = "deploy"
"""The stage whose few steps are all shown; see `milton_assets.edge.deployment.safeguards`."""

_METERS: dict[str, Meter] = {}


def meter(campaign: str, stages: tuple[str, ...], candidates: int) -> Meter:
    """The campaign's meter in this process, made on first use."""
    return _METERS.setdefault(campaign, Meter(stages, candidates))


def forget(campaign: str) -> None:
    """Drop a finished campaign's meter."""
    _METERS.pop(campaign, None)
