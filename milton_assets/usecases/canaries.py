"""Canaries as both doors know them: on which targets they can run, and keeping how they ended.

What belongs here: these steps over a target and this machine's state folder. What does not: printing, and what a canary
is (`milton_assets.edge.canary`).
"""

from __future__ import annotations

from datetime import UTC, datetime

from milton_assets.edge.canary.starting import CanaryTold
from milton_assets.fleet.canaries import KeptVerdict, RunsCanaries, check_told, field_verdict, keep
from milton_assets.fleet.target import Target
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.state import StateDir


def canaries_on(target: Target) -> RunsCanaries:
    """The target as one that runs canaries. Raises `BadInput` for one that does not."""
    if not isinstance(target, RunsCanaries):
        raise BadInput(f"the target {target.name} at {target.url} runs no canaries", expected="a folder, or ssh://…")
    return target


def told_and_kept(state: StateDir, target: Target, told: CanaryTold) -> KeptVerdict | None:
    """Keep what the target told, once the canary is over; None while it goes on. Raises `EvidenceMismatch`."""
    if told.verdict is None:
        check_told(told)
        return None
    return keep(state, field_verdict(target.name, target.url, told, datetime.now(UTC)))
