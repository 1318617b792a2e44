"""Whole devices are the arms: the draw is by blocks, a device is one observation, and both errors are as stated."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from milton_assets.edge.canary.verdict import Judgement, Outcome, parts_of
from milton_assets.edge.canary.whole import Figures
from milton_assets.rollout.arms import (
    PARTS,
    FleetPlan,
    blocks_needed,
    drawn_blocks,
    judge_fleet,
    size_of_blocks,
)
from milton_assets.vocabulary.errors import BadInput
from tests.support.arms import candidates, figures, judged_after_each_block, plan_of

RUNS = 200


def of_each(plan: FleetPlan, ours: Figures, theirs: Figures) -> dict[str, Figures]:
    return {name: ours if name == block.challenger else theirs for name, _, block in plan.arms()}


# ---------------------------------------------------------------------------------------------------- the draw


def test_a_block_is_of_one_class_and_release_and_one_of_its_devices_gets_the_challenger() -> None:
    mixed = [*candidates(9), *candidates(6, "orin"), *candidates(5, "pi4", "b" * 64)]
    blocks, left_out = drawn_blocks(mixed, share=0.25, seed="1" * 64)
    assert sorted((block.device_class, block.incumbent[0], len(block.devices)) for block in blocks) == [
        ("orin", "a", 4), ("pi4", "b", 4), ("pi5", "a", 4), ("pi5", "a", 4),
    ]  # fmt: skip
    compared = [name for block in blocks for name in block.devices]
    assert sorted([*compared, *left_out]) == sorted(one.name for one in mixed)
    assert all(name.startswith(block.device_class) for block in blocks for name in block.devices)
    assert drawn_blocks(mixed[::-1], share=0.25, seed="1" * 64) == (blocks, left_out)


def test_every_device_is_as_likely_to_get_the_challenger() -> None:
    drawn = Counter(name for seed in range(400) for name in plan_of(8, seed=seed).challengers)
    assert len(drawn) == 8
    assert all(60 <= count <= 140 for count in drawn.values()), drawn  # 100 expected, with a deviation of 9


@pytest.mark.parametrize(("share", "size"), [(0.5, 2), (0.33, 3), (0.25, 4), (0.1, 10), (0.01, 100)])
def test_a_share_is_one_device_of_so_many(share: float, size: int) -> None:
    assert size_of_blocks(share) == size


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput, match="1 % to 50 %"):
        size_of_blocks(0.6)


# ------------------------------------------------------------------------------------------------- the verdict


@pytest.mark.parametrize("share", [0.5, 0.25, 0.1])
def test_the_least_number_of_blocks_suffices_and_one_fewer_does_not(share: float) -> None:
    needed = blocks_needed(share, 0.05, goldens=False)
    for blocks, outcome in ((needed, Outcome.GO_BACK), (needed - 1, Outcome.NOT_YET)):
        plan = plan_of(blocks * size_of_blocks(share), share=share)
        judged = judge_fleet(plan, of_each(plan, figures(errors=0.3), figures(errors=0.01)))
        assert judged.outcome is outcome, (blocks, judged)


def test_devices_that_do_as_well_promote_it() -> None:
    plan = plan_of(24)
    judged = judge_fleet(plan, of_each(plan, figures(), figures()))
    assert judged.outcome is Outcome.PROMOTE, judged.reasons


def test_a_thousand_requests_of_one_device_are_one_observation() -> None:
    plan = plan_of(4)
    few, many = (
        judge_fleet(plan, of_each(plan, figures(errors=0.9, requests=n), figures(requests=n))) for n in (100, 100_000)
    )
    assert few == many and many.outcome is Outcome.NOT_YET


def test_blocks_count_in_the_plans_order_once_all_their_devices_have_told() -> None:
    plan = plan_of(24)
    told = of_each(plan, figures(errors=0.3), figures())
    late = plan.blocks[1].devices[0]
    nothing = judge_fleet(plan, told | {late: figures(requests=99)})
    first = judge_fleet(plan, {name: told[name] for name in plan.blocks[0].devices})
    assert nothing == first and nothing.outcome is Outcome.NOT_YET
    assert judge_fleet(plan, told).outcome is Outcome.GO_BACK


def test_a_challenger_that_never_got_there_speaks_neither_against_it_nor_for_it() -> None:
    plan = plan_of(16)
    lost = [block.challenger for block in plan.blocks]
    judged = judge_fleet(plan, {}, lost)
    assert judged.outcome is Outcome.NOT_YET
    for finding in judged.findings:
        assert finding.log_evidence <= 1e-9, finding


def test_devices_of_which_none_is_the_worst_say_nothing() -> None:
    plan = plan_of(16)
    judged = judge_fleet(plan, of_each(plan, figures(), figures()))
    (errors,) = [one for one in judged.findings if (one.question, one.speaks_for) == ("errors", Outcome.GO_BACK)]
    assert errors.log_evidence == pytest.approx(0)


def test_the_parts_of_alpha_sum_to_it() -> None:
    assert sum(PARTS.values()) == pytest.approx(1) == sum(parts_of(PARTS, goldens=True).values())


# ------------------------------------------------------------------------------------- the errors, by simulation


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_at_most_one_in_twenty_comparisons_of_the_same_release_goes_back(share: float) -> None:
    rng = random.Random(20260112)
    went_back = sum(
        any(judged.outcome is Outcome.GO_BACK for judged in judged_after_each_block(rng, share=share))
        for _ in range(RUNS)
    )
    assert went_back <= 0.05 * RUNS


@pytest.mark.parametrize(
    ("question", "slower", "more_errors"), [("answer", 1.2, 0.0), ("errors", 1.0, 0.02)], ids=["times", "errors"]
)
def test_a_challenger_at_a_margin_is_found_within_it_at_most_once_in_twenty(
    question: str, slower: float, more_errors: float
) -> None:
    rng = random.Random(20260113)

    def is_found_within(judged: Judgement) -> bool:
        (found,) = [one for one in judged.findings if one.question == question and one.speaks_for is Outcome.PROMOTE]
        return found.is_answered

    found = sum(
        any(map(is_found_within, judged_after_each_block(rng, slower=slower, more_errors=more_errors, share=0.25)))
        for _ in range(RUNS)
    )
    assert found <= 0.05 * RUNS
