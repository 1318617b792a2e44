"""Every way in which a request can fail is a row with its kind, and stays in the denominators."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from milton_assets.tiers.inference import SLO, ClosedLoad, InferencePlan, OpenLoad, Prompt, measure_inference
from milton_assets.vocabulary.metric import Status
from milton_assets.vocabulary.server import Endpoint
from milton_assets.vocabulary.tier import TierResult
from tests.support.scripted_server import (
    Body,
    Cut,
    Delta,
    Done,
    HangUp,
    KeepAlive,
    Raw,
    Silence,
    Stall,
    Stream,
    StreamError,
    Usage,
    answer,
    scripted_server,
)
from tests.support.scripted_server import (
    Status as HttpStatus,
)

PROMPTS = tuple(Prompt(id=f"p{n}", kind="factual", text=f"Question {n}?") for n in range(4))


def plan(**changes: Any) -> InferencePlan:
    settings: dict[str, Any] = {
        "prompts": PROMPTS,
        "warm_up_requests": 0,
        "min_rounds": 1,
        "max_rounds": 1,
        "max_tokens": 8,
        "calibrate": False,
        "stall_timeout_s": 5.0,
    }
    return InferencePlan(**(settings | changes))


def kinds(result: TierResult) -> list[str | None]:
    return [None if ok else kind for ok, kind in zip(result.samples.ok, result.samples.error_kind, strict=True)]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (HttpStatus(500), "http_status"),
        (HttpStatus(404), "http_status"),
        (Body({"choices": []}), "not_sse"),
        (Body(b"<html></html>", content_type="text/html"), "not_sse"),
        (Body(b""), "empty"),
        (Stream(Delta("a"), StreamError(), Done()), "error_in_stream"),
        (Stream(Delta("a"), Cut()), "cut_short"),
        (Stream(Delta("a"), Cut(reset=True)), "cut_short"),
        (Stream(Delta("a")), "cut_short"),
        (HangUp(), "cut_short"),
        (HangUp(reset=True), "cut_short"),
        (Silence(), "timeout"),
        (Stream(Delta("a"), Stall()), "timeout"),
        (Stream(Raw(b"data: {no json\n\n"), Done()), "not_json"),
        (Stream(Raw(b"this is no event stream\n\n")), "not_sse"),
        (answer("a", "b", usage=False), "usage_missing"),
        (answer("a", "b", finish_reason="length"), "truncated"),
        (answer(), "empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_failed_request_is_a_row_with_its_kind(reply: Any, kind: str) -> None:
    stall_timeout_s = 0.3 if kind == "timeout" else 5.0
    with scripted_server(reply) as server:
        result = measure_inference(Endpoint(server.base_url, "scripted"), plan(stall_timeout_s=stall_timeout_s))
    assert kinds(result) == [kind] * 4
    assert result.provenance["errors"] == {kind: 4}
    rate = result.metric("success_rate")
    assert (rate.value, rate.n, rate.errors) == (0.0, 4, 4)
    ttft = result.metric("ttft_ms.median")
    assert ttft.status is Status.ERROR
    assert kind in (ttft.why or "")
    assert result.samples.error_detail.str.len().gt(0).all()


def test_a_server_that_is_not_there_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        result = measure_inference(Endpoint(f"http://127.0.0.1:{taken.getsockname()[1]}", "m"), plan())
    assert kinds(result) == ["refused"] * 4
    assert result.samples.sent_offset_ms.isna().all()


def test_a_server_that_speaks_no_http_is_malformed() -> None:
    import threading

    def speak(listener: socket.socket) -> None:
        for _ in range(4):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=speak, args=(listener,))
        thread.start()
        result = measure_inference(Endpoint(f"http://127.0.0.1:{listener.getsockname()[1]}", "m"), plan())
        thread.join()
    assert kinds(result) == ["malformed"] * 4


def test_failed_requests_stay_in_every_denominator() -> None:
    replies = [answer("a", "b", delay_s=0.002), HttpStatus(500), answer("a", "b", delay_s=0.002), HangUp()]
    with scripted_server(replies) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan(slo=SLO(ttft_ms=10_000)))
    for name, expected in {"success_rate": 0.5, "slo_share": 0.5}.items():
        metric = result.metric(name)
        assert (metric.value, metric.n, metric.errors) == (expected, 4, 2)
    assert result.metric("ttft_ms.median").n == 4
    assert result.metric("ttft_ms.median").errors == 2


def test_a_late_answer_is_a_success_but_no_goodput() -> None:
    with scripted_server(answer("a", "b", first_delay_s=0.03)) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan(slo=SLO(ttft_ms=5)))
    assert result.metric("success_rate").value == 1.0
    assert result.metric("slo_share").value == 0.0
    assert result.metric("goodput_per_s").value == 0.0


def test_stopping_at_max_tokens_is_labelled_and_no_error() -> None:
    with scripted_server(answer("a", "b", completion_tokens=8, finish_reason="length")) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan())
    assert result.samples.ok.all()
    assert result.samples.truncated.all()
    assert set(result.samples.finish_reason) == {"length"}


@pytest.mark.parametrize("habit", [KeepAlive.CLOSE_AFTER_ANSWER, KeepAlive.CLOSE_ON_NEXT_REQUEST])
def test_a_connection_closed_between_requests_is_replaced_and_is_neither_error_nor_latency(habit: KeepAlive) -> None:
    with scripted_server(answer("a", "b", first_delay_s=0.02), keep_alive=habit) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan())
    assert result.samples.ok.all()
    assert server.connections == 4
    assert len(server.requests) == 4
    true_ms = [(e.written_at_ns[1] - e.read_at_ns) / 1e6 for e in server.exchanges]
    # The delay that the server was told to make, once: what the closed connections took is not in it.
    assert (result.samples.ttft_ms > 19).all()
    assert sorted((result.samples.ttft_ms - true_ms).abs())[1] < 15


def test_a_reused_connection_that_the_server_closes_unseen_says_that_it_was_replaced() -> None:
    with scripted_server(answer("a", "b"), keep_alive=KeepAlive.CLOSE_ON_NEXT_REQUEST) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan())
    assert result.samples.reconnected.tolist() == [False, True, True, True]


@pytest.mark.parametrize(
    ("reply", "kind"),
    [(Silence(), "timeout"), (HangUp(delay_s=1), "cut_short"), (HangUp(reset=True, delay_s=1), "cut_short")],
)
def test_a_server_that_fails_with_a_request_in_hand_is_not_asked_again(reply: Any, kind: str) -> None:
    with scripted_server([answer("a", "b"), reply, answer("a", "b")]) as server:
        result = measure_inference(
            Endpoint(server.base_url, "m"),
            plan(requests_per_round=2, stall_timeout_s=2.0 if kind == "timeout" else 20.0),
        )
    assert kinds(result) == [None, kind]
    assert result.samples.reconnected.tolist() == [False, False]
    assert len(server.requests) == 2


def test_an_open_load_forgives_no_more_than_the_time_that_reconnecting_took() -> None:
    load = OpenLoad(rate_per_s=5, arrivals="constant")
    with scripted_server([answer("a", "b"), HangUp(delay_s=0.02), answer("a", "b")]) as server:
        rows = measure_inference(Endpoint(server.base_url, "m"), plan(load=load, requests_per_round=2)).samples
    assert rows.ok.all()
    assert rows.reconnected.tolist() == [False, True]
    assert rows.ttft_ms[1] > 20


def test_connections_are_kept_alive() -> None:
    with scripted_server(answer("a", "b")) as server:
        measure_inference(Endpoint(server.base_url, "m"), plan())
        assert server.connections == 1


def test_a_done_that_is_followed_by_silence_ends_the_request_without_an_error() -> None:
    reply = Stream(Delta("a"), Delta("b", finish_reason="stop"), Usage(3, 2), Done(), Stall())
    with scripted_server(reply) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan(stall_timeout_s=20))
    assert result.samples.ok.all()
    assert (result.samples.e2e_ms < 10_000).all()


def test_a_round_in_which_everything_failed_is_the_last() -> None:
    with scripted_server(HttpStatus(500)) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan(max_rounds=5, min_rounds=5))
    assert result.provenance["rounds"] == 1
    assert result.provenance["stop_reason"].startswith("failing")


def test_the_whole_request_has_a_limit_too() -> None:
    with scripted_server(answer(*"abcdefgh", delay_s=0.1)) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan(request_timeout_s=0.35))
    assert kinds(result) == ["timeout"] * 4
    assert result.samples.error_detail.str.contains("no end within").all()


def _by_prompt(body: dict[str, Any]) -> Any:
    return HttpStatus(503) if "Question 2" in body["messages"][0]["content"] else answer("a", "b")


@pytest.mark.parametrize("handler", [_by_prompt])
def test_only_the_request_that_failed_is_an_error_under_concurrency(handler: Callable[[dict[str, Any]], Any]) -> None:
    with scripted_server(handler) as server:
        result = measure_inference(Endpoint(server.base_url, "m"), plan(load=ClosedLoad(concurrency=4)))
    failed = result.samples[~result.samples.ok]
    assert set(failed.prompt_id) == {"p2"}
    assert len(failed) == len(result.samples) // 4
