"""Case by case against the incumbent: flips, their exact test, and equivalence in three values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from milton_assets.selection import card
from milton_assets.selection.decide import decide
from milton_assets.selection.decision import Decision, Equivalence, Flips, Standing
from milton_assets.selection.policy import Policy
from milton_assets.selection.policy_file import load_policy
from milton_assets.vocabulary.metric import Direction, Metric
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import CaseColumns, MetricSpec, Tiers
from tests.support.selection import RUN_ID, candidate, manifest
from tests.support.tiers import TIERS

SEED = load_policy("seed")
OLD = "old"


def cases(right: int, wrong: int) -> list[bool]:
    return [True] * right + [False] * wrong


def one(version: str, passed: list[bool], ndcg: list[float] | None = None, cove: float | None = None) -> object:
    scores = ndcg or [0.6] * 20
    return candidate(
        version,
        20.0,
        50.0,
        sum(passed) / len(passed) if cove is None else cove,
        sum(scores) / len(scores),
        passed=passed,
        ndcg_by_query=scores,
    )


def decided(*stood: object, policy: Policy = SEED, incumbent: str | None = OLD, tiers: Tiers = TIERS) -> Decision:
    return decide(
        run_id=RUN_ID,
        candidates=stood,
        policy=policy,
        manifest=manifest(stood, policy),
        incumbent=incumbent,
        tiers=tiers,
    )


def flips(decision: Decision, version: str, metric: str = "cove_pass_rate") -> Flips:
    return next(one for one in decision.candidate(version).flips if one.metric == metric)


def test_what_turned_right_and_what_turned_wrong_is_counted_with_the_exact_test() -> None:
    old = cases(95, 5)
    new = [*([False] * 3), *([True] * 92), *([True] * 4), False]
    found = flips(decided(one(OLD, old), one("new", new)), "new")
    assert (found.won, found.lost, found.n, found.right_or_wrong) == (4, 3, 100, True)
    assert found.p_value == pytest.approx(stats.binomtest(4, 7).pvalue)
    assert found.difference == pytest.approx(0.01)


def test_a_failed_challenger_and_one_without_evidence_for_a_verdict_have_flips_too() -> None:
    failed = one("failed", cases(50, 50))
    shaky = replace(
        one("shaky", cases(95, 5)),
        tiers={
            **one("shaky", cases(95, 5)).tiers,
            "inference": TierResult("inference", (Metric.failed("ttft_ms.median", "ms", "it hung"),)),
        },
    )
    decision = decided(one(OLD, cases(95, 5)), failed, shaky)
    assert decision.candidate("failed").standing is Standing.FAILED
    assert (flips(decision, "failed").won, flips(decision, "failed").lost) == (0, 45)
    assert decision.candidate("shaky").standing is Standing.NO_EVIDENCE
    assert (flips(decision, "shaky").won, flips(decision, "shaky").lost) == (0, 0)


def test_they_are_the_same_whether_a_challenger_is_eligible_or_not() -> None:
    old, new = one(OLD, cases(1900, 100)), [*([False] * 9), *([True] * 1891), *([True] * 12), *([False] * 88)]
    eligible = flips(decided(old, one("new", new)), "new")
    barred = SEED.model_dump()
    barred["gates"][0]["threshold"] = 0.99
    kept_out = flips(decided(old, one("new", new), policy=Policy.model_validate(barred)), "new")
    assert eligible == kept_out


@pytest.mark.parametrize(
    ("right", "answer"),
    [(1900, Equivalence.EQUIVALENT), (1700, Equivalence.DIFFERENT), (1805, Equivalence.UNDECIDED)],
)
def test_equivalence_within_the_policys_margin_has_three_values(right: int, answer: Equivalence) -> None:
    found = flips(decided(one(OLD, cases(1900, 100)), one("new", cases(right, 2000 - right))), "new")
    assert (found.equivalence, found.margin) == (answer, 0.05)


def test_few_cases_cannot_tell() -> None:
    found = flips(decided(one(OLD, cases(19, 1)), one("new", cases(19, 1))), "new")
    assert (found.won, found.lost, found.equivalence) == (0, 0, Equivalence.UNDECIDED)
    assert found.why == "20 cases cannot tell whether it differs by less than 0.05"


def test_many_flips_that_cancel_are_no_difference_and_another_model() -> None:
    old = [True, False] * 500
    found = flips(decided(one(OLD, old, cove=0.5), one("new", [not x for x in old], cove=0.5)), "new")
    assert (found.won, found.lost, found.difference, found.p_value) == (500, 500, 0.0, 1.0)


def test_queries_are_won_and_lost_by_their_score() -> None:
    old, new = [0.5, 0.6, 0.7, 0.8] * 5, [0.6, 0.7, 0.7, 0.7] * 5
    found = flips(decided(one(OLD, cases(95, 5), old), one("new", cases(95, 5), new)), "new", "nDCG@10")
    assert (found.won, found.lost, found.n, found.right_or_wrong) == (10, 5, 20, False)
    assert found.p_value == pytest.approx(stats.binomtest(10, 15).pvalue)


def test_a_tier_that_the_policy_does_not_know_has_them_without_a_margin() -> None:
    ones_own = replace(
        TIERS["reasoning"],
        name="own",
        goldens=(),
        metrics=(MetricSpec("valid", "share", Direction.HIGHER, CaseColumns("case_id", "is_valid", missing=0.0)),),
        headline="valid",
    )
    tiers = Tiers((*TIERS.values(), ones_own))

    def with_own(version: str, valid: list[bool]) -> object:
        plain = one(version, cases(95, 5))
        samples = pd.DataFrame({"case_id": [str(i) for i in range(len(valid))], "is_valid": valid})
        metric = Metric.measured("valid", "share", float(np.mean(valid)), n=len(valid))
        return replace(plain, tiers={**plain.tiers, "own": TierResult("own", (metric,), samples)})

    decision = decided(with_own(OLD, [True, True, False]), with_own("new", [True, False, True]), tiers=tiers)
    found = flips(decision, "new", "valid")
    assert (found.won, found.lost, found.margin, found.equivalence) == (1, 1, None, None)
    assert "no margin" in found.why


def test_fidelity_has_none_for_it_ranks_nobody() -> None:
    decision = decided(one(OLD, cases(95, 5)), one("new", cases(95, 5)))
    assert {f.tier for f in decision.candidate("new").flips} == {"reasoning", "retrieval"}


def test_who_was_asked_other_cases_is_not_paired_and_it_is_said_why() -> None:
    found = flips(decided(one(OLD, cases(95, 5)), one("new", cases(90, 5)), one("too", cases(95, 5))), "new")
    assert (found.won, found.equivalence) == (None, None)
    assert "on other cases" in found.why


def test_without_an_incumbent_in_the_run_there_is_nobody_to_turn_from() -> None:
    for incumbent in (None, "gone"):
        decision = decided(one("a", cases(95, 5)), one("b", cases(95, 5)), incumbent=incumbent)
        assert [report.flips for report in decision.candidates] == [(), ()]


def test_the_incumbent_has_none() -> None:
    assert decided(one(OLD, cases(95, 5)), one("new", cases(95, 5))).candidate(OLD).flips == ()


def test_they_stand_in_the_decisions_json_and_come_back() -> None:
    decision = decided(one(OLD, cases(95, 5)), one("new", cases(99, 1)))
    assert Decision.from_json(decision.to_json()).candidate("new").flips == decision.candidate("new").flips != ()


def test_the_card_tells_them() -> None:
    decision = decided(one(OLD, cases(1900, 100)), one("new", cases(1700, 300)))
    (grid,) = [p for p in card.sections(decision, TIERS) if p.title == "Case by case against old"]
    assert isinstance(grid, card.Grid)
    assert grid.rows[0] == (
        "new",
        "cove_pass_rate",
        "0 : 200\nof 2000",
        "0.000",
        "different\nshown to differ by 0.05 or more",
    )


@given(st.integers(0, 60), st.integers(0, 60))
def test_equivalence_is_what_two_one_sided_tests_say_and_never_both(won: int, lost: int) -> None:
    old = [False] * won + [True] * lost + [True] * 200
    new = [True] * won + [False] * lost + [True] * 200
    found = flips(decided(one(OLD, old, cove=sum(old) / len(old)), one("new", new)), "new")
    assert found.interval is not None
    within = found.interval.low > -0.05 and found.interval.high < 0.05
    assert (found.equivalence is Equivalence.EQUIVALENT) == within
    assert (found.won, found.lost) == (won, lost)
