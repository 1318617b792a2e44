"""The probability of being best: what it is where it can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.life import Life
from milton_assets.selection.noise import errors_of
from milton_assets.selection.policy import Policy
from milton_assets.selection.policy_file import load_policy
from milton_assets.selection.resample import prepare, probability_best, unknown
from milton_assets.statistics.spending import Noise
from milton_assets.vocabulary.metric import Interval, Metric
from tests.support.selection import candidate
from tests.support.tiers import TIERS

ONLY_LATENCY = Policy.model_validate(
    load_policy("anchored").model_dump()
    | {
        "criteria": [load_policy("anchored").criteria[0].model_dump() | {"weight": 1.0, "noise": 0.0}],
        "tie_breaks": [],
        "incumbent": None,
        "certainty": {"draws": 20_000},
    }
)


def shares(*candidates: Candidate, policy: Policy = ONLY_LATENCY, seed: int = 1) -> list[float]:
    metrics = [[c.metric(criterion) for c in candidates] for criterion in policy.criteria]
    prepared = prepare(candidates, metrics, policy, TIERS, Life())
    assert unknown(prepared, [c.version for c in candidates]) is None
    return probability_best(prepared, policy, seed).tolist()


def only(metric: str) -> Policy:
    criterion = next(c for c in load_policy("seed").criteria if c.metric == metric)
    return Policy.model_validate(ONLY_LATENCY.model_dump() | {"criteria": [criterion.model_dump() | {"weight": 1.0}]})


def test_two_equal_candidates_are_best_half_the_time_each() -> None:
    found = shares(candidate("a", (100.0, 90.0, 111.0)), candidate("b", (100.0, 90.0, 111.0)))
    assert found == pytest.approx([0.5, 0.5], abs=0.015)


def test_two_independent_figures_follow_the_normal_law_on_the_log_scale() -> None:
    error = math.log(1.1)
    spread = 1.959964 * error
    figures = [(v, v * math.exp(-spread), v * math.exp(spread)) for v in (100.0, 110.0)]
    found = shares(*(candidate(f"v{i}", figure) for i, figure in enumerate(figures)))
    expected = stats.norm.cdf(math.log(1.1) / (math.sqrt(2) * error))
    assert found[0] == pytest.approx(expected, abs=0.015)


def test_candidates_with_the_very_same_cases_share_every_draw() -> None:
    passed = [True] * 60 + [False] * 40
    found = shares(
        candidate("a", cove=0.6, passed=passed), candidate("b", cove=0.6, passed=passed), policy=only("cove_pass_rate")
    )
    assert found == [0.5, 0.5]


def test_who_is_never_worse_on_any_case_never_loses_a_draw() -> None:
    lesser = [True] * 60 + [False] * 40
    better = [True] * 80 + [False] * 20
    found = shares(
        candidate("a", cove=0.6, passed=lesser),
        candidate("b", cove=0.8, passed=better),
        policy=only("cove_pass_rate"),
    )
    assert found[1] > 0.9999


def test_the_paired_bootstrap_is_far_surer_than_two_intervals() -> None:
    rng = np.random.RandomState(2)
    hard = rng.uniform(0, 1, 60)
    old, new = np.clip(hard, 0, 0.95), np.clip(hard, 0, 0.95) + 0.02
    paired = shares(
        candidate("a", ndcg=float(old.mean()), ndcg_by_query=old.tolist()),
        candidate("b", ndcg=float(new.mean()), ndcg_by_query=new.tolist()),
        policy=only("nDCG@10"),
    )
    unpaired = shares(
        *(
            candidate(name, ndcg=(float(v.mean()), float(v.mean()) - 0.07, float(v.mean()) + 0.07))
            for name, v in (("a", old), ("b", new))
        ),
        policy=only("nDCG@10"),
    )
    assert paired[1] == 1.0
    assert unpaired[1] < 0.75


def test_shares_sum_to_one_and_repeat_with_their_seed() -> None:
    policy = load_policy("seed")
    rng = np.random.RandomState(0)
    pool = [candidate(f"v{i}", *((v, v * 0.9, v * 1.1) for v in rng.uniform(0.3, 0.9, 4).tolist())) for i in range(30)]
    first = shares(*pool, policy=policy)
    assert sum(first) == pytest.approx(1)
    assert shares(*pool, policy=policy) == first
    assert shares(*pool, policy=policy, seed=2) != first


def test_a_pool_that_is_drawn_in_several_chunks_is_counted_whole() -> None:
    pool = [candidate(f"v{i:03}", (100.0, 90.0, 111.0)) for i in range(200)]
    found = shares(*pool)
    assert sum(found) == pytest.approx(1)
    assert found == pytest.approx([1 / 200] * 200, abs=0.003)


def test_a_figure_with_neither_interval_nor_cases_makes_it_unknown_and_is_named() -> None:
    candidates = [candidate("a", (100.0, 90.0, 110.0)), candidate("b", 100.0), candidate("c", 90.0)]
    metrics = [[c.metric(criterion) for c in candidates] for criterion in ONLY_LATENCY.criteria]
    because = unknown(prepare(candidates, metrics, ONLY_LATENCY, TIERS, Life()), ["a", "b", "c"])
    assert because is not None
    assert "ttft_ms.median of b and 1 more has no interval" in because


def test_a_standard_error_is_read_from_the_interval_and_joined_by_the_noise() -> None:
    wide = Metric.measured("x", "ms", 100.0, n=9, interval=Interval(low=80, high=125, method="bootstrap", level=0.95))
    alone, noisy = errors_of([wide], [Noise(0.0)]), errors_of([wide], [Noise(0.1)])
    expected = math.log(125 / 80) / (2 * 1.959964)
    assert alone.log.all()
    assert alone.standard_error[0] == pytest.approx(expected, rel=1e-6)
    assert noisy.standard_error[0] == pytest.approx(math.hypot(expected, 0.1), rel=1e-6)


def test_figures_that_may_be_nought_keep_their_own_scale() -> None:
    at_zero = Metric.measured("x", "", 0.0, n=9, interval=Interval(low=0.0, high=0.2, method="wilson", level=0.9))
    errors = errors_of([at_zero, Metric.measured("x", "", 1.0, n=9)], [Noise(0.5)] * 2)
    assert not errors.log.any()
    assert errors.standard_error[0] == pytest.approx(0.2 / (2 * 1.644854), rel=1e-6)
    assert errors.known.tolist() == [True, False]
