"""Gathering the page of a rollout from its journal.

    data = gather_rollout(state, "spring", now=now)
    path = keep_rollout_page(state, "spring", now=now)

What belongs here: reading the journal into `RolloutData`, and the page beside it. What does not: drawing it
(`milton_assets.report`), and what the events mean (`milton_assets.rollout.states`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from milton_assets import __version__
from milton_assets.report.data import RolloutData, RolloutLine, RolloutRow
from milton_assets.report.page import rollout_page
from milton_assets.rollout.events import Event
from milton_assets.rollout.journal import read_rollout
from milton_assets.rollout.states import Phase, Rollout, Stage, step
from milton_assets.usecases.rollouts import folder_of, rollout_of, rollouts_of_run
from milton_assets.vocabulary.chart import Axis, Join, Line, Place, PlaneChart, Rule, Scale
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.files import write_atomic
from milton_assets.vocabulary.state import StateDir

MOST_PLACES = 400
"""So many places a line of the chart has at most; of more, some in between are left out."""
_SIMPLY = frozenset({Phase.STOOD, Phase.HAD_IT})


def page_file(state: StateDir, name: str) -> Path:
    """Where the page of that rollout is kept."""
    return folder_of(state, name) / "page.html"


def keep_rollout_page(state: StateDir, name: str, *, now: datetime) -> Path:
    """Write the rollout's page beside its journal; its path. Raises as `gather_rollout`."""
    path = page_file(state, name)
    write_atomic(path, rollout_page(gather_rollout(state, name, now=now)))
    return path


def rollout_lines(state: StateDir, run_id: str, page_beside: Path | None) -> Iterator[RolloutLine]:
    """The rollouts of that run's bundle, for a page in the folder `page_beside`, which links those that have one; for
    one that lies anywhere where that is None."""
    for name in rollouts_of_run(state, run_id):
        rollout = rollout_of(state, name)
        page = page_file(state, name)
        link = Path(os.path.relpath(page, page_beside)).as_posix() if page_beside and page.exists() else None
        yield RolloutLine(name=name, told=_headline(rollout), is_well=_is_well(rollout), link=link)


def _headline(rollout: Rollout) -> str:
    return f"{rollout.plan.model_version} to {len(rollout.order)} devices: {rollout.stage}"


def _is_well(rollout: Rollout) -> bool:
    return rollout.stage is Stage.DONE and not rollout.failed


def gather_rollout(state: StateDir, name: str, *, now: datetime) -> RolloutData:
    """What the journal of that rollout tells by now. Raises `BadInput` where there is none, and as `read_rollout`."""
    reading = read_rollout(folder_of(state, name))
    rollout = reading.state
    assert rollout is not None  # noqa: S101 - `read_rollout` has refused an empty one
    shown = [device for device in rollout.each() if device.phase not in _SIMPLY]
    return RolloutData(
        made_at=now,
        release=__version__,
        name=name,
        headline=_headline(rollout),
        is_well=_is_well(rollout),
        lines=tuple(_lines(rollout)),
        chart=_chart(rollout, reading.events),
        wave_header=("wave", "devices begun", "at most", "the next opens by", "open since", "because"),
        waves=tuple(_waves(rollout)),
        device_header=("device", "is", "since (UTC)", "wave", "before", "serves", "because"),
        devices=tuple(
            RolloutRow(
                cells=(
                    device.name,
                    device.phase.replace("_", " "),
                    f"{device.since:%Y-%m-%d %H:%M}",
                    "" if device.wave is None else str(device.wave + 1),
                    short(device.before) if device.before else "",
                    short(device.serving) if device.serving else "",
                    device.reason or "no wave takes it yet",
                )
            )
            for device in shown
        ),
        left_out=len(rollout.order) - len(shown),
    )


def _lines(rollout: Rollout) -> Iterator[str]:
    gate, plan = rollout.plan.gate, rollout.plan
    yield f"release {plan.release}, decided on in {plan.run_id}"
    yield f"planned {rollout.planned_at:%Y-%m-%d %H:%M} UTC; {rollout.stage}" + (
        f": {rollout.why}" if rollout.why else ""
    )
    yield f"{rollout.begun} devices began: {rollout.well} stood, {rollout.failed} failed"
    yield (
        f"the failure rate is {rollout.rate if rollout.rate != 'not yet' else 'not yet known to be small or large'}: "
        f"{gate.intolerable:.0%} is intolerable (going on wrongly: {gate.alpha:.0%}), {gate.tolerable:.0%} tolerable "
        f"(stopping wrongly: {gate.beta:.0%})"
    )
    yield f"{len(rollout.exposed())} devices may serve the release because of it, of at most {rollout.exposure_bound}"


def _waves(rollout: Rollout) -> Iterator[RolloutRow]:
    for number, wave in enumerate(rollout.plan.waves):
        opened = rollout.opened[number] if number < len(rollout.opened) else None
        is_last = number == len(rollout.plan.waves) - 1
        yield RolloutRow(
            cells=(
                f"{number + 1} ({wave.said})",
                str(rollout.begun_in[number]),
                "" if wave.limit is None else str(wave.limit),
                "" if is_last else wave.opens,
                f"{opened.at:%Y-%m-%d %H:%M} UTC" if opened else "not open",
                opened.reason if opened else "",
            )
        )


def _chart(rollout: Rollout, events: Iterable[Event]) -> PlaneChart:
    """How many devices began, stood and failed, and how many may have it at most, over time."""
    counts: list[tuple[float, tuple[int, ...]]] = []
    state: Rollout | None = None
    for event in events:
        state = step(state, event)
        count = (state.begun, state.well, state.failed, state.exposure_bound)
        if not counts or counts[-1][1] != count:
            counts.append((event.at.timestamp(), count))
    every = max(1, len(counts) // MOST_PLACES)
    kept = [*counts[:-1:every], counts[-1]]
    names = ("began", "stood", "failed", "at most allowed")
    return PlaneChart(
        key="rollout",
        title="Devices over time",
        about="Upright: waves that opened. No more devices ever began than the waves allowed.",
        x=Axis(label="time", scale=Scale.TIME),
        y=Axis(label="devices", low=0.0),
        lines=tuple(
            Line(
                name=name,
                join=Join.STEPS,
                marked=False,
                places=tuple(Place(x=at, y=float(count[number])) for at, count in kept),
            )
            for number, name in enumerate(names)
        ),
        rules=tuple(
            Rule(value=opened.at.timestamp(), label=f"wave {number}") for number, opened in enumerate(rollout.opened, 1)
        ),
    )
