"""The tier as a whole, against a scripted server on loopback."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import pytest

from milton_assets.tiers.inference import (
    METRICS,
    SLO,
    ClosedLoad,
    InferencePlan,
    OpenLoad,
    Prompt,
    measure_inference,
    measure_interleaved,
)
from milton_assets.vocabulary.metric import Status
from milton_assets.vocabulary.progress import Progress
from milton_assets.vocabulary.server import Endpoint
from milton_assets.vocabulary.tier import TierResult
from tests.support.scripted_server import Delta, Done, InFlight, Stream, Usage, answer, scripted_server

PROMPTS = tuple(Prompt(id=f"p{n}", kind="code", text=f"Question {n}?") for n in range(3))
GOOD = answer("one ", "two ", "three", first_delay_s=0.02, delay_s=0.01)


def plan(**changes: Any) -> InferencePlan:
    settings: dict[str, Any] = {
        "prompts": PROMPTS,
        "warm_up_requests": 1,
        "min_rounds": 2,
        "max_rounds": 2,
        "max_tokens": 8,
        "calibrate": False,
    }
    return InferencePlan(**(settings | changes))


def measured(result: TierResult) -> Any:
    return result.samples[result.samples.phase == "measured"]


def test_every_metric_that_was_promised_is_there_in_order_with_its_unit() -> None:
    with scripted_server(GOOD) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan())
    assert tuple((metric.name, metric.unit) for metric in result.metrics) == METRICS
    assert result.tier == "inference"


@pytest.mark.alone
def test_latencies_are_what_the_server_did() -> None:
    with scripted_server(GOOD) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan())
        truths = [exchange for exchange in server.exchanges if exchange.method == "POST"][1:]
    rows = measured(result)
    true_ttft_ms = [(true.written_at_ns[1] - true.read_at_ns) / 1e6 for true in truths]
    true_tpot_ms = [(true.written_at_ns[3] - true.written_at_ns[1]) / 2e6 for true in truths]
    # The server is a thread of this process, and its stamps suffer from that: single requests may differ by much.
    assert (rows.ttft_ms - true_ttft_ms).abs().median() < 5
    assert (rows.tpot_ms - true_tpot_ms).abs().median() < 3
    assert (rows.ttfb_ms <= rows.ttft_ms).all()
    assert (rows.ttft_ms <= rows.ttfv_ms).all()
    assert (rows.ttfv_ms <= rows.e2e_ms).all()


def test_the_request_streams_greedily_with_usage_and_the_plans_sampling() -> None:
    with scripted_server(GOOD) as server:
        measure_inference(Endpoint(server.base_url, "name"), plan(extra_body={"ignore_eos": True}, seed=7))
    for body in server.requests:
        assert body["model"] == "name"
        assert body["stream"] is True
        assert body["stream_options"] == {"include_usage": True}
        assert (body["temperature"], body["seed"], body["max_tokens"]) == (0.0, 7, 8)
        assert body["ignore_eos"] is True


def test_a_cold_cache_gets_no_prompt_twice() -> None:
    with scripted_server(GOOD) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan())
    texts = [body["messages"][0]["content"] for body in server.requests]
    assert len({text[:6] for text in texts}) == len(texts) == 7
    assert result.provenance["cache"] == "cold"
    assert result.samples.nonce.str.fullmatch(r"\d{12}").all()


def test_a_warm_cache_gets_every_prompt_as_it_is_before_the_measurement() -> None:
    with scripted_server(answer("a", "b", cached_tokens=5)) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan(cache="warm"))
    texts = [body["messages"][0]["content"] for body in server.requests]
    assert set(texts[:3]) == {prompt.text for prompt in PROMPTS} == set(texts[3:])
    assert result.provenance["cache"] == "warm"
    assert (measured(result).cached_tokens == 5).all()
    assert "cache" not in (result.metric("ttft_ms.median").why or "")


@pytest.mark.parametrize(
    ("cache", "cached", "complaint"), [("cold", 6, "was to be cold"), ("warm", 0, "was to be warm")]
)
def test_a_cache_that_is_not_as_it_was_to_be_makes_what_it_moves_invalid(
    cache: str, cached: int, complaint: str
) -> None:
    with scripted_server(answer("a", "b", cached_tokens=cached, prompt_tokens=7)) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan(cache=cache, slo=SLO(ttft_ms=10_000)))
    for name in (
        *("ttft_ms.median", "e2e_ms.mean", "request_output_tokens_per_s.median", "output_tokens_per_s"),
        *("requests_per_s", "slo_share", "goodput_per_s"),
    ):
        metric = result.metric(name)
        assert not metric.valid
        assert complaint in (metric.why or "")
    assert result.metric("success_rate").valid


def test_warm_up_is_recorded_and_enters_no_figure() -> None:
    slow_first = [answer("a", "b", first_delay_s=1.5), *[GOOD] * 6]
    with scripted_server(slow_first) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan())
    assert result.samples.phase.tolist() == ["warm_up"] + ["measured"] * 6
    assert result.metric("ttft_ms.mean").n == 6
    assert (result.metric("ttft_ms.mean").value or math.inf) < 1500


def test_several_tokens_a_chunk_are_counted_by_usage() -> None:
    with scripted_server(answer("one two", " three four", delay_s=0.03, completion_tokens=4)) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan())
    assert (measured(result).output_tokens == 4).all()
    gap_ms = result.metric("itl_ms.mean").value or 0.0
    assert gap_ms > 25
    assert result.metric("tpot_ms.mean").value == pytest.approx(gap_ms / 3, rel=0.01)


def test_time_per_output_token_is_undefined_for_one_token_or_one_chunk() -> None:
    for reply in (answer("one"), answer("one two three", completion_tokens=3)):
        with scripted_server(reply) as server:
            result = measure_inference(Endpoint(server.base_url, "m"), plan())
        metric = result.metric("tpot_ms.median")
        assert metric.status is Status.ERROR
        assert "defined" in (metric.why or "")
        assert result.metric("ttft_ms.median").status is Status.OK


def test_reasoning_comes_before_the_first_visible_token() -> None:
    reply = answer("yes", "!", reasoning=("let", "me", "see"), first_delay_s=0.01, delay_s=0.01)
    with scripted_server(reply) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan())
    rows = measured(result)
    # Two gaps of reasoning and one to the first visible token, as far apart as the server wrote them.
    assert (rows.ttfv_ms - rows.ttft_ms).median() > 15
    assert (rows.reasoning_events == 3).all()


WORDS = [f"word{n} " for n in range(24)]


def spread(*pieces: str, delays_ms: list[float]) -> Stream:
    said = (Delta(piece, delay / 1e3) for piece, delay in zip(pieces, delays_ms, strict=True))
    return Stream(Delta("", role="assistant"), *said, Delta(finish_reason="stop"), Usage(7, len(WORDS)), Done())


@pytest.mark.parametrize(
    ("stream", "complaint"),
    [
        (spread("w", *WORDS, delays_ms=[20, 150, *[5] * 23]), "nothing followed for"),
        (spread("w", *WORDS, delays_ms=[20, 150, *[0] * 23]), "nothing followed for"),
        (spread("w", "".join(WORDS), delays_ms=[20, 150]), "came in one event after a silence"),
        (spread(WORDS[0], *("".join(WORDS[n : n + 4]) for n in range(1, 24, 4)), delays_ms=[60, *[20] * 6]), None),
        (spread("".join(WORDS), delays_ms=[150]), None),
        (spread(*WORDS, delays_ms=[150, *[0] * 23]), None),
        (spread(*WORDS, delays_ms=[60 if n % 6 == 0 else 0 for n in range(24)]), None),
    ],
    ids=[
        "letter-then-steady",
        "letter-then-burst",
        "letter-then-one-event",
        "speculative",
        "one-piece",
        "at-the-end",
        "by-ticks",
    ],
)
def test_streams_for_the_clock_are_named_and_those_that_look_alike_are_not(
    stream: Stream, complaint: str | None
) -> None:
    quick = plan(max_tokens=32, warm_up_requests=0, min_rounds=1, max_rounds=1)
    with scripted_server(stream) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), quick)
    why = result.metric("ttft_ms.median").why or ""
    assert (complaint in why) if complaint else not ("silence" in why or "followed" in why)


def test_throughput_counts_the_tokens_of_good_answers_by_the_time_they_took() -> None:
    with scripted_server(answer("a", "b", "c", "d", delay_s=0.02)) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan())
    rows = measured(result)
    seconds = rows.e2e_ms.sum() / 1e3
    # The rounds last a little longer than the requests in them, by what lies between two requests.
    assert 0.2 < (result.metric("output_tokens_per_s").value or 0) / (24 / seconds) <= 1.001
    assert 0.2 < (result.metric("requests_per_s").value or 0) / (6 / seconds) <= 1.001


def test_the_concurrency_asked_for_is_the_concurrency_there_is() -> None:
    with scripted_server(in_flight := InFlight(answer("a", "b"), 0.05)) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan(load=ClosedLoad(concurrency=6)))
        assert server.connections == 6
    assert in_flight.most == 6
    assert len(measured(result)) == 2 * 24


def test_open_arrivals_do_not_wait_for_answers_and_latencies_start_when_they_were_due() -> None:
    load = OpenLoad(rate_per_s=50, arrivals="constant")
    with scripted_server(answer("a", "b", first_delay_s=2.0)) as server:
        result = measure_inference(
            Endpoint(server.base_url, "m"), plan(load=load, requests_per_round=10, min_rounds=1, max_rounds=1)
        )
    rows = measured(result)
    assert np.diff(rows.scheduled_offset_ms) == pytest.approx([20.0] * 9, abs=0.01)
    assert rows.sent_offset_ms.max() < rows.ended_offset_ms.min()
    assert (rows.sent_lag_ms >= 0).all()
    assert (rows.ttft_ms - rows.sent_lag_ms > 1999).all()


def test_rounds_stop_once_the_intervals_are_narrow() -> None:
    with scripted_server(answer("a", "b", first_delay_s=0.03, delay_s=0.01)) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan(max_rounds=40, target_relative_half_width=0.5))
    assert result.provenance["stop_reason"].startswith("precise")
    assert result.provenance["rounds"] < 40


def test_rounds_stop_when_the_next_would_not_fit_the_budget() -> None:
    with scripted_server(answer("a", "b", first_delay_s=0.03)) as server:
        result = measure_inference(
            Endpoint(server.base_url, "m"),
            plan(max_rounds=50, min_rounds=50, budget_s=0.5, target_relative_half_width=0.0001),
        )
    assert result.provenance["stop_reason"].startswith("budget")
    assert 2 < result.provenance["rounds"] < 6


def test_a_round_that_outlasts_the_budget_is_cut_and_says_so() -> None:
    with scripted_server(answer("a", "b", first_delay_s=0.1)) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan(budget_s=0.25, requests_per_round=20))
    assert "were not made" in result.provenance["stop_reason"]
    assert 1 < result.provenance["requests"] < 6
    assert result.provenance["requests"] == len(measured(result))


def test_without_a_budget_every_request_that_was_asked_for_is_made() -> None:
    with scripted_server(answer("a", "b", first_delay_s=0.02)) as server:
        result = measure_inference(
            Endpoint(server.base_url, "m"), plan(budget_s=None, requests_per_round=20, min_rounds=1, max_rounds=1)
        )
    assert result.provenance["requests"] == 20
    assert "budget" not in result.provenance["stop_reason"]


def test_rounds_stop_once_the_share_within_the_slo_is_decided() -> None:
    slow = answer("a", "b", first_delay_s=0.05)
    with scripted_server(slow) as server:
        result = measure_inference(
            Endpoint(server.base_url, "m"),
            plan(slo=SLO(ttft_ms=1), decide_share=0.9, requests_per_round=2, min_rounds=1, max_rounds=9),
        )
    assert result.provenance["stop_reason"].startswith("decided")
    assert result.provenance["rounds"] < 9


def test_an_open_load_is_calibrated_at_the_concurrency_that_the_warm_up_showed() -> None:
    load = OpenLoad(rate_per_s=20, arrivals="constant")
    with scripted_server(answer("a", "b", first_delay_s=0.2)) as server:
        result = measure_inference(
            Endpoint(server.base_url, "m"),
            plan(load=load, requests_per_round=2, min_rounds=1, max_rounds=1, calibrate=True),
        )
    answer_s = result.samples.e2e_ms[0] / 1e3
    assert result.provenance["calibration"]["concurrency"] == min(64, math.ceil(20 * answer_s)) >= 4


def test_an_answer_that_showed_nothing_kept_no_limit_on_the_first_visible_token() -> None:
    with scripted_server(answer(reasoning=("hm", "well"))) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan(slo=SLO(ttfv_ms=10_000)))
    assert result.metric("success_rate").value == 1.0
    assert result.metric("slo_share").value == 0.0


def test_a_single_token_cannot_break_a_limit_on_the_time_between_tokens() -> None:
    with scripted_server(answer("one")) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan(slo=SLO(tpot_ms=1)))
    assert result.metric("slo_share").value == 1.0


def test_progress_is_told_after_every_request_in_the_callers_thread() -> None:
    steps: list[Progress] = []
    threads = set()

    def listen(step: Progress) -> None:
        steps.append(step)
        threads.add(threading.current_thread())

    with scripted_server(GOOD) as server:
        measure_inference(Endpoint(server.base_url, "m"), plan(), on_progress=listen)
    assert [step.done for step in steps] == list(range(1, 8))
    assert all(step.total == 7 for step in steps)
    assert threads == {threading.current_thread()}


def test_an_interruption_ends_the_measurement_and_leaves_no_thread() -> None:
    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    with scripted_server(answer("a", "b", first_delay_s=0.05)) as server:
        with pytest.raises(KeyboardInterrupt):
            measure_inference(Endpoint(server.base_url, "m"), plan(max_rounds=99, min_rounds=99), on_progress=interrupt)
        assert len(server.requests) < 4
    assert not [thread for thread in threading.enumerate() if thread.name == "inference-measurement"]


def test_servers_measured_together_take_turns_round_by_round_and_every_second_time_in_the_other_order() -> None:
    turns: list[str] = []

    def handler(name: str) -> Any:
        def reply(_: dict[str, Any]) -> Any:
            turns.append(name)
            return answer("a", "b")

        return reply

    with scripted_server(handler("one")) as one, scripted_server(handler("two")) as two:
        results = measure_interleaved(
            [Endpoint(one.base_url, "m"), Endpoint(two.base_url, "m")], plan(warm_up_requests=0)
        )
    assert turns == ["one"] * 3 + ["two"] * 6 + ["one"] * 3
    assert [result.provenance["base_url"] for result in results] == [one.base_url, two.base_url]


def test_the_result_survives_the_parquet_layout() -> None:
    with scripted_server(GOOD) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan())
    back = TierResult.from_table(result.to_table("v1", "0" * 64))
    assert back.metrics == result.metrics
    assert back.samples.ttft_ms.tolist() == result.samples.ttft_ms.tolist()
    assert back.provenance["definitions_version"] == result.provenance["definitions_version"]


def test_the_provenance_says_how_it_was_measured() -> None:
    with scripted_server(GOOD) as server:
        told = measure_inference(Endpoint(server.base_url, "m"), plan()).provenance
    assert told["sampling"] == {"temperature": 0.0, "top_p": 1.0, "seed": 0, "max_tokens": 8}
    assert told["load"] == {"kind": "closed", "concurrency": 1}
    assert told["prompts_sha256"] == plan().prompts_sha256()
    assert told["served_model"] == "m"
    assert told["requests"] == 6
    assert told["client"]["measured_s"] > 0


def test_a_request_larger_than_the_sockets_buffer_is_stamped_once_it_is_out() -> None:
    large = (Prompt(id="large", kind="factual", text="x" * 8_000_000),)
    with scripted_server(answer("a", "b")) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan(prompts=large, min_rounds=1, max_rounds=1))
        read_ns = [exchange.read_at_ns for exchange in server.exchanges if exchange.method == "POST"]
    rows = measured(result)
    assert rows.ok.all()
    assert len(read_ns) == 2
    assert (rows.ttft_ms < 5000).all()


def test_a_token_in_many_pieces_arrives_with_its_last() -> None:
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\r\n\r\n'
    from tests.support.scripted_server import Raw

    reply = Stream(*(Raw(chunk[i : i + 5], 0.003) for i in range(0, len(chunk), 5)), Delta("b"), Usage(1, 2), Done())
    with scripted_server(reply) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan())
        whole_ms = 0.003 * math.ceil(len(chunk) / 5) * 1e3
    assert measured(result).ok.all()
    assert (measured(result).ttft_ms > whole_ms - 1).all()
