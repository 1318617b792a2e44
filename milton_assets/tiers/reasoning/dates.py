"""Dates in what a model wrote: day-month-year in words, ISO, and unambiguous numeric forms.

What belongs here: reading dates. What does not: deciding which of several dates is the answer (`matching`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from milton_assets.tiers.reasoning.text import canonical

_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
)  # fmt: skip
_MONTH = r"(?P<month>sept|" + "|".join(f"{m[:3]}(?:{m[3:]})?" if len(m) > 3 else m for m in _MONTHS) + r")\b\.?"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>[12]\d{3})"
_EARLY_YEAR = r"(?P<year>[12]\d{3}|[1-9]\d{2}(?= (?:AD|CE)\b|[.;)]?\s*(?:$|\n)))"
_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        rf"(?<!\d){_DAY}(?: of)? {_MONTH}(?:,? (?:of )?{_EARLY_YEAR}\b)?",
        rf"\b{_MONTH} (?:the )?{_DAY}\b(?:,? (?:of )?{_EARLY_YEAR}\b)?",
        r"(?<![\d-])(?P<year>[12]\d{3})-(?P<month>\d{2})-(?P<day>\d{2})(?!\d)",
        r"(?<![\d/.])(?P<first>\d{1,2})[/.](?P<second>\d{1,2})[/.](?P<year>[12]\d{3})(?!\d)",
        rf"\b{_MONTH},? (?:of )?{_YEAR}\b",
        rf"(?<![\d.,/-]){_YEAR}(?![\d/]|[.,]\d|-\d)",
    )
)


@dataclass(frozen=True)
class WrittenDate:
    """A date as far as it was written, and its place in the canonical text."""

    year: int | None
    month: int | None
    day: int | None
    start: int
    end: int


@lru_cache(maxsize=4096)
def dates(text: str) -> tuple[WrittenDate, ...]:
    """Every date in `text`, in order. `03/04/2020` is ambiguous and is no date; `25/12/2021` is one."""
    plain = canonical(text)
    taken: list[WrittenDate] = []
    for form in _FORMS:
        for date in _found(form, plain):
            if all(date.end <= other.start or date.start >= other.end for other in taken):
                taken.append(date)
    return tuple(sorted((d for d in taken if _known(d)), key=lambda d: d.start))


def _known(date: WrittenDate) -> bool:
    return any(part is not None for part in (date.year, date.month, date.day))


def _found(form: re.Pattern[str], text: str) -> Iterator[WrittenDate]:
    for match in form.finditer(text):
        parts = match.groupdict()
        if parts.get("first"):
            yield _numeric(match)
            continue
        month, day = _month(parts.get("month")), parts.get("day")
        if day is not None and not 1 <= int(day) <= 31:
            continue
        yield WrittenDate(
            int(parts["year"]) if parts.get("year") else None, month, int(day) if day else None, *match.span()
        )


def _numeric(match: re.Match[str]) -> WrittenDate:
    first, second, year = int(match["first"]), int(match["second"]), int(match["year"])
    if first == second and first <= 12:
        return WrittenDate(year, first, first, *match.span())
    if 12 < first <= 31 and 1 <= second <= 12:
        return WrittenDate(year, second, first, *match.span())
    if 12 < second <= 31 and 1 <= first <= 12:
        return WrittenDate(year, first, second, *match.span())
    # Ambiguous: it takes up its place, so that its year is not read as a date of its own, and says nothing.
    return WrittenDate(None, None, None, *match.span())


def _month(written: str | None) -> int | None:
    if written is None:
        return None
    if written.isdigit():
        return int(written)
    return next(n for n, name in enumerate(_MONTHS, start=1) if name.startswith(written.lower()[:3]))
