"""What a device tells whose requests all go to one release, while other devices serve the other: one figure a question.

What belongs here: such a device's figures, from its records. What does not: comparing devices
(`milton_assets.rollout.arms`).

A request is not independent of its device, so however many a device answered, it is one observation: a share of errors,
a median time, a median length.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from milton_assets.edge.canary.counts import Counts
from milton_assets.edge.canary.records import Asked, Record

Positive = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class Figures(BaseModel):
    """A device's: shares of its requests that erred, of its rated answers that were rated badly, and of its answers to
    golden questions that were wrong; medians of the times to the first token (to the whole, of answers that were no
    streams) and per output token, in seconds, and of the output tokens. None is what nothing was told of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests: int = Field(ge=1)
    errors: Share
    feedback: Share | None = None
    goldens: Share | None = None
    answer: Positive | None = None
    writing: Positive | None = None
    length: Positive | None = None


def figures_of(counts: Counts, records: Iterable[Record]) -> Figures | None:
    """The figures of a device whose counts and records these are; None before its first request."""
    asked = [record for record in records if isinstance(record, Asked)]
    if not asked:
        return None
    well = [one for one in asked if one.outcome == "answered" and not one.erred]
    arms = (counts.challenger, counts.incumbent)
    rated, badly = sum(arm.rated for arm in arms), sum(arm.rated_badly for arm in arms)
    marked, right = sum(arm.marked for arm in arms), sum(arm.right for arm in arms)
    return Figures(
        requests=len(asked),
        errors=sum(one.erred for one in asked) / len(asked),
        feedback=badly / rated if rated else None,
        goldens=1 - right / marked if marked else None,
        answer=_median(one.duration_s if one.first_token_s is None else one.first_token_s for one in well),
        writing=_median(one.per_token_s for one in well),
        length=_median(one.output_tokens for one in well),
    )


def _median(values: Iterable[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return float(median(told)) if told else None
