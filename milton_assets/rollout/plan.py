"""A rollout's plan: which devices, in which waves, and what opens the next one. Nouns that validate themselves.

What belongs here: the plan, whole: what is shown before a rollout starts is all that it goes by. What does not: making
one from what a person asks for (`planning`), and how far it has come (`states`).
"""

from __future__ import annotations

from datetime import datetime, time, timedelta
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from milton_assets.statistics.failure_rate import RateTest
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import RunId, Slug

PLAN_VERSION: Final = 1
Seconds = Annotated[float, Field(ge=0, le=366 * 86400, allow_inf_nan=False)]
Weekday = Annotated[int, Field(ge=0, le=6)]


class _Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Member(_Noun):
    """A device of the fleet. `labels` are what waves may ask for; its device class is one."""

    name: Slug
    labels: frozenset[Slug] = frozenset()


class Opens(StrEnum):
    """What has to be known of the devices so far before the next wave begins.

    `EVIDENCE`: the failure rate is shown to be small, with the gate's error. `ALL_WELL`: every device that began stood;
    a canary of a few shows no rate, and its plan says which ones remain possible.
    """

    EVIDENCE = "evidence"
    ALL_WELL = "all-well"


class Wave(_Noun):
    """A wave: at most `limit` devices begin in it (None: every one that may), those with `label` where one is named."""

    said: str = Field(min_length=1, max_length=100)
    limit: int | None = Field(default=None, ge=1)
    label: Slug | None = None
    opens: Opens = Opens.EVIDENCE

    def takes(self, member: Member) -> bool:
        """Whether a device may begin in this wave."""
        return self.label is None or self.label in member.labels


class Gate(_Noun):
    """What failure rates are tolerable and intolerable, and how often the rollout may err; see `RateTest`.

    `alpha`: the probability of going on although the rate is intolerable; `beta`: of stopping although it is tolerable.
    """

    tolerable: float = 0.02
    intolerable: float = 0.2
    alpha: float = 0.05
    beta: float = 0.05

    @model_validator(mode="after")
    def _is_a_test(self) -> Self:
        try:
            _ = self.test
        except BadInput as error:
            raise ValueError(f"{error.problem}; expected {error.expected}") from None
        return self

    @property
    def test(self) -> RateTest:
        """The test of every device's end."""
        return RateTest(self.tolerable, self.intolerable, self.alpha, self.beta)


class Freeze(_Noun):
    """A time of day, in UTC, in which no device begins; those that have begun end. `days` are 0 (Monday) to 6, of the
    day on which the freeze begins; one that ends before it begins ends the next day."""

    begins: time
    ends: time
    days: tuple[Weekday, ...] = (0, 1, 2, 3, 4, 5, 6)

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if self.begins == self.ends:
            raise ValueError("a freeze begins and ends at the same time; expected two times of day")
        if self.begins.tzinfo or self.ends.tzinfo:
            raise ValueError("a freeze's times are UTC; expected HH:MM without a zone")
        return self

    def ends_at(self, now: datetime) -> datetime | None:
        """When the freeze that holds at `now` (UTC) ends; None where none does."""
        for began in (now.date(), now.date() - timedelta(days=1)):
            if began.weekday() not in self.days:
                continue
            start = datetime.combine(began, self.begins, now.tzinfo)
            end = datetime.combine(began, self.ends, now.tzinfo)
            end += timedelta(days=1) if end <= start else timedelta()
            if start <= now < end:
                return end
        return None


class Plan(_Noun):
    """What a rollout goes by. `members` are in the order in which they are asked.

    `at_once`: so many devices change at the same time. `reach_within_s`: so long an offline device is waited for, from
    the first time it was not reached. `attempt_within_s`: so long a device may take from its beginning to its end.
    `retries`: so often a device that failed before it changed anything is tried again, `retry_after_s` later.
    `ask_every_s`: how long until an offline or silent device is asked again. `health_rounds`: so many checks of its own
    a device has to keep before it stands; 0 asks for none. `back_when_stopped`: a rollout that the evidence stops takes
    its devices back by itself. `late`: devices with one of these labels that are named later join.
    """

    plan_version: Literal[1] = PLAN_VERSION
    rollout: Slug
    release: Sha256
    model_version: Slug
    run_id: RunId
    bundle: str = Field(min_length=1)
    members: tuple[Member, ...] = Field(min_length=1)
    waves: tuple[Wave, ...] = Field(min_length=1)
    gate: Gate = Gate()
    at_once: int = Field(default=8, ge=1, le=1000)
    reach_within_s: Seconds = 86_400.0
    attempt_within_s: Seconds = 3_600.0
    retries: int = Field(default=1, ge=0, le=100)
    retry_after_s: Seconds = 60.0
    ask_every_s: Seconds = 30.0
    freeze: tuple[Freeze, ...] = ()
    load_test: bool = True
    health_rounds: int = Field(default=3, ge=0)
    health_interval_s: Seconds = 5.0
    back_when_stopped: bool = False
    late: tuple[Slug, ...] = ()

    @model_validator(mode="after")
    def _holds(self) -> Self:
        seen: set[str] = set()
        for member in self.members:
            if member.name in seen:
                raise ValueError(f"the device {member.name} is in the plan twice")
            seen.add(member.name)
        return self

    def frozen_until(self, now: datetime) -> datetime | None:
        """When the last of the freezes that hold at `now` ends; None where none does."""
        ends = [end for freeze in self.freeze if (end := freeze.ends_at(now))]
        return max(ends, default=None)


class At(_Noun):
    """Something that happened, and when."""

    at: AwareDatetime
