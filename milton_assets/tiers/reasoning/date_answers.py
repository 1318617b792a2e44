"""Reading an answer whose gold is a date.

What belongs here: which of several dates the answer gives, and comparing it. What does not: reading dates from text
(`dates`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from milton_assets.tiers.reasoning.answers import DateAnswer
from milton_assets.tiers.reasoning.dates import WrittenDate, dates
from milton_assets.tiers.reasoning.lexicon import NEGATORS
from milton_assets.tiers.reasoning.number_answers import is_denied_at
from milton_assets.tiers.reasoning.text import canonical, phrase, words
from milton_assets.tiers.reasoning.verdict import Reason

_EVENTS = re.compile(r"[.!?;,\n]|\b(?:and|but|while|whereas|then|before|after)\b", re.IGNORECASE)
_NAMES_NO_EVENT = frozenset({
    "in", "on", "which", "what", "when", "year", "date", "day", "month", "did", "does", "do", "was", "were", "is",
    "are", "of", "first", "it", "at", "to", "for", "from",
})  # fmt: skip
_HEDGES = frozenset({
    "or", "maybe", "perhaps", "possibly", "probably", "might", "may", "could", "some", "say", "others", "either",
    "between", "about", "around",
})  # fmt: skip
_IRREGULAR = {"began": "begin", "begun": "begin", "won": "win", "wrote": "write", "fell": "fall", "became": "become",
              "took": "take", "fought": "fight", "held": "hold", "met": "meet", "broke": "break"}  # fmt: skip
_STEM = 4


def read_date(answer: str, gold: DateAnswer, question: str) -> Reason:
    """The verdict on `answer`, a canonical text without its reasons."""
    said = words(answer)
    wanted = (gold.year, gold.month, gold.day)
    negated = NEGATORS & set(phrase(question))
    given = {_fields(date, gold) for date in dates(question)} - {wanted}
    written = [
        date
        for date in dates(answer)
        if _is_as_precise(date, gold)
        and not is_denied_at(said, date.start, negated)
        and _fields(date, gold) not in given
    ]
    stated = {_fields(date, gold) for date in written}
    if len(stated) > 1:
        stated = _of_the_event_asked_for(canonical(answer), written, gold, question) or stated
    if not stated:
        return Reason.OPEN
    if wanted not in stated:
        return Reason.OTHER_VALUE
    return Reason.MATCHED if len(stated) == 1 else Reason.HEDGED


_Fields = tuple[int | None, int | None, int | None]


def _of_the_event_asked_for(
    text: str, written: Sequence[WrittenDate], gold: DateAnswer, question: str
) -> set[_Fields] | None:
    """The dates that stand with the question's own verb, when every other stands with an event of its own.

    None where the answer hedges, or where nothing tells the dates apart.
    """
    if _HEDGES & set(phrase(text)):
        return None
    asked = _events(question)
    cuts = [0, *(cut.end() for cut in _EVENTS.finditer(text) if not _inside_a_date(cut.start(), written)), len(text)]
    chosen = set()
    for start, end in itertools.pairwise(cuts):
        held = [date for date in written if start <= date.start < end]
        told = _events(text[start:end])
        if held and not told:
            return None
        if any(one.startswith(other) or other.startswith(one) for one in told for other in asked):
            chosen |= {_fields(date, gold) for date in held}
    return chosen or None


def _inside_a_date(position: int, written: Sequence[WrittenDate]) -> bool:
    return any(date.start <= position < date.end for date in written)


def _events(text: str) -> set[str]:
    """Stems of the words that may name an event: in lower case, so no names and no months, and of some weight."""
    found = {raw for raw in re.findall(r"[^\W\d_]+", canonical(text)) if raw.islower()}
    return {_IRREGULAR.get(word, word)[:_STEM] for word in found - _NAMES_NO_EVENT if len(word) > 2}


def _is_as_precise(date: WrittenDate, gold: DateAnswer) -> bool:
    wanted = ((gold.year, date.year), (gold.month, date.month), (gold.day, date.day))
    return all(have is not None for want, have in wanted if want is not None)


def _fields(date: WrittenDate, gold: DateAnswer) -> _Fields:
    """The date, as precisely as the gold is."""
    return (
        date.year if gold.year is not None else None,
        date.month if gold.month is not None else None,
        date.day if gold.day is not None else None,
    )
