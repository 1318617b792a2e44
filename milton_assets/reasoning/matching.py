"""Is this answer right? Decided without a model: aliases, numbers with units, dates and lists.

What belongs here: comparing an answer with the gold, and saying why. What does not: reading text (`text`,
`quantities`, `dates`), the judge for what stays open (`judge`), counting (`scoring`).

An answer is right when it states the gold and nothing that competes with it:

- a phrase matches as whole words, so `Paris` is not in `comparison`;
- a mention that is denied ("not Canberra", "Canberra is not the capital") is no mention;
- an answer that offers alternatives ("Paris or Lyon", or a list of candidates to a question with one answer) is
  `hedged`, one that also states a known wrong answer is `rival`; both are wrong, since naming everything would
  otherwise always be right;
- of several numbers the answer is the one after "=", "answer is" or "####", else the last that the question did
  not give; a unit of another dimension is wrong, a unit of the same dimension is converted.

What neither states the gold nor anything that competes with it is `open`: it counts as wrong, unless a qualified
judge says otherwise.
"""

from __future__ import annotations

import itertools
import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from milton_assets.reasoning.answers import DateAnswer, Gold, ListAnswer, NumberAnswer, TextAnswer
from milton_assets.reasoning.dates import WrittenDate, dates
from milton_assets.reasoning.quantities import UNITS, Quantity, convert, quantities
from milton_assets.reasoning.text import Word, canonical, occurrences, phrase, words

MOST_CHARACTERS = 8000
"""An answer longer than this answers no question that was put here; it also bounds what matching costs."""

_NEGATORS = frozenset({"not", "never", "no", "neither", "nor", "unlike", "except", "without"})
_TURNS = frozenset({"but", "however", "instead", "rather", "although", "though", "because"})
_NEGATING_PAIRS = frozenset({("rather", "than"), ("instead", "of"), ("other", "than"), ("opposed", "to")})
_NOT_DENYING = frozenset({"only", "just", "merely", "simply", "surprisingly", "doubt"})
_VERBS_BEFORE_NOT = frozenset(
    {"is", "was", "are", "were", "did", "does", "do", "has", "had", "have", "can", "could", "would", "will"}
)
_REACH_OF_NOT = 5
_FEW_WORDS = 4
_CANDIDATES_THAT_HEDGE = 3
_ANSWER_MARK = re.compile(r"####|\banswer(?: is|:)|=|\b(?:therefore|thus|hence|total of|in total)\b", re.IGNORECASE)
_ENUMERATOR = re.compile(r"^[ \t]*(?:\(?\d{1,2}[.)]|[-*•])[ \t]+", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")
_PIECES = re.compile(r"[,;\n•|]|\band\b|\bor\b", re.IGNORECASE)
_CALCULATION = re.compile(
    r"[=+×*÷]|\b(?:plus|minus|times|multipl\w+|divid\w+|add\w*|subtract\w*|half)\b", re.IGNORECASE
)
_OR = re.compile(r"^[^.\d\w]*or[^.\d\w]*$", re.IGNORECASE)
_OR_RANGE = re.compile(r"^[^.\d\w]*(?:or|and|to|-|/)[^.\d\w]*$", re.IGNORECASE)


class Reason(StrEnum):
    """Why an answer is right or not."""

    MATCHED = "matched"
    OPEN = "open"
    DENIED = "denied"
    HEDGED = "hedged"
    RIVAL = "rival"
    OTHER_VALUE = "other_value"
    OTHER_UNIT = "other_unit"
    INCOMPLETE = "incomplete"
    EMPTY = "empty"
    TOO_LONG = "too_long"


@dataclass(frozen=True)
class Match:
    """The verdict on one answer. `open` ones are for the judge, if there is one."""

    reason: Reason

    @property
    def right(self) -> bool:
        """Whether the answer counts as right."""
        return self.reason is Reason.MATCHED


def match(answer: str, gold: Gold, *, question: str, rivals: Sequence[str] = ()) -> Match:
    """Compare `answer` with `gold`. `rivals` are known wrong answers; those the question names do not compete."""
    if len(answer) > MOST_CHARACTERS:
        return Match(Reason.TOO_LONG)
    if not words(answer):
        return Match(Reason.EMPTY)
    if isinstance(gold, NumberAnswer):
        return Match(_number(answer, gold, question))
    if isinstance(gold, DateAnswer):
        return Match(_date(answer, gold, question))
    if isinstance(gold, ListAnswer):
        return Match(_list(answer, gold))
    return Match(_text(answer, gold, question, rivals))


def _text(answer: str, gold: TextAnswer, question: str, rivals: Sequence[str]) -> Reason:
    said = words(answer)
    aliases = [phrase(alias) for alias in gold.accept]
    mentions = [span for alias in aliases for span in occurrences(alias, said)]
    asserted = [span for span in mentions if not is_denied(said, *span)]
    if _states_a_rival(said, rivals, question, asserted):
        return Reason.RIVAL
    if not asserted:
        return Reason.DENIED if mentions else Reason.OPEN
    if _offers_alternatives(answer, said, asserted, aliases, question):
        return Reason.HEDGED
    return Reason.MATCHED


def is_denied(said: Sequence[Word], start: int, end: int) -> bool:
    """Whether the mention `said[start:end]` is denied within its clause ("not X", "X is not")."""
    return _denied_before(said, start) or _denied_after(said, end)


def _denied_before(said: Sequence[Word], start: int) -> bool:
    for position in range(start - 1, max(start - 1 - _REACH_OF_NOT, -1), -1):
        word = said[position]
        if word.clause != said[start].clause or word.text in _TURNS:
            pair = (word.text, said[position + 1].text)
            return word.clause == said[start].clause and pair in _NEGATING_PAIRS
        if (word.text, said[position + 1].text) in _NEGATING_PAIRS:
            return True
        if word.text in _NEGATORS:
            return said[position + 1].text not in _NOT_DENYING
    return False


def _denied_after(said: Sequence[Word], end: int) -> bool:
    rest = [word.text for word in said[end : end + 3] if word.clause == said[end - 1].clause]
    if len(rest) < 2 or rest[0] not in _VERBS_BEFORE_NOT or rest[1] not in {"not", "never"}:
        return False
    return len(rest) < 3 or rest[2] not in _NOT_DENYING


def _states_a_rival(
    said: Sequence[Word], rivals: Iterable[str], question: str, gold_spans: Sequence[tuple[int, int]]
) -> bool:
    asked = words(question)
    for rival in rivals:
        spelled = phrase(rival)
        if any(occurrences(spelled, asked)):
            continue
        for start, end in occurrences(spelled, said):
            inside_gold = any(a <= start and end <= b for a, b in gold_spans)
            if not inside_gold and not is_denied(said, start, end):
                return True
    return False


def _offers_alternatives(
    answer: str,
    said: Sequence[Word],
    asserted: Sequence[tuple[int, int]],
    aliases: Sequence[tuple[str, ...]],
    question: str,
) -> bool:
    if any(_beside_or(said, start, end, aliases) for start, end in asserted):
        return True
    return len(_competing_pieces(answer, aliases, question)) >= _CANDIDATES_THAT_HEDGE


def _beside_or(said: Sequence[Word], start: int, end: int, aliases: Sequence[tuple[str, ...]]) -> bool:
    longest = max(map(len, aliases))
    if start >= 2 and said[start - 1].text == "or":
        before = tuple(word.text for word in said[max(0, start - 1 - longest) : start - 1])
        return not any(before[-len(alias) :] == alias for alias in aliases)
    if end + 1 < len(said) and said[end].text == "or":
        after = tuple(word.text for word in said[end + 1 : end + 1 + longest])
        return not any(after[: len(alias)] == alias for alias in aliases)
    return False


def _competing_pieces(answer: str, golds: Sequence[tuple[str, ...]], question: str) -> list[str]:
    """Short name-like pieces of the enumeration that holds a gold, which are neither gold nor from the question."""
    asked = {word.text for word in words(question)}
    competing = []
    for sentence in _SENTENCE_END.split(_ENUMERATOR.sub("", canonical(answer))):
        pieces = [piece for piece in _PIECES.split(sentence) if piece.strip()]
        if not any(_holds(piece, golds) for piece in pieces):
            continue
        for piece in pieces:
            spelled = phrase(piece)
            named = any(c.isupper() or c.isdigit() for c in piece) or len(spelled) == 1
            if 0 < len(spelled) <= _FEW_WORDS and named and not set(spelled) & asked and not _holds(piece, golds):
                competing.append(piece.strip())
    return competing


def _holds(piece: str, golds: Sequence[tuple[str, ...]]) -> bool:
    said = words(piece)
    return any(any(occurrences(gold, said)) for gold in golds)


def _list(answer: str, gold: ListAnswer) -> Reason:
    said = words(answer)
    found = 0
    for item in gold.items:
        spans = (span for alias in item for span in occurrences(phrase(alias), said))
        found += any(not is_denied(said, *span) for span in spans)
    if not found:
        return Reason.OPEN
    if found < gold.needed:
        return Reason.INCOMPLETE
    every_alias = [phrase(alias) for item in gold.items for alias in item]
    extra = _competing_pieces(answer, every_alias, question="")
    return Reason.HEDGED if len(extra) > max(1, gold.needed // 2) else Reason.MATCHED


def _number(answer: str, gold: NumberAnswer, question: str) -> Reason:
    said = words(answer)
    found = [q for q in quantities(answer) if not _denied_at(said, q.start)]
    if not found:
        return Reason.OPEN
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


def _denied_at(said: Sequence[Word], offset: int) -> bool:
    position = bisect_right(said, offset, key=lambda word: word.end)
    return position < len(said) and _denied_before(said, position)


def _after_mark(text: str, found: Sequence[Quantity]) -> Quantity | None:
    for mark in reversed(list(_ANSWER_MARK.finditer(text))):
        after = [q for q in found if q.start >= mark.end()]
        if after:
            return None if _are_alternatives(text, after) else after[0]
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


def _date(answer: str, gold: DateAnswer, question: str) -> Reason:
    said = words(answer)
    given = {_fields(date, gold) for date in dates(question)} - {(gold.year, gold.month, gold.day)}
    stated = {
        _fields(date, gold) for date in dates(answer) if _is_as_precise(date, gold) and not _denied_at(said, date.start)
    } - given
    if not stated:
        return Reason.OPEN
    if (gold.year, gold.month, gold.day) not in stated:
        return Reason.OTHER_VALUE
    return Reason.MATCHED if len(stated) == 1 else Reason.HEDGED


def _is_as_precise(date: WrittenDate, gold: DateAnswer) -> bool:
    wanted = ((gold.year, date.year), (gold.month, date.month), (gold.day, date.day))
    return all(have is not None for want, have in wanted if want is not None)


def _fields(date: WrittenDate, gold: DateAnswer) -> tuple[int | None, int | None, int | None]:
    """The date, as precisely as the gold is."""
    return (
        date.year if gold.year is not None else None,
        date.month if gold.month is not None else None,
        date.day if gold.day is not None else None,
    )
