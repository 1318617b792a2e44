"""What the report shows of inference: how latencies are distributed, and how throughput grows with load.

What belongs here: charts, from results as they are kept. What does not: the web UI's bitmaps (`plots`) and drawing.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from milton_assets.tiers.inference.load_curve import sweep_of
from milton_assets.tiers.inference.sweep import LoadPoint
from milton_assets.vocabulary.chart import Axis, Chart, Join, Line, Place, PlaneChart, Scale
from milton_assets.vocabulary.metric import Direction
from milton_assets.vocabulary.tier import TierResult

_LATENCIES = {"ttft_ms": "Time to first token", "tpot_ms": "Time per output token", "e2e_ms": "End to end"}
_MOST_STEPS = 200


def charts(results: Mapping[str, TierResult]) -> tuple[Chart, ...]:
    """A distribution for each latency that any result has, and the load curve."""
    drawn: list[Chart] = []
    for column, title in _LATENCIES.items():
        lines = [line for name, result in results.items() if (line := _distribution(name, result, column)) is not None]
        if lines:
            drawn.append(
                PlaneChart(
                    key=f"distribution_{column}",
                    title=f"{title}: distribution",
                    about="The share of requests at or below each latency, one request at a time.",
                    x=Axis(label=title.lower(), unit="ms", better=Direction.LOWER, low=0),
                    y=Axis(label="share of requests", scale=Scale.PERCENT, low=0, high=1),
                    lines=tuple(lines),
                )
            )
    curves = [line for name, result in results.items() if (line := _curve(name, result)) is not None]
    if curves:
        drawn.append(
            PlaneChart(
                key="load_curve",
                title="Throughput against latency under load",
                about="A point for each number of requests at once, which stands beside it, with 95 % intervals. "
                "Hollow: the figure may not be relied on.",
                x=Axis(label="time to first token, median", unit="ms", better=Direction.LOWER, low=0),
                y=Axis(label="output", unit="tokens/s", better=Direction.HIGHER, low=0),
                lines=tuple(curves),
            )
        )
    return tuple(drawn)


def _distribution(name: str, result: TierResult, column: str) -> Line | None:
    samples = result.samples
    if column not in samples.columns:
        return None
    good = samples[(samples["phase"] == "measured") & samples["ok"].astype(bool)]
    values = np.sort(good[column].dropna().to_numpy(dtype=float))
    if not values.size:
        return None
    shares = np.arange(1, values.size + 1) / values.size
    if values.size > _MOST_STEPS:
        kept = np.unique(np.linspace(0, values.size - 1, _MOST_STEPS).round().astype(int))
        values, shares = values[kept], shares[kept]
    places = tuple(Place(x=float(x), y=float(y)) for x, y in zip(values, shares, strict=True))
    return Line(name=name, places=places, join=Join.STEPS, marked=False)


def _curve(name: str, result: TierResult) -> Line | None:
    curve = sweep_of(result)
    places = [place for point in (curve.points if curve else ()) if (place := _place(point)) is not None]
    return Line(name=name, places=tuple(places), join=Join.LINE) if places else None


def _place(point: LoadPoint) -> Place | None:
    filled = point.ttft.valid and point.throughput.valid
    return Place.of(point.ttft, point.throughput, label=point.label, filled=filled)
