"""Asking one server: the requests that one process makes, in one event loop.

What belongs here: from an order to what was taken of the server, by the whole client or by one process of several. What
does not: schedules (`load`), connections (`transport`), and in which thread or process this happens (`client`,
`processes`).
"""

from __future__ import annotations

import math
import random
import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

from milton_assets.tiers.inference.clock import now_ns
from milton_assets.tiers.inference.durations import Durations
from milton_assets.tiers.inference.load import WHOLE, Part, Waited, run_round, turns_of
from milton_assets.tiers.inference.orders import MEASURED, OnSample, Order, Taken
from milton_assets.tiers.inference.plan import InferencePlan
from milton_assets.tiers.inference.sample import Ask, Sample, request_body, to_sample
from milton_assets.tiers.inference.stream import ChatStream
from milton_assets.tiers.inference.transport import Timeouts, Timing, Transport
from milton_assets.tiers.inference.watch import Watch
from milton_assets.vocabulary.chat import clean_text
from milton_assets.vocabulary.server import Endpoint

_CHAT_PATH = "/v1/chat/completions"
_NONCES = 10**12

Begin = Callable[[], Awaitable[int]]
"""Waited for when all is ready; gives the instant at which the round begins."""


async def at_once() -> int:
    """Begin now."""
    return now_ns()


class Asker:
    """Asks one server, in the loop in which it was made. `part` is what it does of every order.

    `keep_texts` where tokens will be counted in what was said. Offsets count from `epoch_ns`, by default from now.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        plan: InferencePlan,
        *,
        keep_texts: bool,
        part: Part = WHOLE,
        epoch_ns: int | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._plan = plan
        self._keep_texts = keep_texts
        self._part = part
        self._transport = Transport(
            endpoint, Timeouts(plan.connect_timeout_s, plan.stall_timeout_s, plan.request_timeout_s)
        )
        self._watch = Watch()
        self._waited = Waited()
        self._asked = 0
        self._epoch_ns = now_ns() if epoch_ns is None else epoch_ns
        self._nonces: set[str] = set()

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def take(
        self, order: Order, tell: OnSample, *, begin: Begin = at_once, turns: Iterator[int] | None = None
    ) -> Taken:
        """See `Client.take`. The client watches itself while it measures, and not while it warms up.

        `turns` are the numbers of the requests that a closed load begins here, by default all of them.
        """
        samples: list[Sample] = []
        gaps: list[Durations] = []
        texts: dict[int, str] = {}
        cut = 0
        asks = self._asks(order)
        start_ns = await begin()
        deadline_ns = math.inf if order.left_s is None else start_ns + order.left_s * 1e9

        async def send(ask: Ask, due_ns: int | None) -> Timing | None:
            nonlocal cut
            if now_ns() > deadline_ns:
                cut += 1
                return None
            between: list[Durations] = []

            def new_stream() -> ChatStream:
                between.append(Durations())
                return ChatStream(on_gap=between[-1].add)

            body = request_body(self._plan, self._endpoint.model, ask)
            timing, stream = await self._transport.post(_CHAT_PATH, body, new_stream, due_ns=due_ns)
            sample = to_sample(ask, self._plan, timing, stream, self._epoch_ns)
            samples.append(sample)
            if sample.ok and ask.phase == MEASURED:
                if self._keep_texts and (text := stream.text) is not None:
                    texts[sample.index] = clean_text(text)
                gaps.append(between[-1])
            tell(sample)
            return timing

        def round_() -> Awaitable[Waited]:
            mine = turns_of(order.count) if turns is None else turns
            seed = self._plan.seed + order.number
            return run_round(order.load, asks, send, seed=seed, start_ns=start_ns, turns=mine, part=self._part)

        if order.phase == MEASURED:
            async with self._watch:
                self._waited.add(await round_())
        else:
            await round_()
        end_ns = now_ns()
        return Taken(
            start_ms=self._offset_ms(start_ns),
            end_ms=self._offset_ms(end_ns),
            samples=tuple(sorted(samples, key=lambda sample: sample.index)),
            gaps=tuple(gaps),
            texts=texts,
            cut=cut,
            load=replace(self._watch.load(), waited_share=self._waited.share, waited_ms=self._waited.mean_ms),
            stamps=self._transport.stamps.summary(),
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
        """Twelve digits never used before, by no other part either: of one length in tokens, and different from the
        first token on."""
        if self._plan.cache == "warm":
            return None
        part = self._part
        while (nonce := f"{secrets.randbelow(_NONCES // part.of) * part.of + part.index:012d}") in self._nonces:
            pass
        self._nonces.add(nonce)
        return nonce
