"""The scripted server itself: what a test scripts is what goes over the wire."""

from __future__ import annotations

import json
import time

import httpx
import pytest

from tests.support.scripted_server import (
    Cut,
    Delta,
    HangUp,
    KeepAlive,
    Raw,
    Stall,
    Status,
    Stream,
    StreamError,
    answer,
    scripted_server,
)

CHAT = "/v1/chat/completions"


def events(text: str) -> list[object]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def test_a_stream_has_role_pieces_finish_usage_and_done_in_order() -> None:
    with scripted_server(answer("Par", "is", cached_tokens=3)) as server:
        body = {"messages": [], "stream": True, "stream_options": {"include_usage": True}}
        got = events(httpx.post(server.base_url + CHAT, json=body).text)
    deltas = [event["choices"][0]["delta"] for event in got[:4]]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": "Par"}, {"content": "is"}, {}]
    assert got[4]["usage"]["completion_tokens"] == 2
    assert got[4]["usage"]["prompt_tokens_details"] == {"cached_tokens": 3}
    assert got[5] == "[DONE]"
    assert server.requests == [body]


def test_usage_is_sent_in_a_stream_only_when_asked_for() -> None:
    with scripted_server(answer("Paris")) as server:
        got = events(httpx.post(server.base_url + CHAT, json={"stream": True}).text)
    assert not any("usage" in event for event in got if isinstance(event, dict))


def test_the_same_answer_comes_in_one_piece_when_no_stream_is_asked_for() -> None:
    with scripted_server(answer("Par", "is", top_logprobs={"No": -2.0, "Yes": -0.1})) as server:
        choice = httpx.post(server.base_url + CHAT, json={"messages": []}).json()["choices"][0]
    assert choice["message"]["content"] == "Paris"
    assert [a["token"] for a in choice["logprobs"]["content"][0]["top_logprobs"]] == ["Yes", "No"]


def test_delays_are_kept_without_drift() -> None:
    with scripted_server(answer(*"0123456789", first_delay_s=0.05, delay_s=0.01)) as server:
        httpx.post(server.base_url + CHAT, json={"stream": True})
        (exchange,) = server.exchanges
    sent = [(at - exchange.read_at_ns) / 1e9 for at in exchange.written_at_ns]
    pieces = sent[1:11]
    assert all(got >= due - 1e-4 for got, due in zip(pieces, [0.05 + 0.01 * i for i in range(10)], strict=True))
    assert pieces[-1] < 2


def test_a_sequence_gives_one_reply_a_request_and_then_says_that_it_is_spent() -> None:
    with scripted_server([Status(500), "Paris"]) as server:
        codes = [httpx.post(server.base_url + CHAT, json={}).status_code for _ in range(3)]
    assert codes == [500, 200, 599]


def test_a_cut_breaks_the_body_off() -> None:
    with (
        scripted_server(Stream(Delta("Par"), Cut())) as server,
        pytest.raises(httpx.RemoteProtocolError, match="incomplete"),
    ):
        httpx.post(server.base_url + CHAT, json={})


def test_a_reset_is_seen_as_one() -> None:
    with scripted_server(HangUp(reset=True)) as server, pytest.raises(httpx.ReadError):
        httpx.post(server.base_url + CHAT, json={})


def test_a_stall_outlasts_the_client_and_not_the_server() -> None:
    with scripted_server(Stream(Delta("Par"), Stall())) as server:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(server.base_url + CHAT, json={}, timeout=httpx.Timeout(30, read=0.3))
        started = time.perf_counter()
    assert time.perf_counter() - started < 60


def test_an_error_object_and_raw_bytes_pass_as_they_are() -> None:
    with scripted_server(Stream(StreamError("out of memory"), Raw(b"garbage"))) as server:
        text = httpx.post(server.base_url + CHAT, json={}).text
    assert '"message": "out of memory"' in text
    assert text.endswith("garbage")


@pytest.mark.parametrize(("keep_alive", "connections"), [(KeepAlive.KEEP, 1), (KeepAlive.CLOSE_AFTER_ANSWER, 3)])
def test_connections_are_kept_or_closed_as_told(keep_alive: KeepAlive, connections: int) -> None:
    with scripted_server("Paris", keep_alive=keep_alive) as server, httpx.Client() as client:
        for _ in range(3):
            assert client.post(server.base_url + CHAT, json={}).status_code == 200
            time.sleep(0.05)
    assert server.connections == connections


def test_closing_on_the_next_request_leaves_the_client_without_a_byte() -> None:
    with (
        scripted_server("Paris", keep_alive=KeepAlive.CLOSE_ON_NEXT_REQUEST) as server,
        httpx.Client() as client,
    ):
        client.post(server.base_url + CHAT, json={})
        with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
            client.post(server.base_url + CHAT, json={})
    assert len(server.requests) == 1


def test_pages_and_other_posts_are_the_tests_to_give() -> None:
    with scripted_server(pages={"/props": {"model_path": "/x"}}, posts={"/v1/embeddings": Status(501)}) as server:
        assert httpx.get(server.base_url + "/props").json() == {"model_path": "/x"}
        assert httpx.get(server.base_url + "/v1/models").json()["data"][0]["id"] == "scripted"
        assert httpx.get(server.base_url + "/health").status_code == 200
        assert httpx.get(server.base_url + "/nothing").status_code == 404
        assert httpx.post(server.base_url + "/v1/embeddings", json={}).status_code == 501
        assert httpx.post(server.base_url + "/elsewhere", json={}).status_code == 404
