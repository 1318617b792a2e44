"""The incumbent: the model that serves on the edge now, which a challenger has to beat.

What belongs here: asking the targets, and what is believed of one that is away. What does not: serving it beside a
challenger (`beside`), and comparing with it (`selection.compare`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from milton_assets.edge.deployment import Deployment
from milton_assets.edge.deployment.history import ended_at
from milton_assets.fleet.links import Unreachable
from milton_assets.fleet.target import Target


def incumbent_of(
    targets: Iterable[Target],
    *,
    mirrored: Callable[[str], Sequence[Deployment]],
    on_note: Callable[[str], object],
) -> str | None:
    """The version that the target changed last serves; None when nothing is deployed on any.

    Of a device that cannot be reached, and of a target that lies on another host, what was mirrored last counts, which
    `mirrored` keeps by the target's name; that is noted, and how old it is. Raises as `status` does for a target whose
    journal does not hold: who serves there cannot be known.
    """
    serving = []
    for target in targets:
        try:
            attempts = tuple(target.history())
            if attempts:
                active = target.status().active
                serving.append((attempts[-1].started_at, active.model_version if active else None))
            elif attempts := tuple(mirrored(target.name)):
                on_note(f"{target.name} knows of no attempt on this host; {_last_known(attempts)}")
                serving.append((attempts[-1].started_at, _served_after(attempts)))
        except Unreachable as away:
            if attempts := tuple(mirrored(target.name)):
                on_note(f"{target.name} is away ({away.problem}); {_last_known(attempts)}")
                serving.append((attempts[-1].started_at, _served_after(attempts)))
    return _of_latest(serving)


def heard_of_last(names: Iterable[str], mirrored: Callable[[str], Sequence[Deployment]]) -> str | None:
    """The version that the targets of these `names` were last heard to serve, as `incumbent_of`; none is asked."""
    told = ((attempts[-1].started_at, _served_after(attempts)) for name in names if (attempts := mirrored(name)))
    return _of_latest(told)


def _of_latest(serving: Iterable[tuple[datetime, str | None]]) -> str | None:
    latest_first = sorted(serving, key=lambda pair: pair[0], reverse=True)
    return next((version for _, version in latest_first if version), None)


def _last_known(attempts: Sequence[Deployment]) -> str:
    last, served = attempts[-1], _served_after(attempts) or "nothing"
    at = ended_at(last).astimezone(UTC)
    return f"after {last.id}, the latest that is known, which ended {at:%Y-%m-%d %H:%M} UTC, it served {served}"


def _served_after(attempts: Sequence[Deployment]) -> str | None:
    """The version in service after the last of these."""
    versions = {attempt.release: attempt.model_version for attempt in attempts if attempt.release}
    return versions.get(attempts[-1].now_serving or "")
