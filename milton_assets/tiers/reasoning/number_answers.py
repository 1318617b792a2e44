"""Reading an answer whose gold is a number.

What belongs here: which of several numbers the answer gives, and comparing it. What does not: reading numbers from
text (`quantities`).
"""

from __future__ import annotations

import itertools
import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence

from milton_assets.tiers.reasoning.answers import NumberAnswer
from milton_assets.tiers.reasoning.denial import is_denied_before
from milton_assets.tiers.reasoning.lexicon import NEGATORS
from milton_assets.tiers.reasoning.quantities import UNITS, Quantity, convert, quantities
from milton_assets.tiers.reasoning.text import Word, canonical, phrase, words
from milton_assets.tiers.reasoning.verdict import Reason

_CANDIDATES_THAT_HEDGE = 3
_LEAST_NOUN = 4
"""Shorter words of a question ("the", "of") say nothing of what is counted."""
_ANSWER_MARK = re.compile(r"####|\banswer(?: is|:)|=|\b(?:therefore|thus|hence|total of|in total)\b", re.IGNORECASE)
_CONCLUSION = re.compile(r"(?:[,;.:]|^) *(?:and )?so\b(?! (?:far|many|much|that|as)\b)", re.IGNORECASE | re.MULTILINE)
_CALCULATION = re.compile(
    r"[=+×*÷]|\b(?:plus|minus|times|multipl\w+|divid\w+|add\w*|subtract\w*|half)\b", re.IGNORECASE
)
_OR = re.compile(r"^[^.\d\w]*or[^.\d\w]*$", re.IGNORECASE)
_OR_RANGE = re.compile(r"^[^.\d\w]*(?:or|and|to|-|/)[^.\d\w]*$", re.IGNORECASE)


def read_number(answer: str, gold: NumberAnswer, question: str) -> Reason:
    """The verdict on `answer`, a canonical text without its reasons."""
    said = words(answer)
    negated = NEGATORS & set(phrase(question))
    found = [q for q in quantities(answer) if not is_denied_at(said, q.start, negated)]
    if not found:
        rank = _rank(said, question) if gold.unit is None else None
        if rank is None:
            return Reason.OPEN
        return Reason.MATCHED if rank == gold.value else Reason.OTHER_VALUE
    text = canonical(answer)
    stated = _after_mark(text, found)
    if stated is None:
        given = {(q.value, q.unit) for q in quantities(question) if q.value != gold.value}
        fresh = [q for q in found if (q.value, q.unit) not in given]
        if not fresh:
            return Reason.OPEN
        if _are_alternatives(text, fresh) or _joined(text, found, _OR):
            return Reason.HEDGED
        stated = fresh[-1]
    return _compare(stated, gold)


def is_denied_at(said: Sequence[Word], offset: int, denied_by_question: Collection[str] = ()) -> bool:
    """Whether what stands at the character `offset` of the canonical text is denied."""
    position = bisect_right(said, offset, key=lambda word: word.end)
    return position < len(said) and is_denied_before(said, position, denied_by_question)


def _rank(said: Sequence[Word], question: str) -> float | None:
    """The one rank that the answer consists of ("the fifth"), or gives to what was asked for ("the fifth season").

    A "first" that opens a list of reasons is neither, and how many there are is no rank.
    """
    if {"many", "much"} & set(phrase(question)):
        return None
    asked = {word for word in phrase(question) if len(word) >= _LEAST_NOUN}
    ranks = {
        float(word.text)
        for position, word in enumerate(said)
        if word.text.isdecimal()
        and (len(said) == 1 or (position + 1 < len(said) and said[position + 1].text in asked))
        and not is_denied_before(said, position, NEGATORS & set(phrase(question)))
    }
    return ranks.pop() if len(ranks) == 1 else None


def _after_mark(text: str, found: Sequence[Quantity]) -> Quantity | None:
    """The number after the last mark of an answer: right after "=", the last after a conclusion ("so 6 bags")."""
    marks = [(mark.end(), False) for mark in _ANSWER_MARK.finditer(text)]
    marks += [(mark.end(), True) for mark in _CONCLUSION.finditer(text)]
    starts = [q.start for q in found]
    for position, concludes in sorted(marks, reverse=True):
        after = found[bisect_left(starts, position) :]
        if after:
            return None if _are_alternatives(text, after) else after[-1 if concludes else 0]
    return None


def _are_alternatives(text: str, found: Sequence[Quantity]) -> bool:
    distinct = {q.value for q in found}
    enumerated = len(distinct) > _CANDIDATES_THAT_HEDGE and not _CALCULATION.search(text)
    return enumerated or _joined(text, found, _OR_RANGE)


def _joined(text: str, found: Sequence[Quantity], joint: re.Pattern[str]) -> bool:
    """Whether two different numbers stand side by side with nothing but `joint` between them."""
    return any(
        left.value != right.value and left.unit == right.unit and bool(joint.match(text[left.end : right.start]))
        for left, right in itertools.pairwise(found)
    )


def _compare(stated: Quantity, gold: NumberAnswer) -> Reason:
    value = stated.value
    if gold.unit and stated.unit:
        wanted = UNITS[gold.unit]
        if stated.unit.dimension != wanted.dimension:
            return Reason.OTHER_UNIT
        value = convert(value, stated.unit, wanted)
    close = math.isclose(value, gold.value, rel_tol=max(gold.rel_tol, 1e-9), abs_tol=gold.abs_tol)
    return Reason.MATCHED if close else Reason.OTHER_VALUE
