"""How much load a server bears: a concurrency sweep to saturation, and the highest load that keeps an SLO.

    points = sweep(endpoint, plan)
    capacity = find_capacity(endpoint, plan_with_slo)

What belongs here: choosing the next load and when to stop. What does not: measuring one load (`tier`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from milton_assets.statistics.shares import attempts_to_show
from milton_assets.tiers.inference.orders import OpenClient
from milton_assets.tiers.inference.plan import ClosedLoad, InferencePlan, OpenLoad
from milton_assets.tiers.inference.tier import measure_inference
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.progress import OnProgress, silent
from milton_assets.vocabulary.server import Endpoint
from milton_assets.vocabulary.tier import TierResult

SATURATED_GAIN = 1.05
MAX_FAILED_SHARE = 0.05
DEFAULT_SHARE = 0.95
PROBE_S = 5.0
_MAX_PROBES = 16


@dataclass(frozen=True)
class LoadPoint:
    """One load and what came of it."""

    load: ClosedLoad | OpenLoad
    throughput: Metric
    ttft: Metric
    e2e: Metric
    success_rate: Metric
    slo_share: Metric
    goodput: Metric

    @property
    def label(self) -> str:
        """The load in a few characters: a concurrency, or a rate."""
        return str(self.load.concurrency) if isinstance(self.load, ClosedLoad) else f"{self.load.rate_per_s:g}/s"


@dataclass(frozen=True)
class Sweep:
    """The points in order of load, and why it ended there."""

    points: tuple[LoadPoint, ...]
    stop_reason: str


@dataclass(frozen=True)
class Capacity:
    """The highest rate that keeps the SLO, in requests/s, lies between `low` (kept it) and `high` (did not).

    `low` is 0 when no rate tried kept it, `high` None when every rate tried did. `share` is how many requests must
    be good; a rate keeps the SLO when the lower end of the 95 % interval of the share of good requests is at least
    that, and fails it when the upper end is below; in between it is `undecided` and counts as not kept.
    """

    low: float
    high: float | None
    share: float
    undecided: tuple[float, ...]
    points: tuple[LoadPoint, ...]
    stop_reason: str


def point_of(load: ClosedLoad | OpenLoad, result: TierResult) -> LoadPoint:
    """What a result says about the load it was taken under."""
    names = ("output_tokens_per_s", "ttft_ms.median", "e2e_ms.median", "success_rate", "slo_share", "goodput_per_s")
    return LoadPoint(load, *(result.metric(name) for name in names))


def sweep(
    endpoint: Endpoint,
    plan: InferencePlan,
    *,
    levels: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128),
    on_progress: OnProgress = silent,
    open_client: OpenClient | None = None,
) -> Sweep:
    """Measure ascending concurrencies until the server is saturated.

    Saturated is a server whose throughput has not grown by 5 % twice in a row; the sweep also ends when more than 5 %
    of a level's requests failed, or the client becomes the bottleneck. Fewer failures are told in `stop_reason`.
    `plan.load` is replaced, everything else holds at every level.
    """
    if list(levels) != sorted(set(levels)) or not levels:
        raise BadInput(f"the levels are {list(levels)}", expected="ascending concurrencies")
    points: list[LoadPoint] = []
    best, flat = 0.0, 0
    for level in levels:
        load = ClosedLoad(concurrency=level)
        at_level = plan.model_copy(update={"load": load})
        result = measure_inference(endpoint, at_level, on_progress=on_progress, open_client=open_client)
        point = point_of(load, result)
        points.append(point)
        if trouble := _trouble(point):
            return _swept(points, f"at {level}: {trouble}")
        reached = point.throughput.value or 0.0
        flat = flat + 1 if reached < best * SATURATED_GAIN else 0
        best = max(best, reached)
        if flat == 2:
            return _swept(points, f"saturated: {best:.1f} tokens/s, and twice no 5 % more up to {level}")
    return _swept(points, f"every level up to {levels[-1]} was measured")


def _swept(points: Sequence[LoadPoint], stop_reason: str) -> Sweep:
    """The sweep, saying where requests failed that did not end it."""
    failed = [
        f"{point.success_rate.errors} of {point.success_rate.n} requests failed at {point.label}"
        for point in points
        if point.success_rate.errors and not _trouble(point)
    ]
    return Sweep(tuple(points), "; ".join([stop_reason, *failed]))


def _trouble(point: LoadPoint) -> str | None:
    if point.success_rate.errors > MAX_FAILED_SHARE * point.success_rate.n:
        return f"{point.success_rate.errors} of {point.success_rate.n} requests failed"
    if not point.throughput.valid:
        return point.throughput.why
    return None


def find_capacity(
    endpoint: Endpoint,
    plan: InferencePlan,
    *,
    start_per_s: float = 1.0,
    share: float = DEFAULT_SHARE,
    precision: float = 0.1,
    probe_s: float = PROBE_S,
    on_progress: OnProgress = silent,
) -> Capacity:
    """The highest open load (arrivals as in `plan.load`, else Poisson) that keeps `plan.slo`, by doubling and halving.

    At each rate, requests arrive for `probe_s` seconds at least, so that a queue can build, and so many (73 for 95 %)
    that the interval can reach `share`; rounds of them are repeated until the interval lies on one side of it, or
    the plan's `max_rounds` or budget is spent. Ends when the interval of the capacity is narrower than `precision` of
    its low end, or when requests fail the SLO that met no other, which none at a lower rate would keep. Raises
    `BadInput` without an SLO.
    """
    if plan.slo is None:
        raise BadInput("there is no objective to keep", expected="a plan with an slo")
    arrivals = plan.load.arrivals if isinstance(plan.load, OpenLoad) else "poisson"

    def probe(rate_per_s: float) -> LoadPoint:
        load = OpenLoad(rate_per_s=rate_per_s, arrivals=arrivals)
        requests = max(plan.requests_per_round or 1, attempts_to_show(share), math.ceil(rate_per_s * probe_s))
        here = {"load": load, "requests_per_round": requests, "min_rounds": 1, "decide_share": share}
        return point_of(load, measure_inference(endpoint, plan.model_copy(update=here), on_progress=on_progress))

    return search(probe, start_per_s=start_per_s, share=share, precision=precision)


def _in_flight(point: LoadPoint) -> float:
    """Requests under way at an instant (Little's law), and at most the share of Poisson arrivals that met another."""
    rate_per_s = point.load.rate_per_s if isinstance(point.load, OpenLoad) else math.inf
    return math.inf if point.e2e.value is None else rate_per_s * point.e2e.value / 1e3


def search(probe: Callable[[float], LoadPoint], *, start_per_s: float, share: float, precision: float) -> Capacity:
    """The search behind `find_capacity`, for any `probe` of a rate."""
    low, high, rate = 0.0, None, start_per_s
    points: list[LoadPoint] = []
    undecided: list[float] = []
    stop_reason = f"{_MAX_PROBES} rates were tried"
    while len(points) < _MAX_PROBES:
        point = probe(rate)
        points.append(point)
        if not point.slo_share.valid:
            stop_reason = f"at {rate:g}/s: {point.slo_share.why}"
            break
        interval = point.slo_share.interval
        kept = interval is not None and interval.low >= share
        if interval is not None and interval.low < share <= interval.high:
            undecided.append(rate)
        low, high = (rate, high) if kept else (low, rate)
        if not low and interval is not None and interval.high + _in_flight(point) < share:
            stop_reason = f"no lower rate keeps it: at {rate:g}/s requests that met no other did not"
            break
        if high is None:
            rate *= 2
        elif high - low <= precision * max(low, precision * start_per_s):
            stop_reason = f"precise: between {low:g} and {high:g} requests/s"
            break
        else:
            rate = (low + high) / 2
    points.sort(key=lambda point: point.load.rate_per_s if isinstance(point.load, OpenLoad) else 0.0)
    return Capacity(low, high, share, tuple(sorted(undecided)), tuple(points), stop_reason)
