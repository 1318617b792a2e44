"""What else does the answer offer? Whether it commits itself to the gold, or names it as one of several.

What belongs here: the candidates beside a gold, in a list, behind "or" and "maybe", in another claim of the same
form. What does not: cutting the answer (`pieces`), what may be an item (`items`), answers that are lists of words
(`word_lists`), finding the gold (`naming`), denials (`polarity`), other fillers of the gold's sentence (`frames`).

An answer commits itself by what it says first. A second name after a comma may explain the first ("Paris, France") and
does no harm, since it cannot make a wrong first answer right; a gold that comes second is one of two candidates. What
is told in a clause of its own ("…, whose members were A, B and C"; "It was X in 1958, 1962 and 1970") is no candidate.

`SEVERAL` is an answer that plainly offers more than one, `FIRST_OF_SEVERAL` one that names the gold before all others:
a judge may read the rest as context, and whoever hedges gets no more from it than from the first name alone.
`UNDECIDED` is what words alone do not settle: two names joined by "and", "X or Y" with X the gold, a gloss of two
names, a name amid a run of words that is no sentence.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, takewhile

from milton_assets.tiers.reasoning.asking import asks_for_a_place, asks_for_several, leaves_the_number_open
from milton_assets.tiers.reasoning.frames import (
    ARTICLE,
    INDEFINITE,
    Filler,
    contrast,
    is_led_by_an_article,
    other_fillers,
)
from milton_assets.tiers.reasoning.items import ADVERB, EXAMPLES, MOST_WORDS_OF_AN_ITEM, Items
from milton_assets.tiers.reasoning.lexicon import COPULAS, FUNCTION_WORDS, HEDGES, NEGATORS, PREPOSITIONS, TITLES
from milton_assets.tiers.reasoning.pieces import (
    APPOSED,
    MARK,
    QUOTED,
    QUOTED_GOLD,
    Piece,
    cut,
    masked,
    row_begins,
    row_ends,
)
from milton_assets.tiers.reasoning.proper_names import asks_for_a_person
from milton_assets.tiers.reasoning.relation import answers_the_verb, verbs_of
from milton_assets.tiers.reasoning.text import Span, Word, canonical, phrase, words
from milton_assets.tiers.reasoning.word_lists import MANY, MOST_ITEMS_OF_AN_ANSWER, is_nothing_but_a_list, is_soup
from milton_assets.tiers.reasoning.wordforms import stem

_MOST_CONJUNCTS = 4
_GLOSS = frozenset({",", "(", ")", "-"})
_ENDS_OF_SENTENCE = frozenset({".", "!", "?", "\n"})
_ALTERNATIVES = frozenset({"or", APPOSED, "alternatively", "otherwise", "if not", "/", "|", "vs", "versus"})
_CONJUNCTIONS = _GLOSS | {"and", "&", "as well as"}
_PLACING = frozenset({"in", "on", "at", "by"})
_MOST_NAMES_IN_A_RUN = 2
_MOST_WORDS_IN_A_RUN = 5
_REACH_OF_A_HEDGE = 4
_TORN = frozenset({"i'm", "it's", "torn", "undecided", "hesitate", "hesitating", "choice", "choose", "toss"})
_SUBJECTS = frozenset({"it", "this", "that", "answer", "he", "she", "they"})
_THINGS = frozenset({"it", "this", "that"})
_PERSONS = frozenset({"he", "she", "they"})
_HEDGES_OF_NOUNS = frozenset({"maybe", "perhaps", "possibly", "either", "alternatively"})
_DEFINITE = re.compile(r"\bthe(?: [A-Z][^\s]*)+ ?$", re.IGNORECASE)
_GIVES_NAMES = frozenset({("known", "as"), ("called", "as"), ("to", "as")})
_BETWEEN_VERB_AND_NAME = HEDGES | {"now", "today", "also", "called"}


class Commitment(StrEnum):
    """How far an answer commits itself to the gold that it names."""

    ONE = "one"
    FIRST_OF_SEVERAL = "first_of_several"
    SEVERAL = "several"
    UNDECIDED = "undecided"


def commitment(text: str, said: Sequence[Word], stated: Sequence[Span], question: str) -> Commitment:
    """How far the answer `text` commits itself to the gold, which it asserts at `stated`."""
    asked = set(phrase(question))
    named = any(said[start].named for start, _ in stated)
    digits = any(said[start].text[0].isdigit() for start, _ in stated)
    golds = len({tuple(word.text for word in said[start:end]) for start, end in stated})
    reader = _Reader(asked, named=named, digits=digits, question=question, golds=1 if digits else golds)
    plain = masked(text, said, stated)
    pieces = cut(plain)
    direct = frozenset(span for span in stated if answers_the_verb(said, span, question))
    fillers = other_fillers(text, said, stated, question)
    found = [
        reader.in_list(pieces, frozenset(word.text for start, end in stated for word in said[start:end])),
        reader.hedged(said, stated),
        reader.other_claims(text, said, stated, direct),
        reader.in_its_frame(fillers),
    ]
    if golds < MANY and is_nothing_but_a_list(text, question, numbers=digits):
        found.append(Commitment.SEVERAL)
    if Commitment.SEVERAL in found:
        first = reader.comes_first(pieces) and not any(filler.before for filler in fillers)
        return Commitment.FIRST_OF_SEVERAL if first else Commitment.SEVERAL
    opens = reader.chooses_between(said, stated) or (not direct and reader.opens_with_another(pieces))
    if Commitment.UNDECIDED in found or opens or is_soup(plain, question):
        return Commitment.UNDECIDED
    return Commitment.UNDECIDED if reader.runs_on(plain) else Commitment.ONE


@dataclass(frozen=True)
class _Row:
    """A gold's row of candidates: how many stand before and after it, and by what joints they are joined; `apposed`
    where the one after it may be its other name ("soccer, or football").
    """

    before: int
    after: int
    golds: int
    glossed: bool
    offered: bool
    conjoined: bool
    apposed: bool

    @property
    def others(self) -> int:
        """How many there are beside the gold."""
        return self.before + self.after

    @property
    def first(self) -> bool:
        """Whether the gold is named before all others."""
        return not self.before


def _beside(row: _Row) -> Commitment:
    """The verdict on a gold in such a row, where one thing was asked for."""
    if not row.others or (row.golds > 1 and row.golds >= row.others and (row.first or row.golds > 2)):
        return Commitment.ONE  # Of several that are right it names most.
    if row.others >= MANY or (row.others == 2 and not (row.first and row.glossed)):
        return Commitment.SEVERAL
    if row.others == 2:
        return Commitment.UNDECIDED
    if row.offered:
        return Commitment.UNDECIDED if row.first else Commitment.SEVERAL
    return Commitment.ONE if row.first and row.glossed else Commitment.UNDECIDED


def _counted(flags: Iterable[bool]) -> list[int]:
    """How many of the first `n` are true, for every `n` from nought."""
    return [0, *accumulate(map(int, flags))]


def _within(counted: Sequence[int], start: int, stop: int) -> int:
    """How many are true from `start` until before `stop`."""
    return counted[stop] - counted[start]


@dataclass(frozen=True)
class _Reader(Items):
    """Reads candidates for one question, beside so many golds."""

    golds: int

    def in_list(self, pieces: Sequence[Piece], gold: frozenset[str]) -> Commitment:
        """Candidates in a row with the gold. One walk over the pieces, however many golds there are."""
        lead = next((_lead(piece.text) for piece in pieces if piece.holds_gold), "")
        first_gold = next((at for at, piece in enumerate(pieces) if piece.holds_gold), 0)
        bare = sum(1 for _ in takewhile(lambda piece: self.in_any_letters.is_item(piece.text), pieces[:first_gold]))
        items = [
            not piece.holds_gold
            and not self._is_label(pieces, at)
            and not (at and piece.joint in {"(", "or"} and _abbreviates(piece.text, pieces[at - 1].text))
            and (
                self.is_item(piece.text, lead or _own_lead(pieces, at))
                or self._is_item_in_small_letters(pieces, at, first_gold, bare, lead)
            )
            for at, piece in enumerate(pieces)
        ]
        if lead and not any(item and phrase(p.text)[0] == lead for p, item in zip(pieces, items, strict=True)):
            lead = (
                ""  # "Elephant, in March": a place or time in a sentence, and no candidate beside the name before it.
            )
        opens = [
            self._gold_opens(p.text, lead) if p.holds_gold else item for p, item in zip(pieces, items, strict=True)
        ]
        closes = [self._gold_ends(p.text) if p.holds_gold else item for p, item in zip(pieces, items, strict=True)]
        rivals = _counted(not piece.holds_gold for piece in pieces)
        told_apart = _counted(piece.joint not in _GLOSS | {""} for piece in pieces)
        offered = _counted(piece.joint in _ALTERNATIVES for piece in pieces)
        not_conjoined = _counted(piece.joint not in _CONJUNCTIONS | {""} for piece in pieces)
        joined = [at > 0 and closes[at - 1] and opens[at] for at in range(len(pieces))]
        begins, ends = row_begins(joined), row_ends(joined)
        worst = Commitment.ONE
        for at, piece in enumerate(pieces):
            if not piece.holds_gold:
                continue
            first, last = begins[at], ends[at]
            if opens[first] and first > 0:
                first -= self._ends_with_a_claim(pieces[first - 1].text, pieces[first].joint)
            if closes[last] and last + 1 < len(pieces):
                last += self._goes_on_with_another(pieces[last + 1])
            row = _Row(
                before=_within(rivals, first, at),
                after=_within(rivals, at + 1, last + 1),
                golds=min(self.golds, last + 1 - first - _within(rivals, first, last + 1)),
                glossed=not _within(told_apart, first + 1, last + 1),
                offered=bool(_within(offered, first + 1, last + 1)),
                conjoined=not _within(not_conjoined, first + 1, last + 1),
                apposed=last == at + 1 and self._may_say_the_same(pieces, at, last, gold),
            )
            in_a_sentence = not (opens[at] and closes[at])
            verdict = self._verdict_on(row, piece, in_a_sentence=in_a_sentence)
            if verdict is Commitment.SEVERAL:
                return verdict
            if verdict is Commitment.ONE and in_a_sentence and worst is Commitment.ONE:
                return verdict  # What is said first, in a sentence of its own, is the answer; what follows is context.
            worst = verdict if worst is Commitment.ONE else worst
        return worst

    def _verdict_on(self, row: _Row, piece: Piece, *, in_a_sentence: bool) -> Commitment:
        """The verdict on a row by what was asked for: a list answers "What are the parts?" and evades "What is it?"."""
        if asks_for_several(self.question) and row.others < MOST_ITEMS_OF_AN_ANSWER and not row.offered:
            return Commitment.ONE
        if row.golds >= MANY and not row.offered and row.others <= min(2 * row.golds, MOST_ITEMS_OF_AN_ANSWER - 1):
            return Commitment.ONE  # Three that are right, among at most twice as many: nobody names them by guessing.
        before, after = (phrase(part) for part in piece.text.split(MARK, 1))
        if in_a_sentence and row.glossed and not row.after and after and stem(after[0]) in verbs_of(self.question):
            return Commitment.ONE  # "Held in Nice, Paris won": the subject of the verb that was asked for.
        one_of_several = before[-1:] and (before[-1] in EXAMPLES or before[-2:] == ("such", "as"))
        if one_of_several and not (row.first and leaves_the_number_open(self.question)):
            return Commitment.UNDECIDED  # An example of several.
        if row.first and in_a_sentence and row.others:
            several_may_be = leaves_the_number_open(self.question) or not (self.named or self.digits)
            if row.conjoined and row.others < _MOST_CONJUNCTS and several_may_be:
                return Commitment.ONE
            if row.glossed and row.others == 2 and not self.digits and asks_for_a_place(self.question):
                return Commitment.ONE
            one_noun = row.others == 1 and not self.named and not self.digits
            if one_noun and (not row.offered or row.apposed or leaves_the_number_open(self.question)):
                return Commitment.ONE  # "A bank and credit union": common nouns beside the one that answers gloss it.
        return _beside(row)

    def _is_label(self, pieces: Sequence[Piece], at: int) -> bool:
        """ "Lead singer of the band: …": a heading that takes up the question."""
        before_a_colon = at + 1 < len(pieces) and pieces[at + 1].joint == ":"
        return before_a_colon and any(word in self.asked - FUNCTION_WORDS for word in phrase(pieces[at].text))

    def _gold_opens(self, piece: str, lead: str) -> bool:
        before = set(phrase(piece.partition(MARK)[0]))
        return before <= (FUNCTION_WORDS - COPULAS - NEGATORS - PREPOSITIONS) | {lead, "with"}

    def _gold_ends(self, piece: str) -> bool:
        return set(phrase(piece.rpartition(MARK)[2])) <= HEDGES | {"too", "also", "then"}

    def _is_item_in_small_letters(
        self, pieces: Sequence[Piece], at: int, first_gold: int, bare: int, lead: str
    ) -> bool:
        """ "lyon or Paris": a rival of a name, whatever its letters, where "or" joins it or it comes first, in the same
        sentence or among the `bare` pieces that the answer opens with. With an article it describes ("the poet, Anna
        Berg"), and so it does after the name ("Paris, city of light").
        """
        if not self.named or self.digits:
            return False
        piece = pieces[at]
        offered = not _ALTERNATIVES.isdisjoint(one.joint for one in pieces[at : at + 2]) or (
            at + 1 == first_gold and not HEDGES.isdisjoint(phrase(pieces[first_gold].text))
        )
        if at < first_gold:
            describes = bool(ARTICLE.match(piece.text)) or not TITLES.isdisjoint(phrase(piece.text))
            joined = pieces[at + 1].joint not in _ENDS_OF_SENTENCE or at < bare
            may = offered or (joined and not describes and pieces[at + 1].joint != ":")
        else:
            may = offered and not asks_for_several(self.question)
        return may and self.in_any_letters.is_item(piece.text, lead)

    def _goes_on_with_another(self, piece: Piece) -> bool:
        """ "… or tin is the answer": what begins behind "or" is a candidate, whatever is said of it."""
        if piece.holds_gold or piece.joint not in _ALTERNATIVES or self.digits:
            return False
        said = words(piece.text)
        own = _adjoining(said)
        follows = said[len(own)].text if len(own) < len(said) else ""
        short = 0 < len(own) <= MOST_WORDS_OF_AN_ITEM and follows in COPULAS
        return short and any(word.text not in self.asked for word in own)

    def _may_say_the_same(self, pieces: Sequence[Piece], at: int, last: int, gold: frozenset[str]) -> bool:
        """Whether what follows ", or" or "known as", or is quoted as the gold is, may be another word for it: not so
        where the answer wavers, or where it is another of the same kind ("vitamin D, or vitamin C").
        """
        other = phrase(pieces[last].text)
        wavers = any(not HEDGES.isdisjoint(phrase(piece.text)) for piece in pieces) or other[:1] == ("else",)
        are_names = phrase(pieces[at].text.partition(MARK)[0])[-2:] in _GIVES_NAMES
        both_quoted = bool(QUOTED_GOLD.search(pieces[at].text)) and bool(
            QUOTED.fullmatch(pieces[last].text.strip(" ."))
        )
        may = pieces[last].joint == APPOSED or are_names or both_quoted
        return may and not wavers and not contrast(gold, other)

    def _ends_with_a_claim(self, piece: str, joint: str = ".") -> bool:
        """ "The capital is Nice" before ", Paris": what follows the verb is an item; in small letters, too, where "or"
        follows as the `joint`, or no article leads it.
        """
        spelled = words(piece)
        if joint in _ALTERNATIVES and not self.digits:
            last = _adjoining(reversed(spelled))[::-1]  # "Koalas eat bark or leaves".
            counts = bool(last) and last[-1].text[0].isdigit()
            return bool(self.own(last)) and not counts and not any(word.text in NEGATORS for word in spelled)
        for n in range(len(spelled) - 1, max(len(spelled) - 2 - MOST_WORDS_OF_AN_ITEM, -1), -1):
            if spelled[n].text in COPULAS | HEDGES | EXAMPLES | {"by"} or (
                spelled[n].text == "as" and spelled[n - 1].text == "such"
            ):
                tail = spelled[n + 1 :]
                own = self.own(tail)
                if not own or any(word.text in NEGATORS for word in own):
                    return False
                if self.named and not self.digits and (not tail[-1].named or tail[-1].text in TITLES):
                    # "By the British band, Orange Juice": what it is, before its name.
                    described = is_led_by_an_article(canonical(piece), spelled, n + 1) or tail[0].text[0].isdigit()
                    elsewhere = joint in _ENDS_OF_SENTENCE and spelled[n].text not in COPULAS
                    described |= elsewhere or any(word.text in TITLES for word in tail)
                    return not described
                return self.competes(own)
            if spelled[n].text in FUNCTION_WORDS - {"of"}:
                return False
        return False

    def comes_first(self, pieces: Sequence[Piece]) -> bool:
        """Whether nothing that competes is named before the gold."""
        at = next(n for n, piece in enumerate(pieces) if piece.holds_gold)
        before = [*(piece.text for piece in pieces[:at]), pieces[at].text.partition(MARK)[0]]
        readers = (self, self.in_any_letters)
        if any(reader.is_item(text) for text in before for reader in readers):
            return False
        joints = [*(piece.joint for piece in pieces[1 : at + 1]), "."]
        if any(self._ends_with_a_claim(text, joint) for text, joint in zip(before, joints, strict=True)):
            return False
        names = [word for text in before for word in words(text) if word.text not in TITLES]
        return not self.named or not any(self._is_another_name(word) for word in names)

    def opens_with_another(self, pieces: Sequence[Piece]) -> bool:
        """ "Italy, ahead of Brazil.": the answer opens with a name that is not the gold, and commits itself to it."""
        if len(pieces) < 2 or pieces[0].holds_gold or not self.named:
            return False
        spelled = words(pieces[0].text)
        adverb = len(spelled) == 1 and bool(ADVERB.search(spelled[0].text))
        titled = any(word.text in TITLES for word in spelled)
        if any(word.text in self.asked and word.text not in FUNCTION_WORDS for word in spelled):
            return False
        return pieces[1].joint not in {":", "\n"} and not adverb and not titled and self.is_item(pieces[0].text)

    def chooses_between(self, said: Sequence[Word], stated: Sequence[Span]) -> bool:
        """ "I'm torn between Paris and Nice": the gold is one of two by what the answer says of itself."""
        opened = 0
        for position, word in enumerate(said):
            opened = position if position and word.sentence != said[position - 1].sentence else opened
            wavers = word.text == "between" and all(w.text in FUNCTION_WORDS | _TORN for w in said[opened:position])
            if wavers and any(said[start].sentence == word.sentence and position < start for start, _ in stated):
                return "between" not in self.asked
        return False

    def hedged(self, said: Sequence[Word], stated: Sequence[Span]) -> Commitment:
        """ "Some say Paris, others say Nice": a name behind a hedge that is not the gold."""
        starts = {start for start, _ in stated}
        inside = {n for start, end in stated for n in range(start, end)}
        last = min((said[start].sentence for start in starts), default=0)
        opened = 0
        for position, word in enumerate(said):
            opened = position if position and word.sentence != said[position - 1].sentence else opened
            if word.sentence > last + 1 or (word.sentence > last and position > opened + 1):
                break  # What is told later, of something else, hedges no answer.
            if word.text not in HEDGES - self.asked or (word.text == "may" and word.named):
                continue
            for n in range(position + 1, min(position + 1 + _REACH_OF_A_HEDGE, len(said))):
                if n in starts or said[n].sentence != word.sentence or said[n].text in NEGATORS:
                    break
                if said[n].text in FUNCTION_WORDS:
                    continue
                other = n not in inside and said[n].text not in self.asked
                of_nouns = word.text in _HEDGES_OF_NOUNS
                if other and self.competes([said[n]]) and (self.named or of_nouns):
                    return Commitment.SEVERAL
                if other and of_nouns and not self.digits and _is_all_of_its_clause(said, n):
                    return Commitment.SEVERAL
                break
        return Commitment.ONE

    def other_claims(
        self, text: str, said: Sequence[Word], stated: Sequence[Span], direct: Collection[Span]
    ) -> Commitment:
        """ "The capital is Nice. The capital is Paris.": claims of one form; or the gold is in none of them."""
        starts = {start for start, _ in stated}
        of_gold: set[str] = set()
        of_another: set[str] = set()
        gold_first = False
        for position in range(1, len(said) - 1):
            subject, verb, follower = said[position - 1 : position + 2]
            if verb.text not in COPULAS or subject.sentence != follower.sentence or follower.clause != verb.clause:
                continue
            if subject.text not in _SUBJECTS and (subject.text not in self.asked or subject.text in FUNCTION_WORDS):
                continue
            if subject.text in _PERSONS and any(start < position for start in starts):
                continue  # "He was the second of that name" tells more of the one who was named.
            if subject.text in _THINGS and any(said[start].sentence < subject.sentence for start in starts):
                continue  # So does "It is Norse for strong"; "It is Y" after "It is X" repeats its frame.
            at = position + 1
            while at + 1 < len(said) and said[at].text in _BETWEEN_VERB_AND_NAME:
                at += 1
            if at in starts or self._names_the_gold_from(said, at, starts):
                gold_first = gold_first or not of_another
                of_gold.add(subject.text)
            elif self._is_another_name(said[at]) and not _is_described(text, said, at):
                of_another.add(subject.text)
        if gold_first:
            # Of another thing more is told: "… is Oslo. The other towns are Bergen …".
            of_another &= of_gold | _SUBJECTS
        if not of_another or not self.named:
            # Common nouns follow many verbs ("it is small").
            return Commitment.ONE
        if direct:
            return Commitment.ONE
        return Commitment.SEVERAL if of_gold else Commitment.UNDECIDED

    def _names_the_gold_from(self, said: Sequence[Word], at: int, starts: Collection[int]) -> bool:
        """Whether what begins there ends with the gold: "is Gerald Ford", "was Italian opera singer Enrico Caruso"."""
        clause = said[at].clause
        while at < len(said) and said[at].text not in FUNCTION_WORDS and said[at].clause == clause:
            if at in starts:
                return True
            at += 1
        return False

    def in_its_frame(self, fillers: Sequence[Filler]) -> Commitment:
        """ "It could be quartz or it could be diamond": what else fills the frame of the gold is a candidate, too."""
        several_may_be = leaves_the_number_open(self.question)
        others = [one for one in fillers if one.before or one.claimed or not several_may_be]
        if not others:
            return Commitment.ONE
        return Commitment.SEVERAL if self.named and any(one.named for one in others) else Commitment.UNDECIDED

    def _is_beside(self, word: Word) -> bool:
        return word.text not in self.asked | TITLES and len(word.text) > 1

    def _is_another_name(self, word: Word) -> bool:
        if word.text in FUNCTION_WORDS or word.text in self.asked:
            return False
        if self.digits or word.text[0].isdigit():
            return self.digits and word.text[0].isdigit()
        return word.named or not self.named

    def runs_on(self, plain: str) -> bool:
        """Whether the gold stands amid other words with nothing between ("Paris Nice Lille")."""
        for piece in cut(plain):
            if not piece.holds_gold:
                continue
            before, _, after = piece.text.partition(MARK)
            rows = (_adjoining(reversed(words(before))), _adjoining(words(after.replace(MARK, " "))))
            others = [w for row in rows for w in row if self._is_beside(w) and (w.named or not self.named)]
            names = [sum(map(self._is_beside, takewhile(_is_a_name, row))) for row in rows]
            most = _MOST_NAMES_IN_A_RUN + bool(_DEFINITE.search(before) or asks_for_a_person(self.question))
            too_many = names[0] >= most or names[1] >= MANY or sum(names) > MANY
            return too_many or len(others) > _MOST_WORDS_IN_A_RUN  # What is said first is the answer.
        return False


def _is_all_of_its_clause(said: Sequence[Word], at: int) -> bool:
    """Whether a short name, in whatever letters, stands from `at` to the end of its clause: "…, maybe lyon"."""
    row = _adjoining(word for word in said[at : at + MOST_WORDS_OF_AN_ITEM + 1] if word.clause == said[at].clause)
    end = at + len(row)
    ends = end == len(said) or said[end].clause != said[at].clause
    return 0 < len(row) <= MOST_WORDS_OF_AN_ITEM and ends and not ADVERB.search(row[0].text)


def _abbreviates(piece: str, before: str) -> bool:
    """Whether `piece` is made of the initials of what stands before it: "Federal Trade Board (FTB)"."""
    letters = piece.strip(" .")
    initials = "".join(word.text[0] for word in words(before) if word.text not in FUNCTION_WORDS)
    return len(letters) > 1 and letters.isupper() and initials.endswith(letters.casefold())


def _is_a_name(word: Word) -> bool:
    return word.named and not word.text[0].isdigit()


def _lead(piece: str) -> str:
    """The preposition that a gold's piece opens with, if it holds nothing else before the gold."""
    before = phrase(piece.partition(MARK)[0])
    return before[0] if len(before) == 1 and before[0] in _PLACING else ""


def _own_lead(pieces: Sequence[Piece], at: int) -> str:
    """The preposition of a piece that "or" follows: "in a bakery or a shop"."""
    offered = at + 1 < len(pieces) and pieces[at + 1].joint in _ALTERNATIVES
    first = phrase(pieces[at].text)[:1] if offered else ()
    return first[0] if first and first[0] in _PLACING else ""


def _is_described(text: str, said: Sequence[Word], at: int) -> bool:
    """Whether what begins there describes and does not name: "was a Palestinian group called …"."""
    return bool(INDEFINITE.match(text[said[at - 1].end : said[at].start])) if at else False


def _adjoining(row: Iterable[Word]) -> list[Word]:
    found: list[Word] = []
    for word in row:
        if word.text in FUNCTION_WORDS:
            break
        found.append(word)
    return found
