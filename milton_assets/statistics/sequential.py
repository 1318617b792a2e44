"""Judging a stream of checks as they come, for ever, with a stated rate of false alarms.

    watched = Watched.of(SPEED, threshold(checks_per_year=1e6, alarms_per_year=1.0, streams=5))
    watched = watched.after(ratio)             # one more check
    if watched.alarms: …

What belongs here: the detectors and their bound. What does not: what is checked (`edge.serving.watch`). No numpy:
devices run this.

A check is held against grades: "less than half of what is usual" is one. Of each grade it is *said* how often a check
of a well device may be that bad, whatever came before (`rate`). Let x be 1 when it is, with p0 = rate and p1 = .9:

    e = p1 / p0  when x = 1,     (1 - p1) / (1 - p0)  when x = 0,        so that E[e | past] <= 1 on a well device
    R <- (R + 1) e                                                       (Shiryaev and Roberts)

R minus the number of checks is then a supermartingale, so by optional stopping the mean number of checks until R first
reaches c is at least c: an e-detector (Shin, Ramdas, Rinaldo, 2022, theorem 2.4; for two simple hypotheses Pollak,
1985). The mean over grades is again one. After an alarm it begins anew, so alarms of a well device come at most once in
c checks, in the long run, and of `streams` of them at most `streams` / c. `threshold` turns that around.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from milton_assets.vocabulary.errors import BadInput

_RATE_WHEN_ILL = 0.9


@dataclass(frozen=True)
class Grade:
    """A value below `below` is bad; of a well device at most `rate` of the checks are, whatever came before."""

    below: float
    rate: float

    def __post_init__(self) -> None:
        if not 0 < self.rate < _RATE_WHEN_ILL:
            raise BadInput(f"a grade's rate is {self.rate}", expected=f"a share above 0 and below {_RATE_WHEN_ILL}")

    def e_value(self, value: float) -> float:
        """What a check at `value` is worth as evidence; at most 1 in the mean on a well device."""
        if value < self.below:
            return _RATE_WHEN_ILL / self.rate
        return (1 - _RATE_WHEN_ILL) / (1 - self.rate)


@dataclass(frozen=True)
class Watched:
    """A stream of checks so far. `evidence` is R of each grade, `checks` how many there were since it began anew."""

    grades: tuple[Grade, ...]
    threshold: float
    evidence: tuple[float, ...]
    checks: int = 0

    @classmethod
    def of(cls, grades: Sequence[Grade], threshold: float) -> Self:
        """A stream of which nothing was seen yet."""
        if not grades or threshold <= 1:
            raise BadInput(
                f"{len(grades)} grades with the threshold {threshold}", expected="a grade, a threshold above 1"
            )
        return cls(tuple(grades), threshold, tuple(0.0 for _ in grades))

    def after(self, value: float) -> Self:
        """The stream after one more check. One that alarmed begins anew."""
        before = tuple(0.0 for _ in self.grades) if self.alarms else self.evidence
        after = tuple((r + 1) * grade.e_value(value) for r, grade in zip(before, self.grades, strict=True))
        return replace(self, evidence=after, checks=1 if self.alarms else self.checks + 1)

    @property
    def mean_evidence(self) -> float:
        """The mean over the grades, which is held against the threshold."""
        return sum(self.evidence) / len(self.evidence)

    @property
    def alarms(self) -> bool:
        """Whether the evidence says that the device is not well."""
        return self.mean_evidence >= self.threshold


def threshold(*, checks_per_year: float, alarms_per_year: float, streams: int) -> float:
    """The threshold for each of `streams` streams, so that all of them together raise so many false alarms a year.

    Raises `BadInput` for a budget that is none.
    """
    if not (checks_per_year > 0 and alarms_per_year > 0 and streams >= 1):
        raise BadInput(
            f"{alarms_per_year} alarms a year over {streams} streams of {checks_per_year} checks",
            expected="numbers above 0",
        )
    return max(checks_per_year * streams / alarms_per_year, 2.0)
