"""What the report shows of fidelity: how far each model is from its reference, and that this ranks nobody.

What belongs here: charts, from results as they are kept. What does not: figures (`figures`) and drawing.
"""

from __future__ import annotations

from collections.abc import Mapping

from milton_assets.tiers.fidelity.figures import FLIPS, KL
from milton_assets.vocabulary.chart import Axis, Chart, Dot, DotChart, DotRow, Scale
from milton_assets.vocabulary.metric import Direction
from milton_assets.vocabulary.tier import TierResult

_ABOUT = (
    "Each model against the one that it was made from, on the same text. A gate against gross damage and no ranking: "
    "near the reference it says little of what a model does on tasks."
)


def charts(results: Mapping[str, TierResult]) -> tuple[Chart, ...]:
    """The divergence and the flips of each result; none where no model has a reference."""
    found = [
        _chart(results, KL, "Divergence from the reference (at least)", Axis(label=KL, unit="nats/token", low=0)),
        _chart(
            results, FLIPS, "Places where another token is likeliest", Axis(label=FLIPS, scale=Scale.PERCENT, low=0)
        ),
    ]
    return tuple(chart for chart in found if chart is not None)


def _chart(results: Mapping[str, TierResult], name: str, title: str, axis: Axis) -> Chart | None:
    metrics = {version: result.metric(name) for version, result in results.items() if _has(result, name)}
    if all(metric.value is None for metric in metrics.values()):
        return None
    return DotChart(
        key=name,
        title=title,
        about=_ABOUT,
        x=axis.model_copy(update={"better": Direction.LOWER}),
        series=("the model",),
        rows=tuple(DotRow(name=version, dots=(Dot.of(metric),)) for version, metric in metrics.items()),
    )


def _has(result: TierResult, name: str) -> bool:
    return any(metric.name == name for metric in result.metrics)
