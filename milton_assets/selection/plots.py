"""Pictures of a decision, as PNG of `WIDTH` pixels: intervals per metric, and the Pareto front.

What belongs here: drawing what a decision says. What does not: computing anything (`decide`) and words (`card`).
Matplotlib is imported when a picture is drawn, with its file-only backend.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from milton_assets.selection.decision import CandidateReport, Decision, Standing
from milton_assets.selection.policy import Criterion
from milton_assets.vocabulary.metric import Direction, Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_DRAWN = 20
"""Candidates drawn by name: the best, the winner and the incumbent among them."""

_WINNER, _ELIGIBLE, _OTHER = "#1a7f37", "#0969da", "#8c959f"
WIDTH = 1000
"""Pixels across every picture: what the web UI's dialogue shows without scrolling."""

_DOTS_PER_INCH = 100
_PANELS_ABREAST = 2
_NAME_LENGTH = 36


def intervals(decision: Decision) -> bytes:
    """A panel per criterion: each candidate's figure with its confidence interval, and the gates as dashed lines."""
    shown = _shown(decision)
    criteria = decision.policy.criteria
    lines = math.ceil(len(criteria) / _PANELS_ABREAST)
    figure = _figure(height=0.4 + lines * (0.9 + 0.24 * max(len(shown), 1)))
    grid = figure.subplots(lines, _PANELS_ABREAST, sharey=True, squeeze=False)
    panels: Sequence[Axes] = list(grid.flat)
    for axes, criterion in zip(panels, criteria, strict=False):
        for row, report in enumerate(shown):
            _draw_interval(axes, row, report.reading(criterion.tier, criterion.metric), _colour(decision, report))
        for gate in decision.policy.gates:
            if gate.key == criterion.key:
                axes.axvline(gate.threshold, color="#cf222e", linestyle="--", linewidth=2)
        axes.set_xlabel(_axis(decision, criterion), fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", alpha=0.3)
    for empty in panels[len(criteria) :]:
        empty.set_visible(False)
    panels[0].set_yticks(range(len(shown)), [_name(report) for report in shown])
    panels[0].set_ylim(max(len(shown), 1) - 0.5, -0.5)
    figure.suptitle(f"{decision.run_id}: figures with their intervals; dashed: gates", fontsize=10)
    return _png(figure)


def pareto(decision: Decision) -> bytes:
    """Speed against quality: `pareto_figure` as PNG."""
    return _png(pareto_figure(decision))


def pareto_figure(decision: Decision) -> Figure:
    """The first criterion across, the last up, the Pareto front over all criteria filled.

    The front is that of all criteria, so a filled point may look dominated in these two. No line joins the points: they
    are different models. A name stands on the side of its point that has more room.
    """
    across, up = decision.policy.criteria[0], decision.policy.criteria[-1]
    figure = _figure(height=5.5)
    axes: Axes = figure.subplots()
    named = {report.version for report in _shown(decision)}
    points: list[tuple[CandidateReport, float, float]] = []
    for report in decision.candidates:
        x, y = (report.reading(c.tier, c.metric).value for c in (across, up))
        if x is None or y is None:
            continue
        points.append((report, x, y))
        colour = _colour(decision, report)
        axes.scatter(x, y, s=48, edgecolors=colour, facecolors=colour if report.pareto_optimal else "none", zorder=3)
    axes.margins(x=0.08, y=0.12)
    middle_x, middle_y = (sum(limits) / 2 for limits in (axes.get_xlim(), axes.get_ylim()))
    for report, x, y in points:
        if report.version not in named:
            continue
        left, below = x > middle_x, y > middle_y
        axes.annotate(
            _name(report),
            (x, y),
            textcoords="offset points",
            xytext=(-6 if left else 6, -5 if below else 5),
            ha="right" if left else "left",
            va="top" if below else "bottom",
            fontsize=8,
        )
    axes.set_xlabel(_axis(decision, across))
    axes.set_ylabel(_axis(decision, up))
    axes.grid(alpha=0.3)
    figure.suptitle(f"{decision.run_id}: filled points are not dominated on all criteria together", fontsize=10)
    return figure


def _figure(*, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / _DOTS_PER_INCH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    # Without a creation date or version: equal decisions give equal pictures.
    figure.savefig(out, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return out.getvalue()


def _draw_interval(axes: Axes, row: int, metric: Metric, colour: str) -> None:
    if metric.value is None:
        axes.text(0.5, row, metric.status.value, transform=axes.get_yaxis_transform(), ha="center", va="center")
        return
    if metric.interval is not None:
        axes.plot([metric.interval.low, metric.interval.high], [row, row], color=colour, linewidth=2)
    axes.plot(metric.value, row, "o", color=colour, fillstyle="full" if metric.valid else "none")


def _shown(decision: Decision) -> list[CandidateReport]:
    """The first candidates, the winner and the incumbent in any case."""
    asked_for = {decision.winner, decision.incumbent}
    first = decision.candidates[:MAX_DRAWN]
    return [*first, *(report for report in decision.candidates[MAX_DRAWN:] if report.version in asked_for)]


def _colour(decision: Decision, report: CandidateReport) -> str:
    if report.version == decision.winner:
        return _WINNER
    return _ELIGIBLE if report.standing is Standing.ELIGIBLE else _OTHER


def _name(report: CandidateReport) -> str:
    name = report.version
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…"


def _axis(decision: Decision, criterion: Criterion) -> str:
    units = (report.reading(criterion.tier, criterion.metric).unit for report in decision.candidates)
    unit = next((unit for unit in units if unit), "")
    better = "lower is better" if criterion.direction is Direction.LOWER else "higher is better"
    return f"{criterion.metric}{f' [{unit}]' if unit else ''}\n{better}"
