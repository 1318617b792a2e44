"""`milton why`: which model serves on a target, since when, by which decision, and how it is; in ten lines.

What belongs here: the verb and its lines. What does not: the answer (`milton_assets.usecases.why`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from milton_assets.cli.common import JsonOption, answer, current_settings
from milton_assets.vocabulary.figure import figure, span
from milton_assets.vocabulary.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console

    from milton_assets.usecases.why import Why
    from milton_assets.vocabulary.metric import Metric


def register(app: typer.Typer) -> None:
    """Add `why`."""
    app.command()(why)


def why(
    target: Annotated[str | None, typer.Argument(metavar="[TARGET]", help="The target; by default `local`.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say why a target serves what it serves: model, since when, by which decision, beside the one before, health.

    Exits 1 when the target serves nothing or is not well. `milton trace` verifies the chain, `milton report` shows all.

    Example: milton why local
    """
    from milton_assets.usecases.compose import targets_of
    from milton_assets.usecases.why import why_of

    settings = current_settings()
    told = why_of(targets_of(settings).resolve(name=target), settings.runs)
    answer(told.model_dump(mode="json"), as_json=as_json, text=lambda console: _draw(told, console))
    if told.health.well is False:
        raise typer.Exit(1)


def _draw(told: Why, console: Console) -> None:
    since = f"{told.since:%Y-%m-%d %H:%M} UTC" if told.since else "unknown"
    rows = [
        (told.target, f"serves {told.model_version} since {since}"),
        ("by", f"{told.deployment or 'an unknown deployment'}, {told.actor or 'unknown'}"),
        ("decided", f"{told.run_id}" + (f" under {told.policy}: {told.verdict}" if told.verdict else "")),
    ]
    rows += [("because", told.because)] if told.because else []
    rows.append(("before it", told.before or "nothing"))
    rows += [(one.label, _beside(one.now, one.before, told.before)) for one in told.figures]
    rows += [("held to", sentence) for sentence in told.held_to]
    rows.append(("health", _health(told)))
    rows += [("not known", sentence) for sentence in told.not_known]
    width = max(len(printable(label)) for label, _ in rows)
    for label, text in rows:
        console.print(f"{printable(label):<{width}}  {printable(text)}", markup=False, soft_wrap=True)


def _beside(now: Metric, before: Metric | None, earlier: str | None) -> str:
    text = _figure(now)
    return text if earlier is None else f"{text}, before {'not measured' if before is None else _figure(before)}"


def _figure(metric: Metric) -> str:
    if metric.value is None:
        return metric.status.value
    interval = f" [{span(metric.interval.low, metric.interval.high)}]" if metric.interval else ""
    return f"{figure(metric.value)} {metric.unit}{interval}"


def _health(told: Why) -> str:
    health = told.health
    words = {True: "well", False: "not well", None: "never probed"}[health.well]
    probed = f", probed {health.probed_at:%Y-%m-%d %H:%M} UTC" if health.probed_at else ""
    return "; ".join([words + probed, *health.problems])
