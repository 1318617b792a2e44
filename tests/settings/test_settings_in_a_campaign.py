"""A campaign checks its settings before it measures, and says which profile and policy it came to."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from milton_assets.selection.outcome import print_outcome
from milton_assets.selection.summary import read_summary
from milton_assets.tiers.discovery import installed_tiers
from tests.support.workplace import competent, failure_of, workplace

POLICY = """
name: ours
version: 1
summary: one criterion
normalisation: minmax_pool
criteria:
  - {tier: inference, metric: ttft_ms.meidan, label: latency, direction: lower, weight: 1}
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["no such policy", "a metric that no tier has"])
def test_a_policy_that_cannot_decide_is_found_before_anything_is_measured(tmp_path, how):
    policy = "sead"
    if how != "no such policy":
        policy = str(tmp_path / "ours.yaml")
        (tmp_path / "ours.yaml").write_text(POLICY)
    with workplace(tmp_path, policy=policy) as wp:
        wp.register("good", competent())
        result = wp.conduct()
        assert not result.success
        assert ("sead" if how == "no such policy" else "ttft_ms.median") in failure_of(result)
        assert [run.job_name for run in wp.instance.get_runs()] == ["autobench"]


@pytest.mark.slow
def test_smoke_over_models_of_ones_own_is_said_on_the_card(tmp_path):
    with workplace(tmp_path) as wp:
        wp.register("good", competent())
        result = wp.conduct()
        assert result.success, failure_of(result)
        summary = read_summary(wp.state.runs)
        assert len(summary.notes) == 2
        shown = Console(file=io.StringIO(), width=100)
        print_outcome(summary, wp.state.runs, wp.state, shown, installed_tiers())
        assert "WARNING: the policy is set to smoke" in shown.file.getvalue()
