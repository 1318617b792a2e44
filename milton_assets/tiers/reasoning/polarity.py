"""What an answer does with a name that it mentions: asserts it, denies it, or leaves it in the air.

What belongs here: `Polarity`, and reading it for one mention. What does not: finding mentions (`naming`), negations
(`denial`), what else the answer offers (`candidates`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from milton_assets.tiers.reasoning.denial import is_denied
from milton_assets.tiers.reasoning.lexicon import DOUBTERS, FORMER, NEGATORS, PRESENT
from milton_assets.tiers.reasoning.text import Span, Word, phrase

_CONDITIONS = frozenset({"if", "unless", "whether"})
_REACH_OF_FORMER = 4
_REFERRING = frozenset({"referring", "mean", "meant", "asking", "talking", "refer", "re", "looking"})


class Polarity(StrEnum):
    """How a mention stands in its sentence: in a question or under a condition it is neither asserted nor denied."""

    ASSERTED = "asserted"
    DENIED = "denied"
    FORMER = "former"
    ASKED = "asked"
    CONDITIONAL = "conditional"


@dataclass(frozen=True)
class Mention:
    """A place that names the gold, as positions in the answer's words, and what is done with it there."""

    start: int
    end: int
    polarity: Polarity

    @property
    def span(self) -> Span:
        """`(start, end)`."""
        return self.start, self.end


def read_mentions(spans: Sequence[Span], said: Sequence[Word], question: str) -> tuple[Mention, ...]:
    """The mentions at `spans` with their polarity, in order."""
    asked = set(phrase(question))
    return tuple(Mention(start, end, _polarity(said, start, end, asked)) for start, end in spans)


def _polarity(said: Sequence[Word], start: int, end: int, asked: set[str]) -> Polarity:
    if is_denied(said, start, end, (NEGATORS | DOUBTERS) & asked):
        return Polarity.DENIED
    if said[start].asked:
        return Polarity.ASKED
    if not asked & FORMER and _is_former(said, start, end):
        return Polarity.FORMER
    return Polarity.CONDITIONAL if _is_conditional(said, start, _CONDITIONS - asked) else Polarity.ASSERTED


def _is_former(said: Sequence[Word], start: int, end: int) -> bool:
    """ "used to be X but is now Y": said of the past, and another sentence part speaks of today."""
    sentence = said[start].sentence
    before = {word.text for word in said[max(0, start - _REACH_OF_FORMER) : start] if word.sentence == sentence}
    if not before & FORMER or before & PRESENT:
        return False
    position = end
    while position < len(said) and said[position].sentence == sentence:
        if said[position].text in PRESENT:
            return True
        position += 1
    return False


def _is_conditional(said: Sequence[Word], start: int, conditions: Collection[str]) -> bool:
    """Whether one of `conditions` stands before it. The question's own ("Who sings 'If I Had a Boat'?") is none."""
    position = start - 1
    while position >= 0 and said[position].sentence == said[start].sentence:
        if said[position].text in conditions and not _asks_back(said, position):
            return True
        position -= 1
    return False


def _asks_back(said: Sequence[Word], position: int) -> bool:
    """ "If you are referring to the film, …" says which question is answered; it puts the answer under no condition."""
    following = [word.text for word in said[position + 1 : position + 4]]
    return following[:1] in (["you"], ["you're"]) and bool(set(following) & _REFERRING)
