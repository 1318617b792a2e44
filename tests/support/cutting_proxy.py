"""A TCP proxy that is slow, and cuts its connections: a link that fails.

What belongs here: forwarding at a rate with a delay, and cutting after so many bytes. What does not: assertions.

What it holds back is what a link and its buffers hold: what was taken from one side and not yet given to the other is
lost when it cuts.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable


class CuttingProxy:
    """Listens on `port` and forwards to `to`: `bytes_per_s` towards the device, each byte `delay_s` late, both ways.

    Of the bytes that went towards the device, whenever one of `cut_at` is reached, every connection is cut.
    """

    def __init__(self, to: int, *, bytes_per_s: float = 1e9, delay_s: float = 0.0, cut_at: Iterable[int] = ()) -> None:
        self.to = to
        self.bytes_per_s = bytes_per_s
        self.delay_s = delay_s
        self.taken_bytes = 0
        self.forwarded_bytes = 0
        self.cuts = 0
        self._cut_at = deque(sorted(cut_at))
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._ended = False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End it and its connections."""
        self._ended = True
        self._server.close()

    def _accept(self) -> None:
        while not self._ended:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        # Small buffers: what waits here is the link's, and not the kernel's.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        try:
            device = socket.create_connection(("127.0.0.1", self.to))
        except OSError:
            client.close()
            return
        with client, device, selectors.DefaultSelector() as selector:
            queues: dict[socket.socket, deque[tuple[float, bytes]]] = {client: deque(), device: deque()}
            free_at = dict.fromkeys(queues, 0.0)
            for side in queues:
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(side, selectors.EVENT_READ)
            while not self._ended:
                for key, _ in selector.select(0.002):
                    source = key.fileobj
                    assert isinstance(source, socket.socket)
                    sink = device if source is client else client
                    if sum(len(raw) for _, raw in queues[sink]) > 1 << 20:
                        continue
                    try:
                        raw = source.recv(16 << 10)
                    except OSError:
                        return
                    if not raw:
                        return
                    rate = self.bytes_per_s if sink is device else 1e9
                    begins = max(time.monotonic(), free_at[sink])
                    free_at[sink] = begins + len(raw) / rate
                    queues[sink].append((free_at[sink] + self.delay_s, raw))
                    self.taken_bytes += len(raw) if sink is device else 0
                for sink, queue in queues.items():
                    while queue and queue[0][0] <= time.monotonic():
                        raw = queue.popleft()[1]
                        with contextlib.suppress(OSError):
                            sink.sendall(raw)
                        if sink is device:
                            self.forwarded_bytes += len(raw)
                            if self._cut_at and self.forwarded_bytes >= self._cut_at[0]:
                                self._cut_at.popleft()
                                self.cuts += 1
                                return
