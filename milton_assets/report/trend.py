"""One figure over campaigns, with the deployments marked.

What belongs here: making that chart of decisions and deployments. What does not: reading them, and drawing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from milton_assets.report.charts import axis_of
from milton_assets.selection.decision import Decision
from milton_assets.selection.policy import Criterion
from milton_assets.vocabulary.chart import Axis, Join, Line, Place, PlaneChart, Rule, Scale
from milton_assets.vocabulary.errors import BadInput, one_of
from milton_assets.vocabulary.keys import class_of
from milton_assets.vocabulary.metric import Metric

MOST_EVENTS = 12
"""Deployments that are marked: the latest."""


@dataclass(frozen=True)
class Event:
    """A deployment: when, and what it brought where."""

    at: datetime
    label: str


def trend_chart(figure: str, decisions: Sequence[Decision], events: Iterable[Event]) -> PlaneChart:
    """That figure of every candidate in every decision, beside the events; each device class has lines of its own.

    `figure` is a metric's name, with its tier before it if two have it (`inference.ttft_ms.median`), or a criterion's
    label. Raises `BadInput` when no policy weighed such a figure.
    """
    criteria = [criterion for decision in decisions for criterion in decision.policy.criteria]
    asked = [c for c in criteria if figure in {c.metric, c.label, f"{c.tier}.{c.metric}"}]
    if not criteria:
        raise BadInput(
            "no benchmark run that can be read has ended here yet",
            remedy="`milton autobench` measures the candidates and decides",
        )
    if not asked:
        raise BadInput(
            f"no campaign was decided on a figure {figure!r:.100}",
            expected=one_of(sorted({c.metric for c in criteria})),
        )
    criterion = asked[-1]
    found = [
        (decision.decided_at.timestamp(), _measured(report.version, decision), metric)
        for decision in decisions
        for report in decision.candidates
        for metric in (reading.metric for reading in report.readings if _is(reading.tier, reading.metric, criterion))
    ]
    names = dict.fromkeys(version for _, version, _ in found)
    return PlaneChart(
        key="trend",
        title=f"{criterion.metric} over campaigns",
        about="A point for each campaign, with its interval. Upright: deployments. Hollow: not to be relied on.",
        x=Axis(label="decided", scale=Scale.TIME),
        y=axis_of(criterion, (metric for _, _, metric in found)),
        lines=tuple(
            Line(
                name=name,
                join=Join.LINE,
                places=tuple(
                    _place(at, metric) for at, version, metric in found if version == name and metric.value is not None
                ),
            )
            for name in names
        ),
        rules=tuple(
            Rule(value=event.at.timestamp(), label=event.label)
            for event in sorted(events, key=lambda event: event.at)[-MOST_EVENTS:]
        ),
    )


def _measured(version: str, decision: Decision) -> str:
    """What a line is of: a model, and where it was measured for a device class, for that is another line."""
    device_class = class_of(decision.run_id)
    return version if device_class is None else f"{version} on {device_class}"


def _is(tier: str, metric: Metric, criterion: Criterion) -> bool:
    return (tier, metric.name) == criterion.key


def _place(at: float, metric: Metric) -> Place:
    assert metric.value is not None  # noqa: S101 - the caller chose those
    interval = metric.interval
    return Place(
        x=at,
        y=metric.value,
        y_low=interval.low if interval else None,
        y_high=interval.high if interval else None,
        filled=metric.valid,
    )
