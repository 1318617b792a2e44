"""One pass over a file: read once, digested and written from the same bytes, in flat memory.

What belongs here: the pump that hands each chunk to several sinks, and the sinks (whole-file digest, digest per
tensor). What does not: which file, and what the digests are compared with.

SHA-256 is the slowest part of making a bundle, so it gets a thread of its own; hashlib and BLAKE3 let other threads
run while they work. What is written is the very buffer that was digested: a source that changes during the copy
cannot yield a copy that differs from its digest.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

from blake3 import blake3

CHUNK_BYTES = 1 << 20
CHUNKS_IN_FLIGHT = 8

Sink = Callable[[memoryview], object]
OnBytes = Callable[[int], None]


def ignore_bytes(_: int) -> None:
    """For callers that do not want to know how far the pass is."""


def pump(
    source: int, *, here: Sequence[Sink] = (), apart: Sequence[Sink] = (), on_bytes: OnBytes = ignore_bytes
) -> int:
    """Read `source` to its end, handing every chunk in order to each sink; return the number of bytes.

    Sinks in `here` run in the calling thread, those in `apart` in a thread each, at the same time. `on_bytes` is told
    the bytes done so far. Memory stays at `CHUNKS_IN_FLIGHT` MiB, and at one without threads. The first error of any
    sink is raised again here.
    """
    buffers = _Buffers(CHUNKS_IN_FLIGHT if apart else 1)
    workers = [_Worker(sink, buffers) for sink in apart]
    for worker in workers:
        worker.start()
    done = 0
    try:
        while True:
            chunk = buffers.take()
            count = os.readv(source, [chunk.buffer])
            if not count or any(worker.error for worker in workers):
                break
            view = chunk.fill(count, users=len(workers) + 1)
            for worker in workers:
                worker.queue.put(chunk)
            for sink in here:
                sink(view)
            buffers.give_back(chunk)
            done += count
            on_bytes(done)
    finally:
        for worker in workers:
            worker.queue.put(None)
        for worker in workers:
            worker.join()
    for worker in workers:
        if worker.error is not None:
            raise worker.error
    return done


class _Chunk:
    """A buffer and how many still use it."""

    def __init__(self) -> None:
        self.buffer = mmap.mmap(-1, CHUNK_BYTES)  # aligned to a page, as a write past the page cache needs it
        self.view = memoryview(self.buffer)
        self._users = 0
        self._lock = threading.Lock()

    def fill(self, count: int, users: int) -> memoryview:
        self._users = users
        self.view = memoryview(self.buffer)[:count]
        return self.view

    def let_go(self) -> bool:
        """Whether that was the last user."""
        with self._lock:
            self._users -= 1
            return self._users == 0


class _Buffers:
    """At most `most` chunks, made as they are needed; whoever wants one more waits."""

    def __init__(self, most: int) -> None:
        self._left_to_make = most
        self._free: SimpleQueue[_Chunk] = SimpleQueue()

    def take(self) -> _Chunk:
        if self._left_to_make and self._free.empty():
            self._left_to_make -= 1
            return _Chunk()
        return self._free.get()

    def give_back(self, chunk: _Chunk) -> None:
        if chunk.let_go():
            self._free.put(chunk)


class _Worker(threading.Thread):
    """Feeds one sink. After an error it goes on taking chunks, so that nobody waits for it for ever."""

    def __init__(self, sink: Sink, buffers: _Buffers) -> None:
        super().__init__(daemon=True)
        self.queue: SimpleQueue[_Chunk | None] = SimpleQueue()
        self.error: BaseException | None = None
        self._sink = sink
        self._buffers = buffers

    def run(self) -> None:
        while (chunk := self.queue.get()) is not None:
            if self.error is None:
                try:
                    self._sink(chunk.view)
                except BaseException as error:  # noqa: BLE001 - handed to the thread that called `pump`
                    self.error = error
            self._buffers.give_back(chunk)


@dataclass(frozen=True)
class Region:
    """Bytes `start` to `end` (exclusive) of a file."""

    start: int
    end: int


@dataclass
class RegionDigests:
    """A sink that takes a BLAKE3 of each region, and one of everything outside them.

    `regions` are sorted and do not overlap; `finish` gives the digests in that order and the rest's.
    """

    regions: Sequence[Region]
    _digests: list[str] = field(default_factory=list, init=False)
    _position: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._rest = blake3()
        self._inside = blake3()

    def __call__(self, view: memoryview) -> None:
        """Take the next bytes of the file."""
        while view:
            self._close_finished()
            region = self._region()
            if region is None:
                take, digest = len(view), self._rest
            elif self._position < region.start:
                take, digest = region.start - self._position, self._rest
            else:
                take, digest = region.end - self._position, self._inside
            digest.update(view[:take])
            self._position += min(take, len(view))
            view = view[take:]

    def finish(self) -> tuple[list[str], str]:
        """`(digest per region, digest of the rest)`. Raises `ValueError` when the file ended inside a region."""
        self._close_finished()
        if len(self._digests) != len(self.regions):
            raise ValueError(f"the file ended at byte {self._position}, before its last region")
        return self._digests, self._rest.hexdigest()

    def _region(self) -> Region | None:
        index = len(self._digests)
        return self.regions[index] if index < len(self.regions) else None

    def _close_finished(self) -> None:
        while (region := self._region()) is not None and self._position >= region.end:
            self._digests.append(self._inside.hexdigest())
            self._inside = blake3()


def digest_descriptor(source: int, *, on_bytes: OnBytes = ignore_bytes) -> tuple[int, str]:
    """`(size, SHA-256)` of what is left to read of `source`."""
    digest = hashlib.sha256()
    return pump(source, here=[digest.update], on_bytes=on_bytes), digest.hexdigest()
