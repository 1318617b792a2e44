"""How long a profile will take that was not timed here, from what another took.

What belongs here: how many times as much one profile asks as the other, by tier. What does not: what tiers took
(`resources.durations`) and what is left of a campaign (`resources.progress`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from milton_assets.vocabulary.golden_set import TierGoldens
from milton_assets.vocabulary.tier_spec import Conditions, Tiers


def times_the_effort(
    tiers: Tiers, goldens: Mapping[str, TierGoldens], wanted: Conditions, known: str
) -> dict[str, float] | None:
    """By tier, how many times as much is asked as under the profile `known`; None where a tier cannot tell."""
    times = {}
    for name, spec in tiers.items():
        value = goldens[name].value
        more = spec.effort(spec.plan(wanted), value)
        less = spec.effort(spec.plan(replace(wanted, profile=known)), value)
        if more is None or not less:
            return None
        times[name] = more / less
    return times
