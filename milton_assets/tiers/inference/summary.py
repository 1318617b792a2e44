"""What many samples say together: the tier's metrics.

What belongs here: from samples, rounds and gaps to `Metric`s, failed requests included in every denominator. What does
not: whether the client could be trusted while they were taken (`validity`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from milton_assets.statistics.samples import rate
from milton_assets.tiers.inference.definitions import BY_ROUND, PER_REQUEST, SYSTEM
from milton_assets.tiers.inference.energy import NOT_READ, Energy
from milton_assets.tiers.inference.histogram import GroupedHistogram
from milton_assets.tiers.inference.sample import Sample
from milton_assets.tiers.inference.stats import STATISTICS, Figure, share, summarise, summarise_gaps
from milton_assets.vocabulary.figure import figure
from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.slo import SLO

_SLICES_PER_ROUND = 10
_ROUNDS_AS_UNITS = 3
_SAID_CHARACTERS = 120
"""Of what the first failure said, in the reason why there is no figure."""


@dataclass(frozen=True)
class Round:
    """One round: its window in ms since the start of the measurement, its samples, and the energy that it took."""

    start_ms: float
    end_ms: float
    samples: tuple[Sample, ...]
    energy: Energy = NOT_READ

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return (self.end_ms - self.start_ms) / 1e3


def figures_of(round_: Round, size: int) -> dict[str, float]:
    """What one round of `size` requests says by itself of each of `BY_ROUND`; nothing where it was cut or one of them
    failed: another server's round would have had other prompts.
    """
    good = [sample for sample in round_.samples if sample.ok]
    if len(good) < size:
        return {}
    figures = {}
    for name in (metric.removesuffix(".median") for metric in BY_ROUND if metric.endswith(".median")):
        values = [value for sample in good if (value := getattr(sample, name)) is not None]
        if values:
            figures[f"{name}.median"] = float(np.median(values))
    if tokens := sum(sample.output_tokens or 0 for sample in good):
        figures["output_tokens_per_s"] = tokens / round_.seconds
    return figures


def errors_by_kind(samples: Sequence[Sample]) -> dict[str, int]:
    """How many requests failed, by kind, most frequent first."""
    return dict(Counter(sample.error_kind for sample in samples if sample.error_kind).most_common())


def error_examples(samples: Sequence[Sample]) -> dict[str, str]:
    """What was said at the first failure of each kind."""
    said: dict[str, str] = {}
    for sample in samples:
        if sample.error_kind:
            said.setdefault(sample.error_kind, sample.error_detail or "")
    return said


def metrics_of(rounds: Sequence[Round], gaps: GroupedHistogram, slo: SLO | None, seed: int) -> tuple[Metric, ...]:
    """All of `METRICS`, in order. Every figure counts all requests in `n` and the failed ones in `errors`."""
    samples = [sample for round_ in rounds for sample in round_.samples]
    return (
        *(metric for name, unit in PER_REQUEST for metric in _per_request(name, unit, samples)),
        *_gaps(gaps, samples, seed),
        *_system(rounds, samples, slo),
    )


def _per_request(name: str, unit: str, samples: Sequence[Sample]) -> list[Metric]:
    values = [value for sample in samples if sample.ok and (value := getattr(sample, name)) is not None]
    if not values:
        return [_none(f"{name}.{statistic}", unit, samples) for statistic in STATISTICS]
    figures = summarise(values)
    metrics = [_metric(f"{name}.{statistic}", unit, figures[statistic], samples) for statistic in STATISTICS]
    return _of_one(metrics) if len(values) == 1 else metrics


def _gaps(gaps: GroupedHistogram, samples: Sequence[Sample], seed: int) -> list[Metric]:
    if not gaps.total.n:
        return [_none(f"itl_ms.{statistic}", "ms", samples) for statistic in STATISTICS]
    figures = summarise_gaps(gaps, seed)
    return [_metric(f"itl_ms.{statistic}", "ms", figures[statistic], samples) for statistic in STATISTICS]


def _system(rounds: Sequence[Round], samples: Sequence[Sample], slo: SLO | None) -> list[Metric]:
    units = dict(SYSTEM)
    if not samples:
        return [Metric.failed(name, unit, "no request was made") for name, unit in SYSTEM]
    energy = _energy(rounds, samples)
    good = sum(sample.ok for sample in samples)
    tokens, seconds = _tokens_by_time(rounds)
    finished = [sum(sample.ok for sample in round_.samples) for round_ in rounds]
    windows = [round_.seconds for round_ in rounds]
    metrics = [
        _metric("output_tokens_per_s", units["output_tokens_per_s"], rate(tokens, seconds), samples),
        _metric("requests_per_s", units["requests_per_s"], rate(finished, windows), samples),
        _metric("success_rate", units["success_rate"], share(good, len(samples)), samples),
    ]
    if good == 1:
        metrics[:2] = _of_one(metrics[:2])
    if not good:
        metrics[:2] = [_none(metric.name, metric.unit, samples) for metric in metrics[:2]]
    if slo is None:
        why = "no service-level objective was given"
        return [*metrics, *(Metric.skipped(name, units[name], why) for name in ("slo_share", "goodput_per_s")), energy]
    met = [sum(meets(sample, slo.limits()) for sample in round_.samples) for round_ in rounds]
    return [
        *metrics,
        _metric("slo_share", units["slo_share"], share(sum(met), len(samples)), samples),
        _metric("goodput_per_s", units["goodput_per_s"], rate(met, windows), samples),
        energy,
    ]


def _energy(rounds: Sequence[Round], samples: Sequence[Sample]) -> Metric:
    """Joules of all rounds over the output tokens of their good requests; skipped where it cannot be told how sure."""
    name, unit = "energy_j_per_token", dict(SYSTEM)["energy_j_per_token"]
    tokens = [float(sum(s.output_tokens or 0 for s in round_.samples if s.ok)) for round_ in rounds]
    if absent := next((round_.energy.absent_because for round_ in rounds if round_.energy.absent_because), None):
        gpus = [round_.energy.gpus_joules for round_ in rounds if round_.energy.gpus_joules is not None]
        alone = f"; its GPUs alone took {figure(sum(gpus) / sum(tokens))} J a token" if gpus and sum(tokens) else ""
        return Metric.skipped(name, unit, absent + (alone if len(gpus) == len(rounds) else ""))
    if len(rounds) < _ROUNDS_AS_UNITS:
        return Metric.skipped(name, unit, f"an interval needs {_ROUNDS_AS_UNITS} rounds, and {len(rounds)} were made")
    if not sum(tokens):
        return _none(name, unit, samples)
    return _metric(name, unit, rate([round_.energy.joules or 0.0 for round_ in rounds], tokens), samples)


def meets(sample: Sample, limits: Mapping[str, float]) -> bool:
    """Whether the request succeeded within every limit, in milliseconds by column of the sample.

    A single token has no time per output token, and so keeps its limit; an answer without a visible token never
    showed one within any limit.
    """
    return sample.ok and all(
        name == "tpot_ms" if (latency_ms := getattr(sample, name)) is None else latency_ms <= limit_ms
        for name, limit_ms in limits.items()
    )


def _tokens_by_time(rounds: Sequence[Round]) -> tuple[list[float], list[float]]:
    """Tokens and seconds by unit of observation: rounds once there are three, else equal slices of each round.

    Within a round, a request's tokens are spread evenly between its first token and its end.
    """
    if len(rounds) >= _ROUNDS_AS_UNITS:
        tokens = [float(sum(s.output_tokens or 0 for s in round_.samples if s.ok)) for round_ in rounds]
        return tokens, [round_.seconds for round_ in rounds]
    tokens, seconds = [], []
    for round_ in rounds:
        edges = np.linspace(round_.start_ms, round_.end_ms, _SLICES_PER_ROUND + 1)
        emitted = np.zeros(edges.size)
        for sample in round_.samples:
            if sample.ok and sample.output_tokens and sample.ended_offset_ms is not None:
                begin = sample.ended_offset_ms - (sample.e2e_ms or 0.0) + (sample.ttft_ms or 0.0)
                span = max(sample.ended_offset_ms - begin, 1e-6)
                emitted += np.clip((edges - begin) / span, 0, 1) * sample.output_tokens
        tokens += np.diff(emitted).tolist()
        seconds += [round_.seconds / _SLICES_PER_ROUND] * _SLICES_PER_ROUND
    return tokens, seconds


def _metric(name: str, unit: str, figure: Figure, samples: Sequence[Sample]) -> Metric:
    value, interval = figure
    failed = sum(not sample.ok for sample in samples)
    return Metric.measured(name, unit, value, n=len(samples), errors=failed, interval=interval)


def _of_one(metrics: Sequence[Metric]) -> list[Metric]:
    """The figures of one good request, however many failed beside it: nobody knows how the next would go."""
    why = "it rests on a single request"
    return [metric if metric.value is None else metric.invalidated(why) for metric in metrics]


def _none(name: str, unit: str, samples: Sequence[Sample]) -> Metric:
    failed = sum(not sample.ok for sample in samples)
    kinds = ", ".join(f"{count} {kind}" for kind, count in errors_by_kind(samples).items())
    first = next((sample.error_detail for sample in samples if sample.error_detail), "")
    said = f"; the first: {first:.{_SAID_CHARACTERS}}" if first else ""
    why = f"{failed} of {len(samples)} requests failed: {kinds}{said}" if failed else "no request had a defined value"
    return Metric.failed(name, unit, why, n=len(samples), errors=failed)
