"""The decision as charts: figures and intervals, the Pareto front, who is best, challengers beside the incumbent.

What belongs here: charts of what a decision says. What does not: a tier's charts (`TierSpec.charts`) and drawing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from milton_assets.selection.decision import CandidateReport, Challenge, Decision, Difference
from milton_assets.selection.policy import Criterion, MarginKind
from milton_assets.vocabulary.chart import (
    Axis,
    BarChart,
    BarRow,
    Chart,
    Dot,
    DotChart,
    DotRow,
    Line,
    Place,
    PlaneChart,
    Rule,
    Scale,
)
from milton_assets.vocabulary.metric import Metric

_LONGEST_KEY = 128
_FAR_APART = 8
_SHARES = frozenset({"fraction", "share"})


def decision_charts(decision: Decision, models: Sequence[str]) -> tuple[Chart, ...]:
    """The charts of the decision, about `models` only, which stand in the order given."""
    reports = [decision.candidate(model) for model in models]
    drawn: list[Chart] = [_intervals(decision, criterion, reports) for criterion in decision.policy.criteria]
    if len(decision.policy.criteria) > 1 and (front := _pareto(decision, reports)):
        drawn.append(front)
    if len(reports) > 1 and (best := _probability_best(reports)):
        drawn.append(best)
    drawn += [
        chart for report in reports if report.challenge for chart in challenge_charts(report.version, report.challenge)
    ]
    return tuple(drawn)


def challenge_charts(challenger: str, challenge: Challenge) -> Iterable[Chart]:
    """One model against another: shares of the other's value, and differences, each with its margin."""
    for kind, about in (
        (MarginKind.RELATIVE, "as a share of its value"),
        (MarginKind.ABSOLUTE, "as a difference"),
    ):
        found = [d for d in challenge.differences if d.kind is kind and d.difference is not None]
        if found:
            yield DotChart(
                key=f"challenge_{kind}_{challenger}"[:_LONGEST_KEY],
                title=f"{challenger} against {challenge.incumbent}",
                about=f"How much better, {about}, with its interval; right of 0 is better. A dashed line is the margin "
                "that a challenger may fall behind and still replace it.",
                x=Axis(
                    label=f"better than {challenge.incumbent}",
                    scale=Scale.PERCENT if kind is MarginKind.RELATIVE else Scale.LINEAR,
                ),
                series=("difference",),
                rows=tuple(DotRow(name=d.metric, dots=(_difference(d),)) for d in found),
                rules=(
                    Rule(value=0.0, label="equal"),
                    *(
                        Rule(value=-margin, label=f"margin of {', '.join(names)}", gate=True)
                        for margin, names in _by_margin(found).items()
                    ),
                ),
            )


def _by_margin(differences: Iterable[Difference]) -> dict[float, list[str]]:
    names: dict[float, list[str]] = {}
    for difference in differences:
        names.setdefault(difference.margin, []).append(difference.metric)
    return names


def _difference(difference: Difference) -> Dot:
    interval = difference.interval
    return Dot(
        value=difference.difference,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        note=difference.why,
    )


def axis_of(criterion: Criterion, metrics: Iterable[Metric]) -> Axis:
    """The axis on which the criterion's figures are shown."""
    found = list(metrics)
    unit = next((metric.unit for metric in found if metric.unit), "")
    share = unit in _SHARES
    values = [metric.value for metric in found if metric.value is not None]
    lows = [metric.interval.low for metric in found if metric.interval is not None]
    # Models that differ by far more than their intervals would leave all but one in a corner.
    far_apart = bool(values) and min(values + lows) > 0 and max(values) > _FAR_APART * min(values)
    return Axis(
        label=criterion.metric if criterion.label == criterion.metric else f"{criterion.label} ({criterion.metric})",
        unit="" if share else unit,
        better=criterion.direction,
        scale=Scale.PERCENT if share else Scale.LOG if far_apart else Scale.LINEAR,
    )


def _intervals(decision: Decision, criterion: Criterion, reports: Sequence[CandidateReport]) -> DotChart:
    readings = [report.reading(criterion.tier, criterion.metric) for report in reports]
    gates = (gate for gate in decision.policy.gates if gate.key == criterion.key)
    return DotChart(
        key=re.sub(r"[^A-Za-z0-9._-]", "-", f"figure_{criterion.tier}_{criterion.metric}")[:_LONGEST_KEY],
        title=criterion.label,
        about=f"{criterion.metric} of the {criterion.tier} tier, weight {criterion.weight:g}, with its interval.",
        x=axis_of(criterion, readings),
        series=("figure",),
        rows=tuple(DotRow(name=r.version, dots=(Dot.of(m),)) for r, m in zip(reports, readings, strict=True)),
        rules=tuple(
            Rule(value=gate.threshold, label=f"gate {gate.op} {gate.threshold:g}", gate=True) for gate in gates
        ),
    )


def _pareto(decision: Decision, reports: Sequence[CandidateReport]) -> PlaneChart | None:
    across, up = decision.policy.criteria[0], decision.policy.criteria[-1]
    pairs = [
        (report, report.reading(across.tier, across.metric), report.reading(up.tier, up.metric)) for report in reports
    ]
    lines = tuple(
        Line(name=report.version, places=(place,))
        for report, x, y in pairs
        if (place := Place.of(x, y, filled=report.pareto_optimal)) is not None
    )
    if not lines:
        return None
    return PlaneChart(
        key="pareto",
        title="Pareto front",
        about="Filled: no other eligible model is at least as good on all criteria together and better on one. So a "
        "filled point may look beaten on these two axes.",
        x=axis_of(across, (x for _, x, _ in pairs)),
        y=axis_of(up, (y for _, _, y in pairs)),
        lines=lines,
    )


def _probability_best(reports: Sequence[CandidateReport]) -> BarChart | None:
    known = [(r.version, r.probability_best) for r in reports if r.probability_best is not None]
    if len(known) < 2:
        return None
    return BarChart(
        key="probability_best",
        title="Probability of being best",
        about="The share of resamplings of the evidence in which the model scores highest.",
        x=Axis(label="P(best)", scale=Scale.PERCENT, low=0, high=1),
        parts=("P(best)",),
        rows=tuple(BarRow(name=name, values=(share,)) for name, share in known),
    )
