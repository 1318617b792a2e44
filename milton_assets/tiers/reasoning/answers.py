"""What counts as right: the gold answer of a case, as types that validate themselves.

What belongs here: the shapes of a gold answer, their JSON, and how one is written for people. What does not:
comparing with what a model wrote (`matching`).
"""

from __future__ import annotations

import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from milton_assets.tiers.reasoning.quantities import UNITS
from milton_assets.tiers.reasoning.text import phrase

_CONFIG = ConfigDict(frozen=True, extra="forbid")

MOST_ALIAS_CHARACTERS = 8000
"""As long as an answer may be."""

Alias = Annotated[str, Field(min_length=1, max_length=MOST_ALIAS_CHARACTERS)]


def _check_aliases(aliases: tuple[str, ...]) -> tuple[str, ...]:
    for alias in aliases:
        if not phrase(alias):
            raise ValueError(f"the alias {alias!r} has no word left after normalising")
    return aliases


class TextAnswer(BaseModel):
    """A name or phrase; any of `accept` is right. The first is how it is shown."""

    model_config = _CONFIG

    type: Literal["text"] = "text"
    accept: tuple[Alias, ...] = Field(min_length=1)

    _aliases = field_validator("accept")(_check_aliases)

    def shown(self) -> str:
        """The answer, for people."""
        return self.accept[0]


class PremiseAnswer(BaseModel):
    """What a question wrongly takes for granted, and what is true instead.

    `premise` holds phrases that state the premise, `denied` further phrases that deny it once they are negated and
    say nothing otherwise, and `states` whole statements that a model which took the premise for granted does not make:
    the correction ("the capital of Australia is Canberra") or a denial ("never joined"). The first is how it is shown.
    """

    model_config = _CONFIG

    type: Literal["premise"] = "premise"
    premise: tuple[Alias, ...] = Field(min_length=1)
    denied: tuple[Alias, ...] = ()
    states: tuple[Alias, ...] = Field(min_length=1)

    _aliases = field_validator("premise", "denied", "states")(_check_aliases)

    def shown(self) -> str:
        """The answer, for people."""
        return self.states[0]


class NumberAnswer(BaseModel):
    """A number within `abs_tol` or `rel_tol` (whichever is wider), in `unit` when the question fixes one."""

    model_config = _CONFIG

    type: Literal["number"] = "number"
    value: float = Field(allow_inf_nan=False)
    unit: str | None = None
    abs_tol: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    rel_tol: float = Field(default=0.0, ge=0, le=0.5)

    @field_validator("unit")
    @classmethod
    def _known_unit(cls, unit: str | None) -> str | None:
        if unit is not None and unit not in UNITS:
            raise ValueError(f"unknown unit {unit!r}; known are {sorted({u.symbol for u in UNITS.values()})}")
        return unit

    def shown(self) -> str:
        """The answer, for people."""
        return f"{self.value:.12g}" + (f" {self.unit}" if self.unit else "")


class DateAnswer(BaseModel):
    """A date as precise as its fields: a year, a day of a month, or all three."""

    model_config = _CONFIG

    type: Literal["date"] = "date"
    year: int | None = Field(default=None, ge=1000, le=2999)
    month: int | None = Field(default=None, ge=1, le=12)
    day: int | None = Field(default=None, ge=1, le=31)

    @model_validator(mode="after")
    def _a_date(self) -> Self:
        if self.year is None and (self.month is None or self.day is None):
            raise ValueError("a date needs a year, or a month and a day")
        if self.day is not None:
            if self.month is None:
                raise ValueError("a date with a day needs a month")
            datetime.date(self.year or 2000, self.month, self.day)
        return self

    def shown(self) -> str:
        """The answer, for people."""
        if self.month is None:
            return str(self.year)
        date = datetime.date(self.year or 2000, self.month, self.day or 1)
        parts = [str(self.day) if self.day else "", f"{date:%B}", str(self.year) if self.year else ""]
        return " ".join(part for part in parts if part)


class ListAnswer(BaseModel):
    """Several items, each with its aliases; `need` of them make a right answer (all, when left out).

    The set is closed: naming anything else is wrong. `open` says that there are right items which are not listed, so
    that others do no harm.
    """

    model_config = _CONFIG

    type: Literal["list"] = "list"
    items: tuple[tuple[Alias, ...], ...] = Field(min_length=2)
    need: int | None = None
    open: bool = False

    @field_validator("items")
    @classmethod
    def _items(cls, items: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        for item in items:
            if not item:
                raise ValueError("an item of the list has no alias")
            _check_aliases(item)
        return items

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.need is not None and not 1 <= self.need <= len(self.items):
            raise ValueError(f"need is {self.need}, of {len(self.items)} items")
        return self

    @property
    def needed(self) -> int:
        """How many items a right answer holds."""
        return len(self.items) if self.need is None else self.need

    def shown(self) -> str:
        """The answer, for people."""
        return ", ".join(item[0] for item in self.items[: self.needed])


Gold = Annotated[TextAnswer | PremiseAnswer | NumberAnswer | DateAnswer | ListAnswer, Field(discriminator="type")]
