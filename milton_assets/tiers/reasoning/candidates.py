"""What else does the answer offer? Whether it commits itself to the gold, or names it as one of several.

What belongs here: the candidates beside a gold, in a list, behind "or" and "maybe", in another claim of the same
form. What does not: finding the gold (`naming`), denials (`polarity`).

An answer commits itself by what it says first. A second name after a comma may explain the first ("Paris, France") and
does no harm, since it cannot make a wrong first answer right; a gold that comes second is one of two candidates. What
is told in a clause of its own ("…, whose members were A, B and C"; "It was X in 1958, 1962 and 1970") is no candidate.

`SEVERAL` is an answer that plainly offers more than one. `UNDECIDED` is what words alone do not settle: two names
joined by "and", "X or Y" with X the gold, a gloss of two names, a name amid a run of words that is no sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

from milton_assets.tiers.reasoning.lexicon import COPULAS, FUNCTION_WORDS, HEDGES, NEGATORS, TITLES
from milton_assets.tiers.reasoning.naming import Span
from milton_assets.tiers.reasoning.text import Word, phrase, words

MARK = "\ue000"
"""Stands for a mention of the gold in a masked text: a character for private use, a word to nobody else."""

_ENUMERATOR = re.compile(r"^[ \t]*(?:\(?\d{1,2}[.)]|[-*•])[ \t]+", re.MULTILINE)
_JOINT = re.compile(r"[,;:\n•|/()\"&]|\s-+\s|[.!?]+(?=\s|$)|\b(?:and|or|nor|versus|vs|alternatively)\b", re.IGNORECASE)
_MOST_WORDS_OF_AN_ITEM = 4
_MANY = 3
_GLOSS = frozenset({",", "(", ")", "-"})
_ALTERNATIVES = frozenset({"or", "alternatively"})
_MOST_NAMES_IN_A_RUN = 2
_MOST_WORDS_IN_A_RUN = 5
_LONGEST_RUN = 7
_REACH_OF_A_HEDGE = 4
_SUBJECTS = frozenset({"it", "this", "that", "answer", "he", "she", "they"})
_HEDGES_OF_NOUNS = frozenset({"maybe", "perhaps", "possibly", "either", "alternatively"})
_LABELS = frozenset({"answer", "final", "result", "conclusion", "solution"})
_FEWEST_LINKS = 6
_ADVERB = re.compile(r"(?:al|b|d|e|nt|ar|us|st|ful|ain)ly$")
_BETWEEN_VERB_AND_NAME = HEDGES | {"now", "today", "also", "called"}


class Commitment(StrEnum):
    """How far an answer commits itself to the gold that it names."""

    ONE = "one"
    SEVERAL = "several"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Piece:
    """A part of the answer between two joints: its text with golds masked, and the joint before it."""

    text: str
    joint: str

    @property
    def holds_gold(self) -> bool:
        """Whether the gold is named in it."""
        return MARK in self.text


def masked(text: str, said: Sequence[Word], spans: Sequence[Span]) -> str:
    """`text`, which `said` are the words of, with each span of words replaced by `MARK`."""
    parts, at = [], 0
    for start, end in sorted(spans):
        parts += [text[at : said[start].start], MARK]
        at = said[end - 1].end
    return "".join([*parts, text[at:]])


def commitment(text: str, said: Sequence[Word], stated: Sequence[Span], question: str) -> Commitment:
    """How far the answer `text` commits itself to the gold, which it asserts at `stated`."""
    asked = set(phrase(question))
    named = any(said[start].named for start, _ in stated)
    digits = any(said[start].text[0].isdigit() for start, _ in stated)
    reader = _Reader(asked, named=named, digits=digits)
    plain = masked(text, said, stated)
    pieces = _pieces(plain)
    found = [
        reader.in_list(pieces),
        reader.hedged(said, stated),
        reader.other_claims(said, stated),
        reader.repeats_its_frame(said, stated),
    ]
    if Commitment.SEVERAL in found:
        return Commitment.SEVERAL
    if Commitment.UNDECIDED in found or reader.opens_with_another(pieces) or is_soup(plain, question):
        return Commitment.UNDECIDED
    return Commitment.UNDECIDED if reader.runs_on(plain) else Commitment.ONE


def is_soup(text: str, question: str = "") -> bool:
    """Whether `text` is words in a row that make no sentence: many of them, joined by none or always by the same.

    Numbers do not count, nor the words of the question.
    """
    asked = set(phrase(question))
    spelled = words(text.replace(MARK, " gold "))
    links = [word.text for word in spelled if word.text in FUNCTION_WORDS - {"and", "or"}]
    if len(links) >= _FEWEST_LINKS and len(set(links)) == 1:
        return True
    run = 0
    clause = -1
    for word in spelled:
        breaks = word.clause != clause or word.text in FUNCTION_WORDS or word.text in asked
        if breaks or word.text[0].isdigit() or word.text.endswith(("ed", "ing")):
            run = 0
        clause = word.clause
        run += word.text not in FUNCTION_WORDS and not word.text[0].isdigit()
        if run > _LONGEST_RUN:
            return True
    return False


def enumerates(text: str) -> bool:
    """Whether `text` lists several names in a row, whatever they are."""
    reader = _Reader(set(), named=True, digits=False)
    run = 0
    for piece in _pieces(text):
        run = run + 1 if reader.is_item(piece.text) else 0
        if run > _MANY:
            return True
    return False


def _pieces(text: str) -> list[Piece]:
    text = _ENUMERATOR.sub("", text)
    pieces, at, joint = [], 0, ""
    for match in _JOINT.finditer(text):
        piece = text[at : match.start()]
        if piece.strip(" '*_`\"\t"):
            pieces.append(Piece(piece, joint))
            joint = ""
        joint = _stronger(joint, match.group().strip().lower() or "\n")
        at = match.end()
    if text[at:].strip(" '*_`\"\t"):
        pieces.append(Piece(text[at:], joint))
    return pieces


def _stronger(one: str, other: str) -> str:
    """Of two joints in a row (", or", "(or"), the one that says more."""
    return one if one.isalpha() and not other.isalpha() else other


def _beside(*, before: int, after: int, glossed: bool, offered: bool) -> Commitment:
    """The verdict on a gold with so many rivals before and after it, all joined as a gloss is, or one by an "or"."""
    others, first = before + after, not before
    if not others:
        return Commitment.ONE
    if others >= _MANY or (others == 2 and not (first and glossed)):
        return Commitment.SEVERAL
    if others == 2:
        return Commitment.UNDECIDED
    if offered:
        return Commitment.UNDECIDED if first else Commitment.SEVERAL
    return Commitment.ONE if first and glossed else Commitment.UNDECIDED


def _counted(flags: Iterable[bool]) -> list[int]:
    """How many of the first `n` are true, for every `n` from nought."""
    return [0, *accumulate(map(int, flags))]


def _within(counted: Sequence[int], start: int, stop: int) -> int:
    """How many are true from `start` until before `stop`."""
    return counted[stop] - counted[start]


def _row_begins(in_row: Sequence[bool]) -> list[int]:
    """For each place, the first of the row of places in a row that ends there."""
    begins: list[int] = []
    for at in range(len(in_row)):
        begins.append(begins[at - 1] if at and in_row[at - 1] else at)
    return begins


def _row_ends(in_row: Sequence[bool]) -> list[int]:
    """For each place, the last of the row of places in a row that begins there."""
    last = len(in_row) - 1
    return [last - begin for begin in reversed(_row_begins(in_row[::-1]))]


@dataclass(frozen=True)
class _Reader:
    """Reads candidates for one question; `named` and `digits` say how the gold is written, and so its rivals."""

    asked: set[str]
    named: bool
    digits: bool

    def in_list(self, pieces: Sequence[Piece]) -> Commitment:
        """Candidates in a row with the gold. One walk over the pieces, however many golds there are."""
        in_row = [piece.holds_gold or self.is_item(piece.text) for piece in pieces]
        rivals = _counted(not piece.holds_gold for piece in pieces)
        told_apart = _counted(piece.joint not in _GLOSS | {""} for piece in pieces)
        offered = _counted(piece.joint in _ALTERNATIVES for piece in pieces)
        begins, ends = _row_begins(in_row), _row_ends(in_row)
        worst = Commitment.ONE
        for at, piece in enumerate(pieces):
            if not piece.holds_gold:
                continue
            first, last = at, at
            if self._gold_opens(piece.text):
                first = begins[at]
                first -= first > 0 and self._ends_with_a_claim(pieces[first - 1].text)
            if self._gold_ends(piece.text):
                last = ends[at]
            joined = min(first + 1, at)
            verdict = _beside(
                before=_within(rivals, first, at),
                after=_within(rivals, at + 1, last + 1),
                glossed=not _within(told_apart, joined, last + 1),
                offered=bool(_within(offered, joined, last + 1)),
            )
            if verdict is Commitment.SEVERAL:
                return verdict
            worst = verdict if worst is Commitment.ONE else worst
        return worst

    def _gold_opens(self, piece: str) -> bool:
        return set(phrase(piece.partition(MARK)[0])) <= FUNCTION_WORDS - COPULAS - NEGATORS

    def _gold_ends(self, piece: str) -> bool:
        return set(phrase(piece.rpartition(MARK)[2])) <= HEDGES | {"too", "also", "then"}

    def is_item(self, piece: str) -> bool:
        """Whether a piece is a short name and nothing else, as it would stand in a list of candidates."""
        spelled = [word for word in words(piece) if word.text not in HEDGES | {"then", "also", "even", "else"}]
        if not 0 < len(spelled) <= _MOST_WORDS_OF_AN_ITEM:
            return False
        if any(word.text in (FUNCTION_WORDS - {"of"}) | _LABELS for word in spelled):
            return False
        own = [word for word in spelled if word.text not in self.asked and word.text != "of"]
        return bool(own) and self._competes(own)

    def _competes(self, spelled: Sequence[Word]) -> bool:
        if all(word.text[0].isdigit() for word in spelled):
            return self.digits
        if self.digits:
            return any(word.text[0].isdigit() for word in spelled)
        return not self.named or any(word.named for word in spelled)

    def _ends_with_a_claim(self, piece: str) -> bool:
        """ "The capital is Nice" before ", Paris": what follows the verb is an item."""
        spelled = words(piece)
        for n in range(len(spelled) - 1, max(len(spelled) - 2 - _MOST_WORDS_OF_AN_ITEM, -1), -1):
            if spelled[n].text in COPULAS | HEDGES:
                tail = spelled[n + 1 :]
                own = [word for word in tail if word.text not in self.asked]
                return bool(own) and not any(word.text in NEGATORS for word in own) and self._competes(own)
            if spelled[n].text in FUNCTION_WORDS:
                return False
        return False

    def opens_with_another(self, pieces: Sequence[Piece]) -> bool:
        """ "Italy, ahead of Brazil.": the answer opens with a name that is not the gold, and commits itself to it."""
        if len(pieces) < 2 or pieces[0].holds_gold or not self.named:
            return False
        spelled = words(pieces[0].text)
        adverb = len(spelled) == 1 and bool(_ADVERB.search(spelled[0].text))
        titled = any(word.text in TITLES for word in spelled)
        return pieces[1].joint not in {":", "\n"} and not adverb and not titled and self.is_item(pieces[0].text)

    def hedged(self, said: Sequence[Word], stated: Sequence[Span]) -> Commitment:
        """ "Some say Paris, others say Nice": a name behind a hedge that is not the gold."""
        starts = {start for start, _ in stated}
        inside = {n for start, end in stated for n in range(start, end)}
        for position, word in enumerate(said):
            if word.text not in HEDGES or (word.text == "may" and word.named):
                continue
            for n in range(position + 1, min(position + 1 + _REACH_OF_A_HEDGE, len(said))):
                if n in starts or said[n].sentence != word.sentence or said[n].text in NEGATORS:
                    break
                if said[n].text in FUNCTION_WORDS:
                    continue
                other = n not in inside and said[n].text not in self.asked and self._competes([said[n]])
                if other and (self.named or word.text in _HEDGES_OF_NOUNS):
                    return Commitment.SEVERAL
                break
        return Commitment.ONE

    def other_claims(self, said: Sequence[Word], stated: Sequence[Span]) -> Commitment:
        """ "The capital is Nice. The capital is Paris.": claims of one form; or the gold is in none of them."""
        starts = {start for start, _ in stated}
        of_gold: set[str] = set()
        of_another: set[str] = set()
        for position in range(1, len(said) - 1):
            subject, verb, follower = said[position - 1 : position + 2]
            if verb.text not in COPULAS or subject.sentence != follower.sentence or follower.clause != verb.clause:
                continue
            if subject.text not in _SUBJECTS and (subject.text not in self.asked or subject.text in FUNCTION_WORDS):
                continue
            at = position + 1
            while at + 1 < len(said) and said[at].text in _BETWEEN_VERB_AND_NAME:
                at += 1
            if at in starts:
                of_gold.add(subject.text)
            elif self._is_another_name(said[at]):
                of_another.add(subject.text)
        if not of_another or not self.named:
            # Common nouns follow many verbs ("it is small").
            return Commitment.ONE
        return Commitment.SEVERAL if of_gold else Commitment.UNDECIDED

    def repeats_its_frame(self, said: Sequence[Word], stated: Sequence[Span]) -> Commitment:
        """ "It could be quartz or it could be diamond": what leads to the gold leads to another, too."""
        starts = {start for start, _ in stated}
        frames = {
            (said[start - 2].text, said[start - 1].text)
            for start in starts
            if start > 1 and said[start - 1].text in COPULAS and said[start - 2].sentence == said[start].sentence
        }
        for position in range(2, len(said)):
            frame = (said[position - 2].text, said[position - 1].text)
            if position not in starts and frame in frames and self._is_another_name(said[position]):
                return Commitment.SEVERAL if self.named else Commitment.UNDECIDED
        return Commitment.ONE

    def _is_another_name(self, word: Word) -> bool:
        if word.text in FUNCTION_WORDS or word.text in self.asked:
            return False
        if self.digits or word.text[0].isdigit():
            return self.digits and word.text[0].isdigit()
        return word.named or not self.named

    def runs_on(self, plain: str) -> bool:
        """Whether the gold stands amid other words with nothing between ("Paris Nice Lille")."""
        for piece in _pieces(plain):
            if not piece.holds_gold:
                continue
            before, _, after = piece.text.partition(MARK)
            beside = [*_adjoining(reversed(words(before))), *_adjoining(words(after.replace(MARK, " ")))]
            others = [w for w in beside if w.text not in self.asked | TITLES and len(w.text) > 1]
            names = [w for w in others if w.named and not w.text[0].isdigit()]
            if len(names) >= _MOST_NAMES_IN_A_RUN or len(others) > _MOST_WORDS_IN_A_RUN:
                return True
        return False


def _adjoining(row: Iterable[Word]) -> list[Word]:
    found: list[Word] = []
    for word in row:
        if word.text in FUNCTION_WORDS:
            break
        found.append(word)
    return found
