"""Whether a rate of failures is small or large, looked at after every trial, with both errors stated.

    test = RateTest(tolerable=0.02, intolerable=0.2, alpha=0.05, beta=0.05)
    test.verdict(begun=20, well=20, failed=0)        # Rate.SMALL: 5 % is the chance of this where the rate is 20 %

What belongs here: the test and what it takes to satisfy it. What does not: what counts as a failure, and what is done
about it (`milton_assets.rollout`). No numpy: the counts are few and the formulas exact.

The ratio of the likelihoods of `intolerable` and of `tolerable`, over n trials of which f failed,

    L = (p1 / p0)^f ((1 - p1) / (1 - p0))^(n - f)

is a supermartingale from 1 wherever each trial fails with a probability of at most p0 given what came before, and 1 / L
is one wherever that is at least p1 (each factor is linear in the probability, and has the mean 1 at p0 and at p1). So
by Ville's inequality (1939) L ever reaches 1 / beta with a probability of at most beta where the rate is tolerable, and
1 / L ever reaches 1 / alpha with one of at most alpha where it is intolerable: exact, whatever the number of looks.
This is Wald's sequential test (1945) with the bounds that need no approximation.

Trials that run beside one another end in an order that depends on how they end: what fails, fails fast. Counted in the
order of their ends they would show too many failures early on, so they are counted in the order in which they began,
and one that has not ended counts for the verdict that is *not* drawn: as well before "large", as failed before "small".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from milton_assets.vocabulary.errors import BadInput


class Rate(StrEnum):
    """What the evidence says of a rate of failures."""

    SMALL = "small"
    LARGE = "large"
    NOT_YET = "not yet"


@dataclass(frozen=True)
class RateTest:
    """A test of `tolerable` against `intolerable`, both shares of trials that fail.

    `alpha` bounds the probability of ever saying "small" where the rate is intolerable, `beta` that of ever saying
    "large" where it is tolerable. Raises `BadInput` for rates and errors that make no test.
    """

    tolerable: float
    intolerable: float
    alpha: float
    beta: float

    def __post_init__(self) -> None:
        if not 0 < self.tolerable < self.intolerable < 1:
            raise BadInput(
                f"failure rates of {self.tolerable:g} (tolerable) and {self.intolerable:g} (intolerable) make no test",
                expected="two shares above 0 and below 1, the tolerable one smaller",
            )
        if not (0 < self.alpha < 1 and 0 < self.beta < 1 and self.alpha + self.beta < 1):
            raise BadInput(
                f"the errors {self.alpha:g} and {self.beta:g} make no test",
                expected="two probabilities above 0 that sum to less than 1",
            )

    def verdict(self, *, begun: int, well: int, failed: int) -> Rate:
        """What so many trials say, of which `well` and `failed` have ended. Raises `BadInput` for counts that are
        none."""
        if min(begun, well, failed) < 0 or well + failed > begun:
            raise BadInput(f"{well} well and {failed} failed of {begun} begun", expected="counts that add up")
        if self.evidence(begun, failed) >= -math.log(self.beta):
            return Rate.LARGE
        if -self.evidence(begun, begun - well) >= -math.log(self.alpha):
            return Rate.SMALL
        return Rate.NOT_YET

    def evidence(self, trials: int, failed: int) -> float:
        """The logarithm of L: above 0 it speaks for `intolerable`, below 0 for `tolerable`."""
        return failed * math.log(self.intolerable / self.tolerable) + (trials - failed) * math.log(
            (1 - self.intolerable) / (1 - self.tolerable)
        )

    def trials_to_show_small(self, failed: int = 0) -> int:
        """How many trials it takes, `failed` of them failed, until the rate is shown to be small."""
        each = math.log((1 - self.tolerable) / (1 - self.intolerable))
        needed = -math.log(self.alpha) + failed * math.log(self.intolerable / self.tolerable)
        # The division may round to either side of a whole number; the verdict decides.
        trials = max(failed, math.floor(needed / each) + failed - 1)
        while -self.evidence(trials, failed) < -math.log(self.alpha):
            trials += 1
        return trials

    def failures_to_show_large(self, trials: int) -> int | None:
        """How many of so many trials have to fail until the rate is shown to be large; None where all are too few."""
        return next((n for n in range(trials + 1) if self.evidence(trials, n) >= -math.log(self.beta)), None)


def highest_rate(failed: int, trials: int, level: float = 0.95) -> float:
    """The failure rate that so many failures of so many trials leave possible, `level` sure of it.

    The upper bound of Clopper and Pearson (1934), one-sided: at this rate, so few failures have the probability
    1 - `level`. For one look at the counts; `RateTest` is for many. 1 where all failed or none was tried.
    """
    if not 0 <= failed <= trials:
        raise BadInput(f"{failed} failures of {trials} trials", expected="counts that add up")
    if failed == trials:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _as_few(failed, trials, middle) > 1 - level else (low, middle)
    return high


def _as_few(failed: int, trials: int, rate: float) -> float:
    """The probability of at most so many failures at that rate, in logarithms, as the binomials of a fleet overflow."""
    every = math.lgamma(trials + 1)
    return math.fsum(
        math.exp(
            every
            - math.lgamma(n + 1)
            - math.lgamma(trials - n + 1)
            + n * math.log(rate)
            + (trials - n) * math.log1p(-rate)
        )
        for n in range(failed + 1)
    )
