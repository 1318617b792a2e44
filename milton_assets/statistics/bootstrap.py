"""One seeded bootstrap: units are drawn with replacement, and what is asked of them is asked again of each draw.

    counts = drawn_counts(stream(seed), len(values), draws)
    low, high = percentile_ends(drawn_means(counts, values), outside=0.05)

What belongs here: the stream, the draws and the percentile interval (Efron and Tibshirani 1993, chapters 6 and 13).
What does not: what a unit is (a case, a query, a group of requests), which its caller knows.

A draw is kept as how often each unit came, so that any sum over units is one matrix product, and columns that share the
counts are paired.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from milton_assets.vocabulary.metric import Interval

Array = npt.NDArray[np.float64]


def stream(seed: int) -> np.random.RandomState:
    """The random numbers of `seed` (0 to 2³² - 1), from a generator whose streams are frozen for ever (NEP 19)."""
    return np.random.RandomState(seed)


def drawn_counts(rng: np.random.RandomState, units: int, draws: int) -> Array:
    """How often each unit comes in each draw, (draws, units); each row sums to `units`, which is at least 1."""
    return rng.multinomial(units, np.full(units, 1 / units), size=draws).astype(np.float64)


def drawn_means(counts: Array, values: Array, out: Array | None = None) -> Array:
    """The mean of each column of `values` (units, columns) in each draw, (draws, columns); in `out` if given."""
    means: Array = np.matmul(counts, values, out=out)
    means /= len(values)
    return means


def widened(drawn: Array, centre: Array, units: int) -> Array:
    """`drawn` (draws, columns) spread about `centre` (columns,) by sqrt(n / (n - 1)), in place.

    The bootstrap's spread of a mean is that of n, not n - 1, in the denominator: too narrow for few units.
    """
    drawn -= centre
    drawn *= math.sqrt(units / max(units - 1, 1))
    drawn += centre
    return drawn


def percentile_ends(drawn: Array, *, outside: float) -> tuple[Array, Array]:
    """The ends of the percentile interval of each column of `drawn` (draws, …) that leaves `outside` out in all.

    They are those of `numpy.quantile` to the last bit, NaN where a draw is NaN: between two draws it goes in a straight
    line. It finds both ends at once and sorts more; of thousands of columns that takes five times as long.
    """
    last = len(drawn) - 1
    ordered = np.array(np.moveaxis(drawn, 0, -1), order="C")
    ends = [last * share for share in (outside / 2, 1 - outside / 2)]
    below = [min(int(end), max(last - 1, 0)) for end in ends]
    start = 0
    for place in sorted({min(place + further, last) for place in below for further in (0, 1)}):
        ordered[..., start:].partition(place - start, axis=-1)
        start = place + 1
    unknown = np.isnan(ordered[..., below[-1] :]).any(axis=-1)
    low, high = (
        _between(ordered[..., place], ordered[..., min(place + 1, last)], end - place)
        for place, end in zip(below, ends, strict=True)
    )
    return np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)


def _between(one: Array, other: Array, share: float) -> Array:
    """What lies that share of the way from one to the other; from the nearer end, as numpy has it."""
    apart = np.subtract(other, one)
    return np.asarray(one + apart * share if share < 0.5 else other - apart * (1 - share))


def percentile_interval(drawn: Array, level: float, method: str) -> Interval:
    """The percentile interval of one figure's draws, (draws,). `method` says what was drawn."""
    low, high = percentile_ends(drawn, outside=1 - level)
    return Interval(low=float(low), high=float(high), level=level, method=method)


def intervals_of_means(values: Array, *, resamples: int, seed: int, level: float, method: str) -> list[Interval | None]:
    """An interval for each column's mean over the rows (units). None where fewer than two units can tell.

    All columns are drawn together, so a column of differences is paired.
    """
    count, columns = values.shape
    if count < 2:
        return [None] * columns
    drawn = drawn_means(drawn_counts(stream(seed), count, resamples), values)
    return [percentile_interval(column, level, method) for column in drawn.T]
