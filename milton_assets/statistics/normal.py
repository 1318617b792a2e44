"""Quantiles of the standard normal law, which most intervals are made of.

What belongs here: the two ways in which an interval's width is asked for. What does not: intervals.
"""

from __future__ import annotations

from functools import lru_cache

from scipy.special import ndtri


@lru_cache(maxsize=64)
def z_of_level(level: float) -> float:
    """How many standard errors each side a two-sided interval of `level` reaches: 1.96 for 0.95."""
    return float(ndtri((1 + level) / 2))


@lru_cache(maxsize=64)
def z_leaving(outside: float) -> float:
    """The same for an interval that leaves the share `outside` out, half of it on each side."""
    return float(ndtri(1 - outside / 2))
