"""How sure a mean over queries is: percentile bootstrap, vectorised.

What belongs here: resampling queries. What does not: what is resampled.

Queries, not documents or calls, are the unit that is drawn: another test set would have other queries. All columns
are resampled with the same draws, so differences between them are paired.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from milton_assets.vocabulary.metric import Interval

Floats = npt.NDArray[np.float64]
METHOD = "query_bootstrap"


def intervals_of_means(values: Floats, *, resamples: int, seed: int, level: float) -> list[Interval | None]:
    """An interval for each column's mean over the rows (queries). None where fewer than two queries can tell."""
    count = len(values)
    if count < 2:
        return [None] * values.shape[1]
    drawn = _draw(count, resamples, seed) @ values / count
    return [_interval(column, level) for column in drawn.T]


def auroc(positive: Floats, negative: Floats) -> float:
    """The probability that a value of `positive` is above one of `negative`, ties counting half (Mann-Whitney)."""
    return float(_wins(positive, negative).mean())


def auroc_interval(positive: Floats, negative: Floats, *, resamples: int, seed: int, level: float) -> Interval | None:
    """A bootstrap interval of `auroc`, both groups resampled. None where a group has fewer than two."""
    if min(len(positive), len(negative)) < 2:
        return None
    wins = _wins(positive, negative)
    above = _draw(len(positive), resamples, seed) @ wins
    drawn = np.einsum("bn,bn->b", above, _draw(len(negative), resamples, seed + 1)) / wins.size
    return _interval(drawn, level)


def _wins(positive: Floats, negative: Floats) -> Floats:
    left, right = positive[:, None], negative[None, :]
    return np.asarray((left > right) + 0.5 * (left == right), dtype=np.float64)


def _draw(count: int, resamples: int, seed: int) -> Floats:
    """How often each of `count` rows is drawn in each resample, shape (resamples, count)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)


def _interval(drawn: Floats, level: float) -> Interval:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high), level=level, method=METHOD)
