"""When a figure says more about the client than about the server.

What belongs here: the rules by which a figure is marked invalid, each with its limit. What does not: taking the
figures that the rules look at (`watch`, `calibrate`).

The client may add at most 1 ms or 5 % of a figure, whichever is more. A median or mean is judged by the client's
typical lag, a tail (std, p95, p99) by its 99th percentile. Event-loop lag adds nothing where the kernel stamps. Above
90 % of a core every figure is invalid. With a cold cache less than half of a prompt may have been cached (as the median
goes), with a warm one some of it must have been, where the server tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from milton_assets.inference.calibrate import Calibration
from milton_assets.inference.connection import StampSummary
from milton_assets.inference.sample import Sample
from milton_assets.inference.watch import ClientLoad
from milton_assets.vocabulary.metric import Metric

ALLOWED_MS = 1.0
ALLOWED_SHARE = 0.05
MAX_CPU_SHARE = 0.9
MAX_COLD_SHARE = 0.5
_FROM_START = ("ttfb_ms", "ttft_ms", "ttfv_ms", "e2e_ms")
_JUDGED = (*_FROM_START, "tpot_ms", "itl_ms")
_TYPICAL = ("median", "mean")


@dataclass(frozen=True)
class ClientEvidence:
    """What is known about the client and the cache during one measurement."""

    samples: Sequence[Sample]
    load: ClientLoad
    stamps: StampSummary
    calibration: Calibration | None
    cache: str


def judged(metrics: Sequence[Metric], evidence: ClientEvidence) -> tuple[Metric, ...]:
    """The same metrics, those that cannot be relied on marked invalid with every reason."""
    return tuple(
        metric.invalidated("; ".join(reasons)) if (reasons := list(_reasons(metric, evidence))) else metric
        for metric in metrics
    )


def _reasons(metric: Metric, evidence: ClientEvidence) -> Iterator[str]:
    if metric.value is None or metric.name in {"success_rate"}:
        return
    if evidence.load.cpu_share > MAX_CPU_SHARE:
        yield f"the client was the bottleneck: it used {evidence.load.cpu_share:.0%} of a core"
    name, _, statistic = metric.name.partition(".")
    if name not in _JUDGED:
        return
    allowed_ms = max(ALLOWED_MS, ALLOWED_SHARE * metric.value)
    shrink = 1.0
    if name == "tpot_ms":
        allowed_ms = ALLOWED_SHARE * metric.value
        shrink = max(_median([(s.output_tokens or 1) - 1 for s in evidence.samples if s.ok]) or 1.0, 1.0)
    for what, added_ms in _added_ms(name, typical=statistic in _TYPICAL, evidence=evidence):
        if added_ms / shrink > allowed_ms:
            yield f"{what} of {added_ms:.2f} ms, allowed are {allowed_ms * shrink:.2f} ms"
    if name in _FROM_START and (complaint := _cache_complaint(evidence)):
        yield complaint


def _added_ms(name: str, *, typical: bool, evidence: ClientEvidence) -> Iterator[tuple[str, float]]:
    load, which = evidence.load, "typical" if typical else "99th percentile"
    if not evidence.stamps.by_kernel:
        yield f"event-loop lag ({which})", load.loop_lag_ms_median if typical else load.loop_lag_ms_p99
    if name not in _FROM_START:
        return
    if evidence.calibration is not None:
        bias = evidence.calibration.ttft_bias_ms
        yield f"calibration bias ({which})", abs(bias.median) if typical else bias.p99
    lags = [sample.sent_lag_ms for sample in evidence.samples if sample.sent_lag_ms is not None]
    if lags:
        yield f"scheduled-to-sent lag ({which})", float(np.quantile(lags, 0.5 if typical else 0.99))


def _cache_complaint(evidence: ClientEvidence) -> str | None:
    shares = [
        sample.cached_tokens / sample.prompt_tokens
        for sample in evidence.samples
        if sample.ok and sample.cached_tokens is not None and sample.prompt_tokens
    ]
    share = _median(shares)
    if share is None:
        return None
    if evidence.cache == "cold" and share >= MAX_COLD_SHARE:
        return f"the cache was to be cold, and {share:.0%} of a prompt came from it"
    if evidence.cache == "warm" and share == 0:
        return "the cache was to be warm, and nothing came from it"
    return None


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
