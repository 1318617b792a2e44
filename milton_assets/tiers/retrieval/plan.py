"""What a retrieval measurement does, in one frozen value.

What belongs here: every knob that changes the figures, with its default and why. What does not: the prompts'
wording (`prompts`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from milton_assets.vocabulary.keys import VariantsSeed


class Method(StrEnum):
    """How the model is asked: one document at a time, or a window of documents to be put in order."""

    POINTWISE = "pointwise"
    LISTWISE = "listwise"


class RetrievalPlan(BaseModel):
    """How a model's retrieval is measured.

    `pool_size` documents are fetched by BM25 for each query and the model reranks them. `max_queries` takes a
    fixed subset (hash order, answerable and unanswerable in proportion). `concurrency` is how many calls are in
    flight at once: as many as the server has slots. `seed` fixes shuffles, ties and the bootstrap.
    `top_logprobs` is how many alternatives of the first token are asked for (20 is what OpenAI and vLLM allow).
    `window` and `step` are listwise's. A document is shown up to its first `max_document_words` words.

    With a `variants_seed`, the published variant of every template and `fresh_per_template` fresh ones are asked too;
    no other figure rests on them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str = "test"
    method: Method = Method.POINTWISE
    pool_size: int = Field(default=20, ge=1, le=1000)
    max_queries: int | None = Field(default=None, ge=1)
    concurrency: int = Field(default=1, ge=1, le=1024)
    seed: int = 0
    top_logprobs: int = Field(default=20, ge=2, le=20)
    window: int = Field(default=10, ge=2, le=50)
    step: int = Field(default=5, ge=1, le=50)
    max_document_words: int = Field(default=350, ge=1)
    resamples: int = Field(default=2000, ge=100, le=100_000)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    fresh_per_template: int = Field(default=1, ge=1, le=20)
    variants_seed: VariantsSeed | None = None

    @model_validator(mode="after")
    def _windows_overlap(self) -> Self:
        if self.step >= self.window:
            raise ValueError(f"step {self.step} must be smaller than window {self.window}, or nothing moves up")
        return self

    @classmethod
    def smoke(cls) -> Self:
        """A plan for a demonstration on two cores: 13 queries (12 of them answerable) over pools of 5."""
        return cls(pool_size=5, max_queries=13)
