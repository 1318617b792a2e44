"""A do-nothing forwarder: bytes from one TCP connection to another, unread. Run by `bench_serving.py`.

    python forwarder.py HOST PORT [uvloop]

The least that anything in Python between two sockets costs: a connection to the server for each of a user's, kept as
long as that is, asyncio's protocols on both sides with one buffer to receive into, no HTTP; with `uvloop`, on that
loop. It prints where it listens, as the gateway does.
"""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from typing import cast

BUFFER = memoryview(bytearray(64 << 10))


class End(asyncio.BufferedProtocol):
    """One end of a pair; what arrives at it is written to the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: End | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def get_buffer(self, sizehint: int) -> memoryview:
        """See `asyncio.BufferedProtocol`."""
        return BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """See `asyncio.BufferedProtocol`."""
        self.pass_on(bytes(BUFFER[:nbytes]))

    def pass_on(self, data: bytes) -> None:
        """Write to the other end what came."""
        if self.other is None or self.other.transport is None:
            self._early.append(data)
        else:
            self.other.transport.write(data)

    def join(self, other: End) -> None:
        """Write to `other` from now on, and what arrived before."""
        self.other = other
        for data in self._early:
            self.pass_on(data)
        self._early.clear()

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


async def forward(host: str, port: int) -> None:
    """Forward to that address until cancelled."""
    loop = asyncio.get_running_loop()
    joining = set()

    async def join(user: End) -> None:
        _, server = await loop.create_connection(End, host, port)
        user.join(server)
        server.join(user)

    class User(End):
        """A user's end, joined to a new one of the server's."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            """See `asyncio.Protocol`."""
            super().connection_made(transport)
            task = loop.create_task(join(self))
            joining.add(task)
            task.add_done_callback(joining.discard)

    server = await loop.create_server(User, "127.0.0.1", 0, backlog=512)
    where = server.sockets[0].getsockname()
    print(f"listening at http://{where[0]}:{where[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(
        loop_factory=import_module("uvloop").new_event_loop if "uvloop" in sys.argv[3:] else None
    ) as runner:
        runner.run(forward(sys.argv[1], int(sys.argv[2])))
