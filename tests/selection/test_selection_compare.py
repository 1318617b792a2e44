"""Challengers against the incumbent: exact tests, intervals, margins and Holm's correction."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.compare import challenge
from milton_assets.selection.decision import Challenge, Difference
from milton_assets.selection.life import Life
from milton_assets.selection.policy import AssumedNoise, Policy, Superiority
from milton_assets.selection.policy_file import load_policy
from milton_assets.selection.resample import prepare
from milton_assets.statistics.multiplicity import holm, one_sided
from milton_assets.statistics.paired import agresti_min, mcnemar_exact
from tests.support.selection import candidate
from tests.support.tiers import TIERS

ANCHORED = load_policy("anchored")
SURE = (100.0, 99.0, 101.0)
RATES = [True] * 95 + [False] * 5
GAINS = [0.6] * 60


def challenged(*candidates: Candidate, policy: Policy = ANCHORED) -> dict[str, Challenge]:
    """Everybody against the first."""
    metrics = [[c.metric(criterion) for c in candidates] for criterion in policy.criteria]
    assert policy.incumbent is not None
    versions = [c.version for c in candidates]
    life = Life()
    prepared = prepare(candidates, metrics, policy, TIERS, life)
    return challenge(prepared, policy.incumbent, versions, 0, draws=2000, seed=1, life=life, turns={}).challenges


def difference(challenges: dict[str, Challenge], version: str, metric: str) -> Difference:
    return next(one for one in challenges[version].differences if one.metric == metric)


def model(
    version: str,
    latency: tuple[float, float, float] | float = SURE,
    throughput: tuple[float, float, float] | float = SURE,
    *,
    wrong: int = 5,
    ndcg: float = 0.6,
) -> Candidate:
    passed = [False] * wrong + [True] * (100 - wrong)
    rng = np.random.RandomState(0)
    by_query = np.clip(ndcg + rng.normal(0, 0.1, 60), 0, 1)
    return candidate(
        version,
        latency,
        throughput,
        (sum(passed) / 100, sum(passed) / 100 - 0.04, min(sum(passed) / 100 + 0.04, 1.0)),
        float(by_query.mean()),
        passed=passed,
        ndcg_by_query=by_query.tolist(),
    )


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial_test_on_the_discordant_cases(wins: int, losses: int) -> None:
    mine = mcnemar_exact(np.array([float(wins)]), np.array([float(losses)]))[0]
    theirs = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert mine == pytest.approx(theirs, abs=1e-12)


def test_holm_is_the_step_down_of_his_paper() -> None:
    corrected = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    assert corrected == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(values: list[float]) -> None:
    corrected = holm(np.array(values))
    assert (corrected >= np.array(values)).all()
    assert (np.diff(corrected[np.argsort(values, kind="stable")]) >= 0).all()


def test_a_p_value_of_one_side_is_half_of_that_of_two_and_says_nothing_of_the_other() -> None:
    found = one_sided(np.array([0.04, 0.04, np.nan]), np.array([True, False, False]))
    assert found == pytest.approx([0.02, 1.0, np.nan], nan_ok=True)


def test_holm_leaves_out_what_was_not_tested() -> None:
    corrected = holm(np.array([[0.02, np.nan], [0.04, np.nan]]))
    assert corrected[:, 0] == pytest.approx([0.04, 0.04])
    assert np.isnan(corrected[:, 1]).all()


def test_no_discordant_case_does_not_make_an_interval_of_no_width() -> None:
    low, high = agresti_min(np.array([0.0]), np.array([0.0]), 150, outside=0.05)
    assert -0.02 < low[0] < 0 < high[0] < 0.02


def test_the_paired_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.RandomState(5)
    wins, losses, _ = rng.multinomial(150, [0.10, 0.06, 0.84], size=2000).T
    low, high = agresti_min(wins.astype(float), losses.astype(float), 150, outside=0.05)
    covered = ((low <= 0.04) & (high >= 0.04)).mean()
    assert 0.93 <= covered <= 0.97


def test_alpha_is_spent_on_better_alone_where_the_rule_says_so_and_worse_is_said_as_rarely_as_before() -> None:
    """Eight cases won and none lost: p is 0.0078 of two sides, and of four metrics at the first look 0.064."""
    rule = ANCHORED.incumbent
    assert rule is not None
    two_sided = rule.model_copy(update={"superiority": Superiority.TWO_SIDED})
    before = ANCHORED.model_copy(update={"incumbent": two_sided})
    less, more = model("old", wrong=8), model("new", wrong=0)
    won, as_before = (challenged(less, more, policy=policy)["new"] for policy in (ANCHORED, before))
    p_values = [one.p_holm for each in (won, as_before) for one in each.differences if one.metric == "cove_pass_rate"]
    assert p_values == pytest.approx([0.032, 0.064], abs=0.001)
    assert (won.replaces, as_before.replaces) == (True, False)
    lost, lost_before = (
        difference(challenged(model("old", wrong=0), model("new", wrong=8), policy=policy), "new", "cove_pass_rate")
        for policy in (ANCHORED, before)
    )
    assert lost == lost_before
    assert not lost.worse


def test_a_first_look_at_a_speed_spends_less_on_noise_that_is_only_assumed_and_worse_is_said_as_before() -> None:
    """Twice the throughput, 3 % noise assumed: p is 0.004 of two sides. It counted double, and counts eight times."""
    rule = ANCHORED.incumbent
    assert rule is not None
    first = rule.model_copy(update={"assumed_noise": AssumedNoise.FIRST_LOOK})
    before = ANCHORED.model_copy(update={"incumbent": first})
    faster, slower = (
        [
            difference(
                challenged(model("old"), model("new", throughput=rate), policy=policy), "new", "output_tokens_per_s"
            )
            for policy in (ANCHORED, before)
        ]
        for rate in ((200.0, 198.0, 202.0), (50.0, 49.5, 50.5))
    )
    assert [one.superior for one in faster] == [False, True]
    assert faster[0].p_holm / faster[1].p_holm == pytest.approx(4)
    assert slower[0] == slower[1]


def test_an_equal_challenger_is_within_every_margin_but_replaces_nobody() -> None:
    result = challenged(model("old"), model("new"))["new"]
    assert not result.replaces
    assert all(one.non_inferior and not one.superior for one in result.differences)
    assert result.why == "it is within every margin, but shown to be better on nothing"


def test_a_challenger_that_answers_more_cases_right_replaces_the_incumbent() -> None:
    result = challenged(model("old", wrong=20), model("new", wrong=5))
    cove = difference(result, "new", "cove_pass_rate")
    assert (cove.test, cove.wins, cove.losses, cove.n) == ("McNemar, exact", 15, 0, 100)
    assert cove.difference == pytest.approx(0.15)
    assert cove.superior
    assert result["new"].replaces
    assert result["new"].why == "it is better on cove_pass_rate and within the margin on the rest"


def test_a_challenger_that_answers_fewer_cases_right_is_kept_out_however_fast() -> None:
    result = challenged(model("old"), model("new", (10.0, 9.0, 11.0), wrong=20))
    assert difference(result, "new", "ttft_ms.median").superior
    assert not difference(result, "new", "cove_pass_rate").non_inferior
    assert not result["new"].replaces
    assert result["new"].why == "it is not shown to be within the margin on cove_pass_rate"
    assert difference(result, "new", "cove_pass_rate").why == "worse; may be more than 0.05 worse"


def test_queries_are_compared_in_pairs_by_the_bootstrap() -> None:
    result = challenged(model("old", ndcg=0.55), model("new", ndcg=0.60))
    ndcg = difference(result, "new", "nDCG@10")
    assert (ndcg.test, ndcg.n) == ("paired bootstrap", 60)
    assert ndcg.interval is not None
    # The noise is the same for both, query by query: in pairs the difference is nearly exact, unpaired it is not.
    assert ndcg.interval.high - ndcg.interval.low < 0.02
    assert ndcg.superior


def test_the_bootstrap_interval_agrees_with_students_on_ordinary_differences() -> None:
    rng = np.random.RandomState(3)
    old, gain = rng.uniform(0.2, 0.6, 80), rng.normal(0.03, 0.1, 80)
    candidates = [
        candidate(name, SURE, SURE, 0.95, float(v.mean()), passed=RATES, ndcg_by_query=v.tolist())
        for name, v in (("old", old), ("new", old + gain))
    ]
    found = difference(challenged(*candidates), "new", "nDCG@10")
    low, high = stats.t.interval(0.90, 79, gain.mean(), gain.std(ddof=1) / math.sqrt(80))
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high), abs=0.004)
    assert found.p_value == pytest.approx(stats.ttest_1samp(gain, 0).pvalue, abs=0.01)


def test_speeds_differ_only_beyond_the_noise_between_campaigns() -> None:
    exact = (100.0, 100.0, 100.0)
    within = difference(challenged(model("old", exact), model("new", (96.0, 96.0, 96.0))), "new", "ttft_ms.median")
    beyond = difference(challenged(model("old", exact), model("new", (30.0, 30.0, 30.0))), "new", "ttft_ms.median")
    assert within.difference == pytest.approx(100 / 96 - 1)
    assert (within.test, within.superior, beyond.superior) == ("beyond noise", False, True)


def test_lower_latency_and_higher_throughput_are_both_better() -> None:
    result = challenged(model("old"), model("new", (50.0, 49.0, 51.0), (200.0, 198.0, 202.0)))
    for metric in ("ttft_ms.median", "output_tokens_per_s"):
        assert difference(result, "new", metric).difference == pytest.approx(1.0)


def test_a_speed_without_an_interval_cannot_be_compared() -> None:
    result = challenged(model("old"), model("new", 50.0))["new"]
    assert not result.replaces
    assert "cannot be compared" in result.differences[0].why
    assert result.differences[0].p_value is None
    assert result.differences[0].test == "none"


def test_quality_without_shared_cases_is_compared_by_its_intervals() -> None:
    old, new = (
        candidate(name, SURE, SURE, (value, value - 0.02, value + 0.02), 0.6, ndcg_by_query=GAINS)
        for name, value in (("old", 0.80), ("new", 0.95))
    )
    cove = difference(challenged(old, new), "new", "cove_pass_rate")
    assert (cove.test, cove.wins, cove.superior) == ("beyond noise", None, True)


def test_challengers_with_and_without_shared_cases_are_each_compared_as_well_as_can_be() -> None:
    bare = candidate("bare", SURE, SURE, (0.95, 0.90, 0.98), 0.6)
    result = challenged(model("old"), model("paired"), bare)
    assert difference(result, "paired", "cove_pass_rate").test == "McNemar, exact"
    assert difference(result, "bare", "cove_pass_rate").test == "beyond noise"


def test_many_challengers_are_held_to_a_stricter_standard() -> None:
    alone = challenged(model("old", wrong=20), model("new", wrong=10))
    among = challenged(model("old", wrong=20), model("new", wrong=10), *(model(f"n{i}", wrong=20) for i in range(9)))
    one, other = (difference(result, "new", "cove_pass_rate") for result in (alone, among))
    assert one.p_value == other.p_value
    assert one.p_holm is not None
    assert other.p_holm is not None
    assert one.p_holm < 0.05 < other.p_holm
    assert alone["new"].replaces
    assert not among["new"].replaces


def test_alone_in_the_pool_the_incumbent_has_no_challenger() -> None:
    assert challenged(model("old")) == {}
