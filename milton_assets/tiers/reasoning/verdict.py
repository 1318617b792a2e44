"""The verdict on one answer: why it is right or not.

What belongs here: `Reason` and `Match`. What does not: finding the verdict (`matching`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why an answer is right or not."""

    MATCHED = "matched"
    OPEN = "open"
    DENIED = "denied"
    HEDGED = "hedged"
    RIVAL = "rival"
    PREMISE_TAKEN = "premise_taken"
    OTHER_VALUE = "other_value"
    OTHER_UNIT = "other_unit"
    INCOMPLETE = "incomplete"
    EMPTY = "empty"
    TOO_LONG = "too_long"


@dataclass(frozen=True)
class Match:
    """The verdict on one answer, and whether a judge, if there is one, may think otherwise."""

    reason: Reason
    for_judge: bool

    @classmethod
    def of(cls, reason: Reason) -> Match:
        """The verdict for `reason` where nothing more is known: what is `open` is for the judge."""
        return cls(reason, for_judge=reason is Reason.OPEN)

    @property
    def right(self) -> bool:
        """Whether the answer counts as right."""
        return self.reason is Reason.MATCHED
