"""Matched pairs: the same cases, right or wrong twice.

What belongs here: the difference of two paired shares and the test whether it is one. What does not: pairing cases
(`selection.cases`), and paired scores that are no right or wrong (`bootstrap`).

`gained` counts the cases that only the first got right, `lost` those that only the second did.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr

from milton_assets.statistics.normal import z_leaving
from milton_assets.statistics.shares import LEVEL
from milton_assets.vocabulary.metric import Interval

Array = npt.NDArray[np.float64]


def agresti_min(gained: Array, lost: Array, n: int, *, outside: float) -> tuple[Array, Array]:
    """The ends of the interval of (gained - lost) / n, each shaped as `gained`, with `outside` left out in all.

    Wald's interval after adding 1/2 to each of the four cells (Agresti and Min 2005), cut at -1 and 1. It stays honest
    where no case differs. It is centred a little nearer to 0 than the difference, and so may miss it in few cases.
    """
    more, less, total = gained + 0.5, lost + 0.5, n + 2
    centre = (more - less) / total
    half = z_leaving(outside) * np.sqrt(more + less - (more - less) ** 2 / total) / total
    return np.maximum(centre - half, -1.0), np.minimum(centre + half, 1.0)


def paired_difference(gained: int, lost: int, n: int, level: float = LEVEL) -> Interval:
    """`agresti_min` of one pair of counts over `n` matched pairs."""
    low, high = agresti_min(np.array(float(gained)), np.array(float(lost)), n, outside=1 - level)
    return Interval(low=float(low), high=float(high), level=level, method="agresti_min")


def mcnemar_exact(gained: Array, lost: Array) -> Array:
    """Two-sided exact p-values: where the two are equally good, the cases that differ are tosses of a fair coin."""
    differ = (gained + lost).astype(np.int64)
    return np.asarray(np.minimum(1.0, 2 * bdtr(np.minimum(gained, lost), differ, 0.5)), dtype=np.float64)
