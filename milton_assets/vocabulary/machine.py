"""What a machine was seen to do while something was measured on it, and whether that spoils what was measured.

What belongs here: `Seen`, and what anything that watches promises. What does not: watching (`resources.machine_watch`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

DISTURBED_SHARE = 0.10
"""Figures hold while at most this share of the time was disturbed."""


@dataclass
class Seen:
    """What was seen while something was measured. Figures are shares of the time, or the highest of any interval."""

    watched_s: float = 0.0
    disturbed_s: float = 0.0
    others_share: float = 0.0
    others_share_max: float = 0.0
    busy_share: float = 0.0
    steal_share_max: float = 0.0
    stalled_shares: dict[str, float] = field(default_factory=dict)
    swapped_in_pages: int = 0
    throttled: int = 0
    clock_share_min: float | None = None
    runnable_max: int | None = None
    others_gpu_share_max: float = 0.0
    whose: str = "this process, what it started, and the server"
    reasons: dict[str, float] = field(default_factory=dict)

    def complaint(self) -> str | None:
        """Why figures that were taken meanwhile say more of the machine than of the server; None where they do not."""
        if not self.watched_s or self.disturbed_s <= DISTURBED_SHARE * self.watched_s:
            return None
        causes = ", ".join(sorted(self.reasons, key=lambda cause: -self.reasons[cause]))
        return (
            f"the machine was busy with something else for {self.disturbed_s:.0f} of {self.watched_s:.0f} s "
            f"({causes}); measure again when it is idle"
        )

    def provenance(self) -> dict[str, Any]:
        """What is written into the evidence."""
        return {
            "watched_s": round(self.watched_s, 1),
            "disturbed_s": round(self.disturbed_s, 1),
            "whose_is_not_others": self.whose,
            "others_share": round(self.others_share, 3),
            "others_share_max": round(self.others_share_max, 3),
            "busy_share": round(self.busy_share, 3),
            "steal_share_max": round(self.steal_share_max, 3),
            "stalled_shares": {name: round(share, 3) for name, share in self.stalled_shares.items()},
            "swapped_in_pages": self.swapped_in_pages,
            "throttled": self.throttled,
            "clock_share_min": None if self.clock_share_min is None else round(self.clock_share_min, 3),
            "runnable_max": self.runnable_max,
            "others_gpu_share_max": round(self.others_gpu_share_max, 3),
            "reasons": {cause: round(seconds, 1) for cause, seconds in sorted(self.reasons.items())},
        }


class Watches(Protocol):
    """Something that watches the machine that a measurement runs on, this one or another."""

    def watching(self) -> AbstractContextManager[Seen]:
        """Watch for the length of the block; what was seen is complete when it ends."""
        ...
