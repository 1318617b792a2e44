"""Looking again and again: how much of an error rate each look may spend, so that all looks together spend it once.

    share = group_share(1) * look_share(1)          # the first look at the first group of hypotheses: 0.49
    p_spent = p_value / share                       # compare with alpha, as if there were one look

What belongs here: the two series of shares, when to look, and what noise that was partly assumed does to a p-value.
What does not: the tests of one look (`paired`), tests that may be looked at after every
observation (`sequential`), and who counts looks (`selection.life`).

Both series sum to 1. Whatever the looks have to do with each other, the probability that any look at a true hypothesis
has `p / share <= alpha` is at most the sum of `alpha * share`, which is `alpha` (Boole's inequality).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import chdtri, stdtr, stdtrit

Array = npt.NDArray[np.float64]

FIRST_LOOK = 0.8
"""What the first look may spend of a hypothesis's share; evidence that does not change is looked at once."""

LATER_LOOK = 8.0
"""How many times as much a first look's p-value counts where it may spend only what a second look may: 0.8 / 0.1."""

ASSUMED_FREEDOM = 2
"""An assumed noise counts as much as one measured with two degrees of freedom: little."""


def is_look(seen: int) -> bool:
    """Whether the evidence has doubled, so that it is looked at: at 1, 2, 4, 8, … pieces of evidence."""
    return seen >= 1 and seen & (seen - 1) == 0


def look_share(seen: int) -> float:
    """The share of a look at `seen` pieces of evidence, of which there are 1, 2, 4, …: 0.8, 0.1, 0.05, 0.025, …

    Raises `ValueError` where `is_look` says no.
    """
    if not is_look(seen):
        raise ValueError(f"there is no look at {seen} pieces of evidence, only at 1, 2, 4, 8, …")
    doublings = seen.bit_length() - 1
    return FIRST_LOOK if doublings == 0 else float((1 - FIRST_LOOK) * 0.5**doublings)


def group_share(number: int) -> float:
    """The share of the group of hypotheses with that number, from 1: 0.61, 0.15, 0.07, … as 6 / (pi n)^2."""
    return float(6 / (math.pi * number) ** 2)


@dataclass(frozen=True)
class Noise:
    """The relative noise of a figure between campaigns: what was assumed, and what repeated measurements showed.

    `squares` is the sum of squared deviations of the figure's logarithm from the means of repeated measurements,
    `freedom` how many degrees of freedom that has. With none, the assumption stands alone.
    """

    assumed: float
    squares: float = 0.0
    freedom: int = 0

    @property
    def measured(self) -> float | None:
        """The standard deviation that was measured; None when nothing was measured twice."""
        return math.sqrt(self.squares / self.freedom) if self.freedom else None

    @property
    def total_freedom(self) -> int:
        """The degrees of freedom of `pooled`, the assumption's included."""
        return ASSUMED_FREEDOM + self.freedom

    def upper(self, level: float = 0.95) -> float | None:
        """What the noise is below, `level` sure of it; None when nothing was measured twice."""
        return math.sqrt(self.squares / float(chdtri(self.freedom, level))) if self.freedom else None

    def pooled(self, own: float) -> float:
        """The standard error of a figure whose error within its campaign is `own`.

        Repeated measurements hold the error within a campaign already, so it is added to the assumption only.
        """
        assumed = ASSUMED_FREEDOM * (self.assumed**2 + own**2)
        return math.sqrt((assumed + self.squares) / self.total_freedom)


def combined_freedom(whole: Array, own: Array, own_freedom: Array, rest_freedom: Array | int) -> Array:
    """The degrees of freedom of standard errors `whole` of which the part `own` is known with `own_freedom`, and what
    is left with `rest_freedom`: the harmonic mean of the two by their shares of the variance.

    Never more than Welch's and Satterthwaite's, which weigh by the squares of the shares, and would let a part that is
    well known outvote one that is hardly known and may be several times as large. Where `own` is more than the whole,
    nothing is left, and the whole is known with `rest_freedom`.
    """
    rest = np.maximum(whole**2 - own**2, 0.0)
    spread = own**2 / own_freedom + rest / rest_freedom
    combined = np.divide(own**2 + rest, spread, out=np.full(np.shape(whole), np.inf), where=spread > 0)
    return np.asarray(np.where((rest > 0) & np.isfinite(combined), combined, rest_freedom), dtype=np.float64)


def student_p(ratio: Array, freedom: Array | int) -> Array:
    """Two-sided p-values of differences over their standard errors, the errors known with `freedom`."""
    return np.asarray(2 * stdtr(freedom, -np.abs(ratio)), dtype=np.float64)


def student_reach(freedom: Array | int, outside: float) -> Array:
    """How many standard errors each side an interval reaches that leaves `outside` out in all."""
    return np.asarray(stdtrit(freedom, 1 - outside / 2), dtype=np.float64)


def mean_p(gains: Array) -> Array:
    """Two-sided p-values of "the mean gain is 0", one for each row of `gains` (comparisons, cases), by Student's t.

    Never below 2 / 2^n, the smallest that n cases whose signs are tosses of a fair coin can give. One case tells
    nothing.
    """
    cases = gains.shape[1]
    if cases < 2:
        return np.ones(len(gains))
    mean, spread = gains.mean(axis=1), gains.std(axis=1, ddof=1) / math.sqrt(cases)
    ratio = np.divide(np.abs(mean), spread, out=np.where(np.abs(mean) > 1e-12, np.inf, 0.0), where=spread > 1e-12)
    return np.asarray(np.maximum(student_p(ratio, cases - 1), 2.0 ** (1 - min(cases, 1000))), dtype=np.float64)
