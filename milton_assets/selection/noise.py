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
from milton_assets.vocabulary.metric import Metric


@dataclass(frozen=True)
class Errors:
    """Standard errors (candidates,) of figures; `log` says which are on a log scale, NaN where nothing is known."""

    standard_error: Array
    log: npt.NDArray[np.bool_]

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Whose error is known."""
        return ~np.isnan(self.standard_error)


def errors_of(metrics: Sequence[Metric], noise: float) -> Errors:
    """Standard errors of `metrics`; `noise` is the policy's relative noise between campaigns, added in quadrature.

    An interval of level L is read as +- z standard errors, z the normal quantile of (1 + L) / 2.
    """
    errors = np.full(len(metrics), np.nan)
    log = np.zeros(len(metrics), dtype=bool)
    for index, metric in enumerate(metrics):
        interval, value = metric.interval, metric.value
        if interval is None or value is None:
            continue
        width = 2 * z_of_level(interval.level)
        log[index] = value > 0 and interval.low > 0
        if log[index]:
            own, between = math.log(interval.high / interval.low) / width, noise
        else:
            own, between = (interval.high - interval.low) / width, noise * abs(value)
        errors[index] = math.hypot(own, between)
    return Errors(errors, log)
