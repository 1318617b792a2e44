"""A sample's mean, deviation, quantiles and rate, and how sure each is.

What belongs here: intervals of the figures of one sample, or none when the sample cannot bear one. What does not:
shares (`shares`), and which figures a tier reports.

Sources: order-statistic intervals, Conover, *Practical Nonparametric Statistics*, section 3.2; the ratio estimator,
Cochran, *Sampling Techniques*, chapter 6.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import special

from milton_assets.statistics.normal import z_of_level
from milton_assets.statistics.shares import LEVEL
from milton_assets.vocabulary.metric import Interval

LEAST_FOR_SPREAD = 8
"""Fewer values, or groups of them, tell too little of how far they scatter."""

Floats = npt.NDArray[np.float64]


def mean_interval(values: Floats, level: float = LEVEL) -> Interval | None:
    """Student's t interval of the mean of `values`; None of fewer than two."""
    if values.size < 2:
        return None
    half = float(special.stdtrit(values.size - 1, 0.5 + level / 2)) * values.std(ddof=1) / math.sqrt(values.size)
    centre = values.mean()
    return Interval(low=centre - half, high=centre + half, level=level, method="student_t")


def std_interval(values: Floats, level: float = LEVEL) -> Interval | None:
    """The interval of the sample standard deviation from the fourth moment; None of fewer than eight or no spread."""
    n = values.size
    deviation = float(values.std(ddof=1)) if n >= LEAST_FOR_SPREAD else 0.0
    if deviation == 0:
        return None
    fourth = float(((values - values.mean()) ** 4).mean())
    variance = max(fourth - deviation**4 * (n - 3) / (n - 1), 0.0) / n
    half = z_of_level(level) * math.sqrt(variance) / (2 * deviation)
    return Interval(low=max(0.0, deviation - half), high=deviation + half, level=level, method="fourth_moment")


def quantile_interval(ordered: Floats, q: float, level: float = LEVEL) -> Interval | None:
    """The order-statistic interval of the `q` quantile of ascending `ordered`; None when the sample is too small.

    With K ~ Binomial(n, q) values below the quantile, the ranks l < u are the widest with P(K < l) and P(K >= u) at
    most (1 - level)/2 each. It assumes nothing about the distribution.
    """
    n = ordered.size
    tail = (1 - level) / 2
    cdf = special.bdtr(np.arange(n), n, q) if n else np.empty(0)
    low_rank = int(np.searchsorted(cdf, tail, side="right"))
    high_rank = int(np.searchsorted(cdf, 1 - tail, side="left")) + 1
    if low_rank < 1 or high_rank > n:
        return None
    return Interval(
        low=float(ordered[low_rank - 1]), high=float(ordered[high_rank - 1]), level=level, method="order_statistic"
    )


def medians_of_others(values: Mapping[str, float]) -> dict[str, float]:
    """For each name the median of everybody else's value, in one sort; empty where there is nobody else."""
    order = sorted(values, key=values.__getitem__)
    others = len(order) - 1
    found = {}
    for place, name in enumerate(order if others else ()):
        # The middle of those left: from this one's place on, each has moved down by one.
        middle = [values[order[at + (at >= place)]] for at in ((others - 1) // 2, others // 2)]
        found[name] = (middle[0] + middle[1]) / 2
    return found


def rate(
    amounts: Sequence[float] | Floats, seconds: Sequence[float] | Floats, level: float = LEVEL
) -> tuple[float, Interval | None]:
    """Σ amounts / Σ seconds over units of observation (rounds, slices of time), by the ratio estimator.

    The interval needs two units and is Student's t on the residuals amount − rate · seconds, cut at zero.
    """
    a, s = np.asarray(amounts, dtype=np.float64), np.asarray(seconds, dtype=np.float64)
    value = float(a.sum() / s.sum()) if s.sum() > 0 else math.nan
    if a.size < 2 or not math.isfinite(value):
        return value, None
    residuals = a - value * s
    deviation = math.sqrt(float((residuals**2).sum()) / (a.size - 1) / a.size) / float(s.mean())
    half = float(special.stdtrit(a.size - 1, 0.5 + level / 2)) * deviation
    return value, Interval(low=max(0.0, value - half), high=value + half, level=level, method="ratio_student_t")
