"""Figures of values that come in blocks, and how sure they are: whole blocks are drawn anew, never single values.

    mean_interval(kl, passage_of, draws=2000, seed=0, level=0.95)
    quantile_interval(kl, passage_of, 0.999, draws=2000, seed=0, level=0.95)

Values of one block (the tokens of a passage) hang together, so that they tell less than as many that do not; drawing
whole blocks keeps what hangs together (Efron and Tibshirani 1993, section 8.6; Künsch 1989 for series).

What belongs here: the mean over all values and a quantile of them, in each draw. What does not: what a block is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from milton_assets.statistics.bootstrap import Array, drawn_counts, percentile_interval, stream
from milton_assets.vocabulary.metric import Interval

METHOD = "block_bootstrap"
LEAST_BLOCKS = 2
"""One block says nothing of how the next one is."""

Blocks = npt.NDArray[np.intp]


def mean_interval(values: Array, block_of: Blocks, *, draws: int, seed: int, level: float) -> Interval | None:
    """The interval of the mean of `values` (n,), whose blocks are numbered from 0 in `block_of` (n,).

    None of fewer than two blocks.
    """
    if (blocks := int(block_of.max()) + 1) < LEAST_BLOCKS:
        return None
    counts = drawn_counts(stream(seed), blocks, draws)
    sums, sizes = np.bincount(block_of, values, blocks), np.bincount(block_of, minlength=blocks)
    return percentile_interval((counts @ sums) / (counts @ sizes), level, METHOD)


def quantile_interval(
    values: Array, block_of: Blocks, q: float, *, draws: int, seed: int, level: float
) -> Interval | None:
    """The same of the quantile `q` of `values`, which in each draw is the least value that `q` of them do not exceed.

    No draw has a value beyond the largest that was seen: of a far tail the upper end is too low rather than too high.
    """
    if (blocks := int(block_of.max()) + 1) < LEAST_BLOCKS:
        return None
    counts = drawn_counts(stream(seed), blocks, draws)
    order = np.argsort(values, kind="stable")
    weights = counts[:, block_of[order]]
    reached = np.cumsum(weights, axis=1)
    places = (reached >= q * reached[:, -1:]).argmax(axis=1)
    return percentile_interval(values[order][places], level, METHOD)


def quantile(values: Array, q: float) -> float:
    """The least of `values` that the share `q` of them does not exceed."""
    return float(np.quantile(values, q, method="inverted_cdf"))
