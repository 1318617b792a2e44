"""Scores: metrics become utilities in 0..1, utilities become one weighted sum.

What belongs here: the two normalisations and the sum, on arrays whose last axis is the pool, so that one definition
serves the point estimate and every resampling. What does not: order among equals (`ranking`).

`out` is where a result is written, as in numpy, and may be the argument itself: the pages of a new table of a few
megabytes take the system longer than the arithmetic on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from milton_assets.selection.policy import Anchors, Criterion, Normalisation, Scale
from milton_assets.vocabulary.metric import Direction

Array = npt.NDArray[np.float64]

SCORE_DECIMALS = 12
"""Scores are rounded here, so that equal candidates tie whatever the order of the additions."""


def utilities(values: Array, criterion: Criterion, normalisation: Normalisation, out: Array | None = None) -> Array:
    """Utilities in 0..1, higher is better, of `values` (..., candidates) of one criterion."""
    if normalisation is Normalisation.MINMAX_POOL:
        return minmax_pool(values, criterion.direction, out)
    if criterion.anchors is None:
        raise ValueError(f"{criterion.metric} has no anchors")
    return anchored(values, criterion.anchors, out)


def minmax_pool(values: Array, direction: Direction, out: Array | None = None) -> Array:
    """(value - worst) / (best - worst) over the last axis. Where all are equal, each is the best: 1."""
    low = values.min(axis=-1, keepdims=True)
    high = values.max(axis=-1, keepdims=True)
    span = high - low
    above, below = (values, low) if direction is Direction.HIGHER else (high, values)
    gained: Array = np.subtract(above, below, out=out)
    if (apart := span > 0).all():
        # The usual case: numpy divides by a mask a good deal slower.
        np.divide(gained, span, out=gained)
    else:
        np.divide(gained, span, out=gained, where=apart)
        np.copyto(gained, 1.0, where=span <= 0)
    return gained


def anchored(values: Array, anchors: Anchors, out: Array | None = None) -> Array:
    """Interpolation between the anchors, on their scale, clipped to 0..1. A value of 0 on a log scale is beyond."""
    result = np.empty_like(values) if out is None else out
    if anchors.scale is Scale.LOG:
        worst, best = np.log10(anchors.worst), np.log10(anchors.best)
        np.maximum(values, min(anchors.worst, anchors.best), out=result)
        np.log10(result, out=result)
        result -= worst
    else:
        worst, best = np.float64(anchors.worst), np.float64(anchors.best)
        np.subtract(values, worst, out=result)
    result /= best - worst
    return np.clip(result, 0.0, 1.0, out=result)


def weighted_sum(parts: Sequence[Array], weights: Sequence[float]) -> Array:
    """The score: the sum of weight x utility, criterion after criterion, rounded to `SCORE_DECIMALS`."""
    return np.round(plain_sum(parts, weights), SCORE_DECIMALS)


def plain_sum(parts: Sequence[Array], weights: Sequence[float]) -> Array:
    """The sum of weight x utility, criterion after criterion, not rounded."""
    total = weights[0] * parts[0]
    product = np.empty_like(total)
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        total += np.multiply(part, weight, out=product)
    return total


def beyond_anchors(values: Array, criterion: Criterion) -> npt.NDArray[np.bool_]:
    """Which values lie beyond the criterion's anchors, where differences no longer count."""
    if criterion.anchors is None:
        return np.zeros(values.shape, dtype=bool)
    low, high = sorted((criterion.anchors.worst, criterion.anchors.best))
    return (values < low) | (values > high)
