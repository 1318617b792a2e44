"""A server whose truth is known: it streams on a schedule and logs the instants at which it really read and wrote.

    python truth_server.py --first-token-ms 50 --inter-token-ms 10 --tokens 32

What belongs here: the server, as a program of its own that needs the standard library alone. What does not: starting
it and comparing (`calibrate`, and benches/timing).

It prints its port on the first line. Each request to a path that ends in `completions` is answered by that many
tokens at absolute deadlines from the instant at which it was read; the first token's text is the request's number.
When its standard input closes (so also when whoever started it dies) it prints its log, a JSON array with a
`[read_ns, first_ns, last_ns, end_ns]` for each request, numbered from 0, and ends. The instants are those of
`time.perf_counter_ns`, after the read and before the write; unfinished requests hold null.
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
from time import perf_counter_ns as now_ns

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@dataclass
class Schedule:
    """When tokens go out after the request was read, and how many; `role_first` sends a role-only chunk at once."""

    first_token_ns: int
    inter_token_ns: int
    tokens: int
    role_first: bool = False

    def due_ns(self, read_ns: int, token: int) -> int:
        """The instant at which token number `token` is due."""
        return read_ns + self.first_token_ns + token * self.inter_token_ns


@dataclass
class Client:
    """One connection: what was received of the next request, and which token of which answer comes next."""

    socket: socket.socket
    received: bytearray = field(default_factory=bytearray)
    request: int = -1
    token: int = -1
    open: bool = True


class TruthServer:
    """One thread, one epoll, deadlines in a heap."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
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
                self._clients[connection.fileno()] = Client(connection)
                self._epoll.register(connection, select.EPOLLIN)

    def _read(self, client: Client) -> None:
        try:
            piece = client.socket.recv(1 << 16)
        except OSError:
            piece = b""
        read_ns = now_ns()
        if not piece:
            self._drop(client)
            return
        client.received += piece
        head, found, rest = client.received.partition(b"\r\n\r\n")
        if not found or len(rest) < _content_length(head):
            return
        del client.received[: len(head) + 4 + _content_length(head)]
        path = head.split(b" ", 2)[1]
        if path.endswith(b"completions"):
            self._begin(client, read_ns)
        else:
            page = {"object": "list", "data": [{"id": "truth", "object": "model"}]} if b"models" in path else {}
            body = json.dumps(page).encode()
            client.socket.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            )

    def _begin(self, client: Client, read_ns: int) -> None:
        client.request, client.token = len(self.log), 0
        self.log.append([read_ns, None, None, None])
        self._send(client, _HEAD + (_event({"role": "assistant", "content": ""}) if self._schedule.role_first else b""))
        self._push(self._schedule.due_ns(read_ns, 0), client)

    def _push(self, due_ns: int, client: Client) -> None:
        self._order += 1
        heapq.heappush(self._due, (due_ns, self._order, client))

    def _write(self, client: Client) -> None:
        if not client.open:
            return
        entry = self.log[client.request]
        event = _event({"content": f"{client.request} " if client.token == 0 else "word "})
        written_ns = now_ns()
        self._send(client, event)
        entry[2] = written_ns
        if client.token == 0:
            entry[1] = written_ns
        client.token += 1
        if client.token < self._schedule.tokens:
            self._push(self._schedule.due_ns(entry[0] or 0, client.token), client)
        else:
            tail = _tail(self._schedule.tokens)
            entry[3] = now_ns()
            self._send(client, tail)

    def _send(self, client: Client, data: bytes) -> None:
        """Send at once; whoever has gone, or does not read what it asked for, is dropped."""
        try:
            sent = client.socket.send(data)
        except OSError:
            sent = 0
        if sent < len(data):
            self._drop(client)

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
    options = parser.parse_args()
    schedule = Schedule(
        int(options.first_token_ms * 1e6), int(options.inter_token_ms * 1e6), options.tokens, options.role_first
    )
    server = TruthServer(schedule)
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    gc.disable()
    server.run()
    sys.stdout.write(json.dumps(server.log) + "\n")


if __name__ == "__main__":
    main()
