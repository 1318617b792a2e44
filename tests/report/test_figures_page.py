"""`milton metrics`: campaigns and fleet as Prometheus reads them, held against Prometheus' own parser."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from prometheus_client.parser import text_string_to_metric_families

from milton_assets.rollout.journal import created
from milton_assets.rollout.simulate import Fleet, Rates, simulate
from milton_assets.usecases.figures import figures_page
from milton_assets.vocabulary.errors import EvidenceMismatch
from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.state import StateDir
from tests.support.edge_bundles import make_bundle
from tests.support.reported import decided, model, sources
from tests.support.rollouts import plan_of
from tests.support.selection import RUN_ID
from tests.support.shell import UNPROBED, milton, told

Samples = dict[str, list[tuple[dict[str, str], float]]]


def request(ttft_ms: float, *, ok: bool = True, phase: str = "measured") -> dict[str, Any]:
    """A row of the tier of speed; a failed one showed no latency but its end."""
    known = {"ttft_ms": ttft_ms, "tpot_ms": 20.0, "output_tokens": 16} if ok else {}
    blank = dict.fromkeys(("ttft_ms", "tpot_ms", "output_tokens"))
    status = 200 if ok else None
    return {**blank, **known, "phase": phase, "ok": ok, "e2e_ms": 500.0, "http_status": status, "prompt_tokens": 40}


def figures_of(page: str) -> Samples:
    """Labels and value of every sample, by its name."""
    found: Samples = {}
    for family in text_string_to_metric_families(page):
        assert family.documentation and family.type in {"gauge", "histogram"}, family.name
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


@pytest.fixture
def home(state: StateDir) -> StateDir:
    """A campaign that chose `v2`, `local` that serves it, and a rollout that is through."""
    told("deploy", "--bundle", make_bundle(state.bundles, "v2", run_id=RUN_ID), *UNPROBED)
    best = model("v2", cove=1.0, latency=(30.0, 29.0, 31.0))
    requests = [request(30.0), request(200.0), request(1.0, phase="warm_up"), request(0.0, ok=False)]
    speeds = replace(best.tiers["inference"], samples=pd.DataFrame(requests))
    doubtful = Metric.measured("ttfv_ms.median", "ms", 31.0, n=2).invalidated("others wanted the machine")
    speeds = replace(speeds, metrics=(*speeds.metrics, doubtful))
    decided(state, [replace(best, tiers={**best.tiers, "inference": speeds}), model("v1", cove=0.1, latency=90.0)])
    through = simulate(Fleet(plan_of(5), Rates(), seed=1))
    with created(state.rollouts / "spring") as journal:
        for event in through.events:
            journal.append(event)
    return state


def test_measured_requests_are_histograms_under_the_gateways_names(home):
    found = figures_of(figures_page(sources(home)))
    labels = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "milton",
        "gen_ai_response_model": "v2",
        "milton_source": "campaign",
        "milton_run_id": RUN_ID,
    }
    name = "gen_ai_server_time_to_first_token_seconds"
    assert found[f"{name}_count"] == [(labels, 2.0)]
    assert found[f"{name}_sum"] == [(labels, pytest.approx(0.23))]
    assert ({**labels, "le": "0.04"}, 1.0) in found[f"{name}_bucket"]
    ended = {told.get("error_type"): count for told, count in found["gen_ai_server_request_duration_seconds_count"]}
    assert ended == {None: 2.0, "upstream_lost": 1.0}


def test_every_figure_that_may_be_relied_on_is_there_with_its_interval(home):
    found = figures_of(figures_page(sources(home)))
    labels = {"run_id": RUN_ID, "class": "here", "gen_ai_response_model": "v2", "tier": "inference"}
    labels |= {"figure": "ttft_ms.median", "unit": "ms"}
    assert (labels, 30.0) in found["milton_figure"]
    ends = {told["bound"]: value for told, value in found["milton_figure_interval"] if labels.items() <= told.items()}
    assert ends == {"low": 29.0, "high": 31.0}
    assert "ttfv_ms.median" not in {told["figure"] for told, _ in found["milton_figure"]}


def test_the_decision_and_where_each_candidate_stands_are_told(home):
    found = figures_of(figures_page(sources(home)))
    ((decision, _),) = found["milton_campaign_info"]
    assert (decision["verdict"], decision["winner"], decision["policy"]) == ("promote", "v2", "smoke")
    standings = {told["gen_ai_response_model"]: told["standing"] for told, _ in found["milton_candidate_info"]}
    assert standings["v2"] == "eligible"


def test_targets_and_rollouts_are_told_by_what_they_told_last(home):
    found = figures_of(figures_page(sources(home)))
    ((serves, value),) = found["milton_target_serves"]
    assert (serves["target"], serves["gen_ai_response_model"], value) == ("local", "v2", 1.0)
    assert found["milton_target_last_attempt_info"] == [({"target": "local", "outcome": "committed"}, 1.0)]
    ((rollout, _),) = found["milton_rollout_info"]
    assert (rollout["rollout"], rollout["stage"]) == ("spring", "done")
    assert {told["phase"]: count for told, count in found["milton_rollout_devices"] if count} == {"stood": 5.0}


def test_a_table_that_does_not_hold_leaves_the_file_as_it_was(home, tmp_path):
    kept = tmp_path / "milton.prom"
    assert milton("metrics", "--output", kept).returncode == 0
    before = kept.read_bytes()
    table = next(home.benchmarks.glob("inference/*.parquet"))
    table.write_bytes(table.read_bytes() + b" ")
    with pytest.raises(EvidenceMismatch, match="was changed"):
        figures_page(sources(home))
    refused = milton("metrics", "--output", kept)
    assert refused.returncode == 1 and "was changed" in refused.stderr
    assert kept.read_bytes() == before


def test_an_empty_state_folder_has_a_page_too(state):
    assert set(figures_of(figures_page(sources(state)))) == set()
