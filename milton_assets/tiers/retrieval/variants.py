"""Templated queries: one question over four passages, in as many variants as its values allow, drawn by a seed.

    template.published()                     # the variant that everybody knows: drawn by a seed that is public
    template.fresh(seed, 1)                  # one that nobody knew before the seed was minted

A template is a line of `variants.jsonl`:

    {"id": "boats",
     "asked": {"load": [["ewes and rams", "sheep"], ["barrels of ale", "beer"], …],
               "hour": [["while it is still dark", "before sunrise"], …]},
     "numbers": {"length": [12, 40]},
     "passage": ["The {name} is loaded with {load}.", "It leaves {hour}.", "It is {length} paces long."],
     "question": "Which boat takes {load} and sets out {hour}?"}

Two things are asked about. Of each a value and another are drawn, and the four passages are the four ways to combine
them: one says both that the question asks for, two say one of them, one says neither. A passage says a value by the
first of its two texts, the question by the second, which shares no word with it. What a passage is about has an
invented name; names, numbers and the order of the sentences after the first are drawn for each, and so is the order in
which the passages are shown.

What belongs here: the template, its validation and its variants. What does not: asking a model (`known_answers`), and
the draws themselves (`vocabulary.shuffles`).

**Each of the four passages answers one of the four questions that could be asked of them**, so nothing about a passage
alone tells which it is, and neither do its words: a model that does not read ends at one in four. And **the published
variant is drawn as the fresh ones are**, so for a model that knows none of them they are exchangeable, however hard the
template is (`statistics.variants`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from milton_assets.tiers.retrieval.documents import Document, Query
from milton_assets.vocabulary.keys import Slug
from milton_assets.vocabulary.shuffles import drawn, hash_order

FEWEST_VALUES = 4
"""Of fewer, a model could learn every question there is."""
ANSWERS = 3
"""The grade of the passage that answers; the others have none."""
_PUBLIC = "published"
"""The seed of the published variants; no minted seed is equal to it."""
_NAME = "name"
_PLACE = re.compile(r"\{([^{}]*)\}")
_STARTS = ("Bal", "Cor", "Dun", "Esk", "Fal", "Gor", "Hev", "Ist", "Jor", "Kel", "Lom", "Mur", "Nev", "Ord", "Pel")
_ENDS = ("abra", "bury", "cott", "dane", "eff", "gar", "holt", "ick", "lund", "mere", "nock", "ovar", "rith", "sel")

_Text = Annotated[str, StringConstraints(min_length=1, max_length=500)]
_Key = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]{0,30}$")]


class Value(BaseModel):
    """One value of what is asked about: as a passage tells it, and as a question asks for it."""

    model_config = ConfigDict(frozen=True)

    told: _Text
    asked: _Text

    @model_validator(mode="before")
    @classmethod
    def _pair(cls, given: object) -> object:
        if not (isinstance(given, list | tuple) and len(given) == 2):
            raise ValueError('expected two texts, ["as a passage tells it", "as a question asks for it"]')
        return {"told": given[0], "asked": given[1]}


@dataclass(frozen=True)
class Variant:
    """A question, and its passages in the order in which they are shown. `query` grades the one that answers.

    `template` is the name of the template in its set.
    """

    template: str
    query: Query
    passages: tuple[Document, ...]

    @property
    def answer(self) -> str:
        """The id of the passage that answers."""
        return next(iter(self.query.grades))


class Template(BaseModel):
    """A question whose values, names, numbers and order are drawn. The module says what each field means."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Slug
    asked: dict[_Key, Annotated[tuple[Value, ...], Field(min_length=FEWEST_VALUES, max_length=200)]] = Field(
        min_length=2, max_length=2
    )
    numbers: dict[_Key, tuple[int, int]] = Field(default_factory=dict, max_length=10)
    passage: tuple[_Text, ...] = Field(min_length=2, max_length=10)
    question: _Text

    @model_validator(mode="after")
    def _holds(self) -> Self:
        if both := sorted((self.asked.keys() & self.numbers.keys()) | ({_NAME} & {*self.asked, *self.numbers})):
            raise ValueError(f"{both} are two things at once")
        for key, (low, high) in self.numbers.items():
            if high <= low:
                raise ValueError(f"{key}: from {low} to {high} there is nothing to draw")
        for key, values in self.asked.items():
            for texts in ([one.told for one in values], [one.asked for one in values]):
                if twice := sorted({text for text in texts if texts.count(text) > 1}):
                    raise ValueError(f"{key} has the texts {twice} twice")
        if (places := set(_PLACE.findall(self.question))) != set(self.asked):
            raise ValueError(f"the question has the places {sorted(places)}, expected {sorted(self.asked)}")
        expected = {_NAME, *self.asked, *self.numbers}
        if (places := set(_PLACE.findall(" ".join(self.passage)))) != expected:
            raise ValueError(f"the passage has the places {sorted(places)}, expected {sorted(expected)}")
        return self

    def published(self, name: str | None = None) -> Variant:
        """The variant that everybody knows. `name` stands for the template's id, where sets are joined."""
        name = name or self.id
        return self._variant(name, _PUBLIC, 0, name)

    def fresh(self, seed: str, count: int, name: str | None = None) -> tuple[Variant, ...]:
        """`count` variants that `seed` draws. Their ids are the name, the seed's beginning and their number."""
        name = name or self.id
        return tuple(self._variant(name, seed, n, f"{name}.{seed[:8]}.{n}") for n in range(1, count + 1))

    def texts(self) -> Iterator[str]:
        """Every piece of text that a variant may hold: what stands between the places, and every value."""
        for text in (self.question, *self.passage):
            yield from (piece.strip() for piece in _PLACE.split(text)[::2])
        for values in self.asked.values():
            for one in values:
                yield from (one.told, one.asked)

    def _variant(self, name: str, seed: str, number: int, variant_id: str) -> Variant:
        salt = (seed, self.id, number)
        pairs = {key: _two(values, *salt, key) for key, values in self.asked.items()}
        names = hash_order((start + end for start, end in product(_STARTS, _ENDS)), *salt, _NAME)
        told = []
        first, *others = self.passage
        for place, values in enumerate(product(*pairs.values())):
            numbers = {
                key: str(low + drawn(high - low + 1, *salt, place, key)) for key, (low, high) in self.numbers.items()
            }
            filled = {_NAME: names[place], **numbers, **{key: one.told for key, one in zip(pairs, values, strict=True)}}
            later = hash_order((_filled(one, filled) for one in others), *salt, place, "order")
            told.append(" ".join((_filled(first, filled), *later)))
        right, *_ = told
        shown = hash_order(told, *salt, "shown")
        passages = tuple(Document(f"{variant_id}:{place}", "", text) for place, text in enumerate(shown, start=1))
        question = _filled(self.question, {key: first.asked for key, (first, _) in pairs.items()})
        answer = passages[shown.index(right)].doc_id
        return Variant(name, Query(variant_id, question, {answer: ANSWERS}), passages)


def _two(values: tuple[Value, ...], *salt: object) -> tuple[Value, Value]:
    """Two different values, in a drawn order."""
    first = drawn(len(values), *salt)
    left = [one for place, one in enumerate(values) if place != first]
    return values[first], left[drawn(len(left), *salt, "other")]


def _filled(text: str, values: Mapping[str, str]) -> str:
    filled = _PLACE.sub(lambda found: values[found.group(1)], text)
    return filled[:1].upper() + filled[1:]
