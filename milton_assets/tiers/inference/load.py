"""When requests are sent: a fixed number in flight, or arrivals that wait for nobody.

What belongs here: the schedule of one round, the part that one process of several has in it, and how long requests
waited for the client. What does not: what is sent (`sample`) and how (`transport`).

Several processes keep one schedule. Of a closed load each has its share of the streams, and all take the next request
from one counter, as the streams of one process do. Of an open load, arrival k is process k mod n's, at its own instant.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from milton_assets.tiers.inference.clock import now_ns, sleep_until
from milton_assets.tiers.inference.plan import ClosedLoad, OpenLoad
from milton_assets.tiers.inference.sample import Ask
from milton_assets.tiers.inference.transport import Timing

_LEAD_NS = 20_000_000
SendOne = Callable[[Ask, int | None], Awaitable[Timing | None]]
"""Makes one request and gives its instants; None where it was not begun."""


@dataclass(frozen=True)
class Part:
    """What one process of several does of every round: its number, from 0, and how many there are."""

    index: int = 0
    of: int = 1

    def streams(self, concurrency: int, requests: int) -> int:
        """How many requests it has in flight at once."""
        return len(range(self.index, min(concurrency, requests), self.of))

    def arrivals(self, requests: int) -> range:
        """The numbers of the requests that it makes of an open load."""
        return range(self.index, requests, self.of)


WHOLE = Part()


@dataclass
class Waited:
    """How long requests that should have been out waited for the client, of how long in all, in ns over all streams."""

    waited_ns: int = 0
    of_ns: int = 0
    requests: int = 0

    def add(self, other: Waited) -> None:
        """Count what was waited in another round."""
        self.waited_ns += other.waited_ns
        self.of_ns += other.of_ns
        self.requests += other.requests

    @property
    def share(self) -> float:
        """The share of throughput that was lost to it."""
        return self.waited_ns / self.of_ns if self.of_ns else 0.0

    @property
    def mean_ms(self) -> float:
        """How long a request waited."""
        return self.waited_ns / self.requests / 1e6 if self.requests else 0.0


def turns_of(count: int) -> Iterator[int]:
    """The numbers of a round's requests, each to be begun by whoever takes it."""
    return iter(range(count))


def shared_turns(counter: int, count: int) -> Iterator[int]:
    """The same, shared with other processes that hold the same open file `counter`: its offset is the next number.

    The kernel moves the offset of an open file for one caller at a time, whichever process that is.
    """
    while (number := os.lseek(counter, 1, os.SEEK_CUR) - 1) < count:
        yield number


async def run_round(
    load: ClosedLoad | OpenLoad,
    asks: Sequence[Ask],
    send: SendOne,
    *,
    seed: int,
    start_ns: int,
    turns: Iterator[int],
    part: Part = WHOLE,
) -> Waited:
    """Have `send(ask, due_ns)` called for every ask of this part, under the load. `due_ns` is None when it is closed.

    Under an open load a request is begun a little early, so that it holds a connection when it is due. The first
    arrival is two such leads after `start_ns`, which all processes share; `turns` are those of a closed load.
    """
    if isinstance(load, ClosedLoad):
        return await _closed(part.streams(load.concurrency, len(asks)), asks, turns, send, start_ns)
    return await _open(load, asks, part, send, seed, start_ns)


async def _closed(streams: int, asks: Sequence[Ask], turns: Iterator[int], send: SendOne, start_ns: int) -> Waited:
    """A stream waits from the end of an answer until the next request is out, what a connection takes aside."""
    waited = Waited()
    last_ns = start_ns

    async def stream() -> None:
        nonlocal last_ns
        free_ns = start_ns
        for number in turns:
            timing = await send(asks[number], None)
            if timing is None:
                continue
            # A request that failed ended when the client gave it up.
            ended_ns = now_ns() if timing.failure or timing.ended_ns is None else timing.ended_ns
            if timing.sent_ns is not None:
                waited.waited_ns += max(timing.sent_ns - free_ns - timing.connecting_ns, 0)
            waited.of_ns += max(ended_ns - free_ns, 0)
            waited.requests += 1
            free_ns = ended_ns
            last_ns = max(last_ns, ended_ns)

    async with asyncio.TaskGroup() as group:
        for _ in range(streams):
            group.create_task(stream())
    if waited.requests:
        # The round ends when the client has read its last answer to the end, which every stream waits for.
        reading_ns = streams * (now_ns() - last_ns)
        waited.waited_ns += reading_ns
        waited.of_ns += reading_ns
    return waited


async def _open(load: OpenLoad, asks: Sequence[Ask], part: Part, send: SendOne, seed: int, start_ns: int) -> Waited:
    """Arrivals that are late by ever more stretch the round by twice what they are late on average."""
    first_ns = start_ns + 2 * _LEAD_NS
    offsets_s = arrival_offsets_s(load, len(asks), seed)
    lags_ns: list[int] = []

    async def send_at(ask: Ask, due_ns: int) -> None:
        timing = await send(ask, due_ns)
        if timing is not None and timing.sent_ns is not None and timing.due_ns is not None:
            lags_ns.append(max(timing.sent_ns - timing.due_ns, 0))

    async with asyncio.TaskGroup() as group:
        for number in part.arrivals(len(asks)):
            due_ns = first_ns + int(offsets_s[number] * 1e9)
            await sleep_until(due_ns - _LEAD_NS)
            group.create_task(send_at(asks[number], due_ns))
    lasted_ns = now_ns() - start_ns
    return Waited(2 * sum(lags_ns), len(lags_ns) * lasted_ns, len(lags_ns))


def arrival_offsets_s(load: OpenLoad, n: int, seed: int) -> list[float]:
    """The first `n` arrivals in seconds from the start, the first at 0; the same for the same seed."""
    if load.arrivals == "constant":
        return [index / load.rate_per_s for index in range(n)]
    draw = random.Random(seed)  # noqa: S311 (a schedule, not a secret)
    offsets = [0.0]
    while len(offsets) < n:
        offsets.append(offsets[-1] + draw.expovariate(load.rate_per_s))
    return offsets[:n]
