"""A figure as people read it: three significant digits, and its interval in brackets.

What belongs here: how many digits are shown. What does not: what is measured (`metric`), and money, sizes or times that
have forms of their own.
"""

from __future__ import annotations

import math

DIGITS = 3


def figure(value: float) -> str:
    """`value` to three significant digits; whole digits are all kept, so 1234.5 is "1,234" and 0.04567 is "0.0457"."""
    if not math.isfinite(value):
        return str(value)
    rounded = float(f"{value:.{DIGITS - 1}e}")
    decimals = DIGITS - 1 - math.floor(math.log10(abs(rounded))) if rounded else DIGITS - 1
    if decimals > 2 * DIGITS:
        return f"{value:.{DIGITS - 1}e}"
    return f"{value:,.{max(decimals, 0)}f}"


def rounded(value: float) -> float:
    """The number that `figure` shows."""
    return float(figure(value).replace(",", ""))


def span(low: float, high: float) -> str:
    """An interval from `low` to `high`, without brackets."""
    return f"{figure(low)}–{figure(high)}"


def counted(number: int, noun: str) -> str:
    """So many of what regularly forms its plural: "1 model", "3 models"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
