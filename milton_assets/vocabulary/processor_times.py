"""Processor times, taken twice, and what others took between.

What belongs here: the two nouns and their difference. What does not: reading the times, which differs by machine
(`edge.deployment.contention`, `resources.machine_watch`), and what is made of the difference.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ProcessorTimes:
    """Seconds of all cores together since some moment: `total_s` in all, `busy_s` at work, `ours_s` of it for us."""

    total_s: float
    busy_s: float
    ours_s: float


def others_share(before: ProcessorTimes, after: ProcessorTimes) -> float | None:
    """The share of the processors that others took between two takings, in 0..1; None where no time went by."""
    total = after.total_s - before.total_s
    if total <= 0:
        return None
    others = (after.busy_s - before.busy_s) - (after.ours_s - before.ours_s)
    return min(1.0, max(0.0, others / total))
