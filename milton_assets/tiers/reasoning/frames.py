"""Claims of one form: "It is X. It is Y.", "Some say X, others say Y", "Option one is X. Option two is Y.", "X is the
answer. Y is the answer."

What belongs here: another filler of the words that the gold stands in, before it or after. What does not: candidates
in a row with the gold (`candidates`), what that means for the verdict.

A frame is what stands between the beginning of a part of a sentence and the gold, or between the gold and its end,
without what hedges, counts or tells such parts from one another. What fills it beside the gold competes with it:

- a description does not ("It is a heavy metal", "It is used in lamps");
- a word in small letters after a name does not ("It is Rome. It is old."), unless "or" introduces it; one before does,
  since whoever does not know the answer could name the first candidate so.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import NamedTuple

from milton_assets.tiers.reasoning.lexicon import AUXILIARIES, FUNCTION_WORDS, HEDGES, NEGATORS
from milton_assets.tiers.reasoning.relation import verbs_of
from milton_assets.tiers.reasoning.text import Span, Word, occurrences, words
from milton_assets.tiers.reasoning.wordforms import root, stem

_ENDS = re.compile(r"[.!?\n;,()|•/]|\s-\s")
_JOINS = frozenset({"or", "and", "but", "while", "whereas", "nor", "otherwise", "alternatively"})
_OFFERS = frozenset({"or", "otherwise", "alternatively"})
_LABELS = frozenset({"answer", "option", "choice", "possibility", "candidate", "guess", "solution", "result"})
_LEFT_OUT = (HEDGES | AUXILIARIES | _JOINS | _LABELS | {
    "it", "this", "that", "i", "i'd", "i'm", "also", "else", "then", "another", "some", "other", "others", "too",
}) - {"do", "does", "did", "has", "have", "had"}  # fmt: skip
_PRESENT = frozenset({"is", "are", "be"})
_PAST = frozenset({"was", "were", "been"})
_HEDGED = ("maybe",)
_CLAIMS = frozenset({"is", "was", "called", "named", "termed"})
_SUBJECTS = frozenset({"he", "she", "they", "we"})
_MOST_WORDS_OF_A_FRAME = 8
_MOST_WORDS_OF_A_FILLER = 4
_MOST_FRAMES = 8
ARTICLE = re.compile(r"[\s\"'*_]*(?:an?|the)\s", re.IGNORECASE)
"""What leads a phrase that describes, with quotes and emphasis before it."""
INDEFINITE = re.compile(r"[\s\"'*_]*an?\s", re.IGNORECASE)
_PARTICIPLE = re.compile(r"(?:ed|ing|own|ought|ound|itten|ade)$")


class _Frame(NamedTuple):
    """The words before a gold and behind it, in the part of a sentence that it stands in; the first of them are its
    subject where the question gives it or a pronoun takes it up.
    """

    subject: tuple[str, ...]
    lead: tuple[str, ...]
    tail: tuple[str, ...]
    wavers: bool

    @property
    def is_a_claim(self) -> bool:
        """Whether its beginning says what something is, or all that it says is that one is not sure."""
        return self.lead == _HEDGED or self.lead[-1:] in {(one,) for one in _CLAIMS}

    def fits(self, subject: Sequence[str]) -> bool:
        """Whether `subject` may be the same: where either is but a pronoun, or left out, it is."""
        return tuple(subject) == self.subject or _SUBJECTS.issuperset(subject) or _SUBJECTS.issuperset(self.subject)


@dataclass(frozen=True)
class Filler:
    """What stands in the gold's frame beside it: whether before the gold, whether written as a name, and
    whether the frame says what something is."""

    before: bool
    named: bool
    claimed: bool = False


@dataclass(frozen=True)
class _Part:
    """A part of a sentence, as positions in the words, and whether "or" introduces it."""

    start: int
    end: int
    offered: bool


def is_led_by_an_article(text: str, said: Sequence[Word], at: int) -> bool:
    """Whether an article stands before the word `at`: "the poet" describes who is named next."""
    return bool(ARTICLE.match(text[said[at - 1].end if at else 0 : said[at].start]))


def contrast(one: Collection[str], other: Collection[str]) -> bool:
    """Whether two phrases are of one kind and not the same: each has a word of its own beside one that they share
    ("vitamin C" and "vitamin D")."""
    return bool(set(one) & set(other)) and bool(set(one) - set(other)) and bool(set(other) - set(one))


def own_words(spelled: Sequence[Word], question: Sequence[Word]) -> list[Word]:
    """What a phrase says beside the question; all of it where it only takes its words up: asked which sea lies to the
    north, "North Sea" is an answer.
    """
    asked = {word.text for word in question}
    own = [word for word in spelled if word.text not in asked and word.text != "of"]
    anew = len(spelled) > 1 and not any(occurrences([word.text for word in spelled], question))
    return own or (list(spelled) if anew else [])


def other_fillers(text: str, said: Sequence[Word], stated: Sequence[Span], question: str) -> list[Filler]:
    """What else fills the frames in which `text`, which `said` are the words of, states the gold at `stated`."""
    reader = _Fillers(text, said, stated, question)
    parts = list(_parts(text, said))
    frames = reader.frames_of(stated, parts)
    return [filler for part in parts for filler in reader.of_frames(part, frames)]


def _parts(text: str, said: Sequence[Word]) -> Iterator[_Part]:
    start, offered = 0, False
    for n, word in enumerate(said):
        joins = word.text in _JOINS
        if n > start and (joins or _ENDS.search(text[said[n - 1].end : word.start])):
            yield _Part(start, n, offered)
            start, offered = n, False
        offered = offered or (n == start and word.text in _OFFERS)
    if start < len(said):
        yield _Part(start, len(said), offered)


def _plain(row: Sequence[Word]) -> list[str]:
    """The words of a frame in the form that they are compared in; empty where one says nothing of the frame, as a
    number does beside a label ("option two").
    """
    found = []
    for n, word in enumerate(row):
        if word.text in _PRESENT:
            found.append("is")
        elif word.text in _PAST:
            found.append("was")
        else:
            says_nothing = word.text in _LEFT_OUT or (word.text[0].isdigit() and _counts_a_label(row, n))
            found.append("" if says_nothing else word.text)
    return found


def _counts_a_label(row: Sequence[Word], at: int) -> bool:
    """Whether a number is that of a label: "second guess", "option 2: …", "option two is …"."""
    after = row[at + 1] if at + 1 < len(row) else None
    if after is not None and after.text in _LABELS:
        return True
    ends = after is not None and (after.clause != row[at].clause or after.text in _PRESENT | _PAST)
    return ends and at > 0 and row[at - 1].text in _LABELS and row[at - 1].clause == row[at].clause


def _wavers(row: Sequence[Word]) -> bool:
    return any(word.text in HEDGES | _LABELS for word in row)


class _Fillers:
    """Looks for fillers in the parts of one answer."""

    def __init__(self, text: str, said: Sequence[Word], stated: Sequence[Span], question: str) -> None:
        self._text, self._said, self._question = text, said, words(question)
        self._asked = {word.text for word in self._question}
        self._verbs = verbs_of(question) | _CLAIMS
        self._inside = {n for start, end in stated for n in range(start, end)}
        self._first = min(start for start, _ in stated)
        self._gold = {word.text for start, end in stated for word in said[start:end]}
        self._named = any(said[start].named for start, _ in stated)
        self._digits = any(said[start].text[0].isdigit() for start, _ in stated)
        self._gold_is_described = any(INDEFINITE.match(self._before(start)) for start, _ in stated)

    def frames_of(self, stated: Sequence[Span], parts: Sequence[_Part]) -> list[_Frame]:
        """The frames that the gold stands in; the first of them, where it is stated over and over."""
        frames: dict[_Frame, None] = {}
        at = 0
        for start, end in stated:
            while parts[at].end <= start:
                at += 1
            part = parts[at]
            if start - part.start <= _MOST_WORDS_OF_A_FRAME and len(frames) < _MOST_FRAMES:
                plain = _plain(self._said[part.start : part.end])
                before = [one for one in plain[: start - part.start] if one]
                own = self._subject(before)
                lead = tuple(before[own:])
                tail = tuple(one for one in plain[end - part.start :] if one)
                wavers = _wavers(self._said[part.start : part.end])
                lead = lead if before or not _wavers(self._said[part.start : start]) else _HEDGED
                frames[_Frame(tuple(before[:own]), lead, tail, wavers)] = None
        return [frame for frame in frames if frame.is_a_claim or self._states(frame)]

    def of_frames(self, part: _Part, frames: Sequence[_Frame]) -> Iterator[Filler]:
        """What fills one of `frames` in `part`: all of it, or its beginning where that says what something is."""
        row = self._said[part.start : part.end]
        plain = _plain(row)
        places = [n for n, one in enumerate(plain) if one]
        spelled = [plain[n] for n in places]
        if not frames or not places or any(word.text in NEGATORS for word in row):
            return
        subject = self._subject(spelled)
        for frame in frames:
            if frame.lead == _HEDGED:
                begin = 0 if _wavers(row[: places[0]]) else None
            else:
                begin = self._behind(spelled, subject, frame)
            if begin is None or begin >= len(spelled):
                continue
            stop = len(spelled) - len(frame.tail)
            if begin < stop and tuple(spelled[stop:]) == frame.tail and self._states(frame):
                found = self._filler(part, part.start + places[begin], part.start + places[stop - 1] + 1)
            elif frame.is_a_claim:
                found = self._filler(part, part.start + places[begin], part.end)
            else:
                found = None
            if found is not None:
                yield replace(found, claimed=frame.is_a_claim)
                return

    def _behind(self, spelled: Sequence[str], subject: int, frame: _Frame) -> int | None:
        """Where what follows the frame's beginning stands in `spelled`."""
        whole = (*frame.subject, *frame.lead)
        if tuple(spelled[: len(whole)]) == whole:
            return len(whole)
        begin = subject + len(frame.lead)
        fits = bool(frame.lead) and frame.fits(spelled[:subject]) and tuple(spelled[subject:begin]) == frame.lead
        return begin if fits else None

    def _states(self, frame: _Frame) -> bool:
        """Whether all of a frame is a statement of its own: with the verb of the question, or a copula."""
        spelled = (*frame.subject, *frame.lead, *frame.tail)
        return frame.wavers or any(not self._verbs.isdisjoint({stem(word), root(word)}) for word in spelled)

    def _before(self, at: int) -> str:
        return self._text[self._said[at - 1].end if at else 0 : self._said[at].start]

    def _subject(self, spelled: Sequence[str]) -> int:
        """How many words at the beginning are but the subject, which the question gives or a pronoun takes up."""
        return sum(1 for _ in takewhile(lambda one: one in self._asked | _SUBJECTS and one not in _CLAIMS, spelled))

    def _filler(self, part: _Part, start: int, end: int) -> Filler | None:
        """What fills the frame from `start` to `end`, if it competes with the gold."""
        at = start
        while at < end and (self._said[at].text == "of" or self._said[at].text not in FUNCTION_WORDS):
            at += 1
        row = self._said[start:at]
        own = own_words(row, self._question)
        if not own or len(row) > _MOST_WORDS_OF_A_FILLER or any(n in self._inside for n in range(start, at)):
            return None
        before = start < self._first
        if self._digits:
            named = any(word.text[0].isdigit() for word in own)
            return Filler(before, named) if named else None
        if row[0].text[0].isdigit():
            return None
        if INDEFINITE.match(self._before(start)) and not self._gold_is_described:
            return None
        named = any(word.named for word in own)
        bare = at == end and not (len(row) == 1 and _PARTICIPLE.search(row[0].text))
        if self._named:
            offered = before or part.offered or _wavers(self._said[part.start : start])
            return Filler(before, named) if named or (offered and bare) else None
        return Filler(before, named) if bare or contrast({word.text for word in row}, self._gold) else None
