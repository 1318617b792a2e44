"""A/A trials, a small seeded version of `benches/selection/aa_trials.py`, and deciding among many."""

from __future__ import annotations

import time

import numpy as np
import pytest

from milton_assets.selection import decide, load_policy
from milton_assets.selection.simulate import RUN_ID, Design, TrueModel, campaign, pinned, promotions

SAME = TrueModel(pass_rate=0.95)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["anchored", "anchored_strict", "seed_strict"])
def test_a_model_is_rarely_promoted_over_itself(name: str) -> None:
    # 120 campaigns at the 2.5 % that the two-sided level allows: 11 or more have a probability under 1 in 2,000.
    assert promotions(load_policy(name), SAME, SAME, campaigns=120, seed=7) <= 10


@pytest.mark.slow
def test_a_truly_better_model_is_found() -> None:
    # The trials find a latency a third lower in 80 % of the campaigns.
    better = SAME.better("ttft_ms.median", 0.5)
    assert promotions(load_policy("anchored"), SAME, better, campaigns=30, seed=7) >= 24


@pytest.mark.slow
def test_the_seed_policy_has_no_incumbent_rule_and_tosses_a_coin() -> None:
    promoted = promotions(load_policy("seed"), SAME, SAME, campaigns=60, seed=7)
    assert 18 <= promoted <= 42


@pytest.mark.parametrize("metric", ["ttft_ms.median", "output_tokens_per_s", "cove_pass_rate", "nDCG@10"])
def test_better_means_better_on_that_metric(metric: str) -> None:
    old, new = campaign(
        np.random.default_rng(1),
        [("old", SAME), ("new", SAME.better(metric, 0.04 if "_rate" in metric else 0.3))],
        Design(),
    )
    figures = [
        next(m.value for result in one.tiers.values() for m in result.metrics if m.name == metric) for one in (old, new)
    ]
    assert None not in figures
    assert (figures[1] < figures[0]) is (metric == "ttft_ms.median")


@pytest.mark.slow
def test_a_thousand_candidates_are_decided_in_seconds() -> None:
    policy = load_policy("anchored")
    stood = campaign(np.random.default_rng(1), [(f"v{i:04}", SAME) for i in range(1000)], Design())
    start = time.process_time()
    decision = decide(run_id=RUN_ID, candidates=stood, policy=policy, manifest=pinned(stood, policy), incumbent="v0000")
    assert time.process_time() - start < 5
    assert len(decision.candidates) == 1000
