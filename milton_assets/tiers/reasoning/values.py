"""Where an answer gives the date or the number that an alias is, however it is written.

What belongs here: mentions of an alias that is a date or a quantity. What does not: golds that are dates or numbers by
type (`date_answers`, `number_answers`), reading them from text (`dates`, `quantities`).
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

from milton_assets.tiers.reasoning.dates import WrittenDate, dates
from milton_assets.tiers.reasoning.lexicon import FUNCTION_WORDS
from milton_assets.tiers.reasoning.quantities import Quantity, convert, quantities
from milton_assets.tiers.reasoning.text import Span, Word, canonical, phrase

_WORDS_OF_A_DATE = 3
_YEAR = re.compile(
    r"(?:(?:in|by|circa|c\.|about|around|early|late|spring|summer|autumn|fall|winter) )?([12]\d{3})", re.IGNORECASE
)
_DECADE = re.compile(r"(?<!\d)([12]\d{2}0)s\b")
_DECADE_YEARS = 10
_FEWEST_FIGURES = 3
_ROUNDING_OF_A_CONVERSION = 0.001


def as_date(alias: str) -> WrittenDate | None:
    """The date that `alias` is and nothing else, with a month at least."""
    found = dates(alias)
    if len(found) != 1 or found[0].month is None:
        return None
    rest = canonical(alias)[: found[0].start] + canonical(alias)[found[0].end :]
    return found[0] if not set(phrase(rest)) - {"on", "in", "of"} else None


def date_spans(wanted: WrittenDate, said: Sequence[Word], text: str, question: str) -> Iterator[Span]:
    """Dates that say the same as far as they go, down to the month; to the year where a year is asked for."""
    asks_for_a_year = "year" in phrase(question)
    asked = {date.year for date in dates(question)}
    for date in dates(text):
        pairs = ((wanted.year, date.year), (wanted.month, date.month), (wanted.day, date.day))
        agree = all(want == have for want, have in pairs if want is not None and have is not None)
        told = date.year is not None or (date.day is not None and wanted.year in {None, *asked})
        if agree and told and (date.month is not None or asks_for_a_year):
            yield _span_at(said, date.start, date.end)


def year_spans(alias: str, said: Sequence[Word], text: str, question: str) -> Iterator[Span]:
    """The year of a date, where the answer tells no other year and the question none: "in 1891" for a day of it. In the
    first sentence alone: a year that comes later may be that of anything.
    """
    wanted = as_date(alias)
    asked = {date.year for date in dates(question)} - {None}
    told = dates(text)
    if wanted is None or wanted.year is None or asked or {date.year for date in told} - {None} != {wanted.year}:
        return
    if not any(_is_another_day(date, wanted) for date in told):
        spans = (_span_at(said, date.start, date.end) for date in told if date.month is None)
        yield from (span for span in spans if said[span[0]].sentence == said[0].sentence)


def decade_spans(alias: str, said: Sequence[Word], text: str, question: str) -> Iterator[Span]:
    """ "In the 1920s" for 1923, where it is asked when: in the first sentence that tells a time, and no other."""
    year = _YEAR.fullmatch(canonical(alias).strip()) if (date := as_date(alias)) is None else None
    wanted = int(year.group(1)) if year else date.year if date else None
    asked = phrase(question)
    if wanted is None or "when" not in asked or "year" in asked:
        return
    decades = {found.start() for found in _DECADE.finditer(text)}
    told = [(_span_at(said, date.start, date.end), date) for date in dates(text)]
    first = min((said[start].sentence for (start, _), _ in told), default=0)
    claimed = [(span, date) for span, date in told if said[span[0]].sentence == first]
    if all(date.start in decades and date.year == wanted - wanted % _DECADE_YEARS for _, date in claimed):
        yield from (span for span, _ in claimed)


def _is_another_day(date: WrittenDate, wanted: WrittenDate) -> bool:
    """Whether `date` is of the wanted year, and of another month or day."""
    if date.year is None or date.year != wanted.year or date.month is None or wanted.month is None:
        return False
    return date.month != wanted.month or (None not in {date.day, wanted.day} and date.day != wanted.day)


def is_of_another_day(span: Span, full: Sequence[WrittenDate], said: Sequence[Word], text: str) -> bool:
    """Whether a year that is a gold stands in a date that contradicts the golds that tell more of that year."""
    if not full or span[1] - span[0] > _WORDS_OF_A_DATE:
        return False
    start, end = said[span[0]].start, said[span[1] - 1].end
    date = next((date for date in dates(text) if date.start <= start and end <= date.end), None)
    of_the_year = [one for one in full if date is not None and one.year == date.year]
    return date is not None and bool(of_the_year) and all(_is_another_day(date, one) for one in of_the_year)


def as_quantity(alias: str) -> Quantity | None:
    """The number, with its unit, that `alias` is and nothing else."""
    found = quantities(alias)
    whole = canonical(alias).strip()
    start = whole.find(whole.strip())
    return found[0] if len(found) == 1 and (found[0].start, found[0].end) == (start, len(whole)) else None


def quantity_spans(
    wanted: Quantity, exact: Sequence[Span], said: Sequence[Word], text: str, question: str
) -> Iterator[Span]:
    """Numbers of the same value and sign, and of no other unit; an ordinal where nothing else is read at its place. A
    year that is part of a date is named by the whole of it."""
    for date in dates(text):
        if wanted.unit is None and date.month is not None and wanted.value == date.year:
            yield _span_at(said, date.start, date.end)
    read = {_span_at(said, q.start, q.end)[0]: q for q in quantities(text)}
    for start, end in exact:
        quantity = read.get(start)
        if quantity is None:
            if wanted.unit is None and wanted.value >= 0:
                yield start, end
        elif _is_same(wanted, quantity, said, end, question):
            yield start, end
    for quantity in (*read.values(), *compounds(tuple(read.values()), text)):
        start, end = _span_at(said, quantity.start, quantity.end)
        if _is_same(wanted, quantity, said, end, question):
            yield start, end


def compounds(found: Sequence[Quantity], text: str) -> Iterator[Quantity]:
    """ "3 hours and 48 minutes", "5 feet 7 inches": two quantities of one dimension, the second in a smaller unit."""
    for one, other in pairwise(found):
        if one.unit is None or other.unit is None or one.unit.dimension != other.unit.dimension:
            continue
        smaller = other.unit.factor < one.unit.factor and 0 < convert(other.value, other.unit, one.unit) < 1
        if smaller and not one.unit.offset and phrase(text[one.end : other.start]) in {(), ("and",)}:
            yield Quantity(one.value + convert(other.value, other.unit, one.unit), one.unit, one.start, other.end)


def _is_same(wanted: Quantity, have: Quantity, said: Sequence[Word], end: int, question: str) -> bool:
    if is_one_measure(wanted, have):
        return True
    if wanted.value != have.value:
        return False
    if have.unit is not None or wanted.unit is None:
        return wanted.unit is None or wanted.unit == have.unit
    follower = said[end].text if end < len(said) and said[end].clause == said[end - 1].clause else None
    return follower is None or follower in FUNCTION_WORDS or follower in phrase(question)


def is_one_measure(wanted: Quantity, have: Quantity) -> bool:
    """Whether two measures are one, as far as the one told less precisely goes: "24,901 miles", "24,900 miles" and
    "40,075 km". Only with units: 1969 is no rounding of 1970.
    """
    if wanted.unit is None or have.unit is None or wanted.unit.dimension != have.unit.dimension:
        return False
    said = convert(have.value, have.unit, wanted.unit)
    if wanted.unit != have.unit:
        return math.isclose(said, wanted.value, rel_tol=_ROUNDING_OF_A_CONVERSION)
    return any(_rounds_to(one, other) for one, other in ((said, wanted.value), (wanted.value, said)))


def _rounds_to(precise: float, rough: float) -> bool:
    """Whether `rough` has three figures at least and is `precise` in so many."""
    figures = len(f"{abs(rough):.15g}".replace(".", "").strip("0"))
    return figures >= _FEWEST_FIGURES and float(f"{precise:.{figures}g}") == rough


def _span_at(said: Sequence[Word], start: int, end: int) -> Span:
    first = bisect_right(said, start, key=lambda word: word.end)
    return first, max(first + 1, bisect_left(said, end, key=lambda word: word.start))
