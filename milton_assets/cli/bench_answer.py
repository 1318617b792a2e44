"""How a measured result is told on the command line: a table for people, all of it as JSON for machines.

What belongs here: that answer, the same for tiers and for evaluations of others. What does not: measuring.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from milton_assets.cli.common import answer, show_error_examples
from milton_assets.vocabulary.terminal import printable

if TYPE_CHECKING:
    from milton_assets.vocabulary.fingerprint import Fingerprint
    from milton_assets.vocabulary.metric import Metric
    from milton_assets.vocabulary.server import RunningServer
    from milton_assets.vocabulary.tier import TierResult


def show_result(
    result: TierResult, served: RunningServer, environment: Fingerprint, *, as_json: bool, **more: Any
) -> None:
    """Print the result, with the server that was asked; `more` stands beside it for machines."""
    payload = {
        "tier": result.tier,
        "metrics": [metric.model_dump(mode="json") for metric in result.metrics],
        "provenance": dict(result.provenance),
        "samples": _rows(result),
        "server": served.fingerprint.model_dump(mode="json"),
        "fingerprint": environment.model_dump(mode="json"),
        **more,
    }
    answer(payload, as_json=as_json, text=lambda console: _draw(result, console))


def _rows(result: TierResult) -> list[dict[str, Any]]:
    import pandas as pd

    return [
        {key: None if not isinstance(value, list) and pd.isna(value) else value for key, value in row.items()}
        for row in result.samples.to_dict("records")
    ]


def _draw(result: TierResult, console: Console) -> None:
    from milton_assets.usecases.measuring import ERROR_EXAMPLES

    goldens = ", ".join(result.provenance.get("goldens", {}))
    # Names of scores come from a log of others.
    title = f"{result.tier} on {goldens}" if goldens else result.tier
    table = Table(title=title, title_justify="left")
    table.add_column("metric", no_wrap=True)
    for heading in ("value", "95 % interval", "n", "errors"):
        table.add_column(heading, justify="right", no_wrap=True)
    for metric in result.metrics:
        table.add_row(*_cells(metric))
    console.print(table)
    for why, names in _notes(result.metrics).items():
        console.print(printable(f"{', '.join(names)}: {why}"), style="dim", markup=False)
    for kind, count in result.provenance.get("failures", {}).items():
        console.print(f"{count} of {result.provenance['calls']} calls failed: {kind}", markup=False)
    show_error_examples(console, result.provenance.get(ERROR_EXAMPLES, {}))


def _cells(metric: Metric) -> tuple[str, ...]:
    # A square bracket opens a tag for rich; this one opens an interval.
    interval = rf"\[{metric.interval.low:.2f}, {metric.interval.high:.2f}]" if metric.interval else ""
    return (escape(printable(metric.name)), _value(metric), interval, str(metric.n), str(metric.errors))


def _value(metric: Metric) -> str:
    if metric.value is None:
        return metric.status.value
    number = f"{metric.value:,.0f}" if abs(metric.value) >= 1000 else f"{metric.value:.3g}"
    unit = "" if metric.unit in {"fraction", "ratio"} else f" {metric.unit}"
    return number + unit + ("" if metric.valid else " (invalid)")


def _notes(metrics: Sequence[Metric]) -> dict[str, list[str]]:
    """The metrics that carry a reason, by that reason."""
    notes: dict[str, list[str]] = {}
    for metric in metrics:
        if metric.why:
            notes.setdefault(metric.why, []).append(metric.name)
    return notes
