"""The client that makes a measurement's requests: what has to run beside the server that is measured.

    with measuring_here() as open_client, open_client(endpoint, plan) as client:
        taken = client.take(Order("measured", 0, 18, plan.load), on_sample)

What belongs here: what is ordered of a client and what it brings back, and the client that runs in this process. What
does not: what is made of it (`tier`), and the client that runs on a device (`milton_assets.fleet.measuring`).

It needs nothing heavy, so the very same code runs on a small device; figures are reckoned by whoever ordered them.
"""

from __future__ import annotations

import asyncio
import math
import queue
import random
import secrets
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from milton_assets.tiers.inference.clock import (
    measuring_loop,
    now_ns,
    old_heap_left_alone,
    prefer_this_thread,
    quiet_interpreter,
)
from milton_assets.tiers.inference.connection import StampSummary
from milton_assets.tiers.inference.durations import Durations
from milton_assets.tiers.inference.energy import NOT_READ, Energy, EnergyMeter
from milton_assets.tiers.inference.load import run_round
from milton_assets.tiers.inference.plan import ClosedLoad, InferencePlan, OpenLoad
from milton_assets.tiers.inference.sample import Ask, Sample, request_body, to_sample
from milton_assets.tiers.inference.stream import ChatStream
from milton_assets.tiers.inference.transport import Timeouts, Transport
from milton_assets.tiers.inference.truth import FIRST_TOKEN_MS, INTER_TOKEN_MS, TOKENS, Truth, truth_server
from milton_assets.tiers.inference.watch import ClientLoad, Watch
from milton_assets.vocabulary.chat import clean_text
from milton_assets.vocabulary.server import Endpoint

MEASURED, WARM_UP, CALIBRATION = "measured", "warm_up", "calibration"
_CHAT_PATH = "/v1/chat/completions"
_Result = TypeVar("_Result")

OnSample = Callable[[Sample], object]
"""Is told of every request once it is over."""


@dataclass(frozen=True)
class Order:
    """So many requests under a load, as one round: `number` orders the prompts, `phase` says what they are for.

    `left_s`: no request is begun later than so many seconds after the first; None has no such limit.
    """

    phase: str
    number: int
    count: int
    load: ClosedLoad | OpenLoad
    left_s: float | None = None


@dataclass(frozen=True)
class Taken:
    """One round as it was made. Offsets in ms since the client was opened.

    `samples` are in the order of their index. `gaps` are those between the tokens of each good measured request,
    `texts` what those said, by index, where the served model's tokenizer is offered. `cut` is how many requests were
    not begun. `load` and `stamps` are the client's from its opening on, `energy`
    is what its machine took for this round.
    """

    start_ms: float
    end_ms: float
    samples: tuple[Sample, ...]
    gaps: tuple[Durations, ...]
    texts: Mapping[int, str]
    cut: int
    load: ClientLoad
    stamps: StampSummary
    energy: Energy = NOT_READ


@dataclass(frozen=True)
class TakenOfTruth:
    """Requests to a server whose truth is known, and that truth by the request's number."""

    samples: tuple[Sample, ...]
    truths: Mapping[int, Truth] = field(default_factory=dict)


class Client(Protocol):
    """Makes requests to one server, wherever it runs itself, and keeps its connections from one order to the next."""

    def take(self, order: Order, on_sample: OnSample) -> Taken:
        """Carry out the order. What the server does wrong is rows, never an exception."""
        ...

    def take_of_truth(self, requests: int, concurrency: int) -> TakenOfTruth:
        """Measure a truth server on the client's own machine. Raises `ServerFailed` when that does not start."""
        ...


OpenClient = Callable[[Endpoint, InferencePlan], AbstractContextManager[Client]]
"""Opens a client of that endpoint for that plan, and closes its connections at the block's end."""


@contextmanager
def measuring_here(meter: Callable[[str], EnergyMeter] = EnergyMeter) -> Iterator[OpenClient]:
    """Clients in this process. They take turns in one thread, which measures and does nothing else.

    `meter` reads the energy of the machine that the server at an address runs on.
    """
    with old_heap_left_alone(), MeasuringThread() as thread:

        @contextmanager
        def open_client(endpoint: Endpoint, plan: InferencePlan) -> Iterator[Client]:
            async def opened(_: OnSample) -> _Asker:
                return _Asker(endpoint, plan, meter)

            asker = thread.run(opened)
            try:
                yield _ClientHere(thread, asker, plan, meter)
            finally:
                thread.run(lambda _: asker.close())

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


class _ClientHere:
    """A client in this process."""

    def __init__(
        self, thread: MeasuringThread, asker: _Asker, plan: InferencePlan, meter: Callable[[str], EnergyMeter]
    ) -> None:
        self._thread = thread
        self._meter = meter
        self._asker = asker
        self._plan = plan

    def take(self, order: Order, on_sample: OnSample) -> Taken:
        """See `Client`."""
        return self._thread.run(lambda tell: self._asker.take(order, tell), on_sample)

    def take_of_truth(self, requests: int, concurrency: int) -> TakenOfTruth:
        """See `Client`."""
        load = ClosedLoad(concurrency=concurrency)
        plan = self._plan.model_copy(update={"load": load, "max_tokens": TOKENS, "extra_body": {}})

        async def ask(base_url: str) -> Taken:
            asker = _Asker(Endpoint(base_url, "truth"), plan, self._meter)
            try:
                return await asker.take(Order(CALIBRATION, 0, requests, load), lambda _: None)
            finally:
                await asker.close()

        with truth_server(first_token_ms=FIRST_TOKEN_MS, inter_token_ms=INTER_TOKEN_MS, tokens=TOKENS) as server:
            taken = self._thread.run(lambda _: ask(server.base_url))
        return TakenOfTruth(taken.samples, server.truths)


class _Asker:
    """Asks one server, in the loop in which it was made."""

    def __init__(self, endpoint: Endpoint, plan: InferencePlan, meter: Callable[[str], EnergyMeter]) -> None:
        self._endpoint = endpoint
        self._plan = plan
        self._transport = Transport(
            endpoint, Timeouts(plan.connect_timeout_s, plan.stall_timeout_s, plan.request_timeout_s)
        )
        self._watch = Watch()
        self._meter = meter(endpoint.base_url)
        self._asked = 0
        self._epoch_ns = now_ns()
        self._nonces: set[str] = set()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def take(self, order: Order, tell: OnSample) -> Taken:
        """See `Client.take`. The client watches itself while it measures, and not while it warms up."""
        samples: list[Sample] = []
        gaps: list[Durations] = []
        texts: dict[int, str] = {}
        cut = 0
        before = self._meter.read()
        start_ns = now_ns()
        deadline_ns = math.inf if order.left_s is None else start_ns + order.left_s * 1e9

        async def send(ask: Ask, due_ns: int | None) -> None:
            nonlocal cut
            if now_ns() > deadline_ns:
                cut += 1
                return
            between: list[Durations] = []

            def new_stream() -> ChatStream:
                between.append(Durations())
                return ChatStream(on_gap=between[-1].add)

            body = request_body(self._plan, self._endpoint.model, ask)
            timing, stream = await self._transport.post(_CHAT_PATH, body, new_stream, due_ns=due_ns)
            sample = to_sample(ask, self._plan, timing, stream, self._epoch_ns)
            samples.append(sample)
            if sample.ok and ask.phase == MEASURED:
                if self._endpoint.count_tokens is not None and (text := stream.text) is not None:
                    texts[sample.index] = clean_text(text)
                gaps.append(between[-1])
            tell(sample)

        asks = self._asks(order)
        seed = self._plan.seed + order.number
        if order.phase == MEASURED:
            async with self._watch:
                await run_round(order.load, asks, send, seed=seed)
        else:
            await run_round(order.load, asks, send, seed=seed)
        end_ns = now_ns()
        return Taken(
            start_ms=self._offset_ms(start_ns),
            end_ms=self._offset_ms(end_ns),
            samples=tuple(sorted(samples, key=lambda sample: sample.index)),
            gaps=tuple(gaps),
            texts=texts,
            cut=cut,
            load=self._watch.load(),
            stamps=self._transport.stamps.summary(),
            energy=self._meter.since(before),
        )

    def _offset_ms(self, instant_ns: int) -> float:
        return (instant_ns - self._epoch_ns) / 1e6

    def _asks(self, order: Order) -> list[Ask]:
        prompts = list(self._plan.prompts)
        random.Random(f"{self._plan.seed} {order.phase} {order.number}").shuffle(prompts)  # noqa: S311 (an order, not a secret)
        asks = [
            Ask(self._asked + number, order.phase, order.number, prompts[number % len(prompts)], self._nonce())
            for number in range(order.count)
        ]
        self._asked += order.count
        return asks

    def _nonce(self) -> str | None:
        """Twelve digits never used before: of one length in tokens, and different from the first token on."""
        if self._plan.cache == "warm":
            return None
        while (nonce := f"{secrets.randbelow(10**12):012d}") in self._nonces:
            pass
        self._nonces.add(nonce)
        return nonce
