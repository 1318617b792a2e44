"""Intervals for shares and agreement, in closed form.

What belongs here: Wilson, Agresti-Min and the interval of Cohen's kappa. What does not: what is counted.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from milton_assets.vocabulary.metric import Interval

LEVEL = 0.95


def _z(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson(successes: int, n: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a share (E. B. Wilson, 1927). `n` is at least 1."""
    z, share = _z(level), successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # The ends are 0 and 1 exactly at 0 and n successes; rounding must not leave them a hair inside.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(low=low, high=high, level=level, method="wilson")


def paired_difference(gained: int, lost: int, n: int, level: float = LEVEL) -> Interval:
    """Interval of (gained - lost) / n over `n` matched pairs: Wald, 1/2 added to each cell (Agresti, Min 2005)."""
    z, total = _z(level), n + 2
    up, down = (gained + 0.5) / total, (lost + 0.5) / total
    half = z * math.sqrt((up + down - (up - down) ** 2) / total)
    return Interval(low=max(-1.0, up - down - half), high=min(1.0, up - down + half), level=level, method="agresti_min")


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
    half = _z(level) * math.sqrt(max(variance, 0.0))
    return kappa, Interval(
        low=max(-1.0, kappa - half), high=min(1.0, kappa + half), level=level, method="fleiss_cohen_everitt"
    )
