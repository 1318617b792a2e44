"""What users get from the gateway: their requests passed on as HTTP has it, their answers as they are said."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.edge.serving.http1 import Chunked, Limits
from milton_assets.edge.serving.metrics import Outcome
from tests.support.scripted_server import Body, Cut, Delta, Done, HangUp, Raw, Stall, Stream, Usage, answer
from tests.support.served_target import Place, Scripts, ServedTarget, served, wait_for

QUESTION = {"model": "any", "messages": [{"role": "user", "content": "Hello?"}]}
STREAMED = QUESTION | {"stream": True, "stream_options": {"include_usage": True}}


@contextmanager
def one(tmp_path: Path, script: object, limits: Limits | None = None) -> Iterator[tuple[ServedTarget, Scripts]]:
    """A gateway in front of one server that answers so."""
    place = Place(tmp_path)
    launcher = Scripts({"v1": script})
    release = place.deploy("v1")
    with served(place, launcher, limits=limits) as gateway:
        gateway.serves(release)
        launcher.server("v1").exchanges.clear()
        yield gateway, launcher


def raw(gateway: ServedTarget, data: bytes, *, within_s: float = 5.0) -> bytes:
    """What comes back for these bytes until the gateway closes the connection, or says nothing more."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=within_s) as connection:
        connection.sendall(data)
        got = b""
        try:
            while more := connection.recv(65536):
                got += more
        except TimeoutError:
            pass
        return got


def post(body: bytes, *headers: str, target: str = "/v1/chat/completions") -> bytes:
    lines = [f"POST {target} HTTP/1.1", "host: x", "content-type: application/json", *headers]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body


def test_a_request_reaches_the_server_and_its_answer_the_user(tmp_path: Path) -> None:
    with one(tmp_path, answer("Par", "is")) as (gateway, launcher):
        said = httpx.post(gateway.chat, json=QUESTION)
        assert said.status_code == 200
        assert said.json()["choices"][0]["message"]["content"] == "Paris"
        assert launcher.server("v1").requests == [QUESTION]
        assert said.headers["x-milton-model-version"] == "v1"


def test_a_stream_is_passed_on_piece_by_piece_while_it_is_said(tmp_path: Path) -> None:
    with (
        one(tmp_path, answer("a", "b", "c", delay_s=0.2)) as (gateway, _),
        httpx.stream("POST", gateway.chat, json=STREAMED) as response,
    ):
        came = [time.monotonic() for line in response.iter_lines() if '"content": "' in line and '""' not in line]
    assert len(came) == 3
    assert min(later - earlier for earlier, later in pairwise(came)) > 0.1


def test_every_byte_of_a_stream_is_passed_on_as_it_was(tmp_path: Path) -> None:
    steps = (Raw(b"data: {\n\n"), Raw(b": a comment\r\n\r\n"), Raw(bytes(range(256))), Raw(b"x" * 300_000), Done())
    with one(tmp_path, Stream(*steps)) as (gateway, _):
        got = httpx.post(gateway.chat, json=STREAMED).content
    assert got == b"data: {\n\n: a comment\r\n\r\n" + bytes(range(256)) + b"x" * 300_000 + b"data: [DONE]\n\n"


def test_the_page_of_figures_counts_every_answer_that_has_ended(tmp_path: Path) -> None:
    with one(tmp_path, answer("yes")) as (gateway, _), httpx.Client() as client:
        for count in (1, 2, 3):
            assert client.post(gateway.chat, json=STREAMED).status_code == 200
            page = client.get(f"{gateway.base_url}/metrics").text
            assert f'milton_requests_total{{outcome="answered",status="200"}} {count}\n' in page
            (first,) = [line for line in page.splitlines() if "first_token_seconds_count" in line]
            assert first.endswith(f"}} {count}")


def test_headers_of_one_connection_stay_on_it(tmp_path: Path) -> None:
    page = Body({"ok": True}, headers={"Connection": "x-private", "X-Private": "1", "Keep-Alive": "5", "X-Public": "2"})
    with one(tmp_path, lambda _: page) as (gateway, launcher):
        head = {"Connection": "x-mine, keep-alive", "X-Mine": "1", "TE": "trailers", "Upgrade": "h2c", "X-Kept": "yes"}
        said = httpx.post(gateway.chat, json=QUESTION, headers=head)
        (exchange,) = launcher.server("v1").exchanges
    there = {name.lower() for name in exchange.headers}
    assert "x-kept" in there
    assert there.isdisjoint({"x-mine", "te", "upgrade", "connection"})
    assert exchange.headers["via"] == "1.1 milton"
    assert "x-public" in said.headers
    assert {"x-private", "keep-alive"}.isdisjoint(said.headers)


def test_a_body_in_chunks_arrives_whole(tmp_path: Path) -> None:
    body = json.dumps(QUESTION).encode()
    with one(tmp_path, answer("yes")) as (gateway, launcher):
        assert httpx.post(gateway.chat, content=iter([body[:7], body[7:]])).status_code == 200
        assert launcher.server("v1").requests == [QUESTION]


def test_several_requests_use_one_connection(tmp_path: Path) -> None:
    with one(tmp_path, answer("yes")) as (gateway, launcher), httpx.Client() as client:
        before = launcher.server("v1").connections
        for _ in range(20):
            assert client.post(gateway.chat, json=QUESTION).status_code == 200
        assert launcher.server("v1").connections - before <= 2


def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    with one(tmp_path, lambda body: answer(body["messages"][0]["content"])) as (gateway, _):
        asked = b"".join(post(json.dumps({"messages": [{"content": f"number {n}"}]}).encode()) for n in range(3))
        got = raw(gateway, asked[:-1] + asked[-1:], within_s=2)
    assert [got.index(f"number {n}".encode()) for n in range(3)] == sorted(
        got.index(f"number {n}".encode()) for n in range(3)
    )


def test_a_user_who_is_asked_to_wait_is_told_to_continue(tmp_path: Path) -> None:
    with one(tmp_path, answer("yes")) as (gateway, _):
        got = raw(gateway, post(json.dumps(QUESTION).encode(), "expect: 100-continue", "connection: close"))
    assert got.startswith(b"HTTP/1.1 100 ")
    assert b"HTTP/1.1 200 " in got


def test_an_old_user_gets_the_answer_without_chunks(tmp_path: Path) -> None:
    body = json.dumps(STREAMED).encode()
    with one(tmp_path, answer("yes")) as (gateway, _):
        got = raw(gateway, b"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    assert b"transfer-encoding" not in got.lower()
    assert got.endswith(b"data: [DONE]\n\n")


def test_when_the_user_leaves_the_work_is_cancelled(tmp_path: Path) -> None:
    forever = Stream(*(Delta("x", delay_s=0.05) for _ in range(2000)))
    with one(tmp_path, forever) as (gateway, launcher):
        with httpx.stream("POST", gateway.chat, json=STREAMED) as response:
            next(response.iter_raw())
        wait_for(lambda: [told.outcome for told in gateway.told] == [Outcome.LEFT])
        exchange = launcher.server("v1").exchanges[0]
        wait_for(lambda: len(launcher.server("v1").exchanges) == 1)
        time.sleep(0.3)
        written = len(exchange.written_at_ns)
        time.sleep(0.5)
        assert len(exchange.written_at_ns) == written < 100
        assert gateway.supervisor.serving is not None
        assert gateway.supervisor.serving.in_flight == 0


def test_when_the_user_leaves_before_the_first_token_the_work_is_cancelled(tmp_path: Path) -> None:
    with one(tmp_path, Stream(Stall())) as (gateway, _):
        connection = socket.create_connection(("127.0.0.1", gateway.port))
        connection.sendall(post(json.dumps(STREAMED).encode()))
        wait_for(lambda: gateway.gateway.in_progress == 1)
        connection.close()
        wait_for(lambda: gateway.gateway.in_progress == 0)
        assert gateway.supervisor.serving is not None
        assert gateway.supervisor.serving.in_flight == 0


def test_a_slow_reader_slows_the_server_down_and_nothing_is_kept(tmp_path: Path) -> None:
    many = Stream(*(Raw(b"y" * 100_000) for _ in range(400)))
    with one(tmp_path, many) as (gateway, launcher), socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        connection.connect(("127.0.0.1", gateway.port))
        connection.sendall(post(json.dumps(STREAMED).encode()))
        wait_for(lambda: bool(launcher.server("v1").exchanges))
        time.sleep(1.0)
        exchange = launcher.server("v1").exchanges[0]
        assert len(exchange.written_at_ns) < 200
        got = 0
        connection.settimeout(10)
        while got < 40_000_000:
            got += len(connection.recv(1 << 20))
        assert len(exchange.written_at_ns) == 400


def test_a_reader_that_takes_nothing_any_more_is_let_go(tmp_path: Path) -> None:
    many = Stream(*(Raw(b"y" * 100_000) for _ in range(400)))
    with one(tmp_path, many, Limits(stall_s=0.3)) as (gateway, _), socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.connect(("127.0.0.1", gateway.port))
        connection.sendall(post(json.dumps(STREAMED).encode()))
        wait_for(lambda: [told.outcome for told in gateway.told] == [Outcome.LEFT])


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\nhost: x\r\nx-big: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc", 400),
        (b"POST /v1/x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\nabc", 501),
        (b"GET /v1/models HTTP/1.1\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\r\nhost : x\r\n\r\n", 400),
        (b"GET /v1/../slots HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", 404),
        (b"GET /v1/%2e%2E/slots HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", 404),
        (b"GET /slots HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", 404),
        (b"POST /props HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", 404),
        (b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", 404),
        (b"GET http://x/v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", 200),
    ],
    ids=[
        "large-header",
        "two-lengths",
        "odd-coding",
        "no-host",
        "nonsense",
        "space-in-name",
        "climbs",
        "climbs-escaped",
        "servers-own-pages",
        "servers-switches",
        "connect",
        "absolute-form",
    ],
)
def test_an_odd_request_is_answered_for_what_it_is(tmp_path: Path, data: bytes, status: int) -> None:
    with one(tmp_path, answer("yes")) as (gateway, launcher):
        assert raw(gateway, data).startswith(b"HTTP/1.1 %d " % status)
        assert launcher.server("v1").requests == []


def test_a_body_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with one(tmp_path, answer("yes"), Limits(body_bytes=10_000)) as (gateway, launcher):
        said = httpx.post(gateway.chat, content=b"x" * 200_000)
        assert said.status_code == 413
        assert "larger than 10000 bytes" in said.json()["error"]["message"]
        assert launcher.server("v1").requests == []


def test_a_request_that_never_ends_is_given_up(tmp_path: Path) -> None:
    with one(tmp_path, answer("yes"), Limits(request_s=0.3, idle_s=0.3)) as (gateway, _):
        assert raw(gateway, b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nab").startswith(
            b"HTTP/1.1 408 "
        )
        assert raw(gateway, b"POST /v1/x HT").startswith(b"HTTP/1.1 408 ")
        assert raw(gateway, b"") == b""


def test_more_connections_than_the_limit_are_told_to_come_back(tmp_path: Path) -> None:
    with one(tmp_path, answer("yes"), Limits(connections=2)) as (gateway, _):
        idle = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(2)]
        said = httpx.post(gateway.chat, json=QUESTION)
        assert (said.status_code, said.headers["retry-after"]) == (503, "1")
        for connection in idle:
            connection.close()


def test_an_answer_that_the_server_cut_is_cut_for_the_user_too(tmp_path: Path) -> None:
    with one(tmp_path, Stream(Delta("Par"), Cut())) as (gateway, _):
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.post(gateway.chat, json=STREAMED)
        wait_for(lambda: [told.outcome for told in gateway.told] == [Outcome.CUT])


def test_a_request_that_was_lost_before_its_answer_is_sent_again(tmp_path: Path) -> None:
    replies = [HangUp(), answer("second time")]
    with one(tmp_path, replies) as (gateway, launcher):
        assert httpx.post(gateway.chat, json=QUESTION).json()["choices"][0]["message"]["content"] == "second time"
        assert len(launcher.server("v1").requests) == 2


def test_a_server_that_never_answers_a_request_is_not_asked_for_ever(tmp_path: Path) -> None:
    replies = [HangUp() for _ in range(20)]
    with one(tmp_path, replies) as (gateway, launcher):
        assert httpx.post(gateway.chat, json=QUESTION).status_code == 502
        assert len(launcher.server("v1").requests) <= 8


def test_an_error_of_the_servers_is_passed_on_as_it_is(tmp_path: Path) -> None:
    with one(tmp_path, lambda _: Body({"error": {"message": "too long"}}, 400)) as (gateway, _):
        said = httpx.post(gateway.chat, json=QUESTION)
        assert (said.status_code, said.json()) == (400, {"error": {"message": "too long"}})


def test_what_is_told_of_a_request_are_times_and_counts(tmp_path: Path) -> None:
    script = Stream(
        Delta("", role="assistant"),
        Delta("a", delay_s=0.2),
        Delta("b", delay_s=0.1),
        Delta("c", delay_s=0.1),
        Usage(7, 3),
        Done(),
    )
    with one(tmp_path, script) as (gateway, _):
        httpx.post(gateway.chat, json=STREAMED)
        wait_for(lambda: bool(gateway.told))
        (told,) = gateway.told
    assert (told.operation, told.model, told.status, told.outcome) == ("chat", "v1", 200, Outcome.ANSWERED)
    assert (told.input_tokens, told.output_tokens) == (7, 3)
    assert told.time_to_first_token_s is not None
    assert told.time_per_output_token_s is not None
    assert told.time_to_first_token_s >= 0.2
    assert told.time_per_output_token_s >= 0.09


def test_health_says_which_release_answers(tmp_path: Path) -> None:
    with one(tmp_path, answer("yes")) as (gateway, _):
        assert httpx.get(f"{gateway.base_url}/health").status_code == 200
        assert httpx.head(f"{gateway.base_url}/health").status_code == 200
        assert httpx.head(f"{gateway.base_url}/nowhere").status_code == 404


def test_the_metrics_page_is_served(tmp_path: Path) -> None:
    with one(tmp_path, answer("yes")) as (gateway, _):
        httpx.post(gateway.chat, json=STREAMED)
        wait_for(lambda: bool(gateway.told))
        page = httpx.get(f"{gateway.base_url}/metrics")
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "gen_ai_server_time_to_first_token_seconds_count" in page.text


CHUNKS = [b"data: a\n\n", b"", b"x" * 300, b"\r\n0\r\n\r\n", b"data: [DONE]\n\n"]


def in_chunks(pieces: list[bytes], *, trailer: bytes = b"") -> bytes:
    body = b"".join(b"%x;why=not\r\n" % len(piece) + piece + b"\r\n" for piece in pieces if piece)
    return body + b"0\r\n" + trailer + b"\r\n"


@given(st.lists(st.integers(1, 60), max_size=30), st.sampled_from([b"", b"x-sum: 1\r\n"]))
def test_a_body_in_chunks_is_followed_to_its_end_however_it_is_cut(cuts: list[int], trailer: bytes) -> None:
    raw, chunked, found, at, end = in_chunks(CHUNKS, trailer=trailer), Chunked(), [], 0, None
    for size in [*cuts, len(raw)]:
        pieces, end = chunked.pieces(raw[at : at + size] + (b"after" if at + size >= len(raw) else b""))
        found += pieces
        if end is not None:
            assert at + end == len(raw)
            break
        at += size
    assert (b"".join(found), end is not None) == (b"".join(CHUNKS), True)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_whatever_comes_instead_of_chunks_is_refused_or_followed_and_never_runs_on(raw: bytes, at: int) -> None:
    whole = in_chunks(CHUNKS)
    try:
        pieces, end = Chunked().pieces(whole[:at] + raw)
    except ValueError:
        return
    assert sum(map(len, pieces)) <= at + len(raw)
    assert end is None or end <= at + len(raw)


@pytest.mark.parametrize(
    "broken", [b"g\r\n", b"-1\r\nx", b"0x5\r\nhello\r\n", b"5\nhello\r\n", b"3\r\nhello\r\n", b" 5\r\nhello\r\n"]
)
def test_chunks_that_do_not_hold_are_refused(broken: bytes) -> None:
    """Whoever took another end for the body's would read the rest as the next answer."""
    with pytest.raises(ValueError, match="chunk"):
        Chunked().pieces(broken + b"0\r\n\r\n")
