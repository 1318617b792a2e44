"""A/A trials, a small seeded version of `benches/selection/aa_trials.py`."""

from __future__ import annotations

import numpy as np
import pytest

from milton_assets.selection.decide import decide
from milton_assets.selection.policy_file import load_policy, shipped_policies
from milton_assets.selection.simulate import (
    CHALLENGER,
    INCUMBENT,
    RUN_ID,
    Design,
    TrueModel,
    campaign,
    creep,
    pinned,
    power,
    remembered,
)
from tests.support.tiers import TIERS

SAME = TrueModel(pass_rate=0.95)


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped_policies())
def test_a_model_is_rarely_promoted_over_itself(name: str) -> None:
    # The campaigns are seeded, so this is a fixed answer: at most 5 %, of few enough campaigns for a test.
    assert power(load_policy(name), SAME, SAME, campaigns=200, seed=7, tiers=TIERS).promoted <= 10


@pytest.mark.slow
def test_a_truly_better_model_is_found() -> None:
    # Large enough a campaign that non-inferiority on quality is shown, and a noise that was measured.
    better, large = SAME.better("ttft_ms.median", 0.5), Design(cases=2000, queries=500)
    found = power(
        load_policy("seed"), SAME, better, campaigns=10, seed=7, tiers=TIERS, design=large, history=8
    ).promoted
    assert found == 10


@pytest.mark.slow
def test_without_an_incumbent_rule_the_score_tosses_a_coin() -> None:
    seed = load_policy("seed").model_copy(update={"incumbent": None})
    assert 18 <= power(seed, SAME, SAME, campaigns=60, seed=7, tiers=TIERS).promoted <= 42


@pytest.mark.slow
def test_challengers_that_are_faster_and_each_a_little_worse_cost_one_margin_at_most() -> None:
    first, large = TrueModel(pass_rate=0.98, ndcg=0.75), Design(cases=2000, queries=500)

    def lost(*, anchored: bool) -> float:
        served = creep(
            load_policy("seed"),
            first,
            tiers=TIERS,
            faster=0.3,
            step=0.02,
            challengers=14,
            seed=0,
            design=large,
            history=8,
            anchored=anchored,
        )
        return first.pass_rate - served[-1].pass_rate

    assert 0.02 <= lost(anchored=True) + 1e-9 < 0.05
    # Held to the incumbent alone, it falls until the gate stops it.
    assert lost(anchored=False) > 0.07


@pytest.mark.parametrize("ndcg", [0.62, 0.75])
def test_two_models_differ_on_a_query_by_what_was_measured_between_quantisations(ndcg: float) -> None:
    model = TrueModel(ndcg=ndcg)
    pair = campaign(np.random.default_rng(3), [("one", model), ("other", model)], Design(queries=20_000))
    one, other = (each.tiers["retrieval"].samples["nDCG@10"].to_numpy() for each in pair)
    assert 0.16 <= float((one - other).std()) <= 0.22


def test_a_noise_that_is_remembered_is_what_the_next_decision_reckons_with() -> None:
    rng, seed, design = np.random.default_rng(1), load_policy("seed"), Design(between=0.06)
    ledger = remembered(rng, SAME, seed, design, campaigns=8, nonce="before")
    stood = campaign(rng, [(INCUMBENT, SAME), (CHALLENGER, SAME)], design)
    evidence = pinned(stood, seed, ledger=ledger)
    decision = decide(run_id=RUN_ID, candidates=stood, policy=seed, manifest=evidence, incumbent=INCUMBENT, tiers=TIERS)
    assert [reading.freedom for reading in decision.noise] == [8, 8]
    assert all(0.03 < (reading.measured or 0.0) < 0.12 for reading in decision.noise)
    assert decision.ledger.incumbent == ledger.incumbent


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
