"""Progress of a campaign on the terminal: which model, which tier, how far, how long to go.

What belongs here: turning `Progress` steps into lines on standard error, and estimating what is left. What does not:
the steps themselves, and keeping what stages took (`durations`). The estimate is kept per campaign in this process,
because a conductor runs its candidates there.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from milton_assets.vocabulary.progress import OnProgress, Progress
from milton_assets.vocabulary.terminal import printable
from resources.durations import Durations

ERASE = "\r\x1b[2K"
"""What takes a terminal's line away."""


@dataclass
class Meter:
    """How long the stages of one campaign took, and so how long the rest may take.

    `stages` are the tiers in order, `candidates` how many models go through all of them, `order` their versions where
    they are known. What stages took before (`remembered`) is believed until this campaign says otherwise: the first
    steps of a stage move the estimate little, its last ones most. What goes by between two stages, while a server
    starts, counts to the one that comes. A stage that had nothing to do, and so told no step, took until the next one
    began.

    On a terminal the line is redrawn in place; elsewhere a stage has a line when it begins, one when it ends, and one
    every `quiet_s` between.
    """

    stages: tuple[str, ...]
    candidates: int
    clock: Callable[[], float] = time.monotonic
    out: TextIO = field(default_factory=lambda: sys.stderr)
    every_s: float = 0.5
    quiet_s: float = 30.0
    order: tuple[str, ...] = ()
    remembered: Durations = field(default_factory=Durations)
    _spent: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    _silent: tuple[str, str, float] | None = None
    _began: float = 0.0
    _ended: float = 0.0
    _shown: float = -1e9

    def __post_init__(self) -> None:
        self._began = self._ended = self.clock()

    def listener(self, candidate: str, index: int, stage: str, also: Callable[[str], None] | None = None) -> OnProgress:
        """A listener for one stage of the `index`-th candidate (from 1). `also` is told every line that stays."""
        started = self.clock()
        self._shown = started
        self._end_of_silent(started)
        since = self._ended
        self._silent = (stage, candidate, since)

        def say(line: str) -> None:
            self._say(line)
            if also:
                also(line)

        say(f"{self._place(candidate, index)} {stage}: starting")

        def listen(step: Progress) -> None:
            now = self.clock()
            self._silent = None
            ended = step.done >= step.total
            if not ended and now - self._shown < (self.every_s if self._redraws else self.quiet_s):
                return
            self._shown = now
            if ended:
                self._learn(stage, candidate, since, now)
            tail = self._tail(
                candidate, index, stage, self._in_stage(candidate, stage, started - since, now - started, step)
            )
            note = f" · {printable(step.note)}" if step.note else ""
            head = f"{self._place(candidate, index)} {stage} {step.done}/{step.total}"
            if ended or not self._redraws:
                say(f"{head}{note}{tail}")
            else:
                self._redraw(head, note, tail)

        return listen

    def say(self, line: str) -> None:
        """A line between the stages."""
        self._say(line)

    def expected_s(self, profile: str | None = None, times: Mapping[str, float] | None = None) -> float | None:
        """Seconds that the campaign may take by what is remembered of its models, else of others; None where a stage
        never ran here. By what it took under another `profile` if one is named, each stage so many `times` as much.
        """
        remembered = self.remembered if profile is None else self.remembered.under(profile)
        known = [
            (stage, remembered.before(stage, version) or remembered.usual(stage))
            for version in self.order
            for stage in self.stages
        ]
        if not known or any(seconds is None for _, seconds in known):
            return None
        return sum((1 if times is None else times[stage]) * (seconds or 0.0) for stage, seconds in known)

    def joined_by(self, names: Sequence[str]) -> None:
        """Count these models too, which are measured after all others; those that were counted already are not."""
        new = tuple(name for name in names if name not in self.order)
        self.candidates += len(new)
        self.order = (*self.order, *new)

    def usual_s(self, stages: Sequence[str]) -> float | None:
        """Seconds that these stages take with a model, by this campaign's others, else by what is remembered; None
        where one of them never ran here."""
        known = [s for stage in stages if (s := self._expected("", stage) or self.remembered.usual(stage)) is not None]
        return sum(known) if len(known) == len(stages) else None

    @property
    def _redraws(self) -> bool:
        return self.out.isatty()

    def _place(self, candidate: str, index: int) -> str:
        return f"model {index}/{self.candidates} {candidate}"

    def _in_stage(self, candidate: str, stage: str, waited: float, spent: float, step: Progress) -> float | None:
        """Seconds left of a stage that began after `waited` and has `spent` so much: what its pace says, weighed
        against what it took before by how far it is."""
        if step.done >= step.total:
            return 0.0
        expected = self._expected(candidate, stage)
        before = None if expected is None else max(expected - waited, 0.0)
        if not step.done:
            return None if before is None else max(before - spent, 0.0)
        share = step.done / step.total
        by_pace = spent / share
        whole = by_pace if before is None else share * by_pace + (1 - share) * max(before, spent)
        return max(whole - spent, 0.0)

    def _learn(self, stage: str, candidate: str, since: float, now: float) -> None:
        self._spent.setdefault(stage, []).append((candidate, now - since))
        self.remembered.learn(stage, candidate, now - since)
        self._ended = now

    def _end_of_silent(self, now: float) -> None:
        if self._silent is not None:
            stage, candidate, since = self._silent
            self._learn(stage, candidate, since, now)

    def _tail(self, candidate: str, index: int, stage: str, in_stage: float | None) -> str:
        """What is said of the time left: of the campaign, or of the stage alone while others were never timed."""
        if in_stage is None:
            return ""
        left = self._left(candidate, index, stage, in_stage)
        if left is not None:
            return f" · about {duration(left)} left"
        return f" · about {duration(in_stage)} of {stage} left" if in_stage else ""

    def _left(self, candidate: str, index: int, stage: str, in_stage: float) -> float | None:
        """Seconds left of the whole campaign: those of the stage, and what each stage still to come may take, in
        whatever order they run; None where one was timed neither before nor in this campaign, for a guess at it would
        jump once it is."""
        ran = {name for name, spent in self._spent.items() if any(whose == candidate for whose, _ in spent)}
        later = [(candidate, name) for name in self.stages if name not in ran | {stage}]
        for number in range(index, self.candidates):
            version = self.order[number] if number < len(self.order) else ""
            later += [(version, name) for name in self.stages]
        known = [s for version, name in later if (s := self._expected(version, name)) is not None]
        return in_stage + sum(known) if len(known) == len(later) else None

    def _expected(self, version: str, stage: str) -> float | None:
        """Seconds that the stage may take with that model: as it took before, by how much this campaign's pace differs;
        else as it took others in this campaign."""
        spent = self._spent.get(stage, [])
        before = self.remembered.before(stage, version)
        if before is None:
            return sum(seconds for _, seconds in spent) / len(spent) if spent else None
        pairs = [(s, b) for name, s in spent if (b := self.remembered.before(stage, name)) is not None]
        pace = sum(s for s, _ in pairs) / sum(b for _, b in pairs) if pairs else 1.0
        return before * pace

    def _say(self, line: str) -> None:
        erase = ERASE if self._redraws else ""
        print(f"{erase}{self._stamped(line)}", file=self.out, flush=True)

    def _redraw(self, head: str, note: str, tail: str) -> None:
        """One line of the terminal, in which the note gives way to the time that is left."""
        width = shutil.get_terminal_size().columns - 1
        stamped = self._stamped(head)
        room = max(width - len(stamped) - len(tail), 0)
        line = f"{stamped}{note if len(note) <= room else note[: max(room - 1, 0)] + '…'}{tail}"
        # The cursor goes back to the margin, so that whatever else is printed does not stand behind this line.
        self.out.write(f"{ERASE}{line[:width]}\r")
        self.out.flush()

    def _stamped(self, line: str) -> str:
        return f"[{duration(self.clock() - self._began)}] {line}"


def duration(seconds: float) -> str:
    """Minutes and seconds; from an hour on, hours too."""
    whole = max(0, round(seconds))
    if whole >= 3600:
        return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
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
        sys.stderr.write(f"{step.stage} {step.done}/{step.total} {printable(step.note)}\n")
        sys.stderr.flush()

    return listen


DEPLOY_STAGE = "deploy"
"""The stage whose few steps are all shown; see `milton_assets.edge.deployment.safeguards`."""

_METERS: dict[str, Meter] = {}


def meter(
    campaign: str,
    stages: tuple[str, ...],
    candidates: int,
    order: tuple[str, ...] = (),
    remembered: Durations | None = None,
) -> Meter:
    """The campaign's meter in this process, made on first use."""
    return _METERS.setdefault(campaign, Meter(stages, candidates, order=order, remembered=remembered or Durations()))


def forget(campaign: str) -> None:
    """Drop a finished campaign's meter."""
    _METERS.pop(campaign, None)
