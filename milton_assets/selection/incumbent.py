"""The incumbent: the model that serves now, as far as past runs tell.

What belongs here: finding it among the summaries. What does not: comparing with it (`compare`).
"""

from __future__ import annotations

from pathlib import Path

from milton_assets.selection.summary import read_summary, run_ids


def incumbent_of(runs: Path) -> str | None:
    """The winner of the newest run that was deployed; None when none was. Raises `BadInput` for a damaged summary."""
    for run_id in reversed(run_ids(runs)):
        summary = read_summary(runs, run_id)
        if summary.deployments:
            return summary.decision.winner
    return None
