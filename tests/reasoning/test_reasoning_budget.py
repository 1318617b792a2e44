"""A time budget of the reasoning tier: what tells most is asked first, and what there was no time for is said."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from milton_assets.tiers.reasoning import ReasoningPlan, load_goldens, measure_reasoning
from milton_assets.tiers.reasoning.cases import Split
from milton_assets.vocabulary.chat import ChatModel
from milton_assets.vocabulary.metric import Status
from milton_assets.vocabulary.tier import TierResult
from resources.answer_cache import CachedChatModel, CacheKey
from tests.support.calculating import calculating
from tests.support.reasoning_player import Player, Prompt, honest

GOLDENS = load_goldens()
PLAN = ReasoningPlan(cases_per_kind=2, seeded_per_kind=1, questions=1, variants_seed="ab" * 16)
CHOSEN = GOLDENS.choose(Split.TEST, 2)
DRAFTS, FRESH, SEEDED = 12, 8, 12 * 3
"""Calls: a draft of each case, two fresh variants of each of four templated ones, and three of each seeded draft."""


def a_player() -> Player:
    """It needs a second for every call, and mends a third of its drafts when it verifies them."""
    player = calculating(GOLDENS, honest(CHOSEN), able=lambda question: question not in {c.question for c in CHOSEN})
    player.elapsed_s = 1.0
    return player


def within(budget_s: float | None, player: ChatModel | None = None, concurrency: int = 1) -> TierResult:
    plan = PLAN.model_copy(update={"budget_s": budget_s, "concurrency": concurrency})
    return measure_reasoning(player or a_player(), GOLDENS, plan)


def asked_within(budget_s: float | None) -> list[Prompt]:
    player = a_player()
    within(budget_s, player)
    return [prompt for prompt, _ in player.seen]


def test_no_call_is_begun_when_the_budget_is_spent() -> None:
    assert len(asked_within(30)) == 30
    assert len(asked_within(None)) > 80


def test_drafts_come_first_then_fresh_variants_then_seeded_drafts_then_the_rest() -> None:
    known = {case.question for case in CHOSEN}
    asked = asked_within(DRAFTS + FRESH + SEEDED + 6)
    assert {prompt.question for prompt in asked[:DRAFTS]} == known
    fresh = asked[DRAFTS : DRAFTS + FRESH]
    assert {prompt.step for prompt in fresh} == {"answer"} and not {prompt.question for prompt in fresh} & known
    steps = [prompt.step for prompt in asked[DRAFTS + FRESH : DRAFTS + FRESH + SEEDED]]
    assert steps == ["plan", "answer", "cross_check"] * 12, "one draft after the other"
    assert [prompt.step for prompt in asked[-6:]][:2] == ["plan", "answer"]


def test_the_kinds_take_turns() -> None:
    kind_of = {case.question: case.kind for case in CHOSEN}
    drafted = [kind_of[prompt.question] for prompt in asked_within(DRAFTS)]
    assert len(set(drafted[:6])) == len(set(drafted[6:])) == 6


def test_drafts_stand_for_what_was_not_verified_and_it_is_said() -> None:
    whole, cut = within(None), within(DRAFTS + FRESH + SEEDED + 9)
    passed, all_passed = cut.metric("cove_pass_rate"), whole.metric("cove_pass_rate")
    assert (all_passed.value, passed.n, passed.valid) == (1.0, 12, True)
    assert (cut.metric("baseline_pass_rate").value or 0) <= (passed.value or 0) < 1.0
    unverified = int(cut.samples[cut.samples.part == "cove"].out_of_time.sum())
    assert 8 <= unverified <= 10
    assert f"ended before {unverified} of 12 cases were verified, whose drafts stand" in (passed.why or "")
    assert "time budget" not in (all_passed.why or "")


def test_the_same_cases_stay_in_the_table_so_that_candidates_are_paired() -> None:
    rows = {budget: within(budget).samples for budget in (None, 30.0)}
    ids = [list(frame[frame.part == "cove"].case_id) for frame in rows.values()]
    assert ids[0] == ids[1]


def test_what_could_not_be_asked_is_skipped_with_the_reason_and_not_counted_as_wrong() -> None:
    cut = within(DRAFTS + FRESH)
    recall = cut.metric("detection_recall")
    assert (recall.status, recall.why) == (
        Status.SKIPPED,
        "the time budget ended before any seeded draft was verified",
    )
    assert cut.metric("variants_rate.fresh").value == 1.0
    fresh = within(DRAFTS).metric("variants_rate.fresh")
    assert (fresh.status, fresh.why) == (Status.SKIPPED, "the time budget ended before any fresh variant was asked")
    some = within(DRAFTS + 3).metric("variants_rate.fresh")
    assert (some.value, some.n) == (1.0, 3)


def test_a_budget_in_which_not_every_case_is_drafted_gives_no_pass_rate() -> None:
    passed = within(DRAFTS - 3).metric("cove_pass_rate")
    assert not passed.valid
    assert "ended before 3 of 12 cases had a draft" in (passed.why or "")


def test_with_several_calls_at_once_the_budget_is_that_many_times_the_calls() -> None:
    player = a_player()
    within(10, player, concurrency=4)
    assert 40 <= len(player.seen) <= 44


def test_answers_from_the_cache_end_where_the_models_own_did(tmp_path: Path) -> None:
    key = CacheKey(artefact_sha256="a" * 64, server="scripted", server_build="1")
    first = within(50, CachedChatModel(a_player(), tmp_path, key))
    again = within(50, CachedChatModel(a_player(), tmp_path, key))
    assert list(first.samples.final.fillna("")) == list(again.samples.final.fillna(""))
    assert list(first.samples.out_of_time.fillna(0)) == list(again.samples.out_of_time.fillna(0))


def test_wall_time_counts_where_calls_take_no_time_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr("milton_assets.tiers.reasoning.tier.time.monotonic", lambda: float(next(ticks)))
    player = a_player()
    player.elapsed_s = 0.0
    within(20, player)
    assert len(player.seen) == 19
