"""The client, watching itself while it measures.

What belongs here: event-loop lag and CPU use, as a context around whatever is measured. What does not: judging them
(`validity`).
"""

from __future__ import annotations

import asyncio
import math
import os
import resource
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from milton_assets.tiers.inference.clock import now_ns
from milton_assets.tiers.inference.durations import Durations

_TICK_NS = 5_000_000


@dataclass(frozen=True)
class ClientLoad:
    """What the client did while it measured.

    `loop_lag_ms_*`: how late a timer of every 5 ms fired, which is how late a chunk's stamp may be. `cpu_share`: of
    one core, of the measuring thread. `preemptions_per_s`: how often the kernel took the core away from it. `nice`: its
    priority, lower goes first. `waited_share`: of the time in which a request should have been out on each stream, how
    much it waited for the client, and `waited_ms` how long each request did (`load.Waited`). Where the load was made by
    several `processes`, each figure is that of the one that did worst.
    """

    loop_lag_ms_median: float
    loop_lag_ms_p99: float
    loop_lag_ms_max: float
    cpu_share: float
    preemptions_per_s: float
    measured_s: float
    nice: int = 0
    waited_share: float = 0.0
    waited_ms: float = 0.0
    processes: int = 1


class Watch:
    """`async with Watch() as watch: …` watches the block; `watch.load()` sums up all blocks so far."""

    def __init__(self) -> None:
        self._lags = Durations()
        self._max_lag_ns = 0
        self._wall_ns = 0
        self._cpu_s = 0.0
        self._preemptions = 0
        self._nice = 0

    async def __aenter__(self) -> Self:
        self._begun_ns = now_ns()
        self._begun = _thread_usage()
        self._nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        self._ticker = asyncio.create_task(self._tick())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ticker.cancel()
        await asyncio.gather(self._ticker, return_exceptions=True)
        cpu_s, preemptions = _thread_usage()
        self._wall_ns += now_ns() - self._begun_ns
        self._cpu_s += cpu_s - self._begun[0]
        self._preemptions += preemptions - self._begun[1]

    async def _tick(self) -> None:
        while True:
            due_ns = now_ns() + _TICK_NS
            await asyncio.sleep(_TICK_NS / 1e9)
            lag_ns = max(now_ns() - due_ns, 0)
            self._lags.add(lag_ns)
            self._max_lag_ns = max(self._max_lag_ns, lag_ns)

    def load(self) -> ClientLoad:
        """The figures of every block that has ended."""
        seconds = self._wall_ns / 1e9
        return ClientLoad(
            loop_lag_ms_median=_ms(self._lags.quantile_ns(0.5)),
            loop_lag_ms_p99=_ms(self._lags.quantile_ns(0.99)),
            loop_lag_ms_max=self._max_lag_ns / 1e6,
            cpu_share=self._cpu_s / seconds if seconds else 0.0,
            preemptions_per_s=self._preemptions / seconds if seconds else 0.0,
            measured_s=seconds,
            nice=self._nice,
        )


def _thread_usage() -> tuple[float, int]:
    usage = resource.getrusage(resource.RUSAGE_THREAD)
    return usage.ru_utime + usage.ru_stime, usage.ru_nivcsw


def _ms(duration_ns: float) -> float:
    return 0.0 if math.isnan(duration_ns) else duration_ns / 1e6
