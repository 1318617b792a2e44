"""A real HTTP server on loopback that answers as a script says: slowly, wrongly, half, or not at all.

What belongs here: an OpenAI-compatible server whose every byte and delay a test decides. What does not: assertions,
and anything of the product's.

    with scripted_server(answer("Par", "is", first_delay_s=0.05, delay_s=0.01)) as server:
        endpoint = Endpoint(server.base_url, "scripted")

    with scripted_server([Status(500), answer("Paris")]) as server: ...          # one reply a request, in order
    with scripted_server(lambda body: answer(body["messages"][-1]["content"])) as server: ...
    with scripted_server(Stream(Delta("Par"), Cut())) as server: ...             # step by step

`server.requests` are the parsed bodies of the POST requests in order of arrival; `server.exchanges` also hold path,
headers and the monotonic instants (`time.perf_counter_ns`) at which the request was read and each step written.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# ---------------------------------------------------------------------------------------------- steps of a stream


@dataclass(frozen=True)
class Delta:
    """One `chat.completion.chunk`, sent `delay_s` after the step before it. What is None is absent from the delta."""

    content: str | None = None
    delay_s: float = 0.0
    reasoning: str | None = None
    role: str | None = None
    finish_reason: str | None = None
    top_logprobs: Mapping[str, float] | None = None
    reasoning_key: str = "reasoning_content"


@dataclass(frozen=True)
class Usage:
    """The closing chunk with empty `choices` and the token counts; `cached_tokens` only when it is a number."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None
    delay_s: float = 0.0


@dataclass(frozen=True)
class StreamError:
    """An `error` object inside a stream whose status was 200."""

    message: str = "the model ran out of memory"
    code: int = 500
    delay_s: float = 0.0


@dataclass(frozen=True)
class Done:
    """`data: [DONE]`."""

    delay_s: float = 0.0


@dataclass(frozen=True)
class Raw:
    """These very bytes, in one write."""

    data: bytes
    delay_s: float = 0.0


@dataclass(frozen=True)
class Cut:
    """Close the connection without ending the body; with `reset`, by a TCP reset."""

    reset: bool = False
    delay_s: float = 0.0


@dataclass(frozen=True)
class Stall:
    """Say nothing more, with the connection open, until the server stops (or for `seconds`)."""

    seconds: float = 3600.0


Step = Delta | Usage | StreamError | Done | Raw | Cut | Stall

# --------------------------------------------------------------------------------------------------------- replies


class Stream:
    """A reply with status 200 whose body is sent step by step, each step in one write of one HTTP chunk.

    `header_delay_s` passes before the status line; delays of steps count on from there, against absolute deadlines,
    so that they do not drift.
    """

    def __init__(
        self,
        *steps: Step,
        status: int = 200,
        content_type: str = "text/event-stream",
        header_delay_s: float = 0.0,
    ) -> None:
        self.steps = steps
        self.status = status
        self.content_type = content_type
        self.header_delay_s = header_delay_s


@dataclass(frozen=True)
class Body:
    """A reply in one piece. `body` is sent as JSON unless it is bytes or text."""

    body: Any = None
    status: int = 200
    content_type: str = "application/json"
    delay_s: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)


def Status(status: int, message: str = "scripted failure", delay_s: float = 0.0) -> Body:
    """An HTTP error with an OpenAI-like `error` object."""
    return Body({"error": {"message": message, "code": status, "type": "server_error"}}, status, delay_s=delay_s)


@dataclass(frozen=True)
class HangUp:
    """Read the request and close the connection without a byte of answer; with `reset`, by a TCP reset."""

    reset: bool = False
    delay_s: float = 0.0


@dataclass(frozen=True)
class Silence:
    """Read the request and never answer, until the server stops."""


@dataclass(frozen=True)
class Answer:
    """A good answer, streamed or not as the request asks. Made by `answer`."""

    pieces: tuple[str, ...]
    reasoning: tuple[str, ...] = ()
    first_delay_s: float = 0.0
    delay_s: float = 0.0
    role_first: bool = True
    usage: bool = True
    prompt_tokens: int = 7
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    finish_reason: str | None = "stop"
    top_logprobs: Mapping[str, float] | None = None
    done: bool = True

    @property
    def _completion_tokens(self) -> int:
        counted = len(self.reasoning) + len(self.pieces)
        return counted if self.completion_tokens is None else self.completion_tokens

    def steps(self, *, include_usage: bool = True) -> tuple[Step, ...]:
        """The stream: an empty role chunk at once, then a chunk a piece, the finish reason, usage, `[DONE]`."""
        steps: list[Step] = [Delta("", role="assistant")] if self.role_first else []
        said = [Delta(reasoning=text) for text in self.reasoning] + [Delta(text) for text in self.pieces]
        for index, delta in enumerate(said):
            delay = self.delay_s if index else self.first_delay_s
            logprobs = self.top_logprobs if delta.content is not None else None
            steps.append(Delta(delta.content, delay, delta.reasoning, top_logprobs=logprobs))
        if self.finish_reason is not None:
            steps.append(Delta(finish_reason=self.finish_reason))
        if self.usage and include_usage:
            steps.append(Usage(self.prompt_tokens, self._completion_tokens, self.cached_tokens))
        if self.done:
            steps.append(Done())
        return tuple(steps)

    def as_stream(self, body: Mapping[str, Any]) -> Stream:
        """The streamed form; usage is sent only when `stream_options.include_usage` asks for it, as servers do."""
        options = body.get("stream_options") or {}
        return Stream(*self.steps(include_usage=bool(options.get("include_usage"))))

    def as_body(self, body: Mapping[str, Any]) -> Body:
        """The form in one piece, after all the delays a stream would have had."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.pieces)}
        if self.reasoning:
            message["reasoning_content"] = "".join(self.reasoning)
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        if self.top_logprobs is not None:
            choice["logprobs"] = _logprobs(self.top_logprobs)
        reply: dict[str, Any] = {
            "id": "chatcmpl-scripted",
            "object": "chat.completion",
            "model": body.get("model", "scripted"),
            "choices": [choice],
        }
        if self.usage:
            reply["usage"] = _usage(self.prompt_tokens, self._completion_tokens, self.cached_tokens)
        waits = max(len(self.reasoning) + len(self.pieces) - 1, 0)
        return Body(reply, delay_s=self.first_delay_s + self.delay_s * waits)


def answer(*pieces: str, **options: Any) -> Answer:
    """A good answer in these pieces, a chunk each. Options: the fields of `Answer`.

    `completion_tokens` is the number of pieces unless given, so several tokens a chunk are
    `answer("Paris is", " big", completion_tokens=5)`.
    """
    return Answer(pieces, **options)


Reply = Stream | Body | HangUp | Silence | Answer
Handler = Callable[[dict[str, Any]], Reply | str]


class InFlight:
    """A handler that gives `reply` after a pause, and knows the `most` requests that were with it at once."""

    def __init__(self, reply: Reply, pause_s: float) -> None:
        self.most = 0
        self._reply, self._pause_s = reply, pause_s
        self._now, self._lock = 0, threading.Lock()

    def __call__(self, _: dict[str, Any]) -> Reply:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(self._pause_s)
        with self._lock:
            self._now -= 1
        return self._reply


def one_at_a_time(work_s: float) -> Handler:
    """A server with one desk: it works that long on each request, and whoever comes second waits."""
    desk = threading.Lock()

    def reply(_: dict[str, Any]) -> Reply:
        with desk:
            time.sleep(work_s)
        return answer("a", "b")

    return reply


class KeepAlive(Enum):
    """What the server does with a connection after an answer."""

    KEEP = "keep"
    """Keep it open, as HTTP/1.1 promises."""
    CLOSE_AFTER_ANSWER = "close after answer"
    """Close it after each answer without having said so."""
    CLOSE_ON_NEXT_REQUEST = "close on next request"
    """Keep it open, read the next request on it, and close it without a byte: the race a client cannot see coming."""


# ---------------------------------------------------------------------------------------------------------- server


@dataclass
class Exchange:
    """One request as it arrived and when it was answered, in `time.perf_counter_ns` nanoseconds."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    read_at_ns: int
    written_at_ns: list[int] = field(default_factory=list)


@dataclass
class ScriptedServer:
    """A running server. `connections` counts the TCP connections it accepted."""

    base_url: str
    exchanges: list[Exchange] = field(default_factory=list)
    connections: int = 0

    @property
    def requests(self) -> list[Any]:
        """The parsed bodies of the POST requests that it answered or refused, in order of arrival."""
        return [exchange.body for exchange in self.exchanges if exchange.method == "POST"]

    @property
    def port(self) -> int:
        """The TCP port."""
        return int(self.base_url.rpartition(":")[2])


@contextmanager
def scripted_server(
    script: Reply | str | Sequence[Reply | str] | Handler = Answer(("ok",)),
    *,
    models: Sequence[str] = ("scripted",),
    pages: Mapping[str, Any] | None = None,
    posts: Mapping[str, Reply | Handler] | None = None,
    keep_alive: KeepAlive = KeepAlive.KEEP,
    tls: ssl.SSLContext | None = None,
    address: str = "127.0.0.1",
) -> Iterator[ScriptedServer]:
    """Serve on that address and a free port, a thread a connection, until the block ends.

    `script` answers every POST to `…/chat/completions`: one reply for all, a sequence with one a request (a request
    beyond its end gets status 599), or a callable that is given the parsed body. A plain text is `answer(text)`.
    `posts` answers other POST paths, e.g. `/v1/embeddings`. GET answers `/health` (`{"status": "ok"}`), `/v1/models`
    (from `models`) and what `pages` adds or replaces: a reply, a value sent as JSON, or a callable that gives either;
    everything else is 404. With `tls` it speaks https.
    """
    gets: dict[str, Any] = {
        "/health": {"status": "ok"},
        "/v1/models": {"object": "list", "data": [{"id": name, "object": "model"} for name in models]},
    } | dict(pages or {})
    handlers: dict[str, Handler] = {"/v1/chat/completions": _handler(script)}
    handlers |= {path: _handler(reply) for path, reply in (posts or {}).items()}
    listener = _Listener(gets, handlers, keep_alive, tls, address)
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,), name="scripted-server", daemon=True)
    thread.start()
    try:
        yield listener.server
    finally:
        listener.stopping.set()
        listener.shutdown()
        thread.join()
        listener.hang_up()
        listener.server_close()


def _handler(script: Reply | str | Sequence[Reply | str] | Handler) -> Handler:
    if callable(script):
        return script
    if isinstance(script, Sequence) and not isinstance(script, str):
        rest, lock = iter(script), threading.Lock()

        def in_order(_: dict[str, Any]) -> Reply | str:
            with lock:
                return next(rest, Status(599, "the script has no reply left"))

        return in_order
    return lambda _: script


class _Listener(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True

    def __init__(
        self,
        gets: Mapping[str, Any],
        posts: Mapping[str, Handler],
        keep_alive: KeepAlive,
        tls: ssl.SSLContext | None,
        address: str,
    ) -> None:
        super().__init__((address, 0), _Connection)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.gets = gets
        self.posts = posts
        self.keep_alive = keep_alive
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.open: set[socket.socket] = set()
        self.server = ScriptedServer(f"{'https' if tls else 'http'}://{address}:{self.server_address[1]}")

    def hang_up(self) -> None:
        """Close what clients left open, so that no thread stays behind."""
        with self.lock:
            for connection in self.open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is its own business; the test sees it from the other end."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener
    answered = 0

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.open.add(self.connection)
            self.server.server.connections += 1

    def finish(self) -> None:
        with self.server.lock:
            self.server.open.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: tests read `exchanges`."""

    def do_GET(self) -> None:
        self._note(None)
        page = self.server.gets.get(self.path)
        if callable(page):
            page = page()
        if page is None:
            page = Status(404, f"no page {self.path}")
        self._send(page if isinstance(page, Stream | Body | HangUp | Silence) else Body(page), {})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = json.loads(raw)
        except ValueError:
            body = raw
        if self.answered and self.server.keep_alive is KeepAlive.CLOSE_ON_NEXT_REQUEST:
            self.close_connection = True
            return
        self._note(body)
        handler = self.server.posts.get(self.path)
        if handler is None:
            reply: Reply | str = Status(404, f"no path {self.path}")
        elif not isinstance(body, dict):
            reply = Status(400, "the body is not a JSON object")
        else:
            reply = handler(body)
        if isinstance(reply, str):
            reply = answer(reply)
        if isinstance(reply, Answer):
            reply = reply.as_stream(body) if body.get("stream") else reply.as_body(body)
        self._send(reply, body)
        self.answered += 1
        if self.server.keep_alive is KeepAlive.CLOSE_AFTER_ANSWER:
            self.close_connection = True

    def _note(self, body: Any) -> None:
        self.due = time.perf_counter()
        exchange = Exchange(self.command, self.path, dict(self.headers), body, time.perf_counter_ns())
        self.exchange = exchange
        with self.server.lock:
            self.server.server.exchanges.append(exchange)

    def _wait(self, delay_s: float) -> bool:
        """Wait until `delay_s` after the last deadline; false when the server is stopping."""
        self.due += delay_s
        left = self.due - time.perf_counter()
        return not (self.server.stopping.wait(left) if left > 0 else self.server.stopping.is_set())

    def _write(self, data: bytes) -> None:
        self.wfile.write(data)
        self.exchange.written_at_ns.append(time.perf_counter_ns())

    def _send(self, reply: Reply, body: Mapping[str, Any]) -> None:
        if isinstance(reply, Silence):
            self._wait(Stall().seconds)
            self.close_connection = True
        elif isinstance(reply, HangUp):
            self._wait(reply.delay_s)
            self._hang_up(reply.reset)
        elif isinstance(reply, Stream):
            self._stream(reply, body)
        elif isinstance(reply, Body):
            self._whole(reply)
        else:
            raise TypeError(f"{reply!r} is no reply")

    def _whole(self, reply: Body) -> None:
        content = reply.body
        if isinstance(content, str):
            content = content.encode()
        elif not isinstance(content, bytes):
            content = json.dumps(content).encode()
        if not self._wait(reply.delay_s):
            self.close_connection = True
            return
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(content)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self._write(content)

    def _stream(self, reply: Stream, body: Mapping[str, Any]) -> None:
        if not self._wait(reply.header_delay_s):
            self.close_connection = True
            return
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for step in reply.steps:
            delay = step.seconds if isinstance(step, Stall) else step.delay_s
            if not self._wait(delay):
                self.close_connection = True
                return
            if isinstance(step, Cut):
                self._hang_up(step.reset)
                return
            if not isinstance(step, Stall):
                data = _step_bytes(step, body)
                self._write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")

    def _hang_up(self, reset: bool) -> None:
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


def _step_bytes(step: Delta | Usage | StreamError | Done | Raw, body: Mapping[str, Any]) -> bytes:
    if isinstance(step, Raw):
        return step.data
    if isinstance(step, Done):
        return b"data: [DONE]\n\n"
    if isinstance(step, StreamError):
        return _event({"error": {"message": step.message, "code": step.code, "type": "server_error"}})
    chunk: dict[str, Any] = {
        "id": "chatcmpl-scripted",
        "object": "chat.completion.chunk",
        "model": body.get("model", "scripted"),
    }
    if isinstance(step, Usage):
        usage = _usage(step.prompt_tokens, step.completion_tokens, step.cached_tokens)
        return _event(chunk | {"choices": [], "usage": usage})
    delta = {"role": step.role, "content": step.content, step.reasoning_key: step.reasoning}
    choice: dict[str, Any] = {
        "index": 0,
        "delta": {key: value for key, value in delta.items() if value is not None},
        "finish_reason": step.finish_reason,
    }
    if step.top_logprobs is not None:
        choice["logprobs"] = _logprobs(step.top_logprobs)
    return _event(chunk | {"choices": [choice]})


def _event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _usage(prompt_tokens: int, completion_tokens: int, cached_tokens: int | None) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    if cached_tokens is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": cached_tokens}
    return usage


def _logprobs(alternatives: Mapping[str, float]) -> dict[str, Any]:
    """One token's alternatives, most likely first, in OpenAI's form."""
    ranked = sorted(alternatives.items(), key=lambda pair: -pair[1])
    top = [{"token": token, "logprob": logprob, "bytes": list(token.encode())} for token, logprob in ranked]
    return {"content": [top[0] | {"top_logprobs": top}] if top else []}
