"""The client under its own watch: calibration, arrival schedules, plans, prompts, and the rules of validity."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from milton_assets.tiers.inference import (
    DEFINITIONS_VERSION,
    SLO,
    ClosedLoad,
    InferencePlan,
    OpenLoad,
    code_version,
    load_goldens,
    measure_inference,
)
from milton_assets.tiers.inference.calibrate import Bias, Calibration, CalibrationFailed, compare
from milton_assets.tiers.inference.clock import measuring_loop, now_ns, quiet_interpreter, sleep_until
from milton_assets.tiers.inference.connection import StampSummary
from milton_assets.tiers.inference.load import arrival_offsets_s
from milton_assets.tiers.inference.sample import Sample
from milton_assets.tiers.inference.truth import pace, truth_server
from milton_assets.tiers.inference.validity import ClientEvidence, judged
from milton_assets.tiers.inference.watch import ClientLoad, Watch
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.server import Endpoint

# ------------------------------------------------------------------------------------------------- prompts and plans


def test_the_shipped_prompts_are_factual_reasoning_and_code_and_at_least_eight() -> None:
    goldens = load_goldens()
    assert len(goldens.prompts) >= 8
    assert {prompt.kind for prompt in goldens.prompts} == {"factual", "reasoning", "code"}
    assert goldens.version
    assert len(goldens.digests["prompts.jsonl"]) == 64


HEADER = {"golden": "inference-prompts", "version": "1", "licence": "Apache-2.0", "source": "here"}
PROMPT = {"id": "a", "kind": "code", "text": "x"}


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([], "holds no prompts"),
        ([HEADER], "holds no prompts"),
        ([PROMPT, PROMPT], "prompts.jsonl:1 "),
        ([HEADER, PROMPT | {"kind": "poem"}], "prompts.jsonl:2 "),
        ([HEADER, PROMPT | {"id": "../up"}], "prompts.jsonl:2 "),
        ([HEADER, PROMPT, PROMPT], "more than once"),
        ([HEADER, "no object"], "prompts.jsonl:2 "),
    ],
)
def test_a_prompts_file_that_is_wrong_says_where(rows: list[Any], complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(BadInput, match=complaint):
        load_goldens(path)


def test_a_prompts_file_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        load_goldens(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    "changes",
    [
        {"min_rounds": 3, "max_rounds": 2},
        {"extra_body": {"stream": False}},
        {"slo": {}},
        {"load": {"kind": "open", "rate_per_s": 0}},
        {"load": {"kind": "closed", "concurrency": 0}},
        {"prompts": ()},
        {"unknown": 1},
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        InferencePlan.model_validate(changes)


def test_a_round_keeps_the_concurrency_up_for_four_turns() -> None:
    prompts = len(load_goldens().prompts)
    assert InferencePlan().round_size == prompts
    for concurrency in (2, 16, 64):
        size = InferencePlan(load=ClosedLoad(concurrency=concurrency)).round_size
        assert size >= 4 * concurrency
        assert size % prompts == 0


def test_the_code_version_is_stable_and_names_the_definitions() -> None:
    assert code_version() == code_version()
    assert len(code_version()) == 64
    assert DEFINITIONS_VERSION in (Path(__file__).parents[2] / "docs" / "timing.md").read_text()


# -------------------------------------------------------------------------------------------------- clock and arrivals


@pytest.mark.alone
def test_the_loop_wakes_within_a_fraction_of_a_millisecond() -> None:
    async def lateness() -> list[float]:
        late = []
        for _ in range(40):
            due = now_ns() + 2_300_000
            await sleep_until(due)
            late.append((now_ns() - due) / 1e6)
        return late

    with asyncio.Runner(loop_factory=measuring_loop) as runner:
        late = runner.run(lateness())
    assert min(late) >= 0
    assert sorted(late)[10] < 0.5


def test_garbage_is_not_collected_while_something_is_measured() -> None:
    import gc

    with quiet_interpreter():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_constant_arrivals_are_equally_far_apart() -> None:
    assert arrival_offsets_s(OpenLoad(rate_per_s=4, arrivals="constant"), 4, 0) == [0.0, 0.25, 0.5, 0.75]


def test_poisson_arrivals_have_the_rate_and_are_the_same_for_the_same_seed() -> None:
    load = OpenLoad(rate_per_s=10)
    offsets = arrival_offsets_s(load, 5000, 1)
    gaps = np.diff(offsets)
    assert offsets == arrival_offsets_s(load, 5000, 1) != arrival_offsets_s(load, 5000, 2)
    assert gaps.mean() == pytest.approx(0.1, rel=0.06)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.08)


# -------------------------------------------------------------------------------------------------------- calibration


@pytest.mark.parametrize("concurrency", [1, 8])
def test_the_client_knows_its_own_bias(concurrency: int) -> None:
    plan = InferencePlan(load=ClosedLoad(concurrency=concurrency), min_rounds=1, max_rounds=1, max_tokens=6)
    with truth_server(first_token_ms=5, inter_token_ms=1, tokens=6) as server:
        result = measure_inference(Endpoint(server.base_url, "truth"), plan)
    told = result.provenance["calibration"]
    assert told["requests"] >= 24
    assert told["concurrency"] == concurrency
    assert abs(told["ttft_bias_ms"]["median"]) < 50


@pytest.mark.alone
def test_what_is_measured_of_a_truth_server_is_close_to_its_log() -> None:
    plan = InferencePlan(min_rounds=1, max_rounds=1, warm_up_requests=0, calibrate=False)
    with truth_server(first_token_ms=20, inter_token_ms=5, tokens=10) as server:
        result = measure_inference(Endpoint(server.base_url, "truth"), plan)
    for sample in result.samples.itertuples():
        truth = server.truths[int(sample.output_head.split()[0])]
        assert truth.ttft_ms >= 20
        assert sample.ttft_ms == pytest.approx(truth.ttft_ms, abs=10)
        assert sample.tpot_ms == pytest.approx(truth.tpot_ms(10), abs=2)
        assert sample.e2e_ms == pytest.approx(truth.e2e_ms, abs=10)


def test_a_role_chunk_of_the_truth_server_is_no_token() -> None:
    plan = InferencePlan(min_rounds=1, max_rounds=1, warm_up_requests=0, calibrate=False)
    with truth_server(first_token_ms=20, inter_token_ms=1, tokens=3, role_first=True) as server:
        result = measure_inference(Endpoint(server.base_url, "truth"), plan)
    assert (result.samples.ttfb_ms < 20).any()
    assert (result.samples.ttft_ms > 19.8).all()


def test_beyond_64_streams_the_calibration_asks_for_no_more_tokens_a_second() -> None:
    assert pace(1) == pace(64)
    assert pace(512).inter_token_ms == 8 * pace(64).inter_token_ms
    assert pace(512).first_token_ms == 8 * pace(64).first_token_ms


def test_a_client_that_cannot_measure_its_own_machine_says_so() -> None:
    plan = InferencePlan(min_rounds=1, max_rounds=1, calibrate=False)
    result = measure_inference(Endpoint("http://127.0.0.1:9", "m"), plan)
    samples = [Sample(**row) for row in result.samples.to_dict("records")]
    with pytest.raises(CalibrationFailed, match="refused"):
        compare(samples, {}, 1)


def test_the_client_needs_nothing_that_a_small_device_has_not() -> None:
    program = "import sys, milton_assets.tiers.inference.client; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "pandas", "pyarrow", "scipy", "matplotlib", "dagster"} & set(loaded)


def test_the_truth_server_ends_when_its_standard_input_does() -> None:
    with truth_server(first_token_ms=1, inter_token_ms=1, tokens=2) as server:
        port = int(server.base_url.rpartition(":")[2])
    plan = InferencePlan(min_rounds=1, max_rounds=1, warm_up_requests=0, calibrate=False)
    result = measure_inference(Endpoint(f"http://127.0.0.1:{port}", "truth"), plan)
    assert set(result.samples.error_kind) == {"refused"}


# ----------------------------------------------------------------------------------------------------------- validity

BY_PROCESS = StampSummary(by_kernel=False, pieces=100, reading_delay_ms_median=0.0, reading_delay_ms_p99=0.0)
BY_KERNEL = StampSummary(by_kernel=True, pieces=100, reading_delay_ms_median=0.1, reading_delay_ms_p99=5.0)
IDLE = ClientLoad(0.05, 0.2, 0.3, 0.05, 1.0, 10.0)


def evidence(**changes: Any) -> ClientEvidence:
    settings: dict[str, Any] = {
        "samples": [],
        "load": IDLE,
        "stamps": BY_PROCESS,
        "calibration": None,
        "cache": "cold",
    }
    return ClientEvidence(**(settings | changes))


def figure(name: str, value: float) -> Metric:
    return Metric.measured(name, "ms", value, n=10)


def verdict(name: str, value: float, **changes: Any) -> Metric:
    return judged([figure(name, value)], evidence(**changes))[0]


def test_figures_of_an_idle_client_are_valid() -> None:
    assert verdict("ttft_ms.median", 20.0).valid
    assert verdict("ttft_ms.p99", 20.0).valid


def test_a_client_that_used_a_whole_core_was_the_bottleneck_of_every_figure() -> None:
    busy = ClientLoad(0.05, 0.2, 0.3, 0.95, 1.0, 10.0)
    for name in ("ttft_ms.median", "output_tokens_per_s", "tpot_ms.mean", "requests_per_s"):
        metric = verdict(name, 20.0, load=busy)
        assert not metric.valid
        assert "bottleneck" in (metric.why or "")
    assert verdict("success_rate", 1.0, load=busy).valid


@pytest.mark.parametrize("name", ["output_tokens_per_s", "requests_per_s", "goodput_per_s", "energy_j_per_token"])
def test_throughput_for_which_requests_waited_is_the_clients_and_not_valid(name: str) -> None:
    waited = replace(IDLE, waited_share=0.2, waited_ms=30.0)
    assert "requests waited 30.00 ms for it, 20% of the time" in (verdict(name, 20.0, load=waited).why or "")
    assert verdict("ttft_ms.median", 20.0, load=waited).valid
    for little in ({"waited_share": 0.04}, {"waited_ms": 0.9}):
        assert verdict(name, 20.0, load=replace(waited, **little)).valid
    assert not verdict(name, 20.0, load=waited, streams=16).valid
    assert verdict(name, 20.0, load=waited, streams=15).valid


def test_lag_that_a_figure_can_bear_leaves_it_valid() -> None:
    lagging = ClientLoad(0.05, 8.0, 9.0, 0.05, 1.0, 10.0)
    assert verdict("ttft_ms.median", 20.0, load=lagging).valid
    assert not verdict("ttft_ms.p99", 20.0, load=lagging).valid
    assert verdict("ttft_ms.p99", 200.0, load=lagging).valid


def test_lag_adds_nothing_to_a_stamp_of_the_kernel() -> None:
    lagging = ClientLoad(8.0, 9.0, 9.0, 0.05, 1.0, 10.0)
    assert not verdict("ttft_ms.median", 20.0, load=lagging, stamps=BY_PROCESS).valid
    assert verdict("ttft_ms.median", 20.0, load=lagging, stamps=BY_KERNEL).valid


def test_calibration_bias_counts_for_latencies_from_the_start_alone() -> None:
    biased = Calibration(24, 1, Bias(3.0, 6.0), Bias(3.0, 6.0), Bias(0.1, 0.2))
    assert not verdict("ttft_ms.median", 20.0, calibration=biased).valid
    assert verdict("ttft_ms.median", 200.0, calibration=biased).valid
    assert verdict("itl_ms.median", 20.0, calibration=biased).valid


def row(**told: Any) -> Sample:
    """A good answer of 32 tokens, each four bytes of text in an event of its own."""
    absent = dict.fromkeys(Sample.__dataclass_fields__)
    tokens = told.get("output_tokens", 32)
    good = {"ok": True, "output_tokens": tokens, "output_bytes": 4 * tokens, "token_events": tokens}
    return Sample(**(absent | good | {"joined_events": 0, "first_token_joined": False, "junk_events": 0} | told))


@pytest.mark.parametrize("name", ["tpot_ms.median", "request_output_tokens_per_s.median", "output_tokens_per_s"])
def test_a_count_of_tokens_that_the_text_does_not_bear_out_makes_what_rests_on_it_invalid(name: str) -> None:
    inflated = [row(output_tokens=96, token_events=32, output_bytes=128)]
    assert "96 tokens in 32 events, with 1.3 bytes of text a token" in (verdict(name, 20.0, samples=inflated).why or "")
    assert verdict("ttft_ms.median", 20.0, samples=inflated).valid


def test_several_tokens_an_event_are_believed_when_their_text_came() -> None:
    assert verdict("tpot_ms.median", 20.0, samples=[row(output_tokens=96, token_events=32, output_bytes=400)]).valid


def test_less_than_half_a_token_an_event_is_doubted() -> None:
    told = verdict("output_tokens_per_s", 20.0, samples=[row(output_tokens=8, token_events=32)])
    assert "8 tokens in 32 events that each carried text" in (told.why or "")


@pytest.mark.parametrize("name", ["ttft_ms.median", "tpot_ms.median", "itl_ms.p99"])
def test_text_that_is_flushed_after_a_silence_makes_what_streams_invalid(name: str) -> None:
    rows = [row(flushed=n < 2) for n in range(20)]
    assert "in 2 of 20 streams most of the text came in one event" in (verdict(name, 20.0, samples=rows).why or "")
    assert verdict(name, 20.0, samples=[row(flushed=n < 1) for n in range(20)]).valid
    assert verdict("output_tokens_per_s", 20.0, samples=rows).valid


@pytest.mark.parametrize("name", ["ttft_ms.median", "tpot_ms.median", "itl_ms.p99"])
def test_first_letters_that_most_streams_leave_alone_make_what_streams_invalid(name: str) -> None:
    def silent(streams: int, silence_ms: float = 60.0) -> Metric:
        rows = [row(ttft_ms=44.0, silence_ms=silence_ms if n < streams else None) for n in range(20)]
        return verdict(name, 20.0, samples=rows)

    assert "11 of 20 streams open with a few letters, which nothing followed for 60 ms" in (silent(11).why or "")
    assert silent(10).valid
    assert silent(20, silence_ms=40.0).valid


def test_blank_text_long_before_the_first_that_prints_is_named_and_a_blank_token_is_not() -> None:
    early = [row(blank_events=1, blank_ms=56.0, tpot_ms=10.0)] * 4
    assert "4 of 4 streams open with text that does not print, 56 ms" in (
        verdict("ttft_ms.median", 103.0, samples=early).why or ""
    )
    assert verdict("ttft_ms.median", 103.0, samples=[row(blank_events=1, blank_ms=12.0, tpot_ms=10.0)] * 4).valid


def test_characters_without_width_are_no_tokens() -> None:
    told = verdict("output_tokens_per_s", 20.0, samples=[row(junk_events=16)])
    assert "16 of 32 token events hold only characters without width" in (told.why or "")


@pytest.mark.parametrize("name", ["ttft_ms.median", "e2e_ms.p95", "output_tokens_per_s", "requests_per_s"])
def test_answers_that_the_server_ends_after_one_token_are_no_measure_of_speed(name: str) -> None:
    ended = [row(output_tokens=1, truncated=False)] * 3 + [row()]
    assert "3 of 4 answers were ended after one token" in (verdict(name, 20.0, samples=ended).why or "")
    assert verdict(name, 20.0, samples=[row(output_tokens=1, truncated=True)] * 4).valid


def test_time_per_output_token_shares_the_lag_among_its_tokens() -> None:
    lagging = ClientLoad(2.0, 2.0, 2.0, 0.05, 1.0, 10.0)
    assert verdict("tpot_ms.median", 10.0, load=lagging, samples=[row(output_tokens=32)]).valid
    assert not verdict("tpot_ms.median", 10.0, load=lagging, samples=[row(output_tokens=3)]).valid


def test_calibration_bias_between_tokens_counts_by_the_span_it_was_seen_in() -> None:
    biased = Calibration(24, 1, Bias(0.0, 0.0), Bias(0.0, 0.0), Bias(30.0, 90.0))  # 3 and 9 ms of 10
    for name in ("tpot_ms.median", "itl_ms.median", "tpot_ms.p99"):
        told = {"calibration": biased, "samples": [row(output_tokens=6)]}
        assert "calibration bias" in (verdict(name, 5.0, **told).why or "")
        assert verdict(name, 200.0, **told).valid
    assert verdict("tpot_ms.median", 5.0, calibration=biased, samples=[row(output_tokens=128)]).valid
    assert verdict("ttft_ms.median", 5.0, calibration=biased).valid


LATE = StampSummary(by_kernel=True, pieces=100, reading_delay_ms_median=4.0, reading_delay_ms_p99=40.0)


@pytest.mark.parametrize("name", ["itl_ms.median", "tpot_ms.median"])
def test_events_joined_by_a_client_that_reads_late_make_what_they_blur_invalid(name: str) -> None:
    joined = [row(joined_events=1, output_tokens=4)]
    assert "25% of what it stamps joined" in (verdict(name, 20.0, stamps=LATE, samples=joined).why or "")
    assert verdict(name, 20.0, stamps=LATE, samples=[row(output_tokens=4)]).valid
    for unblurred in ("ttft_ms.median", "e2e_ms.median"):
        assert verdict(unblurred, 20.0, stamps=LATE, samples=joined).valid


@pytest.mark.parametrize("name", ["ttfb_ms.median", "ttft_ms.median", "ttfv_ms.p95"])
def test_a_first_token_that_was_joined_by_the_next_makes_what_ends_with_it_invalid(name: str) -> None:
    joined = [row(joined_events=1, first_token_joined=True), *[row()] * 9]
    assert "10% of what it stamps joined" in (verdict(name, 20.0, stamps=LATE, samples=joined).why or "")
    assert verdict("itl_ms.median", 20.0, stamps=LATE, samples=joined).valid


def test_events_that_a_server_sends_together_are_no_fault_of_a_client_that_reads_at_once() -> None:
    prompt = StampSummary(by_kernel=True, pieces=100, reading_delay_ms_median=0.1, reading_delay_ms_p99=0.5)
    for name in ("ttft_ms.median", "itl_ms.median", "itl_ms.p99", "tpot_ms.median"):
        assert verdict(name, 20.0, stamps=prompt, samples=[row(joined_events=16)]).valid


def test_a_few_joined_events_matter_to_tails_alone() -> None:
    few = [row(joined_events=1)]
    assert verdict("itl_ms.median", 20.0, stamps=LATE, samples=few).valid
    assert not verdict("itl_ms.p99", 20.0, stamps=LATE, samples=few).valid


@pytest.mark.parametrize("name", ["slo_share", "goodput_per_s"])
def test_requests_that_the_client_may_have_put_beyond_a_limit_make_the_share_invalid(name: str) -> None:
    biased = Calibration(24, 1, Bias(3.0, 6.0), Bias(3.0, 6.0), Bias(0.0, 0.0))
    samples = [row(ttft_ms=latency_ms) for latency_ms in (20.0, 52.0, 46.0, 300.0)] * 100
    near = {"calibration": biased, "samples": samples, "slo": SLO(ttft_ms=50)}
    assert "50.0% of the requests are nearer to a limit" in (verdict(name, 0.5, **near).why or "")
    assert verdict(name, 0.5, **(near | {"slo": SLO(ttft_ms=100)})).valid
    assert verdict(name, 0.5, **(near | {"samples": samples[::4] * 3 + samples[:4]})).valid


@pytest.mark.parametrize(("limit_ms", "valid"), [(195, False), (185, True), (205, True)])
def test_a_requests_own_lag_counts_against_the_limit_it_broke(limit_ms: float, valid: bool) -> None:
    late = [row(e2e_ms=200.0, sent_lag_ms=10.0)] * 100
    assert verdict("slo_share", 0.0, samples=late, slo=SLO(e2e_ms=limit_ms)).valid is valid


def test_a_figure_that_could_not_be_had_is_not_judged() -> None:
    failed = Metric.failed("ttft_ms.median", "ms", "nothing", n=3, errors=3)
    assert judged([failed], evidence()) == (failed,)


def test_the_watch_sees_a_blocked_loop_and_a_busy_core() -> None:
    async def busy() -> ClientLoad:
        watch = Watch()
        for _ in range(2):
            async with watch:
                for _ in range(5):
                    await asyncio.sleep(0.006)
                    until = time.perf_counter() + 0.04
                    while time.perf_counter() < until:
                        pass
        return watch.load()

    with asyncio.Runner(loop_factory=measuring_loop) as runner:
        begun_s = time.thread_time()
        load = runner.run(busy())
        used_s = time.thread_time() - begun_s
    assert load.loop_lag_ms_max > 25
    assert load.measured_s > 0.4
    assert load.cpu_share * load.measured_s == pytest.approx(used_s, rel=0.2)


def test_a_watch_that_saw_nothing_reports_nothing() -> None:
    load = Watch().load()
    assert (load.loop_lag_ms_median, load.cpu_share, load.measured_s) == (0.0, 0.0, 0.0)
    assert not math.isnan(load.loop_lag_ms_p99)


def test_an_slo_lists_the_limits_it_was_given() -> None:
    assert SLO(ttft_ms=200, tpot_ms=50).limits() == {"ttft_ms": 200, "tpot_ms": 50}
