"""Many tests at once.

What belongs here: corrections of p-values, and which side they are of. What does not: the tests.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def one_sided(p_values: Array, better: npt.NDArray[np.bool_]) -> Array:
    """Two-sided p-values of symmetric tests as those of "it is no better": half of them where the figure is `better`,
    and 1 where it is not, which says nothing. NaN, no test, stays NaN."""
    return np.where(better | np.isnan(p_values), p_values / 2, 1.0)


def holm(p_values: Array, family: int = 0) -> Array:
    """Holm's step-down correction (1979) over all of `p_values`, whatever their shape. NaN, no test, stays NaN.

    `family` is how many hypotheses there are, where that is more than are given: those left out count as not rejected.
    """
    flat = p_values.ravel()
    tested = np.flatnonzero(~np.isnan(flat))
    order = tested[np.argsort(flat[tested], kind="stable")]
    corrected = np.full(flat.shape, np.nan)
    factors = max(len(order), family) - np.arange(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(flat[order] * factors), 1.0)
    return corrected.reshape(p_values.shape)
