"""How well one figure tells two groups apart.

What belongs here: the area under the ROC curve and its interval. What does not: who belongs to which group.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from milton_assets.statistics.bootstrap import drawn_counts, percentile_interval, stream
from milton_assets.vocabulary.metric import Interval

Array = npt.NDArray[np.float64]


def auroc(positive: Array, negative: Array) -> float:
    """The probability that a value of `positive` is above one of `negative`, ties counting half (Mann-Whitney)."""
    return float(_wins(positive, negative).mean())


def auroc_interval(
    positive: Array, negative: Array, *, resamples: int, seed: int, level: float, method: str
) -> Interval | None:
    """A bootstrap interval of `auroc`, both groups drawn anew. None where a group has fewer than two."""
    if min(len(positive), len(negative)) < 2:
        return None
    wins, rng = _wins(positive, negative), stream(seed)
    above = drawn_counts(rng, len(positive), resamples) @ wins
    drawn = np.einsum("bn,bn->b", above, drawn_counts(rng, len(negative), resamples)) / wins.size
    return percentile_interval(drawn, level, method)


def _wins(positive: Array, negative: Array) -> Array:
    left, right = positive[:, None], negative[None, :]
    return np.asarray((left > right) + 0.5 * (left == right), dtype=np.float64)
