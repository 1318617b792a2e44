"""Figures with their intervals.

What belongs here: estimators of mean, median, standard deviation and percentiles, of shares and of rates, each with a
95 % confidence interval or none when the sample cannot bear one. What does not: which figures a tier reports.

Sources: order-statistic intervals, Conover, *Practical Nonparametric Statistics*, section 3.2; Wilson (1927) for
shares; the ratio estimator, Cochran, *Sampling Techniques*, chapter 6; random groups, Wolter, *Introduction to
Variance Estimation*, chapter 2; the percentile bootstrap, Efron and Tibshirani (1993).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import special

from milton_assets.tiers.inference.histogram import GroupedHistogram, LogHistogram, quantiles_ns
from milton_assets.vocabulary.metric import Interval

LEVEL = 0.95
RESAMPLES = 1000
STATISTICS = ("mean", "median", "std", "p95", "p99")
_QUANTILE = {"median": 0.5, "p95": 0.95, "p99": 0.99}
_MIN_FOR_SPREAD = 8

Figure = tuple[float, Interval | None]
Floats = NDArray[np.float64]


def summarise(values: Sequence[float] | Floats) -> dict[str, Figure]:
    """Every statistic of `values` (at least one) with its interval. `std` of a single value is NaN.

    Percentiles interpolate linearly (Hyndman and Fan's type 7); their intervals are order statistics, and are absent
    when the sample is too small to hold both ends (p99 needs several hundred values).
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    figures: dict[str, Figure] = {
        "mean": (float(ordered.mean()), _mean_interval(ordered)),
        "std": (float(ordered.std(ddof=1)) if ordered.size > 1 else math.nan, _std_interval(ordered)),
    }
    for name, q in _QUANTILE.items():
        figures[name] = (float(np.quantile(ordered, q)), quantile_interval(ordered, q))
    return {name: figures[name] for name in STATISTICS}


def _mean_interval(values: Floats) -> Interval | None:
    if values.size < 2:
        return None
    half = float(special.stdtrit(values.size - 1, 0.5 + LEVEL / 2)) * values.std(ddof=1) / math.sqrt(values.size)
    centre = values.mean()
    return Interval(low=centre - half, high=centre + half, level=LEVEL, method="student_t")


def _std_interval(values: Floats) -> Interval | None:
    n = values.size
    deviation = float(values.std(ddof=1)) if n >= _MIN_FOR_SPREAD else 0.0
    if deviation == 0:
        return None
    fourth = float(((values - values.mean()) ** 4).mean())
    variance = max(fourth - deviation**4 * (n - 3) / (n - 1), 0.0) / n
    half = float(special.ndtri(0.5 + LEVEL / 2)) * math.sqrt(variance) / (2 * deviation)
    return Interval(low=max(0.0, deviation - half), high=deviation + half, level=LEVEL, method="fourth_moment")


def quantile_interval(ordered: Floats, q: float) -> Interval | None:
    """The order-statistic interval of the `q` quantile of ascending `ordered`; None when the sample is too small.

    With K ~ Binomial(n, q) values below the quantile, the ranks l < u are the widest with P(K < l) and P(K >= u) at
    most (1 - LEVEL)/2 each. It assumes nothing about the distribution.
    """
    n = ordered.size
    tail = (1 - LEVEL) / 2
    cdf = special.bdtr(np.arange(n), n, q) if n else np.empty(0)
    low_rank = int(np.searchsorted(cdf, tail, side="right"))
    high_rank = int(np.searchsorted(cdf, 1 - tail, side="left")) + 1
    if low_rank < 1 or high_rank > n:
        return None
    return Interval(
        low=float(ordered[low_rank - 1]), high=float(ordered[high_rank - 1]), level=LEVEL, method="order_statistic"
    )


def share(successes: int, n: int) -> Figure:
    """A share of `n` (at least 1) attempts with its Wilson interval."""
    z = float(special.ndtri(0.5 + LEVEL / 2))
    p = successes / n
    denominator = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / denominator
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / denominator
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return p, Interval(low=low, high=high, level=LEVEL, method="wilson")


def least_n(wanted: float) -> int:
    """How many attempts it takes at least for the low end of `share`'s interval to reach `wanted` (below 1)."""
    z = float(special.ndtri(0.5 + LEVEL / 2))
    return math.ceil(z * z * wanted / (1 - wanted))


def rate(amounts: Sequence[float] | Floats, seconds: Sequence[float] | Floats) -> Figure:
    """Σ amounts / Σ seconds over units of observation (rounds, slices of time), by the ratio estimator.

    The interval needs two units and is Student's t on the residuals amount − rate · seconds, cut at zero.
    """
    a, s = np.asarray(amounts, dtype=np.float64), np.asarray(seconds, dtype=np.float64)
    value = float(a.sum() / s.sum()) if s.sum() > 0 else math.nan
    if a.size < 2 or not math.isfinite(value):
        return value, None
    residuals = a - value * s
    deviation = math.sqrt(float((residuals**2).sum()) / (a.size - 1) / a.size) / float(s.mean())
    half = float(special.stdtrit(a.size - 1, 0.5 + LEVEL / 2)) * deviation
    return value, Interval(low=max(0.0, value - half), high=value + half, level=LEVEL, method="ratio_student_t")


def summarise_gaps(gaps: GroupedHistogram, seed: int = 0) -> dict[str, Figure]:
    """Every statistic of pooled gaps in milliseconds, with intervals from resampling groups of whole requests."""
    figures = {"mean": gaps.total.mean_ns, "std": gaps.total.std_ns}
    figures |= {name: gaps.total.quantile_ns(q) for name, q in _QUANTILE.items()}
    intervals = _gap_intervals(gaps.groups, seed)
    return {name: (figures[name] / 1e6, intervals.get(name)) for name in STATISTICS}


def _gap_intervals(groups: Sequence[LogHistogram], seed: int) -> dict[str, Interval]:
    groups = [group for group in groups if group.n]
    if len(groups) < _MIN_FOR_SPREAD:
        return {}
    shares = np.full(len(groups), 1 / len(groups))
    weights = np.random.default_rng(seed).multinomial(len(groups), shares, size=RESAMPLES)
    counts = np.stack([group.counts for group in groups])
    bins = np.flatnonzero(counts.any(axis=0))
    resampled = weights @ counts[:, bins]
    sums_ns = weights @ np.array([group.mean_ns * group.n for group in groups])
    samples = {name: quantiles_ns(resampled, q, bins) for name, q in _QUANTILE.items()}
    samples["mean"] = sums_ns / resampled.sum(axis=1)
    return {name: _bootstrap_interval(sample / 1e6) for name, sample in samples.items()}


def _bootstrap_interval(sample: Floats) -> Interval:
    low, high = np.quantile(sample, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(low=float(low), high=float(high), level=LEVEL, method="group_bootstrap")
