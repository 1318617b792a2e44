"""The connection: what the kernel stamps, TLS, servers that misbehave below HTTP."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from milton_assets.tiers.inference import stamps
from milton_assets.tiers.inference.clock import measuring_loop, now_ns
from milton_assets.tiers.inference.connection import Pump
from milton_assets.tiers.inference.stream import ChatStream
from milton_assets.tiers.inference.transport import Timeouts, Timing, Transport, Turnstile
from milton_assets.vocabulary.server import Endpoint

TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\ndata: [DONE]\n\n'
BODY = TOKEN + USAGE
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(BODY)


@contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as one,
    ):
        other, _ = listener.accept()
        with other:
            other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.setblocking(False)
            yield one, other


def receive_all(connection: socket.socket) -> list[stamps.Arrival]:
    found = []
    while True:
        try:
            found += stamps.receive(connection)
        except BlockingIOError:
            return found


def test_an_arrival_is_stamped_when_it_came_in_and_not_when_it_was_read() -> None:
    with connected() as (one, other):
        assert stamps.enable(one)
        time.sleep(0.05)
        begun_ns = now_ns()
        other.sendall(b"data: x\n\n")
        ended_ns = now_ns()
        time.sleep(0.5)
        (arrival,) = receive_all(one)
    assert arrival.by_kernel
    assert begun_ns - 1_000_000 <= arrival.stamp_ns <= ended_ns + 250_000_000
    assert arrival.data == b"data: x\n\n"


def test_events_that_waited_together_are_read_one_by_one() -> None:
    with connected() as (one, other):
        stamps.enable(one)
        time.sleep(0.05)  # the kernel begins to stamp a moment after the first socket of all asked for it
        begun_ns = now_ns()
        for number in range(4):
            other.sendall(b"data: %d\n\n" % number)
        ended_ns = now_ns()
        time.sleep(0.5)
        arrivals = receive_all(one)
    assert [arrival.data for arrival in arrivals] == [b"data: %d\n\n" % number for number in range(4)]
    seen = [arrival.stamp_ns for arrival in arrivals]
    assert seen == sorted(seen)
    assert begun_ns - 1_000_000 <= seen[0]
    assert seen[-1] <= ended_ns + 250_000_000


def test_an_unfinished_event_is_read_as_far_as_it_came() -> None:
    with connected() as (one, other):
        other.sendall(b"data: 1\n\r\n\r\ndata: 2")
        time.sleep(0.02)
        arrivals = receive_all(one)
    assert [arrival.data for arrival in arrivals] == [b"data: 1\n\r\n\r\n", b"data: 2"]


def test_a_peer_that_closed_is_an_arrival_of_nothing() -> None:
    with connected() as (one, other):
        other.close()
        time.sleep(0.02)
        assert [arrival.data for arrival in stamps.receive(one)] == [b""]


def test_a_departure_is_stamped_when_the_last_byte_went_out() -> None:
    with connected() as (one, _):
        stamps.enable(one)
        begun_ns = now_ns()
        one.send(b"x" * 100)
        first_ns = stamps.departure(one, 99)
        one.send(b"x" * 50)
        assert stamps.departure(one, 99) is None
        one.send(b"x" * 50)
        second_ns = stamps.departure(one, 199)
    assert first_ns is not None
    assert second_ns is not None
    assert begun_ns - 1_000_000 <= first_ns < second_ns <= now_ns()


def test_without_the_kernels_stamps_the_process_stamps() -> None:
    with connected() as (one, other):
        other.sendall(b"x")
        time.sleep(0.02)
        before_ns = now_ns()
        (arrival,) = stamps.receive(one)
        assert not arrival.by_kernel
        assert arrival.stamp_ns >= before_ns
        assert stamps.departure(one, 0) is None


def test_a_closed_socket_cannot_be_stamped() -> None:
    closed = socket.socket()
    closed.close()
    assert not stamps.enable(closed)


@pytest.mark.parametrize("offset_s", [3600, -3600])
def test_a_wall_clock_that_makes_no_sense_is_not_believed(offset_s: int) -> None:
    before_ns = now_ns()
    assert before_ns <= stamps.on_clock(time.time_ns() + offset_s * 1_000_000_000) <= now_ns()


def test_eight_requests_pass_between_two_polls_in_the_order_of_their_coming() -> None:
    passed: list[tuple[int, int]] = []

    async def run() -> None:
        turnstile, loop, polls = Turnstile(), asyncio.get_running_loop(), 0

        def polled() -> None:
            nonlocal polls
            polls += 1
            if len(passed) < 30:
                loop.call_soon(polled)

        async def pass_(number: int) -> None:
            await turnstile.passed()
            passed.append((number, polls))

        loop.call_soon(polled)
        await asyncio.gather(*map(pass_, range(30)))

    asyncio.run(run())
    assert [number for number, _ in passed] == list(range(30))
    assert max(Counter(poll for _, poll in passed).values()) == 8


def test_the_pump_parses_in_order_and_lets_the_loop_breathe() -> None:
    parsed: list[int] = []
    polls: list[int] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        pump = Pump(loop)

        def parse(stamp_ns: int, _: bytes) -> None:
            parsed.append(stamp_ns)
            until = now_ns() + 60_000
            while now_ns() < until:
                pass

        for number in range(50):
            pump.put(parse, number, b"")
        while len(parsed) < 50:
            polls.append(len(parsed))
            await asyncio.sleep(0)

    asyncio.run(run())
    assert parsed == list(range(50))
    assert len(polls) > 10


# ----------------------------------------------------------------------------------------------- servers below HTTP


@contextmanager
def raw_server(
    talk: Callable[[socket.socket], None], *, connections: int = 1, wrap: Callable[[socket.socket], Any] | None = None
) -> Iterator[int]:
    """`talk` gets each of so many connections, one after the other, in a thread."""

    def serve(listener: socket.socket) -> None:
        for _ in range(connections):
            connection, _ = listener.accept()
            connection.settimeout(10)
            with wrap(connection) if wrap else connection as ready:
                talk(ready)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield listener.getsockname()[1]
        thread.join(15)
        assert not thread.is_alive()


def read_request(connection: socket.socket) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(65536)
    return head


def post(base_url: str, *, times: int = 1, pause_s: float = 0.0, **limits: Any) -> list[tuple[Timing, ChatStream]]:
    async def run() -> list[tuple[Timing, ChatStream]]:
        found = []
        endpoint = Endpoint(base_url, "m", api_key="secret")
        async with aclosing(Transport(endpoint, Timeouts(**limits))) as transport:
            for _ in range(times):
                found.append(await transport.post("/v1/chat/completions", {"model": "m"}, ChatStream))
                await asyncio.sleep(pause_s)
        return found

    with asyncio.Runner(loop_factory=measuring_loop) as runner:
        return runner.run(run())


def test_the_request_is_one_of_http_1_1_with_the_key_and_without_compression() -> None:
    heads: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        heads.append(read_request(connection))
        connection.sendall(HEAD + BODY)

    with raw_server(talk) as port:
        ((timing, stream),) = post(f"http://127.0.0.1:{port}/prefix")
    assert stream.verdict(8, timing.failure) is None
    lines = heads[0].lower().split(b"\r\n")
    assert lines[0] == b"post /prefix/v1/chat/completions http/1.1"
    assert {b"authorization: bearer secret", b"accept-encoding: identity", b"host: 127.0.0.1:%d" % port} <= set(lines)


def test_words_that_nobody_asked_for_are_no_answer_to_the_next_request() -> None:
    talks: list[Callable[[socket.socket], None]] = []

    def first(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(HEAD + BODY)
        time.sleep(0.05)
        connection.sendall(b"HTTP/1.1 500 Too late\r\n\r\n")

    def second(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(HEAD + BODY)

    talks += [first, second]
    with raw_server(lambda connection: talks.pop(0)(connection), connections=2) as port:
        answers = post(f"http://127.0.0.1:{port}", times=2, pause_s=1.0)
    assert [stream.verdict(8, timing.failure) for timing, stream in answers] == [None, None]
    assert not answers[1][0].reconnected


def test_a_closing_that_waited_unnoticed_is_seen_before_the_connection_is_used_again() -> None:
    def talk(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(HEAD + BODY)

    async def run(port: int) -> tuple[Timing, ChatStream]:
        async with aclosing(Transport(Endpoint(f"http://127.0.0.1:{port}", "m"))) as transport:
            await transport.post("/v1/chat/completions", {}, ChatStream)
            time.sleep(0.5)  # the loop is held up while the server closes
            return await transport.post("/v1/chat/completions", {}, ChatStream)

    with raw_server(talk, connections=2) as port, asyncio.Runner(loop_factory=measuring_loop) as runner:
        timing, stream = runner.run(run(port))
    assert stream.verdict(8, timing.failure) is None
    assert not timing.reconnected


def test_an_informational_response_is_not_the_answer() -> None:
    def talk(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD + BODY)

    with raw_server(talk) as port:
        ((timing, stream),) = post(f"http://127.0.0.1:{port}")
    assert stream.verdict(8, timing.failure) is None


def test_a_body_that_ends_with_the_connection_is_whole() -> None:
    def talk(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + BODY)

    with raw_server(talk) as port:
        ((timing, stream),) = post(f"http://127.0.0.1:{port}")
    assert stream.verdict(8, timing.failure) is None


def test_a_connection_that_nobody_accepts_in_time_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        ((timing, stream),) = post(f"http://127.0.0.1:{address[1]}", connect_s=0.3)
        for filler in fillers:
            filler.close()
    failure = stream.verdict(8, timing.failure)
    assert failure is not None
    assert failure.kind == "timeout"
    assert timing.sent_ns is None


def test_a_name_without_an_address_is_refused() -> None:
    ((timing, _),) = post("http://no-such-host.invalid:1")
    assert timing.failure is not None
    assert timing.failure.kind == "refused"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, chain = folder / "key.pem", folder / "chain.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(chain)),
        ],
        check=True,
        capture_output=True,
    )
    return key, chain


def tls(certificate: tuple[Path, Path]) -> Callable[[socket.socket], Any]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate[1], certificate[0])
    return lambda connection: context.wrap_socket(connection, server_side=True)


def test_tls_is_measured_with_the_process_own_stamps(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[1]))

    def talk(connection: socket.socket) -> None:
        for _ in range(2):
            read_request(connection)
            time.sleep(0.05)
            connection.sendall(HEAD + BODY)

    with raw_server(talk, wrap=tls(certificate)) as port:
        answers = post(f"https://127.0.0.1:{port}", times=2)
    for timing, stream in answers:
        assert stream.verdict(8, timing.failure) is None
        assert timing.sent_ns is not None
        assert stream.first_token_ns is not None
        assert stream.first_token_ns - timing.sent_ns > 45_000_000


def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: tuple[Path, Path]) -> None:
    def wrap(connection: socket.socket) -> Any:
        try:
            return tls(certificate)(connection)
        except ssl.SSLError:
            return connection

    with raw_server(lambda _: None, wrap=wrap) as port:
        ((timing, _),) = post(f"https://127.0.0.1:{port}")
    assert timing.failure is not None
    assert timing.failure.kind == "refused"
