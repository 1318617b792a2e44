"""Shares of attempts, and how sure they are.

What belongs here: the interval of one share and of the difference of two independent ones. What does not: matched
pairs (`paired`), and what is counted.
"""

from __future__ import annotations

import math

from milton_assets.statistics.normal import z_of_level
from milton_assets.vocabulary.metric import Interval

LEVEL = 0.95


def wilson(successes: int, n: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of the share `successes / n` (E. B. Wilson, 1927). `n` is at least 1."""
    z, share = z_of_level(level), successes / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # The ends are 0 and 1 exactly at 0 and n successes; rounding must not leave them a hair inside.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(low=low, high=high, level=level, method="wilson")


def attempts_to_show(share: float, level: float = LEVEL) -> int:
    """How many attempts, all successful, it takes for the low end of `wilson` to reach `share` (0 to below 1)."""
    z = z_of_level(level)
    return math.ceil(z * z * share / (1 - share))


def newcombe(successes: int, n: int, other_successes: int, other_n: int, level: float = LEVEL) -> Interval:
    """The interval of `successes / n - other_successes / other_n`, two independent shares (Newcombe 1998, method 10).

    Made of the two Wilson intervals. `n` and `other_n` are at least 1.
    """
    share, other = successes / n, other_successes / other_n
    one, two = wilson(successes, n, level), wilson(other_successes, other_n, level)
    difference = share - other
    return Interval(
        low=difference - math.hypot(share - one.low, two.high - other),
        high=difference + math.hypot(one.high - share, other - two.low),
        level=level,
        method="newcombe",
    )
