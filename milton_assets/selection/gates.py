"""Gates: what a candidate must reach before it is scored.

What belongs here: reading one gate from a figure and its interval, and judging a candidate by all gates and by the
completeness of its evidence. What does not: scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decision import GateAnswer, GateOutcome, Reading, Standing
from milton_assets.selection.policy import Gate, GateMode, MetricRef, Operator, Policy, ServesUntil
from milton_assets.vocabulary.metric import Metric, Status

FEWEST_CASES = 2
"""One request, case or query says nothing of how the next one goes: its figure has no spread that could be known."""


@dataclass(frozen=True)
class Judgement:
    """A candidate after the gates. `reasons` say why it is not eligible; empty when it is."""

    candidate: Candidate
    standing: Standing
    readings: tuple[Reading, ...]
    gates: tuple[GateOutcome, ...]
    reasons: tuple[str, ...]

    @property
    def eligible(self) -> bool:
        """Whether it may be scored."""
        return self.standing is Standing.ELIGIBLE


def unusable(metric: Metric) -> str | None:
    """Why the figure cannot be relied on, or None when it can."""
    if metric.status is not Status.OK:
        return f"{metric.name} is {metric.status}: {metric.why}"
    if not metric.valid:
        return f"{metric.name} is not valid: {metric.why}"
    if metric.n < FEWEST_CASES:
        rests = "a single case" if metric.n else "no case that is counted"
        return f"{metric.name} rests on {rests}: it takes {FEWEST_CASES} at least to rank a model by"
    return None


def read_gate(gate: Gate, metric: Metric) -> GateOutcome:
    """What `gate` makes of `metric`.

    The answer is `pass` when the whole interval is on the right side of the threshold, `fail` when the whole of it
    is on the wrong side, else `inconclusive`; a figure without an interval is read as a point.
    """
    if let_pass(gate, metric):
        return _outcome(gate, GateAnswer.NOT_MEASURED, admits=True, why=metric.why or "nobody measured it")
    problem = unusable(metric)
    if problem is not None or metric.value is None:
        return _outcome(gate, GateAnswer.INCONCLUSIVE, admits=False, why=problem or f"{metric.name} has no value")
    if metric.interval is None:
        answer = GateAnswer.PASS if gate.holds(metric.value) else GateAnswer.FAIL
        return _outcome(
            gate, answer, admits=answer is GateAnswer.PASS, why=f"{metric.value:.4g} (no interval is known)"
        )
    low, high = metric.interval.low, metric.interval.high
    worst, best = (low, high) if gate.op is Operator.AT_LEAST else (high, low)
    if gate.holds(worst):
        answer = GateAnswer.PASS
    elif not gate.holds(best):
        answer = GateAnswer.FAIL
    else:
        answer = GateAnswer.INCONCLUSIVE
    admits = gate.holds(metric.value) if gate.mode is GateMode.POINT else answer is GateAnswer.PASS
    figure = f"{metric.value:.4g} [{low:.4g}, {high:.4g}]"
    return _outcome(gate, answer, admits=admits, why=figure)


def let_pass(gate: Gate, metric: Metric) -> bool:
    """Whether the gate does not ask, for there is nothing to ask about."""
    return gate.only_where_measured and metric.status is Status.SKIPPED


@dataclass(frozen=True)
class Gatekeeper:
    """The gates of one policy, asked about many figures. Equal figures get one and the same answer: shares of the same
    cases have few values."""

    policy: Policy
    _known: dict[tuple[object, ...], GateOutcome] = field(default_factory=dict)

    @cached_property
    def _asking_where_measured(self) -> tuple[Gate, ...]:
        return tuple(gate for gate in self.policy.gates if gate.only_where_measured)

    def optional(self, metrics: Mapping[tuple[str, str], Metric]) -> set[tuple[str, str]]:
        """Which of `metrics`, by tier and name, no gate asks for, for there is nothing to ask about."""
        return {gate.key for gate in self._asking_where_measured if let_pass(gate, metrics[gate.key])}

    def outcomes(self, metrics: Mapping[tuple[str, str], Metric]) -> tuple[GateOutcome, ...]:
        """What each gate makes of its metric among `metrics`, which are by tier and name."""
        return tuple([self._outcome(place, gate, metrics[gate.key]) for place, gate in enumerate(self.policy.gates)])

    def _outcome(self, place: int, gate: Gate, metric: Metric) -> GateOutcome:
        interval = metric.interval
        ends = None if interval is None else (interval.low, interval.high)
        key = (place, metric.value, ends, metric.status, metric.valid, metric.n, metric.why)
        if (known := self._known.get(key)) is None:
            known = self._known[key] = read_gate(gate, metric)
        return known


def judge(
    candidate: Candidate,
    keeper: Gatekeeper,
    references: tuple[MetricRef, ...],
    *,
    objection: str | None = None,
    serves: bool = False,
) -> Judgement:
    """Judge a candidate by the policy; `references` are `policy.metrics()`, passed in since they are every one's.

    `objection` is why its figures may be those of something else than the model (`templates`), if they may. One that
    `serves` is not refused by what chance explains, where the policy's rule says so.
    """
    metrics = {(reference.tier, reference.metric): candidate.metric(reference) for reference in references}
    readings = tuple([Reading(tier=key[0], metric=metric) for key, metric in metrics.items()])
    policy = keeper.policy
    gates = keeper.outcomes(metrics)
    optional = keeper.optional(metrics)
    missing = [problem for key, metric in metrics.items() if key not in optional and (problem := unusable(metric))]
    if objection is not None:
        missing.insert(0, objection)
    if candidate.excluded is not None:
        missing.insert(0, candidate.excluded)
    if missing:
        return Judgement(candidate, Standing.NO_EVIDENCE, readings, gates, tuple(missing))
    refused = [(gate, outcome) for gate, outcome in zip(policy.gates, gates, strict=True) if not outcome.admits]
    if serves and policy.incumbent is not None and policy.incumbent.until is ServesUntil.SHOWN:
        refused = [(gate, outcome) for gate, outcome in refused if not missed_by_chance(gate, outcome)]
    if not refused:
        return Judgement(candidate, Standing.ELIGIBLE, readings, gates, ())
    undecided = all(
        gate.mode is GateMode.STRICT and outcome.answer is GateAnswer.INCONCLUSIVE for gate, outcome in refused
    )
    standing = Standing.INCONCLUSIVE if undecided else Standing.FAILED
    reasons = tuple(f"gate {gate} not reached: {outcome.why}" for gate, outcome in refused)
    return Judgement(candidate, standing, readings, gates, reasons)


def missed_by_chance(gate: Gate, outcome: GateOutcome) -> bool:
    """Whether the value misses a gate that asks for no more than the value, and its interval does not."""
    return gate.mode is GateMode.POINT and not outcome.admits and outcome.answer is GateAnswer.INCONCLUSIVE


def _outcome(gate: Gate, answer: GateAnswer, *, admits: bool, why: str) -> GateOutcome:
    return GateOutcome(
        tier=gate.tier,
        metric=gate.metric,
        op=gate.op,
        threshold=gate.threshold,
        mode=gate.mode,
        answer=answer,
        admits=admits,
        why=why,
    )
