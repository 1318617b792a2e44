"""How many times as much one profile asks as another, by tier: from it a `full` that was never run is timed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from milton_assets.tiers.discovery import installed_tiers
from milton_assets.usecases.how_long import times_the_effort
from milton_assets.vocabulary.golden_set import read_all_goldens
from milton_assets.vocabulary.tier_spec import Conditions

TIERS = installed_tiers()
GOLDENS = read_all_goldens(TIERS, {})
FULL = Conditions("full", variants_seed="0" * 32)


def test_every_tier_that_ships_says_how_much_more_full_asks_than_smoke() -> None:
    times = times_the_effort(TIERS, GOLDENS, FULL, "smoke")
    assert times is not None
    assert set(times) == set(TIERS)
    assert all(5 < more < 100 for more in times.values()), times


def test_the_other_way_round_it_is_as_much_less() -> None:
    more = times_the_effort(TIERS, GOLDENS, FULL, "smoke")
    less = times_the_effort(TIERS, GOLDENS, replace(FULL, profile="smoke"), "full")
    assert more is not None
    assert less is not None
    assert {name: 1 / one for name, one in less.items()} == pytest.approx(more)


def test_of_a_time_budget_and_of_a_tier_that_does_not_say_nothing_is_reckoned() -> None:
    assert times_the_effort(TIERS, GOLDENS, replace(FULL, reasoning_budget_s=60.0), "smoke") is None
    name, spec = next(iter(TIERS.items()))
    silent = {name: replace(spec, effort=lambda _plan, _goldens: None)}
    assert times_the_effort(silent, GOLDENS, FULL, "smoke") is None


@pytest.mark.parametrize("profile", ["smoke", "full"])
def test_fresh_variants_and_seeded_drafts_are_part_of_the_reasoning_tiers_effort(profile: str) -> None:
    spec, value = TIERS["reasoning"], GOLDENS["reasoning"].value
    plan = spec.plan(replace(FULL, profile=profile))
    efforts = [
        spec.effort(plan.model_copy(update=without), value) or 0.0
        for without in ({}, {"seeded_per_kind": 0}, {"seeded_per_kind": 0, "variants_seed": None})
    ]
    assert efforts[0] > efforts[1] > efforts[2] > 0


def test_templated_queries_are_part_of_the_retrieval_tiers_effort_where_they_are_asked() -> None:
    spec, value = TIERS["retrieval"], GOLDENS["retrieval"].value
    asked, unasked = (spec.effort(spec.plan(replace(FULL, variants_seed=seed)), value) for seed in ("0" * 32, None))
    assert asked == (unasked or 0.0) + 2 * 24 * 4
