"""The inference tier: measure how fast a server answers, and how sure that is.

    result = measure_inference(endpoint, InferencePlan.smoke())

What belongs here: the order of things: warm up, calibrate, rounds until it is precise or the budget is spent, figures,
validity. What does not: any of those steps themselves, and making the requests (`client`), which may happen elsewhere.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from milton_assets.tiers.inference.calibrate import Calibration, calibration_requests, compare
from milton_assets.tiers.inference.client import measuring_here
from milton_assets.tiers.inference.definitions import DEFINITIONS_VERSION, HEADLINES, code_version
from milton_assets.tiers.inference.histogram import GroupedHistogram
from milton_assets.tiers.inference.orders import MEASURED, WARM_UP, Client, OpenClient, Order, Taken
from milton_assets.tiers.inference.plan import ClosedLoad, InferencePlan
from milton_assets.tiers.inference.sample import Sample, recounted
from milton_assets.tiers.inference.summary import Round, error_examples, errors_by_kind, figures_of, metrics_of
from milton_assets.tiers.inference.validity import ClientEvidence, TokenCount, judged
from milton_assets.vocabulary.chat import ModelCallFailed
from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.progress import OnProgress, Progress, silent
from milton_assets.vocabulary.server import Endpoint
from milton_assets.vocabulary.tier import TierResult

_MOST_CALIBRATED = 64


def measure_inference(
    endpoint: Endpoint,
    plan: InferencePlan,
    *,
    on_progress: OnProgress = silent,
    open_client: OpenClient | None = None,
) -> TierResult:
    """Measure one server.

    A server's failures are rows and counts in the result, never exceptions. `on_progress` is called in this thread
    after every request; the requests are made by a thread of their own, or where `open_client` says. Raises
    `CalibrationFailed` when the client cannot even measure its own machine.
    """
    return measure_interleaved([endpoint], plan, on_progress=on_progress, open_client=open_client)[0]


def measure_interleaved(
    endpoints: Sequence[Endpoint],
    plan: InferencePlan,
    *,
    on_progress: OnProgress = silent,
    open_client: OpenClient | None = None,
    together: bool = False,
    calibration: Calibration | None = None,
) -> list[TierResult]:
    """Measure several servers that run at the same time, a round of each in turn, so that drift hits all alike.

    Every second time they take turns in the other order (A B, B A, A B, …): what grows steadily hits all alike, too.
    One that is done is asked no more, and the others go on; `together`, all end with it. `calibration` is what the
    client was found to add just before, under the same load: it is not calibrated again.
    """
    with ExitStack() as stack:
        opener = open_client or stack.enter_context(measuring_here())
        subjects = [
            _Subject(endpoint, plan, stack.enter_context(opener(endpoint, plan)), on_progress) for endpoint in endpoints
        ]
        for subject in subjects:
            subject.warm_up()
        if plan.calibrate and calibration is None:
            concurrency = max(subject.expected_concurrency() for subject in subjects)
            calibration = subjects[0].calibrate(concurrency)
        for subject in subjects:
            subject.calibration = calibration
        turn = subjects
        while going := [subject for subject in turn if subject.stop_reason is None]:
            if together and len(going) < len(turn):
                break
            for subject in going:
                subject.round()
            turn = turn[::-1]
    return [subject.result() for subject in subjects]


class _Subject:
    """One server under measurement, and the client that asks it."""

    def __init__(self, endpoint: Endpoint, plan: InferencePlan, client: Client, on_progress: OnProgress) -> None:
        self._endpoint = endpoint
        self._plan = plan
        self._client = client
        self._on_progress = on_progress
        self._gaps = GroupedHistogram()
        self._rounds: list[Round] = []
        self._last: Taken
        self._warm_up: Sequence[Sample] = ()
        self._cut = 0
        self._finished = 0
        self._started_at = datetime.now(UTC)
        self._texts: dict[int, str] = {}
        self.calibration: Calibration | None = None
        self.stop_reason: str | None = None

    def warm_up(self) -> None:
        """Requests that enter no figure. For a warm cache, every prompt at least once."""
        count = self._plan.warm_up_requests
        if self._plan.cache == "warm":
            count = max(count, len(self._plan.prompts))
        self._warm_up = self._client.take(Order(WARM_UP, 0, count, ClosedLoad()), self._report).samples

    def calibrate(self, concurrency: int) -> Calibration:
        """The client's bias at that concurrency. Raises `CalibrationFailed`."""
        taken = self._client.take_of_truth(calibration_requests(concurrency), concurrency)
        return compare(taken.samples, taken.truths, concurrency)

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

    def round(self) -> None:
        """One round under the plan's load, and whether it was the last. Only what is measured counts against the
        budget."""
        left_s = None if self._plan.budget_s is None else self._left_s()
        order = Order(MEASURED, len(self._rounds), self._plan.round_size, self._plan.load, left_s)
        taken = self._last = self._client.take(order, self._report)
        self._rounds.append(Round(taken.start_ms, taken.end_ms, taken.samples, taken.energy))
        for gaps in taken.gaps:
            self._gaps.add_request(gaps)
        self._texts |= taken.texts
        self._cut += taken.cut
        self.stop_reason = self._why_stop()

    def _left_s(self) -> float:
        """What is left of the budget, in seconds."""
        if self._plan.budget_s is None:
            return math.inf
        return self._plan.budget_s - sum(round_.seconds for round_ in self._rounds)

    def result(self) -> TierResult:
        """Everything that was measured, judged."""
        counted = self._count()
        measured = [sample for round_ in self._rounds for sample in round_.samples]
        evidence = ClientEvidence(
            measured,
            self._last.load,
            self._last.stamps,
            self.calibration,
            self._plan.cache,
            self._plan.slo,
            counted,
            self._plan.concurrency,
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
            found = count([*self._texts.values(), *prompts.values()])
            tokens = dict(zip(self._texts, found[: len(self._texts)], strict=True))
            floor = dict(zip(prompts, found[len(self._texts) :], strict=True))
        except ModelCallFailed as failed:
            return TokenCount("usage", f"counting failed: {failed}")

        def bearing(sample: Sample) -> Sample:
            counted = tokens.get(sample.index)
            return sample if not counted else recounted(sample, counted)

        self._rounds = [replace(round_, samples=tuple(map(bearing, round_.samples))) for round_ in self._rounds]
        return TokenCount(self._endpoint.counted_by, None, floor)

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
            "by_round": [figures_of(round_, plan.round_size) for round_ in self._rounds],
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
            "energy": [asdict(round_.energy) for round_ in self._rounds],
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

    def _report(self, sample: Sample) -> None:
        self._finished += 1
        self._on_progress(Progress("inference", self._finished, self._expected(), _note(sample)))

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
