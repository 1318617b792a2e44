"""The load curve that stands beside the headline figures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from milton_assets.tiers.inference import ClosedLoad, InferencePlan, OpenLoad, Prompt
from milton_assets.tiers.inference.load_curve import levels_up_to, measure_with_sweep, sweep_of
from milton_assets.tiers.inference.plots import pictures_of
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.progress import Progress
from milton_assets.vocabulary.server import Endpoint
from milton_assets.vocabulary.tier import TierResult
from tests.support.scripted_server import ScriptedServer, Status, answer, one_at_a_time, scripted_server

PLAN = InferencePlan(
    prompts=(Prompt(id="p", kind="code", text="Question?"),),
    warm_up_requests=0,
    min_rounds=1,
    max_rounds=1,
    requests_per_round=4,
    max_tokens=8,
    calibrate=False,
)


def endpoint(server: ScriptedServer) -> Endpoint:
    return Endpoint(server.base_url, "m")


@pytest.mark.parametrize(
    ("slots", "levels"), [(1, (2, 4)), (2, (2, 4, 8)), (3, (2, 4, 8, 16)), (16, (2, 4, 8, 16, 32, 64))]
)
def test_the_curve_goes_to_four_times_the_slots(slots: int, levels: tuple[int, ...]) -> None:
    assert levels_up_to(slots) == levels


def test_the_curve_begins_with_the_headline_and_shows_the_queue() -> None:
    with scripted_server(one_at_a_time(0.05)) as server:
        result = measure_with_sweep(endpoint(server), PLAN, levels=(2, 4))
    curve = sweep_of(result)
    assert curve is not None
    assert [point.label for point in curve.points] == ["1", "2", "4"]
    assert curve.points[0].ttft == result.metric("ttft_ms.median")
    first, _, last = (point.ttft.value or 0.0 for point in curve.points)
    assert last > 2 * first


def test_no_metric_of_the_tier_comes_from_the_curve() -> None:
    with scripted_server(answer("a", "b")) as server:
        result = measure_with_sweep(endpoint(server), PLAN, levels=(2,))
    assert result.metric("success_rate").n == 4
    assert result.provenance["load"] == {"kind": "closed", "concurrency": 1}
    assert len(result.samples) == 4


def test_the_curve_survives_its_table() -> None:
    with scripted_server(answer("a", "b")) as server:
        result = measure_with_sweep(endpoint(server), PLAN, levels=(2,))
    stored = TierResult.from_table(result.to_table("v1", None))
    assert sweep_of(stored) == sweep_of(result)
    assert sorted(pictures_of({"v1": stored})) == ["latency", "throughput_latency"]


def test_a_result_without_a_curve_has_none_and_draws_its_latencies_alone() -> None:
    with scripted_server(answer("a", "b")) as server:
        result = measure_with_sweep(endpoint(server), PLAN, levels=(2,))
    bare = replace(result, provenance={})
    assert sweep_of(bare) is None
    assert sorted(pictures_of({"v1": bare})) == ["latency"]
    assert pictures_of({"v1": TierResult.skipped("inference", (), "nobody ran it")}) == {}


def test_a_curve_that_was_tampered_with_is_refused() -> None:
    tampered = TierResult("inference", (), provenance={"sweep": {"points": [{"load": 1}], "stop_reason": "x"}})
    with pytest.raises(BadInput, match="does not read"):
        sweep_of(tampered)


def test_a_server_that_answers_nothing_is_asked_no_more() -> None:
    with scripted_server(Status(500)) as server:
        result = measure_with_sweep(endpoint(server), PLAN, levels=(2, 4))
        asked = len(server.requests)
    curve = sweep_of(result)
    assert curve is not None
    assert (len(curve.points), curve.stop_reason) == (1, "at 1: no request succeeded")
    assert asked == 4


def test_progress_only_grows_and_ends_once() -> None:
    steps: list[Progress] = []
    with scripted_server(answer("a", "b")) as server:
        measure_with_sweep(endpoint(server), PLAN, levels=(2, 4), on_progress=steps.append)
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert [step.done >= step.total for step in steps] == [*(False for _ in steps[1:]), True]


@pytest.mark.parametrize(
    ("load", "levels"), [(OpenLoad(rate_per_s=1), (2,)), (ClosedLoad(concurrency=2), (2, 4)), (ClosedLoad(), ())]
)
def test_a_curve_needs_a_closed_load_and_loads_above_it(load: ClosedLoad | OpenLoad, levels: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match="concurrencies above it"):
        measure_with_sweep(Endpoint("http://127.0.0.1:9", "m"), PLAN.model_copy(update={"load": load}), levels=levels)
