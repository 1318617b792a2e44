"""How far two raters agree.

What belongs here: Cohen's kappa and its interval. What does not: who rates what.
"""

from __future__ import annotations

import math

from milton_assets.statistics.normal import z_of_level
from milton_assets.statistics.shares import LEVEL
from milton_assets.vocabulary.metric import Interval


def cohen_kappa(
    both: int, only_first: int, only_second: int, neither: int, level: float = LEVEL
) -> tuple[float, Interval]:
    """Cohen's kappa of two raters on a yes/no label and its large-sample interval (Fleiss, Cohen, Everitt 1969).

    Where a rater gave one label only, chance explains every agreement: kappa is 0 and its interval [-1, 1].
    Raises `ValueError` for no pair at all.
    """
    n = both + only_first + only_second + neither
    if n == 0:
        raise ValueError("kappa needs at least one pair")
    cells = ((both / n, only_first / n), (only_second / n, neither / n))
    first = (cells[0][0] + cells[0][1], cells[1][0] + cells[1][1])
    second = (cells[0][0] + cells[1][0], cells[0][1] + cells[1][1])
    observed = cells[0][0] + cells[1][1]
    chance = first[0] * second[0] + first[1] * second[1]
    if 0.0 in (*first, *second):
        return 0.0, Interval(low=-1.0, high=1.0, level=level, method="kappa_undefined")
    kappa = (observed - chance) / (1 - chance)
    on = sum(cells[i][i] * (1 - (first[i] + second[i]) * (1 - kappa)) ** 2 for i in (0, 1))
    off = (1 - kappa) ** 2 * sum(cells[i][j] * (second[i] + first[j]) ** 2 for i, j in ((0, 1), (1, 0)))
    variance = (on + off - (kappa - chance * (1 - kappa)) ** 2) / (n * (1 - chance) ** 2)
    half = z_of_level(level) * math.sqrt(max(variance, 0.0))
    return kappa, Interval(
        low=max(-1.0, kappa - half), high=min(1.0, kappa + half), level=level, method="fleiss_cohen_everitt"
    )
