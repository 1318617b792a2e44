"""How much load a server bears, and the pictures of it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import Any

import pytest

from milton_assets.statistics.shares import attempts_to_show
from milton_assets.tiers.inference import SLO, ClosedLoad, InferencePlan, OpenLoad, Prompt, measure_inference
from milton_assets.tiers.inference.plots import WIDTH, latency_distribution, load_figure, throughput_against_latency
from milton_assets.tiers.inference.stats import share as share_of
from milton_assets.tiers.inference.sweep import LoadPoint, find_capacity, point_of, search, sweep
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.server import Endpoint
from tests.support.scripted_server import Status, answer, one_at_a_time, scripted_server

PROMPTS = (Prompt(id="p", kind="code", text="Question?"),)


def plan(**changes: Any) -> InferencePlan:
    settings: dict[str, Any] = {
        "prompts": PROMPTS,
        "warm_up_requests": 0,
        "min_rounds": 1,
        "max_rounds": 1,
        "max_tokens": 8,
        "calibrate": False,
    }
    return InferencePlan(**(settings | changes))


def test_a_sweep_stops_once_more_requests_bring_no_more_throughput() -> None:
    with scripted_server(one_at_a_time(0.03)) as server:
        result = sweep(Endpoint(server.base_url, "m"), plan(requests_per_round=12), levels=range(1, 16))
    assert result.stop_reason.startswith("saturated")
    assert 3 <= len(result.points) < 15
    assert [point.label for point in result.points] == [str(n + 1) for n in range(len(result.points))]


def test_a_sweep_stops_when_requests_fail() -> None:
    with scripted_server(Status(429)) as server:
        result = sweep(Endpoint(server.base_url, "m"), plan())
    assert len(result.points) == 1
    assert "failed" in result.stop_reason


def test_a_request_that_fails_among_many_does_not_end_a_sweep_and_is_told() -> None:
    replies = iter([Status(500)])
    with scripted_server(lambda _: next(replies, answer("a", "b", first_delay_s=0.05))) as server:
        result = sweep(Endpoint(server.base_url, "m"), plan(requests_per_round=24), levels=(1, 4))
    assert len(result.points) == 2
    assert "1 of 24 requests failed at 1" in result.stop_reason


def test_a_sweep_of_a_server_that_never_saturates_ends_with_the_levels() -> None:
    with scripted_server(answer("a", "b", first_delay_s=0.15)) as server:
        result = sweep(Endpoint(server.base_url, "m"), plan(requests_per_round=8), levels=(1, 4))
    assert len(result.points) == 2
    assert "every level" in result.stop_reason
    assert (result.points[1].throughput.value or 0) > 2 * (result.points[0].throughput.value or 1)


@pytest.mark.parametrize("levels", [(), (2, 1), (1, 1)])
def test_levels_must_ascend(levels: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match="levels"):
        sweep(Endpoint("http://127.0.0.1:9", "m"), plan(), levels=levels)


def probe_with_capacity(capacity_per_s: float, n: int = 200, *, valid: bool = True, service_ms: float = 0.0) -> Any:
    """A server that keeps every promise up to its capacity and none beyond."""

    def probe(rate_per_s: float) -> LoadPoint:
        value, interval = share_of(n if rate_per_s <= capacity_per_s else 0, n)
        good = Metric.measured("slo_share", "share", value, n=n, interval=interval)
        other = Metric.measured("x", "ms", service_ms or 1e3 / capacity_per_s, n=n)
        if not valid:
            good = good.invalidated("the client was the bottleneck")
        return LoadPoint(OpenLoad(rate_per_s=rate_per_s), other, other, other, other, good, other)

    return probe


@pytest.mark.parametrize("capacity", [0.3, 1.0, 7.3, 100.0])
def test_the_capacity_lies_in_the_interval_that_is_found(capacity: float) -> None:
    found = search(probe_with_capacity(capacity), start_per_s=1.0, share=0.95, precision=0.1)
    assert found.high is not None
    assert found.low <= capacity < found.high
    assert found.high - found.low <= 0.11 * capacity
    assert found.stop_reason.startswith("precise")
    assert not found.undecided


def test_a_share_whose_interval_holds_the_limit_is_undecided_and_counts_as_not_kept() -> None:
    found = search(probe_with_capacity(4.0, n=10), start_per_s=1.0, share=0.95, precision=0.1)
    assert found.low == 0.0
    assert found.undecided


def test_an_objective_that_a_request_by_itself_does_not_keep_is_not_looked_for_at_ever_lower_rates() -> None:
    found = search(probe_with_capacity(0.001, service_ms=5.0), start_per_s=64.0, share=0.95, precision=0.1)
    assert (found.low, found.high, len(found.points)) == (0.0, 64.0, 1)
    assert found.stop_reason == "no lower rate keeps it: at 64/s requests that met no other did not"


def test_a_search_ends_when_the_client_cannot_say() -> None:
    found = search(probe_with_capacity(4.0, valid=False), start_per_s=1.0, share=0.95, precision=0.1)
    assert len(found.points) == 1
    assert "bottleneck" in found.stop_reason


def test_a_capacity_needs_an_objective() -> None:
    with pytest.raises(BadInput, match="objective"):
        find_capacity(Endpoint("http://127.0.0.1:9", "m"), plan())


def test_it_takes_so_many_requests_to_show_a_share() -> None:
    for wanted in (0.5, 0.9, 0.95, 0.99):
        n = attempts_to_show(wanted)
        assert share_of(n, n)[1].low >= wanted > share_of(n - 1, n - 1)[1].low  # type: ignore[union-attr]
    assert attempts_to_show(0.95) == 73


def test_the_capacity_of_a_real_server_lies_between_a_rate_it_kept_and_one_it_did_not() -> None:
    objective = plan(slo=SLO(ttft_ms=2000), requests_per_round=2, load=OpenLoad(rate_per_s=1, arrivals="constant"))
    with scripted_server(one_at_a_time(0.03)) as server:
        found = find_capacity(
            Endpoint(server.base_url, "m"), objective, start_per_s=5, share=0.6, precision=99, probe_s=1
        )
    assert found.high is not None
    assert 5 <= found.low < found.high
    for point in found.points:
        assert point.slo_share.n >= max(attempts_to_show(0.6), point.load.rate_per_s)


def test_a_server_that_is_overloaded_from_the_start_is_bounded() -> None:
    objective = plan(slo=SLO(ttft_ms=200))
    with scripted_server(one_at_a_time(0.03)) as server:
        found = find_capacity(
            Endpoint(server.base_url, "m"), objective, start_per_s=100, share=0.8, precision=2, probe_s=1
        )
    assert found.high is not None
    assert found.high <= 100


# ------------------------------------------------------------------------------------------------------------ pictures


def measured() -> Any:
    with scripted_server(answer("a", "b", "c", delay_s=0.002)) as server:
        return measure_inference(Endpoint(server.base_url, "m"), plan(requests_per_round=12))


def test_the_latency_distribution_is_a_png_or_an_svg() -> None:
    samples = measured().samples
    assert latency_distribution({"v1": samples}).startswith(b"\x89PNG")
    picture = latency_distribution({"v1": samples, "v2": samples}, picture="svg")
    assert ET.fromstring(picture).tag.endswith("svg")
    assert b"v2 (n=12)" in picture


def test_the_same_figures_make_the_same_picture() -> None:
    samples = measured().samples
    assert latency_distribution({"v1": samples}) == latency_distribution({"v1": samples})


def test_failures_alone_make_no_picture() -> None:
    with scripted_server(Status(500)) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan())
    with pytest.raises(BadInput, match="no successful request"):
        latency_distribution({"v1": result.samples, "v2": result.samples.iloc[:0]})
    with pytest.raises(BadInput, match="no load"):
        throughput_against_latency({"v1": [point_of(ClosedLoad(), result)]})


def test_throughput_is_drawn_against_latency_and_invalid_points_are_hollow() -> None:
    point = point_of(ClosedLoad(concurrency=3), measured())
    doubtful = LoadPoint(
        ClosedLoad(concurrency=9),
        point.throughput.invalidated("busy"),
        *(point.ttft, point.e2e, point.success_rate, point.slo_share, point.goodput),
    )
    picture = throughput_against_latency({"v1": [point, doubtful]}, picture="svg")
    assert ET.fromstring(picture).tag.endswith("svg")
    assert throughput_against_latency({"v1": [point]}, picture="svg") != picture


def test_pictures_are_a_thousand_pixels_wide_whatever_the_names() -> None:
    result = measured()
    names = [f"v{number}-{'W' * 100}" for number in range(5)]
    point = point_of(ClosedLoad(concurrency=3), result)
    for png in (
        latency_distribution(dict.fromkeys(names, result.samples)),
        throughput_against_latency({name: [point] for name in names}),
    ):
        assert int.from_bytes(png[16:20], "big") == WIDTH == 1000


def test_a_line_joins_the_loads_of_one_model_only_and_no_label_crosses_the_frame() -> None:
    point = point_of(ClosedLoad(concurrency=3), measured())

    def at(ttft_ms: float, tokens_per_s: float) -> LoadPoint:
        return replace(
            point,
            ttft=Metric.measured("ttft_ms.median", "ms", ttft_ms, n=9),
            throughput=Metric.measured("output_tokens_per_s", "tokens/s", tokens_per_s, n=9),
        )

    figure = load_figure({"v1": [at(10, 10), at(500, 90)], "v2": [at(10, 90), at(500, 10)]})
    figure.draw_without_rendering()
    (axes,) = figure.axes
    joined = [list(line.get_xydata()) for line in axes.lines if len(line.get_xydata()) > 1]
    assert [[tuple(at) for at in line] for line in joined] == [[(10, 10), (500, 90)], [(10, 90), (500, 10)]]
    frame = axes.get_window_extent()
    assert len(axes.texts) == 4
    for label in axes.texts:
        extent = label.get_window_extent()
        assert frame.x0 <= extent.x0 < extent.x1 <= frame.x1
        assert frame.y0 <= extent.y0 < extent.y1 <= frame.y1
