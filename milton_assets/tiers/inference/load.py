"""When requests are sent: a fixed number in flight, or arrivals that wait for nobody.

What belongs here: the schedule of one round. What does not: what is sent (`sample`) and how (`transport`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

from milton_assets.tiers.inference.clock import now_ns, sleep_until
from milton_assets.tiers.inference.plan import ClosedLoad, OpenLoad
from milton_assets.tiers.inference.sample import Ask

_LEAD_NS = 20_000_000
SendOne = Callable[[Ask, int | None], Awaitable[None]]


async def run_round(load: ClosedLoad | OpenLoad, asks: Sequence[Ask], send: SendOne, *, seed: int) -> None:
    """Have `send(ask, due_ns)` called for every ask, under the load. `due_ns` is None when the load is closed.

    Under an open load a request is begun a little early, so that it holds a connection when it is due.
    """
    if isinstance(load, ClosedLoad):
        await _closed(load.concurrency, asks, send)
    else:
        await _open(load, asks, send, seed)


async def _closed(concurrency: int, asks: Sequence[Ask], send: SendOne) -> None:
    waiting = iter(asks)

    async def worker() -> None:
        for ask in waiting:
            await send(ask, None)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, len(asks))):
            group.create_task(worker())


async def _open(load: OpenLoad, asks: Sequence[Ask], send: SendOne, seed: int) -> None:
    start_ns = now_ns() + 2 * _LEAD_NS
    async with asyncio.TaskGroup() as group:
        for ask, offset_s in zip(asks, arrival_offsets_s(load, len(asks), seed), strict=True):
            due_ns = start_ns + int(offset_s * 1e9)
            await sleep_until(due_ns - _LEAD_NS)
            group.create_task(_send_at(send, ask, due_ns))


async def _send_at(send: SendOne, ask: Ask, due_ns: int) -> None:
    await send(ask, due_ns)


def arrival_offsets_s(load: OpenLoad, n: int, seed: int) -> list[float]:
    """The first `n` arrivals in seconds from the start, the first at 0; the same for the same seed."""
    if load.arrivals == "constant":
        return [index / load.rate_per_s for index in range(n)]
    draw = random.Random(seed)  # noqa: S311 (a schedule, not a secret)
    offsets = [0.0]
    while len(offsets) < n:
        offsets.append(offsets[-1] + draw.expovariate(load.rate_per_s))
    return offsets[:n]
