"""The client that makes a measurement's requests: what has to run beside the server that is measured.

    with measuring_here() as open_client, open_client(endpoint, plan) as client:
        taken = client.take(Order("measured", 0, 18, plan.load), on_sample)

What belongs here: the client on this machine, which asks from a thread of this process or, where one process would be
the bottleneck, from several processes. What does not: those (`processes`), asking (`asking`), what is made of it
(`tier`), and the client that runs on a device (`milton_assets.fleet.measuring`).

It needs nothing heavy, so the very same code runs on a small device; figures are reckoned by whoever ordered them.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from milton_assets.tiers.inference.asking import Asker
from milton_assets.tiers.inference.clock import (
    measuring_loop,
    old_heap_left_alone,
    prefer_this_thread,
    quiet_interpreter,
)
from milton_assets.tiers.inference.energy import EnergyMeter
from milton_assets.tiers.inference.orders import CALIBRATION, Client, OnSample, OpenClient, Order, Taken, TakenOfTruth
from milton_assets.tiers.inference.plan import ClosedLoad, InferencePlan
from milton_assets.tiers.inference.processes import LoadProcesses, processes_for
from milton_assets.tiers.inference.sample import Sample
from milton_assets.tiers.inference.truth import TOKENS, pace, truth_server
from milton_assets.vocabulary.server import Endpoint

_Result = TypeVar("_Result")


class _Asking(Protocol):
    """Whatever asks one server from here."""

    def take(self, order: Order, on_sample: OnSample) -> Taken:
        """See `Client`; without the energy that it took."""
        ...


_OpenAsking = Callable[[Endpoint, InferencePlan], AbstractContextManager[_Asking]]


@contextmanager
def measuring_here(
    meter: Callable[[str], EnergyMeter] = EnergyMeter, *, processes: Callable[[InferencePlan], int] = processes_for
) -> Iterator[OpenClient]:
    """Clients on this machine. They take turns in one thread, which measures and does nothing else, or in as many
    processes as `processes` says that a plan wants; those end with the block.

    `meter` reads the energy of the machine that the server at an address runs on. Opening a client raises
    `LoadProcessFailed` when its processes do not start, and taking an order when one of them dies.
    """
    with ExitStack() as stack:
        stack.enter_context(old_heap_left_alone())
        thread = stack.enter_context(MeasuringThread())
        pool = stack.enter_context(LoadProcesses())

        @contextmanager
        def open_client(endpoint: Endpoint, plan: InferencePlan) -> Iterator[Client]:
            many = processes(plan)

            def opened(endpoint: Endpoint, plan: InferencePlan) -> AbstractContextManager[_Asking]:
                return pool.opened(endpoint, plan, many) if many > 1 else _asked_here(thread, endpoint, plan)

            with opened(endpoint, plan) as asking:
                yield _ClientHere(opened, asking, plan, meter(endpoint.base_url))

        yield open_client


class MeasuringThread:
    """A measuring loop in a thread of its own, for one piece of work at a time; the thread ends with the block."""

    def __enter__(self) -> Self:
        self._loop: asyncio.AbstractEventLoop
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="inference-measurement", daemon=True)
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        # The runner cancels at its end whatever an interrupted piece of work has left.
        with asyncio.Runner(loop_factory=measuring_loop) as runner:
            self._loop = runner.get_loop()
            prefer_this_thread()
            self._ready.set()
            self._loop.run_forever()

    def run(
        self, work: Callable[[OnSample], Coroutine[Any, Any, _Result]], on_sample: OnSample = lambda _: None
    ) -> _Result:
        """Run `work` on the loop and its samples' listener in this thread.

        Whatever ends this thread's waiting (Ctrl-C, an exception of the listener) cancels the work first.
        """
        told: queue.SimpleQueue[Sample | None] = queue.SimpleQueue()

        async def quietly() -> _Result:
            with quiet_interpreter():
                return await work(told.put)

        future = asyncio.run_coroutine_threadsafe(quietly(), self._loop)
        future.add_done_callback(lambda _: told.put(None))
        try:
            while (sample := told.get()) is not None:
                on_sample(sample)
        except BaseException:
            future.cancel()
            raise
        return future.result()


@contextmanager
def _asked_here(thread: MeasuringThread, endpoint: Endpoint, plan: InferencePlan) -> Iterator[_AskedHere]:
    async def opened(_: OnSample) -> Asker:
        return Asker(endpoint, plan, keep_texts=endpoint.count_tokens is not None)

    asker = thread.run(opened)
    try:
        yield _AskedHere(thread, asker)
    finally:
        thread.run(lambda _: asker.close())


class _AskedHere:
    """One server, asked from the thread."""

    def __init__(self, thread: MeasuringThread, asker: Asker) -> None:
        self._thread = thread
        self._asker = asker

    def take(self, order: Order, on_sample: OnSample) -> Taken:
        return self._thread.run(lambda tell: self._asker.take(order, tell), on_sample)


class _ClientHere:
    """A client on this machine."""

    def __init__(self, opened: _OpenAsking, asking: _Asking, plan: InferencePlan, meter: EnergyMeter) -> None:
        self._opened = opened
        self._asking = asking
        self._plan = plan
        self._meter = meter

    def take(self, order: Order, on_sample: OnSample) -> Taken:
        """See `Client`."""
        before = self._meter.read()
        taken = self._asking.take(order, on_sample)
        return replace(taken, energy=self._meter.since(before))

    def take_of_truth(self, requests: int, concurrency: int) -> TakenOfTruth:
        """See `Client`."""
        load = ClosedLoad(concurrency=concurrency)
        plan = self._plan.model_copy(update={"load": load, "max_tokens": TOKENS, "extra_body": {}})
        at = pace(concurrency)
        with (
            truth_server(first_token_ms=at.first_token_ms, inter_token_ms=at.inter_token_ms, tokens=TOKENS) as server,
            self._opened(Endpoint(server.base_url, "truth"), plan) as asking,
        ):
            taken = asking.take(Order(CALIBRATION, 0, requests, load), lambda _: None)
        return TakenOfTruth(taken.samples, server.truths)
