"""A figure as people read it: three significant digits, and its interval in brackets.

What belongs here: how many digits are shown. What does not: what is measured (`metric`), and money, sizes or times that
have forms of their own.
"""

from __future__ import annotations

import math

DIGITS = 3


def figure(value: float, digits: int = DIGITS) -> str:
    """`value` to three significant digits, or as many as are asked for; whole digits are all kept, so 1234.5 is "1,234"
    and 0.04567 is "0.0457"."""
    if not math.isfinite(value):
        return str(value)
    rounded = float(f"{value:.{digits - 1}e}")
    decimals = digits - 1 - math.floor(math.log10(abs(rounded))) if rounded else digits - 1
    if decimals > 2 * digits:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(decimals, 0)}f}"


def rounded(value: float, digits: int = DIGITS) -> float:
    """The number that `figure` shows."""
    return float(figure(value, digits).replace(",", ""))


def span(low: float, high: float, digits: int = DIGITS) -> str:
    """An interval from `low` to `high`, without brackets."""
    return f"{figure(low, digits)}–{figure(high, digits)}"


def counted(number: int, noun: str) -> str:
    """So many of what regularly forms its plural: "1 model", "3 models"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
