"""Where an answer gives the date or the number that an alias is, however it is written.

What belongs here: mentions of an alias that is a date or a quantity. What does not: golds that are dates or numbers by
type (`date_answers`, `number_answers`), reading them from text (`dates`, `quantities`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence

from milton_assets.tiers.reasoning.dates import WrittenDate, dates
from milton_assets.tiers.reasoning.lexicon import FUNCTION_WORDS
from milton_assets.tiers.reasoning.quantities import Quantity, quantities
from milton_assets.tiers.reasoning.text import Span, Word, canonical, phrase

_WORDS_OF_A_DATE = 3


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
    for start, quantity in read.items():
        _, end = _span_at(said, quantity.start, quantity.end)
        if _is_same(wanted, quantity, said, end, question):
            yield start, end


def _is_same(wanted: Quantity, have: Quantity, said: Sequence[Word], end: int, question: str) -> bool:
    if wanted.value != have.value:
        return False
    if have.unit is not None or wanted.unit is None:
        return wanted.unit is None or wanted.unit == have.unit
    follower = said[end].text if end < len(said) and said[end].clause == said[end - 1].clause else None
    return follower is None or follower in FUNCTION_WORDS or follower in phrase(question)


def _span_at(said: Sequence[Word], start: int, end: int) -> Span:
    first = bisect_right(said, start, key=lambda word: word.end)
    return first, max(first + 1, bisect_left(said, end, key=lambda word: word.start))
