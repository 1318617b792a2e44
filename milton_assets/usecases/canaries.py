"""Canaries as both doors know them: on which targets they can run, keeping how they ended, and what decisions are told.

What belongs here: these steps over a target and this machine's state folder. What does not: printing, and what a canary
is (`milton_assets.edge.canary`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from milton_assets.edge.canary.starting import CanaryTold
from milton_assets.fleet.canaries import KeptVerdict, RunsCanaries, check_told, field_verdict, keep, kept_verdicts
from milton_assets.fleet.target import Target
from milton_assets.rollout.arms_kept import kept_fleet_verdicts
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.terminal import printable


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


def field_notes(state: StateDir, version: str | None) -> Iterator[str]:
    """What the field says of that model version, a sentence a verdict, for whoever reads a decision about it.

    It is stated beside the benchmark's evidence and moves nothing (ADR 216).
    """
    for kept in kept_verdicts(state) if version is not None else ():
        plan = kept.verdict.told.plan
        if version in {plan.challenger_version, plan.incumbent_version}:
            said = printable(kept.verdict.said)
            yield (
                f"field evidence of the incumbent {version}, beside the benchmark's and without weight in it: "
                f"{said} ({plan.id}, sha256 {short(kept.sha256)})"
            )
    for fleets in kept_fleet_verdicts(state) if version is not None else ():
        over = fleets.verdict.plan
        if version in {over.challenger_version, *(block.incumbent_version for block in over.blocks)}:
            yield (
                f"field evidence of the incumbent {version}, beside the benchmark's and without weight in it: "
                f"{printable(fleets.verdict.said)} ({over.id}, sha256 {short(fleets.sha256)})"
            )
