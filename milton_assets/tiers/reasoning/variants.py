"""Templated cases: one question in as many variants as its parameters allow, drawn by a seed.

    template.published                       # the variant that everybody knows: drawn by a seed that is public
    template.fresh(seed, 2)                  # two that nobody knew before the seed was minted

A template is a line of `cases.jsonl` that has `parameters`:

    {"id": "sum-31", "kind": "arithmetic_in_words", "split": "test",
     "parameters": {"a": {"from": 4, "to": 29}, "who": {"choose": ["Anna", "Ben"]},
                    "other": {"choose": ["Anna", "Ben", "Carl"], "unlike": ["who"]}},
     "derived": {"all": "a * 3"},
     "facts": ["{who} has {a} marbles.", "{other} has three times as many."],
     "distractors": ["{other} is the taller of the two."], "distract": 1,
     "question": "{facts} How many marbles does {other} have?",
     "answer": {"type": "number", "value": "all"}, "wrong": ["{a + 3:digits}", "{a:digits}"],
     "source": "derivable"}

A text may hold `{expression}`: a whole number is spelled out, with `:digits` written in digits; the name of a text
stands for that text. `{facts}` are the facts and `distract` of the distractors, in a drawn order. In `answer` a
number's `value` and a date's parts are expressions, other texts are filled. A wrong answer that happens to be right in
a variant is left out of it; a variant whose question, merely repeated, would pass for its answer is not asked.

What belongs here: the template, its validation and its variants. What does not: expressions (`expressions`), drawing
(`vocabulary.shuffles`), and which variants a plan asks (`tier`).

**The published variant is drawn as the fresh ones are**, never chosen by hand. So for a model that knows none of them
they are exchangeable, however hard each template is, and the test of contamination is exact (`statistics.variants`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, model_validator

from milton_assets.tiers.reasoning.answers import Gold
from milton_assets.tiers.reasoning.cases import MAX_LINE_BYTES, GoldenCase, Kind, Split
from milton_assets.tiers.reasoning.expressions import BadExpression, Expression
from milton_assets.tiers.reasoning.matching import match
from milton_assets.tiers.reasoning.numerals import spelled
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import Slug
from milton_assets.vocabulary.shuffles import drawn, hash_order

FEWEST_VARIANTS = 1000
"""A template with fewer is as good as published."""
MOST_PARAMETERS = 20
_TRIALS = 3
_DRAWS = 60
_PUBLIC = "published"
"""The seed of the published variants; no minted seed is equal to it."""
_PLACE = re.compile(r"\{([^{}]*)\}")
_FACTS = "facts"
_FORM = ":digits"
_GOLD: TypeAdapter[Gold] = TypeAdapter(Gold)
_SENTENCE = re.compile(r"(^|[.?!] )([a-z])")

_Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z_]{0,30}$")]


class Numbers(BaseModel):
    """A whole number `from` … `to`, both included, in steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: int = Field(alias="from", ge=-(10**9), le=10**9)
    high: int = Field(alias="to", ge=-(10**9), le=10**9)
    step: int = Field(default=1, ge=1, le=10**9)

    @model_validator(mode="after")
    def _several(self) -> Self:
        if self.high <= self.low:
            raise ValueError(f"from {self.low} to {self.high} there is nothing to draw")
        return self

    @property
    def size(self) -> int:
        """How many there are."""
        return (self.high - self.low) // self.step + 1


class Choice(BaseModel):
    """One of several texts, none that a parameter named in `unlike` has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    choose: tuple[_Text, ...] = Field(min_length=2, max_length=200)
    unlike: tuple[_Name, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if len(set(self.choose)) < len(self.choose):
            raise ValueError("a text to choose is there twice")
        return self

    @property
    def size(self) -> int:
        """How many are left when those that are taken are taken out; at least this many."""
        return len(self.choose) - len(self.unlike)


class CaseTemplate(BaseModel):
    """A case whose numbers, names and order of facts are drawn. The module says what each field means."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Slug
    kind: Kind
    split: Split
    parameters: dict[_Name, Numbers | Choice] = Field(min_length=1, max_length=MOST_PARAMETERS)
    derived: dict[_Name, str] = Field(default_factory=dict, max_length=MOST_PARAMETERS)
    facts: tuple[_Text, ...] = Field(default=(), max_length=20)
    distractors: tuple[_Text, ...] = Field(default=(), max_length=20)
    distract: int = Field(default=0, ge=0)
    question: str = Field(min_length=3, max_length=MAX_LINE_BYTES)
    answer: dict[str, Any]
    wrong: tuple[_Text, ...] = ()
    source: str = Field(min_length=3)

    @model_validator(mode="after")
    def _holds(self) -> Self:
        taken: set[str] = set()
        for name, one in self.parameters.items():
            if isinstance(one, Choice):
                if unknown := [other for other in one.unlike if other not in taken]:
                    raise ValueError(f"{name} is unlike {unknown}, which must stand before it")
                if one.size < 1:
                    raise ValueError(f"nothing is left to choose for {name}")
            taken.add(name)
        if both := [name for name in (*self.derived, _FACTS) if name in taken]:
            raise ValueError(f"{both} are parameters and something else too")
        if self.distract > len(self.distractors):
            raise ValueError(f"distract is {self.distract}, of {len(self.distractors)} distractors")
        if (f"{{{_FACTS}}}" in self.question) != bool(self.facts):
            raise ValueError("a template has facts, and its question holds {facts}, or neither")
        if self.variants < FEWEST_VARIANTS:
            raise ValueError(
                f"there are about {self.variants} variants, expected at least {FEWEST_VARIANTS}: fewer can be learned"
            )
        for number in range(_TRIALS):
            self._variant("trial", number, f"{self.id}.trial")
        if not any(self._sound(_PUBLIC, self.id)):
            raise ValueError(
                f"the question of template {self.id} gives its answer away in every one of {_DRAWS} variants"
            )
        return self

    @property
    def variants(self) -> int:
        """About how many there are: the product of what each parameter, the order and the distractors allow."""
        parts = [one.size for one in self.parameters.values()]
        orders = math.factorial(len(self.facts) + self.distract) if self.facts else 1
        return math.prod(parts) * orders * math.comb(len(self.distractors), self.distract)

    @cached_property
    def published(self) -> GoldenCase:
        """The variant that everybody knows, under the template's own id."""
        return next(self._sound(_PUBLIC, self.id))

    def fresh(self, seed: str, count: int, *, unlike: str) -> tuple[GoldenCase, ...]:
        """`count` variants that `seed` draws, all different from each other and from the question `unlike`.

        Their ids are the template's, the seed's beginning and their number. Raises `BadInput` where the
        template does not give so many.
        """
        asked = {unlike}
        found: list[GoldenCase] = []
        for one in self._sound(seed, f"{self.id}.{seed[:8]}"):
            if len(found) == count:
                return tuple(found)
            if one.question not in asked:
                asked.add(one.question)
                found.append(one.model_copy(update={"id": f"{one.id}.{len(found) + 1}"}))
        raise BadInput(
            f"the template {self.id} gave {len(found)} different variants in {_DRAWS} draws",
            expected=f"{count}",
            remedy="widen its parameters",
        )

    def _sound(self, seed: str, case_id: str) -> Iterator[GoldenCase]:
        """The variants of that seed whose question, merely repeated, would not pass for their answer."""
        for number in range(_DRAWS):
            one = self._variant(seed, number, case_id)
            if not match(one.question, one.answer, question=one.question, rivals=one.wrong).right:
                yield one

    def texts(self) -> Iterator[str]:
        """Every piece of text that a variant may hold: what stands between the places, and what may be chosen."""
        for text in (self.question, *self.facts, *self.distractors, *self.wrong):
            yield from (piece.strip() for piece in _PLACE.split(text)[::2])
        for one in self.parameters.values():
            if isinstance(one, Choice):
                yield from one.choose

    def _variant(self, seed: str, number: int, case_id: str) -> GoldenCase:
        try:
            return self._filled(seed, number, case_id)
        except BadExpression as error:
            raise ValueError(f"the template {self.id} cannot be filled: {error}") from error

    def _filled(self, seed: str, number: int, case_id: str) -> GoldenCase:
        salt = (seed, self.id, number)
        numbers: dict[str, Fraction] = {}
        texts: dict[str, str] = {}
        for name, one in self.parameters.items():
            if isinstance(one, Numbers):
                numbers[name] = Fraction(one.low + one.step * drawn(one.size, *salt, name))
            else:
                left = [text for text in one.choose if text not in {texts.get(other) for other in one.unlike}]
                texts[name] = left[drawn(len(left), *salt, name)]
        for name, expression in self.derived.items():
            numbers[name] = Expression(expression).value(numbers)
        fill = _Filler(numbers, texts)
        if self.facts:
            told = [*self.facts, *hash_order(self.distractors, *salt, "distract")[: self.distract]]
            ordered = hash_order((fill(fact) for fact in told), *salt, "order")
            fill = _Filler(numbers, {**texts, _FACTS: " ".join(ordered)})
        question = _SENTENCE.sub(lambda found: found.group(1) + found.group(2).upper(), fill(self.question))
        answer = _GOLD.validate_python(_answer(self.answer, fill))
        wrong = dict.fromkeys(fill(text) for text in self.wrong)
        return GoldenCase(
            id=case_id,
            kind=self.kind,
            split=self.split,
            question=question,
            answer=answer,
            wrong=tuple(text for text in wrong if not match(text, answer, question=question).right),
            source=self.source,
            check=_check_of(self.answer, numbers),
        )


class _Filler:
    """Fills the places of a text."""

    def __init__(self, numbers: Mapping[str, Fraction], texts: Mapping[str, str]) -> None:
        self.numbers = numbers
        self.texts = texts

    def __call__(self, text: str) -> str:
        return _PLACE.sub(self._place, text)

    def _place(self, found: re.Match[str]) -> str:
        inside = found.group(1)
        name = inside.removesuffix(_FORM)
        if name in self.texts:
            return self.texts[name]
        value = self.number(name)
        if name == inside and value.denominator == 1 and value >= 0:
            try:
                return spelled(int(value))
            except ValueError as error:
                raise BadExpression(str(error)) from error
        return f"{float(value):.12g}"

    def number(self, expression: object) -> Fraction:
        """The value of an expression, or of a plain number."""
        if isinstance(expression, int | float) and not isinstance(expression, bool):
            return Fraction(str(expression))
        return Expression(str(expression)).value(self.numbers)


_NUMERIC = {"number": ("value",), "date": ("year", "month", "day")}
"""The fields of an answer that are expressions, by the answer's type."""


def _answer(stated: Mapping[str, Any], fill: _Filler) -> dict[str, Any]:
    numeric = _NUMERIC.get(str(stated.get("type")), ())
    filled: dict[str, Any] = {}
    for name, value in stated.items():
        if name == "type":
            filled[name] = value
        elif name in numeric:
            number = fill.number(value)
            filled[name] = float(number) if stated["type"] == "number" else int(number)
        else:
            filled[name] = _in_texts(value, fill)
    return filled


def _in_texts(value: Any, fill: Callable[[str], str]) -> Any:
    """`value` with every text in it filled; units and the like hold no places."""
    if isinstance(value, str):
        return fill(value) if _PLACE.search(value) else value
    if isinstance(value, list):
        return [_in_texts(one, fill) for one in value]
    return value


def _check_of(stated: Mapping[str, Any], numbers: Mapping[str, Fraction]) -> str | None:
    if stated.get("type") != "number" or not isinstance(stated.get("value"), str):
        return None
    return Expression(stated["value"]).told(numbers)
