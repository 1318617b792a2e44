"""How far a figure may be off: its standard error, from its interval and the noise between campaigns.

What belongs here: standard errors of figures that are not paired by case. What does not: resampling (`resample`) and
tests (`compare`).

Figures that are positive with a positive interval (latencies, rates) are taken on a log scale, where an error is a
share of the figure; others on their own scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from milton_assets.selection.scoring import Array
from milton_assets.statistics.normal import z_of_level
from milton_assets.statistics.spending import Noise
from milton_assets.vocabulary.metric import Metric


@dataclass(frozen=True)
class Errors:
    """Standard errors (candidates,) of figures; `log` says which are on a log scale, NaN where nothing is known.

    `freedom` (candidates,) is how well each error is known: the degrees of freedom of the noise in it.
    """

    standard_error: Array
    log: npt.NDArray[np.bool_]
    freedom: npt.NDArray[np.intp]

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Whose error is known."""
        return ~np.isnan(self.standard_error)

    def without(self, index: int) -> Errors:
        """The errors with that candidate's left out."""
        return Errors(np.delete(self.standard_error, index), np.delete(self.log, index), np.delete(self.freedom, index))


def errors_of(metrics: Sequence[Metric], noises: Sequence[Noise]) -> Errors:
    """Standard errors of `metrics`; `noises` is each figure's relative noise between campaigns, added in quadrature.

    An interval of level L is read as +- z standard errors, z the normal quantile of (1 + L) / 2. Noise that was
    measured counts for figures on a log scale; it holds what is within a campaign, and replaces the assumption as it is
    known.
    """
    errors = np.full(len(metrics), np.nan)
    log = np.zeros(len(metrics), dtype=bool)
    freedom = np.array([noise.total_freedom for noise in noises], dtype=np.intp)
    for index, (metric, noise) in enumerate(zip(metrics, noises, strict=True)):
        interval, value = metric.interval, metric.value
        if interval is None or value is None:
            continue
        width = 2 * z_of_level(interval.level)
        log[index] = value > 0 and interval.low > 0
        if log[index]:
            own = math.log(interval.high / interval.low) / width
            errors[index] = noise.pooled(own) if noise.freedom else math.hypot(own, noise.assumed)
        else:
            errors[index] = math.hypot((interval.high - interval.low) / width, noise.assumed * abs(value))
    return Errors(errors, log, freedom)
