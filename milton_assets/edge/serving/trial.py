"""What a canary and a shadow have in common while they go on: records are kept, judged, and end it; people are told.

    trials = Trials("canary", on_event)
    if (found := trials.running(target, Way.SPLIT)) is not None:
        folder, plan = found
    …
    trials.add(going, record)                        # ends it when its evidence suffices

What belongs here: what becomes of a record, how a trial ends, and telling of it. What does not: who is asked what and
when (`splitting`, `shadowing`), and what the records say (`edge.canary`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from milton_assets.edge.canary.counts import Tally
from milton_assets.edge.canary.folder import CanaryFolder, JournalWriter, running_canary
from milton_assets.edge.canary.plan import CanaryPlan, Way
from milton_assets.edge.canary.records import Record
from milton_assets.edge.canary.starting import end_canary
from milton_assets.edge.canary.verdict import Outcome, judge
from milton_assets.edge.serving.health_journal import EventKind, HealthEvent, shortened

MOST_DEATHS = 3


@dataclass(kw_only=True)
class Trial:
    """A canary or a shadow that goes on."""

    folder: CanaryFolder
    plan: CanaryPlan
    tally: Tally
    writer: JournalWriter
    deaths: int = 0
    is_over: bool = False


class Trials:
    """Keeps what trials of one kind record, and ends them. `noun` is what people call one, `on_event` hears of it."""

    def __init__(self, noun: str, on_event: Callable[[HealthEvent], None]) -> None:
        self._noun = noun
        self._on_event = on_event
        self._given_up: set[str] = set()
        self._said: str | None = None

    def running(self, target: Path, *ways: Way) -> tuple[CanaryFolder, CanaryPlan] | None:
        """What goes on at `target` in one of those ways, unless it was given up.

        Raises `BadInput` for a plan that is none.
        """
        folder = running_canary(target)
        if folder is None or folder.id in self._given_up:
            return None
        plan = folder.plan()
        return (folder, plan) if plan.way in ways else None

    def add(self, trial: Trial, record: Record) -> None:
        """Keep a record. The trial ends with it when the evidence suffices, or when it cannot be kept."""
        try:
            trial.writer.add(record)
        except OSError as error:
            # What is not recorded cannot be judged again by anybody.
            self.finish(trial, f"its records cannot be written: {error.strerror or error}", Outcome.NOT_YET)
            return
        trial.tally.add(record)
        if judge(trial.plan, trial.tally.counts()).outcome is not Outcome.NOT_YET:
            self.finish(trial)

    def has_died_for_good(self, trial: Trial) -> bool:
        """Count a death of the challenger's server; whether it was one too many, for which the trial has ended."""
        trial.deaths += 1
        if trial.deaths < MOST_DEATHS:
            return False
        self.finish(trial, f"its server died {MOST_DEATHS} times", Outcome.GO_BACK)
        return True

    def finish(self, trial: Trial, fact: str | None = None, outcome: Outcome | None = None) -> None:
        """End it, by its evidence or for a fact; what it holds is let go of at the next look."""
        trial.is_over = True
        plan = trial.plan
        try:
            trial.writer.sync()
            verdict = end_canary(trial.folder, plan, now=_now, fact=fact, outcome=outcome, tally=trial.tally)
        except OSError as error:
            self._given_up.add(plan.id)
            self.tell(f"the {self._noun} is over, and its verdict cannot be written: {error.strerror or error}", plan)
            return
        said = f"the {self._noun} of {plan.challenger_version} is over: {verdict.outcome}; {'; '.join(verdict.reasons)}"
        self.tell(said, plan)

    def tell(self, said: str, plan: CanaryPlan) -> None:
        """Say how it goes."""
        self._on_event(HealthEvent(at=_now(), kind=EventKind.CANARY, said=shortened(said), release=plan.challenger))

    def tell_once(self, said: str) -> None:
        """Say what needs a person, and nothing while the same would be said again."""
        if said != self._said:
            self._said = said
            self._on_event(HealthEvent(at=_now(), kind=EventKind.CANARY, said=shortened(said), needs_person=True))

    def begin(self) -> None:
        """Another trial begins, of which everything is said anew."""
        self._said = None


def _now() -> datetime:
    return datetime.now(UTC)
