"""The inference tier: measure how fast a server answers, and how sure that is.

    result = measure_inference(endpoint, InferencePlan.smoke())

What belongs here: the order of things: warm up, calibrate, rounds until it is precise or the budget is spent, figures,
validity. What does not: any of those steps themselves.
"""

from __future__ import annotations

import asyncio
import math
import queue
import random
import secrets
import statistics
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import pandas as pd

from milton_assets.tiers.inference.calibrate import TOKENS, Calibration, calibrate
from milton_assets.tiers.inference.clock import measuring_loop, now_ns, prefer_this_thread, quiet_interpreter
from milton_assets.tiers.inference.definitions import DEFINITIONS_VERSION, HEADLINES, code_version
from milton_assets.tiers.inference.histogram import Collector, GroupedHistogram
from milton_assets.tiers.inference.load import SendOne, run_round
from milton_assets.tiers.inference.plan import ClosedLoad, InferencePlan, OpenLoad
from milton_assets.tiers.inference.sample import Ask, Sample, recounted, request_body, to_sample
from milton_assets.tiers.inference.stream import ChatStream
from milton_assets.tiers.inference.summary import Round, error_examples, errors_by_kind, metrics_of
from milton_assets.tiers.inference.transport import Timeouts, Transport
from milton_assets.tiers.inference.validity import ClientEvidence, TokenCount, judged
from milton_assets.tiers.inference.watch import Watch
from milton_assets.vocabulary.chat import ModelCallFailed, clean_text
from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.progress import OnProgress, Progress, silent
from milton_assets.vocabulary.server import Endpoint
from milton_assets.vocabulary.tier import TierResult

_Result = TypeVar("_Result")
_MOST_CALIBRATED = 64
_CHAT_PATH = "/v1/chat/completions"


def measure_inference(endpoint: Endpoint, plan: InferencePlan, *, on_progress: OnProgress = silent) -> TierResult:
    """Measure one server.

    A server's failures are rows and counts in the result, never exceptions. `on_progress` is called in this thread
    after every request; the measuring loop has a thread of its own. Raises `CalibrationFailed` when the client cannot
    even measure its own machine.
    """
    return measure_interleaved([endpoint], plan, on_progress=on_progress)[0]


def measure_interleaved(
    endpoints: Sequence[Endpoint], plan: InferencePlan, *, on_progress: OnProgress = silent
) -> list[TierResult]:
    """Measure several servers that run at the same time, a round of each in turn, so that drift hits all alike."""

    async def measure(report: OnProgress) -> list[TierResult]:
        subjects = [_Subject(endpoint, plan, report) for endpoint in endpoints]
        try:
            for subject in subjects:
                await subject.warm_up()
            if plan.calibrate:
                calibration = await _calibrate(plan, max(subject.expected_concurrency() for subject in subjects))
                for subject in subjects:
                    subject.calibration = calibration
            while going := [subject for subject in subjects if subject.stop_reason is None]:
                for subject in going:
                    await subject.round()
        finally:
            for subject in subjects:
                await subject.close()
        return [subject.result() for subject in subjects]

    return _in_own_loop(measure, on_progress)


def _in_own_loop(main: Callable[[OnProgress], Coroutine[Any, Any, _Result]], on_progress: OnProgress) -> _Result:
    """Run `main` on a measuring loop in a thread of its own, and its progress in this one.

    Whatever ends this thread's waiting (Ctrl-C, an exception of the listener) cancels the measurement first.
    """
    steps: queue.SimpleQueue[Progress | None] = queue.SimpleQueue()
    outcome: list[_Result] = []
    problems: list[BaseException] = []
    started = threading.Event()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[_Result]]] = []

    async def measured() -> _Result:
        running.append((asyncio.get_running_loop(), asyncio.current_task()))  # type: ignore[arg-type]
        started.set()
        prefer_this_thread()
        with quiet_interpreter():
            return await main(steps.put)

    def work() -> None:
        try:
            with asyncio.Runner(loop_factory=measuring_loop) as runner:
                outcome.append(runner.run(measured()))
        except BaseException as problem:  # noqa: BLE001 (handed over to the thread that waits)
            problems.append(problem)
        finally:
            started.set()
            steps.put(None)

    thread = threading.Thread(target=work, name="inference-measurement")
    thread.start()
    try:
        while (step := steps.get()) is not None:
            on_progress(step)
    except BaseException:
        started.wait()
        for loop, task in running:
            with suppress(RuntimeError):  # the loop may just have ended
                loop.call_soon_threadsafe(task.cancel)
        raise
    finally:
        thread.join()
    if problems:
        raise problems[0]
    return outcome[0]


class _Subject:
    """One server under measurement."""

    def __init__(self, endpoint: Endpoint, plan: InferencePlan, report: OnProgress) -> None:
        self._endpoint = endpoint
        self._plan = plan
        self._report = report
        self._transport = Transport(
            endpoint, Timeouts(plan.connect_timeout_s, plan.stall_timeout_s, plan.request_timeout_s)
        )
        self._watch = Watch()
        self._gaps = GroupedHistogram()
        self._rounds: list[Round] = []
        self._warm_up: list[Sample] = []
        self._asked = 0
        self._cut = 0
        self._finished = 0
        self._epoch_ns = now_ns()
        self._started_at = datetime.now(UTC)
        self._nonces: set[str] = set()
        self._texts: dict[int, str] = {}
        self.calibration: Calibration | None = None
        self.stop_reason: str | None = None

    async def warm_up(self) -> None:
        """Requests that enter no figure. For a warm cache, every prompt at least once."""
        count = self._plan.warm_up_requests
        if self._plan.cache == "warm":
            count = max(count, len(self._plan.prompts))
        self._warm_up = await self._ask("warm_up", 0, count, ClosedLoad())

    def expected_concurrency(self) -> int:
        """How many requests the client will have in flight.

        Under an open load that is the rate times what an answer took in the warm-up (Little's law), as far as the
        client is calibrated at all.
        """
        if isinstance(self._plan.load, ClosedLoad):
            return self._plan.load.concurrency
        latencies_ms = [sample.e2e_ms for sample in self._warm_up if sample.ok and sample.e2e_ms is not None]
        answer_s = statistics.median(latencies_ms) / 1e3 if latencies_ms else 0.0
        return min(_MOST_CALIBRATED, max(1, math.ceil(self._plan.load.rate_per_s * answer_s)))

    async def round(self) -> None:
        """One round under the plan's load, and whether it was the last."""
        number, start_ns = len(self._rounds), now_ns()
        async with self._watch:
            samples = await self._ask("measured", number, self._plan.round_size, self._plan.load)
        self._rounds.append(Round(self._offset_ms(start_ns), self._offset_ms(now_ns()), tuple(samples)))
        self.stop_reason = self._why_stop()

    async def ask_once(self, count: int) -> list[Sample]:
        """`count` requests under the plan's load, the samples alone."""
        return await self._ask("calibration", 0, count, self._plan.load)

    async def _ask(self, phase: str, number: int, count: int, load: ClosedLoad | OpenLoad) -> list[Sample]:
        samples: list[Sample] = []
        asks = self._asks(phase, number, count)
        await run_round(load, asks, self._sender(samples, self._deadline_ns(phase)), seed=self._plan.seed + number)
        return sorted(samples, key=lambda sample: sample.index)

    def _deadline_ns(self, phase: str) -> float:
        """When no request may be begun any more. Only what is measured counts against the budget."""
        if phase != "measured":
            return math.inf
        return now_ns() + self._left_s() * 1e9

    def _left_s(self) -> float:
        """What is left of the budget, in seconds."""
        if self._plan.budget_s is None:
            return math.inf
        return self._plan.budget_s - sum(round_.seconds for round_ in self._rounds)

    def _offset_ms(self, instant_ns: int) -> float:
        return (instant_ns - self._epoch_ns) / 1e6

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    def result(self) -> TierResult:
        """Everything that was measured, judged."""
        counted = self._count()
        measured = [sample for round_ in self._rounds for sample in round_.samples]
        stamps = self._transport.stamps.summary()
        evidence = ClientEvidence(
            measured,
            self._watch.load(),
            stamps,
            self.calibration,
            self._plan.cache,
            self._plan.slo,
            counted,
        )
        metrics = judged(self._metrics(), evidence)
        samples = pd.DataFrame([asdict(sample) for sample in (*self._warm_up, *measured)])
        return TierResult("inference", metrics, samples, self._provenance(evidence))

    def _count(self) -> TokenCount:
        """Count what was said and asked by the served model's tokenizer; the samples then bear the counts."""
        count = self._endpoint.count_tokens
        if count is None:
            return TokenCount("usage", "the server does not offer its tokenizer")
        prompts = {prompt.id: prompt.text for prompt in self._plan.prompts}
        try:
            tokens = dict(zip(self._texts, count(list(self._texts.values())), strict=True))
            floor = dict(zip(prompts, count(list(prompts.values())), strict=True))
        except ModelCallFailed as failed:
            return TokenCount("usage", f"counting failed: {failed}")

        def bearing(sample: Sample) -> Sample:
            found = tokens.get(sample.index)
            return sample if not found else recounted(sample, found)

        self._rounds = [replace(round_, samples=tuple(map(bearing, round_.samples))) for round_ in self._rounds]
        return TokenCount("the served model's tokenizer, over the text that came", None, floor)

    def _metrics(self) -> tuple[Metric, ...]:
        return metrics_of(self._rounds, self._gaps, self._plan.slo, self._plan.seed)

    def _provenance(self, evidence: ClientEvidence) -> dict[str, Any]:
        plan = self._plan
        return {
            "definitions_version": DEFINITIONS_VERSION,
            "code_version": code_version(),
            "started_at": self._started_at.isoformat(),
            "base_url": self._endpoint.base_url,
            "served_model": self._endpoint.model,
            "cache": plan.cache,
            "load": plan.load.model_dump(),
            "sampling": plan.sampling(),
            "extra_body": plan.extra_body,
            "prompts_sha256": plan.prompts_sha256(),
            "prompt_ids": [prompt.id for prompt in plan.prompts],
            "plan": plan.model_dump(mode="json", exclude={"prompts"}),
            "rounds": len(self._rounds),
            "stop_reason": self.stop_reason,
            "requests": len(evidence.samples),
            "warm_up_requests": len(self._warm_up),
            "errors": errors_by_kind(evidence.samples),
            "error_examples": error_examples([*self._warm_up, *evidence.samples]),
            "tokens_counted_by": {"what": evidence.counted.by, "because": evidence.counted.because},
            "warm_up_errors": errors_by_kind(self._warm_up),
            "client": asdict(evidence.load),
            "stamps": asdict(evidence.stamps),
            "calibration": asdict(self.calibration) if self.calibration else None,
        }

    def _why_stop(self) -> str | None:
        plan, rounds = self._plan, self._rounds
        if not any(sample.ok for sample in rounds[-1].samples):
            return "failing: every request of the last round failed"
        spent_s = sum(round_.seconds for round_ in rounds)
        longest_s = max(round_.seconds for round_ in rounds)
        if self._cut:
            return f"budget: {spent_s:.1f} s are spent, and {self._cut} requests of the last round were not made"
        if len(rounds) >= plan.min_rounds and (reached := self._enough()):
            return reached
        if len(rounds) >= plan.max_rounds:
            return f"max_rounds: {plan.max_rounds} rounds were run"
        if longest_s > self._left_s():
            return f"budget: {spent_s:.1f} of {plan.budget_s:g} s are spent, and a round takes {longest_s:.1f} s"
        return None

    def _enough(self) -> str | None:
        plan = self._plan
        if plan.decide_share is None:
            precise = f"precise: the headline intervals are within ±{plan.target_relative_half_width:.0%}"
            return precise if self._precise() else None
        interval = next(metric.interval for metric in self._metrics() if metric.name == "slo_share")
        if interval is None or interval.low < plan.decide_share <= interval.high:
            return None
        return f"decided: the interval of slo_share, {interval.low:.3f} to {interval.high:.3f}, lies on one side"

    def _precise(self) -> bool:
        headlines = [metric for metric in self._metrics() if metric.name in HEADLINES]
        return all(
            metric.value is not None
            and metric.interval is not None
            and (metric.interval.high - metric.interval.low) / 2 <= self._plan.target_relative_half_width * metric.value
            for metric in headlines
        )

    def _asks(self, phase: str, round_: int, count: int) -> list[Ask]:
        prompts = list(self._plan.prompts)
        random.Random(f"{self._plan.seed} {phase} {round_}").shuffle(prompts)  # noqa: S311 (an order, not a secret)
        asks = [
            Ask(self._asked + number, phase, round_, prompts[number % len(prompts)], self._nonce())
            for number in range(count)
        ]
        self._asked += count
        return asks

    def _nonce(self) -> str | None:
        """Twelve digits never used before: of one length in tokens, and different from the first token on."""
        if self._plan.cache == "warm":
            return None
        while (nonce := f"{secrets.randbelow(10**12):012d}") in self._nonces:
            pass
        self._nonces.add(nonce)
        return nonce

    def _sender(self, samples: list[Sample], deadline_ns: float) -> SendOne:
        plan = self._plan

        async def send(ask: Ask, due_ns: int | None) -> None:
            if now_ns() > deadline_ns:
                self._cut += 1
                return
            gaps: list[Collector] = []

            def new_stream() -> ChatStream:
                gaps.append(Collector())
                return ChatStream(on_gap=gaps[-1].add)

            body = request_body(plan, self._endpoint.model, ask)
            timing, stream = await self._transport.post(_CHAT_PATH, body, new_stream, due_ns=due_ns)
            sample = to_sample(ask, plan, timing, stream, self._epoch_ns)
            samples.append(sample)
            if sample.ok and ask.phase == "measured":
                if self._endpoint.count_tokens is not None and (text := stream.text) is not None:
                    self._texts[sample.index] = clean_text(text)
                self._gaps.add_request(gaps[-1].histogram())
            self._finished += 1
            self._report(Progress("inference", self._finished, self._expected(), _note(sample)))

        return send

    def _expected(self) -> int:
        """How many requests there will be, as far as can be told: as many rounds as the budget has room for."""
        plan = self._plan
        if self._rounds:
            longest_s = max(round_.seconds for round_ in self._rounds)
            fitting = len(self._rounds) + max(self._left_s(), 0.0) / max(longest_s, 1e-9)
            rounds = max(len(self._rounds), int(min(plan.max_rounds, fitting)))
        else:
            rounds = plan.min_rounds
        warm_up = len(self._warm_up) or plan.warm_up_requests
        return max(warm_up + rounds * plan.round_size, self._finished)


def _note(sample: Sample) -> str:
    if not sample.ok:
        return f"{sample.prompt_id}: {sample.error_kind}"
    return f"{sample.prompt_id}: first token after {sample.ttft_ms:.0f} ms, {sample.output_tokens} tokens"


async def _calibrate(plan: InferencePlan, concurrency: int) -> Calibration:
    async def measure(base_url: str, requests: int, concurrency: int) -> list[Sample]:
        load = ClosedLoad(concurrency=concurrency)
        here = plan.model_copy(update={"load": load, "max_tokens": TOKENS, "extra_body": {}})
        subject = _Subject(Endpoint(base_url, "truth"), here, silent)
        try:
            return await subject.ask_once(requests)
        finally:
            await subject.close()

    return await calibrate(concurrency, measure)
