"""A service-level objective: what a request must keep to be good.

What belongs here: the limits there are, and reading them as people write them (`ttft_ms=200,tpot_ms=50`). What does
not: whether a request kept them (`milton_assets.tiers.inference.summary`).
"""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from milton_assets.vocabulary.errors import BadInput


class SLO(BaseModel):
    """A service-level objective: a request is good when it succeeded within every limit given, in milliseconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ttft_ms: float | None = Field(default=None, gt=0)
    ttfv_ms: float | None = Field(default=None, gt=0)
    tpot_ms: float | None = Field(default=None, gt=0)
    e2e_ms: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if not self.limits():
            raise ValueError("an SLO needs at least one of ttft_ms, ttfv_ms, tpot_ms, e2e_ms")
        return self

    def limits(self) -> dict[str, float]:
        """The limits that were given, by column of the samples."""
        return {name: limit for name, limit in self.model_dump().items() if limit is not None}

    @classmethod
    def parse(cls, text: str, source: str) -> Self:
        """Read `NAME=MILLISECONDS`, several with commas between them. Raises `BadInput`, which names the `source`."""
        limits = dict(part.strip().partition("=")[::2] for part in text.split(","))
        try:
            return cls.model_validate(limits)
        except ValidationError as error:
            problem = error.errors()[0]
            raise BadInput(
                f"{source} is {text!r}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}",
                expected=f"NAME=MILLISECONDS,NAME=MILLISECONDS of {', '.join(cls.model_fields)}",
                remedy=f"write {source} like ttft_ms=200,tpot_ms=50",
            ) from error
