"""Is this answer right? Decided without a model: aliases, numbers with units, dates and lists.

What belongs here: comparing an answer with the gold, and saying why. What does not: reading text (`text`,
`quantities`, `dates`), the judge for what stays open (`judge`), counting (`scoring`).

An answer is right when it states the gold and nothing that competes with it:

- a phrase matches as whole words, so `Paris` is not in `comparison`;
- a mention that is denied ("not Canberra", "Canberra is not the capital") is no mention;
- an answer that offers alternatives ("Paris or Lyon", or a list of candidates to a question with one answer) is
  `hedged`, one that also states a known wrong answer is `rival`; both are wrong, since naming everything would
  otherwise always be right;
- what stands in a reason ("…, because each hour has 60 minutes") is no part of the answer, unless nothing else is said;
- of several numbers the answer is the one after "=", "answer is" or "####", else the last that the question did
  not give; a unit of another dimension is wrong, a unit of the same dimension is converted;
- of several dates the answer is the one that stands with the question's own verb ("began in 1939 and ended in 1945");
- a list is a closed set: an item beyond it is `hedged`, a known wrong one `rival`;
- a question with a false premise is answered by denying or correcting it (`premises`).

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

from milton_assets.tiers.reasoning.answers import (
    MOST_ALIAS_CHARACTERS,
    DateAnswer,
    Gold,
    ListAnswer,
    NumberAnswer,
    PremiseAnswer,
    TextAnswer,
)
from milton_assets.tiers.reasoning.claim import claim_of
from milton_assets.tiers.reasoning.dates import WrittenDate, dates
from milton_assets.tiers.reasoning.denial import is_denied, is_denied_before
from milton_assets.tiers.reasoning.premises import Stance, stance
from milton_assets.tiers.reasoning.quantities import UNITS, Quantity, convert, quantities
from milton_assets.tiers.reasoning.text import Word, canonical, occurrences, phrase, words

MOST_CHARACTERS = MOST_ALIAS_CHARACTERS
"""An answer longer than this answers no question that was put here; it also bounds what matching costs."""

MOST_SENTENCES = 8
"""An answer that states more, when one name or correction was asked for, is a list of candidates."""

_FEW_WORDS = 4
_CANDIDATES_THAT_HEDGE = 3
_ANSWER_MARK = re.compile(r"####|\banswer(?: is|:)|=|\b(?:therefore|thus|hence|total of|in total)\b", re.IGNORECASE)
_ENUMERATOR = re.compile(r"^[ \t]*(?:\(?\d{1,2}[.)]|[-*•])[ \t]+", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")
_PIECES = re.compile(r"[,;\n•|]|\band\b|\bor\b", re.IGNORECASE)
_CALCULATION = re.compile(
    r"[=+×*÷]|\b(?:plus|minus|times|multipl\w+|divid\w+|add\w*|subtract\w*|half)\b", re.IGNORECASE
)
_ITEMS = re.compile(r"[,;\n•|&]|\b(?:and|or|plus|as well as|along with)\b", re.IGNORECASE)
_NO_ITEM = frozenset({
    "is", "are", "was", "were", "be", "been", "they", "these", "those", "it", "its", "this", "that", "which", "who",
    "whose", "because", "since", "as", "so", "while", "with", "to", "from", "by", "for", "on", "at", "in", "their",
    "there", "have", "has", "had", "make", "makes", "made", "called", "known", "such", "both", "all", "each",
    "respectively", "too", "also", "not", "never", "no", "etc", "you", "i",
})  # fmt: skip
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
_OR = re.compile(r"^[^.\d\w]*or[^.\d\w]*$", re.IGNORECASE)
_OR_RANGE = re.compile(r"^[^.\d\w]*(?:or|and|to|-|/)[^.\d\w]*$", re.IGNORECASE)


class Reason(StrEnum):
    """Why an answer is right or not."""

    MATCHED = "matched"
    OPEN = "open"
    DENIED = "denied"
    HEDGED = "hedged"
    RIVAL = "rival"
    PREMISE_TAKEN = "premise_taken"
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
    if isinstance(gold, PremiseAnswer):
        return Match(_premise(answer, gold, question, rivals))
    if isinstance(gold, ListAnswer):
        return Match(_list(answer, gold, question, rivals))
    if isinstance(gold, TextAnswer) and phrase(answer) in map(phrase, gold.accept):
        return Match(Reason.MATCHED)
    claim = claim_of(answer)
    said = claim if words(claim) else answer
    if isinstance(gold, NumberAnswer):
        return Match(_number(said, gold, question))
    if isinstance(gold, DateAnswer):
        return Match(_date(said, gold, question))
    return Match(_text(said, gold, question, rivals))


_OF_STANCE = {
    Stance.SEES_THROUGH: Reason.MATCHED,
    Stance.TAKES_FOR_GRANTED: Reason.PREMISE_TAKEN,
    Stance.HEDGES: Reason.HEDGED,
    Stance.SILENT: Reason.OPEN,
}


def _premise(answer: str, gold: PremiseAnswer, question: str, rivals: Sequence[str]) -> Reason:
    found = _OF_STANCE[stance(answer, gold, rivals)]
    golds = [phrase(text) for text in (*gold.states, *gold.denied, *gold.premise)]
    return Reason.HEDGED if found is Reason.MATCHED and _enumerates(answer, golds, question) else found


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
    return _enumerates(answer, aliases, question)


def _enumerates(answer: str, golds: Sequence[tuple[str, ...]], question: str) -> bool:
    sentences = sum(bool(phrase(sentence)) for sentence in re.split(r"(?<=[.!?])\s|\n", canonical(answer)))
    return sentences > MOST_SENTENCES or len(_competing_pieces(answer, golds, question)) >= _CANDIDATES_THAT_HEDGE


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
    for sentence in _enumerations(answer):
        pieces = [piece for piece in _PIECES.split(sentence) if piece.strip()]
        if not any(_holds(piece, golds) for piece in pieces):
            continue
        for piece in pieces:
            spelled = phrase(piece)
            named = any(c.isupper() or c.isdigit() for c in piece) or len(spelled) == 1
            if 0 < len(spelled) <= _FEW_WORDS and named and not set(spelled) & asked and not _holds(piece, golds):
                competing.append(piece.strip())
    return competing


def _enumerations(answer: str) -> list[str]:
    """The sentences, where those of a few words in a row ("Paris. Rome. Oslo.") are one enumeration."""
    runs: list[str] = []
    short = False
    for sentence in _SENTENCE_END.split(_ENUMERATOR.sub("", canonical(answer))):
        if (few := len(phrase(sentence)) <= _FEW_WORDS) and short:
            runs[-1] += f", {sentence}"
        else:
            runs.append(sentence)
        short = few
    return runs


def _holds(piece: str, golds: Sequence[tuple[str, ...]]) -> bool:
    said = words(piece)
    return any(any(occurrences(gold, said)) for gold in golds)


def _list(answer: str, gold: ListAnswer, question: str, rivals: Sequence[str]) -> Reason:
    said = words(answer)
    aliases = [phrase(alias) for item in gold.items for alias in item]
    spans = [span for alias in aliases for span in occurrences(alias, said)]
    if _states_a_rival(said, _wrong_items(rivals, aliases), question, spans):
        return Reason.RIVAL
    stated = {tuple(word.text for word in said[start:end]) for start, end in spans if not is_denied(said, start, end)}
    found = sum(any(phrase(alias) in stated for alias in item) for item in gold.items)
    if not found:
        return Reason.OPEN
    if found < gold.needed:
        return Reason.INCOMPLETE
    return Reason.HEDGED if not gold.open and _other_items(answer, aliases, question) else Reason.MATCHED


def _wrong_items(rivals: Sequence[str], aliases: Sequence[tuple[str, ...]]) -> list[str]:
    """What known wrong lists name beyond the gold: "Mars" of "Mercury and Mars"."""
    return [
        piece for rival in rivals for piece in _ITEMS.split(rival) if phrase(piece) and phrase(piece) not in aliases
    ]


def _other_items(answer: str, aliases: Sequence[tuple[str, ...]], question: str) -> list[str]:
    """What the enumeration names beside the gold. Words about what was asked for ("inferior planets") are no item."""
    asked = _letters(question)
    others = []
    for sentence in _enumerations(answer):
        pieces = [piece for piece in _ITEMS.split(sentence) if phrase(piece)]
        if not any(_holds(piece, aliases) for piece in pieces):
            continue
        for piece in pieces:
            if _holds(piece, aliases):
                others += _names_after(piece, aliases, asked)
            elif len(phrase(piece)) <= _FEW_WORDS and not _speaks_of(piece, asked):
                others.append(piece.strip())
    return others


def _letters(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", canonical(text))


def _speaks_of(piece: str, asked: Sequence[str]) -> bool:
    """Whether a piece is a remark: it has a verb or a pronoun, or repeats a common noun of the question."""
    nouns = {word for word in asked if word.islower() and len(word) > 2}
    return bool(set(phrase(piece)) & _NO_ITEM) or bool(set(_letters(piece)) & nouns)


def _names_after(piece: str, aliases: Sequence[tuple[str, ...]], asked: Sequence[str]) -> list[str]:
    """A name right after the last gold of a piece makes another name of it ("North America" of "north")."""
    said = words(piece)
    end = max(end for alias in aliases for _, end in occurrences(alias, said))
    if end == len(said) or said[end].clause != said[end - 1].clause:
        return []
    follower = canonical(piece)[said[end].start : said[end].end]
    known = any(
        follower.casefold().startswith(word.casefold()) or word.startswith(follower.casefold()) for word in asked
    )
    return [] if known or not follower[0].isupper() else [follower]


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
    return position < len(said) and is_denied_before(said, position)


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
    wanted = (gold.year, gold.month, gold.day)
    given = {_fields(date, gold) for date in dates(question)} - {wanted}
    written = [
        date
        for date in dates(answer)
        if _is_as_precise(date, gold) and not _denied_at(said, date.start) and _fields(date, gold) not in given
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
