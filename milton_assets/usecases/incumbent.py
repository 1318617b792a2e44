"""The incumbent: the model that serves on the edge now, which a challenger has to beat.

What belongs here: asking the targets. What does not: comparing with it (`selection.compare`).
"""

from __future__ import annotations

from collections.abc import Iterable

from milton_assets.fleet.target import Target


def incumbent_of(targets: Iterable[Target]) -> str | None:
    """The version that the target changed last serves; None when nothing is deployed on any.

    Raises as `status` does for a target whose journal does not hold: who serves there cannot be known then.
    """
    deployed = [(attempts[-1].started_at, target) for target in targets if (attempts := target.history())]
    for _, target in sorted(deployed, key=lambda pair: pair[0], reverse=True):
        if active := target.status().active:
            return active.model_version
    return None
