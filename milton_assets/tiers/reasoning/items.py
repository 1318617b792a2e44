"""Which pieces of an answer may be an item of a list of candidates: short names and nothing else.

What belongs here: telling an item from a description, a heading or a word of the question. What does not: cutting an
answer into pieces (`pieces`), what items beside the gold mean (`candidates`), answers that are nothing but items
(`word_lists`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from milton_assets.tiers.reasoning.frames import INDEFINITE, own_words
from milton_assets.tiers.reasoning.lexicon import FUNCTION_WORDS, HEDGES, TITLES
from milton_assets.tiers.reasoning.text import Word, words

MOST_WORDS_OF_AN_ITEM = 4
_LEAST_OF_A_NAME = 4
_LABELS = frozenset({"answer", "final", "result", "conclusion", "solution"})
EXAMPLES = frozenset({
    "including", "includes", "include", "included", "comprising", "comprises", "featuring", "like", "namely",
    "especially", "particularly", "notably",
})  # fmt: skip
_LED_IN_BY = frozenset({"then", "also", "even", "else", "rather", "instead"})
ADVERB = re.compile(r"(?:al|b|d|e|nt|ar|us|st|ful|ain)ly$")


@dataclass(frozen=True)
class Items:
    """Tells items for one question; `named` and `digits` say how the gold is written, and so its rivals."""

    asked: set[str]
    named: bool
    digits: bool
    question: str

    @property
    def in_any_letters(self) -> Self:
        """The same reader, to whom small letters make a rival, too."""
        return replace(self, named=False)

    def is_item(self, piece: str, lead: str = "") -> bool:
        """Whether a piece is a short name and nothing else, as it would stand in a list of candidates. `lead` is the
        preposition that the gold has, and that another candidate may have too ("in Nice or in Paris").
        """
        spelled = [word for word in words(piece) if word.text not in HEDGES | _LED_IN_BY]
        if lead and spelled and spelled[0].text == lead:
            spelled = spelled[1:]
        if not 0 < len(spelled) <= MOST_WORDS_OF_AN_ITEM:
            return False
        if any(word.text in (FUNCTION_WORDS - {"of"}) | _LABELS | EXAMPLES for word in spelled):
            return False
        if len(spelled) == 1 and ADVERB.search(spelled[0].text):
            return False
        if self.named and not self.digits and (INDEFINITE.match(piece) or not (spelled[0].named and spelled[-1].named)):
            return False  # "A boy of eleven", "the son of Anna" and "the German biologist" describe; they name nobody.
        if not self.digits and self._is_of_the_question(spelled):
            return False
        own = self.own(spelled)
        return bool(own) and self.competes(own)

    def own(self, spelled: Sequence[Word]) -> list[Word]:
        """What a phrase says beside the question."""
        return own_words(spelled, words(self.question))

    def _is_of_the_question(self, spelled: Sequence[Word]) -> bool:
        """A name that the question gives a part of: asked who sang it with Anna, "Anna Bergin" is no answer."""
        names = [word.text for word in spelled if word.named and word.text not in TITLES]
        given = {word.text for word in words(self.question)[1:] if word.named and len(word.text) >= _LEAST_OF_A_NAME}
        return len(names) > 1 and not given.isdisjoint(names)

    def competes(self, spelled: Sequence[Word]) -> bool:
        """Whether words are written as the gold is: a number beside a number, a name beside a name."""
        if all(word.text[0].isdigit() for word in spelled):
            return self.digits
        if self.digits:
            return any(word.text[0].isdigit() for word in spelled)
        return not self.named or any(word.named and not word.text[0].isdigit() for word in spelled)
