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
    """The verdict on one answer. `open` ones are for the judge, if there is one."""

    reason: Reason

    @property
    def right(self) -> bool:
        """Whether the answer counts as right."""
        return self.reason is Reason.MATCHED
