"""One case of a tier as a person reads it: what was asked, what came back, what it was held against, and why it counts.

What belongs here: the noun. What does not: the rows it is made from, which are a tier's (`TierSpec.cases`), and pages.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Passage(BaseModel):
    """A piece of text with what it is: the draft, a verification question, the final answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str
    text: str


class CaseSheet(BaseModel):
    """One case as one model took it.

    `question` and `gold` are the case's own, equal for every model. `score` runs from 0 to 1, higher is better;
    `right` is None where a case is not right or wrong but better or worse. `why` is a sentence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    case_id: str = Field(min_length=1)
    kind: str = ""
    question: str
    gold: str
    score: float | None
    right: bool | None = None
    why: str
    passages: tuple[Passage, ...] = ()
