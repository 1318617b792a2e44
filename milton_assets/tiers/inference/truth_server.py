"""A server whose truth is known: it streams on a schedule and logs the instants at which it really read and wrote.

    python truth_server.py --first-token-ms 50 --inter-token-ms 10 --tokens 32

What belongs here: the server, as a program of its own that starts quickly because it needs the standard library and
`stamps` alone. What does not: starting it and comparing (`calibrate`, and benches/timing).

It prints its port on the first line. Each request to a path that ends in `completions` is answered by that many
tokens at absolute deadlines from the instant at which it arrived; the first token's text is the request's number.
When its standard input closes (so also when whoever started it dies) it prints its log, a JSON array with a
`[arrived_ns, first_ns, last_ns, end_ns]` for each request, numbered from 0, and ends. The instants are of
`time.perf_counter_ns`: when the kernel took the request in, and when it sent a token out. With `--stamps process` they
are the process's own: after its read and before its write. Unfinished requests hold null.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import heapq
import json
import os
import select
import socket
import sys
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from time import perf_counter_ns as now_ns

# From its own folder: importing the package would cost this program more than all the rest of its start.
sys.path.insert(0, str(Path(__file__).parent))
stamps = import_module("stamps")

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@dataclass
class Schedule:
    """When tokens go out after the request arrived, and how many; `role_first` sends a role-only chunk at once."""

    first_token_ns: int
    inter_token_ns: int
    tokens: int
    role_first: bool = False

    def due_ns(self, arrived_ns: int, token: int) -> int:
        """The instant at which token number `token` is due."""
        return arrived_ns + self.first_token_ns + token * self.inter_token_ns


@dataclass
class Client:
    """One connection: what was received of the next request, and which token of which answer comes next."""

    socket: socket.socket
    received: bytearray = field(default_factory=bytearray)
    request: int = -1
    token: int = -1
    sent_bytes: int = 0
    open: bool = True


class TruthServer:
    """One thread, one epoll, deadlines in a heap."""

    def __init__(self, schedule: Schedule, *, kernel_stamps: bool) -> None:
        self._schedule = schedule
        self._kernel_stamps = kernel_stamps
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._epoll.register(sys.stdin, select.EPOLLIN | select.EPOLLHUP)
        self._clients: dict[int, Client] = {}
        self._due: list[tuple[int, int, Client]] = []
        self._order = 0
        self.log: list[list[int | None]] = []

    def run(self) -> None:
        """Serve until standard input ends."""
        while True:
            for handle, _ in self._ready():
                if handle == self._listener.fileno():
                    self._accept()
                elif handle == sys.stdin.fileno():
                    if not os.read(handle, 1):
                        return
                else:
                    self._read(self._clients[handle])
            while self._due and self._due[0][0] <= now_ns():
                self._write(heapq.heappop(self._due)[2])

    def _ready(self) -> list[tuple[int, int]]:
        if not self._due:
            return self._epoll.poll()
        left_ns = self._due[0][0] - now_ns()
        if left_ns > 0:
            select.select([self._epoll], [], [], left_ns / 1e9)
        return self._epoll.poll(0)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = self._listener.accept()
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._kernel_stamps:
                    stamps.enable(connection)
                self._clients[connection.fileno()] = Client(connection)
                self._epoll.register(connection, select.EPOLLIN)

    def _read(self, client: Client) -> None:
        try:
            arrivals = stamps.receive(client.socket)
        except BlockingIOError:
            stamps.departure(client.socket, 0)  # a stamp that came late woke us, and would go on doing so
            return
        except OSError:
            self._drop(client)
            return
        arrival = arrivals[-1]
        if not arrival.data:
            self._drop(client)
            return
        for part in arrivals:
            client.received += part.data
        head, found, rest = client.received.partition(b"\r\n\r\n")
        if not found or len(rest) < _content_length(head):
            return
        del client.received[: len(head) + 4 + _content_length(head)]
        path = head.split(b" ", 2)[1]
        if path.endswith(b"completions"):
            self._begin(client, arrival.stamp_ns)
        else:
            page = {"object": "list", "data": [{"id": "truth", "object": "model"}]} if b"models" in path else {}
            body = json.dumps(page).encode()
            start = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            self._send(client, start + body)

    def _begin(self, client: Client, arrived_ns: int) -> None:
        client.request, client.token = len(self.log), 0
        self.log.append([arrived_ns, None, None, None])
        self._send(client, _HEAD + (_event({"role": "assistant", "content": ""}) if self._schedule.role_first else b""))
        self._push(self._schedule.due_ns(arrived_ns, 0), client)

    def _push(self, due_ns: int, client: Client) -> None:
        self._order += 1
        heapq.heappush(self._due, (due_ns, self._order, client))

    def _write(self, client: Client) -> None:
        if not client.open:
            return
        entry = self.log[client.request]
        event = _event({"content": f"{client.request} " if client.token == 0 else "word "})
        entry[2] = self._send(client, event)
        if client.token == 0:
            entry[1] = entry[2]
        client.token += 1
        if client.token < self._schedule.tokens:
            self._push(self._schedule.due_ns(entry[0] or 0, client.token), client)
        else:
            entry[3] = self._send(client, _tail(self._schedule.tokens))

    def _send(self, client: Client, data: bytes) -> int | None:
        """Send at once and say when it went out; whoever has gone, or does not read what it asked for, is dropped."""
        begun_ns = now_ns()
        try:
            sent = client.socket.send(data)
        except OSError:
            sent = 0
        client.sent_bytes += sent
        if sent < len(data):
            self._drop(client)
            return None
        if not self._kernel_stamps:
            return begun_ns
        left_ns: int | None = stamps.departure(client.socket, client.sent_bytes - 1)
        return begun_ns if left_ns is None else left_ns

    def _drop(self, client: Client) -> None:
        if not client.open:
            return
        client.open = False
        self._clients.pop(client.socket.fileno(), None)
        client.socket.close()


def _content_length(head: bytearray) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def _event(delta: dict[str, str]) -> bytes:
    return _chunk({"index": 0, "delta": delta, "finish_reason": None})


def _chunk(choice: dict[str, object] | None, **extra: object) -> bytes:
    chunk = {
        "id": "chatcmpl-truth",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "truth",
        "choices": [choice] if choice else [],
        **extra,
    }
    return _framed(b"data: " + json.dumps(chunk).encode() + b"\n\n")


def _tail(tokens: int) -> bytes:
    usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
    finish = _chunk({"index": 0, "delta": {}, "finish_reason": "stop"})
    return finish + _chunk(None, usage=usage) + _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def main() -> None:
    """Read the schedule from the arguments, serve, print the log."""
    parser = argparse.ArgumentParser(description="Stream on a known schedule and log the true instants.")
    parser.add_argument("--first-token-ms", type=float, default=50.0)
    parser.add_argument("--inter-token-ms", type=float, default=10.0)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--role-first", action="store_true")
    parser.add_argument("--stamps", choices=("kernel", "process"), default="kernel")
    options = parser.parse_args()
    schedule = Schedule(
        int(options.first_token_ms * 1e6), int(options.inter_token_ms * 1e6), options.tokens, options.role_first
    )
    server = TruthServer(schedule, kernel_stamps=options.stamps == "kernel")
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    gc.disable()
    server.run()
    sys.stdout.write(json.dumps(server.log) + "\n")


if __name__ == "__main__":
    main()
