"""Progress of long work, as plain values.

What belongs here: the listener's type and the value it gets. What does not: how progress is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """`done` of `total` steps of `stage` (e.g. `reasoning`) are finished; `note` says what was last done."""

    stage: str
    done: int
    total: int
    note: str = ""


OnProgress = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """A listener for callers that do not want to know."""
