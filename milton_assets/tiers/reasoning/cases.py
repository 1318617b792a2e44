"""One gold question: its kind, its split, its answer, and wrong answers to it.

What belongs here: the nouns of a case. What does not: sets of them and reading those (`goldens`), cases whose numbers
are drawn (`variants`), comparing (`matching`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from milton_assets.tiers.reasoning.answers import Gold
from milton_assets.tiers.reasoning.matching import match
from milton_assets.vocabulary.keys import Slug

MAX_LINE_BYTES = 20_000


class Kind(StrEnum):
    """What a question asks for. `other` is for sets whose questions are not labelled."""

    SINGLE_FACT = "single_fact"
    LIST_OF_FACTS = "list_of_facts"
    ARITHMETIC_IN_WORDS = "arithmetic_in_words"
    MULTI_HOP = "multi_hop"
    FALSE_PREMISE = "false_premise"
    UNIT_AND_DATE = "unit_and_date"
    OTHER = "other"


class Split(StrEnum):
    """`dev` is for writing prompts and matchers, `test` for scoring models. Figures come from `test`."""

    DEV = "dev"
    TEST = "test"


class GoldenCase(BaseModel):
    """One question with its gold answer, plausible wrong answers, and where the fact comes from.

    `wrong` serves twice: as seeded faults when detection is measured, and as rivals that a right answer must not
    also assert. `check` is an expression that yields the gold where it can be derived.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Slug
    kind: Kind
    split: Split
    question: str = Field(min_length=3, max_length=MAX_LINE_BYTES)
    answer: Gold
    wrong: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    source: str = Field(min_length=3)
    check: str | None = None

    @model_validator(mode="after")
    def _no_wrong_answer_is_right(self) -> GoldenCase:
        for wrong in self.wrong:
            if match(wrong, self.answer, question=self.question).right:
                raise ValueError(f"the wrong answer {wrong!r} of case {self.id} matches its gold answer")
        if not match(self.answer.shown(), self.answer, question=self.question, rivals=self.wrong).right:
            raise ValueError(f"the gold answer {self.answer.shown()!r} of case {self.id} does not match itself")
        return self
