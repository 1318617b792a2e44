"""Tie-breaks among contenders: figures that differ only within noise are equal, and the next tie-break is asked.

What belongs here: choosing one of several contenders when there is no clear winner. What does not: the order of exactly
equal scores (`ranking`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from milton_assets.selection.policy import Policy
from milton_assets.selection.resample import Drawn
from milton_assets.statistics.normal import z_of_level
from milton_assets.vocabulary.metric import Direction

_BEYOND = z_of_level(0.95)
"""Two figures differ beyond noise when they are further apart than this many standard errors of their difference."""


def prefer(prepared: Sequence[Drawn], policy: Policy, contenders: Sequence[int]) -> int:
    """The contender that the tie-breaks prefer; `contenders` are indices in the order of the ranking.

    Tie-break after tie-break, those who are worse than the best beyond noise drop out. Whoever stands highest in the
    ranking among those who are left is preferred.
    """
    left = np.array(contenders, dtype=np.intp)
    by_metric = {drawn.criterion.key: drawn for drawn in prepared}
    for tie in policy.tie_breaks:
        drawn = by_metric[tie.key]
        values = drawn.values[left]
        best = left[int(values.argmin() if tie.direction is Direction.LOWER else values.argmax())]
        left = left[within_noise(drawn, int(best), left)]
    return int(left[0])


def within_noise(drawn: Drawn, one: int, others: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
    """Which of `others` do not differ from `one` beyond noise. Without a known error, only equal figures are equal."""
    values, log = drawn.values, drawn.errors.log
    errors = np.nan_to_num(drawn.errors.standard_error)
    if log[one] and log[others].all():
        gap = np.abs(np.log(values[others] / values[one]))
    else:
        gap = np.abs(values[others] - values[one])
        errors = np.where(log, errors * values, errors)
    close: npt.NDArray[np.bool_] = gap <= _BEYOND * np.hypot(errors[others], errors[one])
    return close
