"""Taking bytes from sockets: into a buffer that is there, one for all connections of a loop.

What belongs here: how bytes come from the kernel to a protocol's `take`. What does not: what they mean.

asyncio's usual protocols get each piece as a new object, for which 256 KiB are asked of the system and given back,
however few bytes come: that takes four times as long as to take a token's bytes from the kernel (docs/adr/0256).
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod

_BUFFER_BYTES = 64 << 10


def receive_buffer() -> memoryview:
    """A buffer for the connections of one loop."""
    return memoryview(bytearray(_BUFFER_BYTES))


class Receiver(asyncio.BufferedProtocol):
    """A connection whose bytes are given to `take`.

    `buffer` may be shared with others of the same loop: what lies in it is taken out before another is asked.
    """

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer

    def get_buffer(self, sizehint: int) -> memoryview:
        """See `asyncio.BufferedProtocol`."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """See `asyncio.BufferedProtocol`."""
        self.take(bytes(self._buffer[:nbytes]))

    @abstractmethod
    def take(self, data: bytes) -> None:
        """These bytes came."""
