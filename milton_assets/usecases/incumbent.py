"""The incumbent: the model that serves on the edge now, which a challenger has to beat.

What belongs here: asking the targets. What does not: comparing with it (`selection.compare`).
"""

from __future__ import annotations

from collections.abc import Iterable

from milton_assets.edge.deployment import EdgeTarget, history, status


def incumbent_of(targets: Iterable[EdgeTarget]) -> str | None:
    """The version that the target changed last serves; None when nothing is deployed on any.

    Raises as `status` does for a target whose journal does not hold: who serves there cannot be known then.
    """
    changed = {target: history(target) for target in targets}
    deployed = [target for target, deployments in changed.items() if deployments]
    for target in sorted(deployed, key=lambda target: changed[target][-1].started_at, reverse=True):
        if active := status(target).active:
            return active.model_version
    return None
