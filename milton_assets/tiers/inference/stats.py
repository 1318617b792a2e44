"""The figures of a tier's requests with their intervals.

What belongs here: every statistic of a sample and of pooled gaps, each with a 95 % confidence interval or none when the
sample cannot bear one. What does not: the formulas (`milton_assets.statistics`), and which figures a tier reports.

Gaps are resampled in random groups of whole requests (Wolter, *Introduction to Variance Estimation*, chapter 2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from milton_assets.statistics.bootstrap import drawn_counts, percentile_interval, stream
from milton_assets.statistics.samples import LEAST_FOR_SPREAD, mean_interval, quantile_interval, std_interval
from milton_assets.statistics.shares import LEVEL, wilson
from milton_assets.tiers.inference.histogram import GroupedHistogram, LogHistogram, quantiles_ns
from milton_assets.vocabulary.metric import Interval

RESAMPLES = 1000
STATISTICS = ("mean", "median", "std", "p95", "p99")
_QUANTILE = {"median": 0.5, "p95": 0.95, "p99": 0.99}

Figure = tuple[float, Interval | None]
Floats = NDArray[np.float64]


def summarise(values: Sequence[float] | Floats) -> dict[str, Figure]:
    """Every statistic of `values` (at least one) with its interval. `std` of a single value is NaN.

    Percentiles interpolate linearly (Hyndman and Fan's type 7); their intervals are order statistics, and are absent
    when the sample is too small to hold both ends (p99 needs several hundred values).
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    figures: dict[str, Figure] = {
        "mean": (float(ordered.mean()), mean_interval(ordered)),
        "std": (float(ordered.std(ddof=1)) if ordered.size > 1 else math.nan, std_interval(ordered)),
    }
    for name, q in _QUANTILE.items():
        figures[name] = (float(np.quantile(ordered, q)), quantile_interval(ordered, q))
    return {name: figures[name] for name in STATISTICS}


def share(successes: int, n: int) -> Figure:
    """A share of `n` (at least 1) attempts with its Wilson interval."""
    return successes / n, wilson(successes, n)


def summarise_gaps(gaps: GroupedHistogram, seed: int = 0) -> dict[str, Figure]:
    """Every statistic of pooled gaps in milliseconds, with intervals from resampling groups of whole requests."""
    figures = {"mean": gaps.total.mean_ns, "std": gaps.total.std_ns}
    figures |= {name: gaps.total.quantile_ns(q) for name, q in _QUANTILE.items()}
    intervals = _gap_intervals(gaps.groups, seed)
    return {name: (figures[name] / 1e6, intervals.get(name)) for name in STATISTICS}


def _gap_intervals(groups: Sequence[LogHistogram], seed: int) -> dict[str, Interval]:
    groups = [group for group in groups if group.n]
    if len(groups) < LEAST_FOR_SPREAD:
        return {}
    weights = drawn_counts(stream(seed), len(groups), RESAMPLES)
    counts = np.stack([group.counts for group in groups])
    bins = np.flatnonzero(counts.any(axis=0))
    resampled = weights @ counts[:, bins]
    sums_ns = weights @ np.array([group.mean_ns * group.n for group in groups])
    samples = {name: quantiles_ns(resampled, q, bins) for name, q in _QUANTILE.items()}
    samples["mean"] = sums_ns / resampled.sum(axis=1)
    return {name: percentile_interval(sample / 1e6, LEVEL, "group_bootstrap") for name, sample in samples.items()}
