"""What past runs decided: the best model on the evidence there is.

What belongs here: reading that of the runs' summaries and no more. What does not: the summaries themselves
(`milton_assets.selection.summary`), whose reading costs more than a list of models may.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, ValidationError

from milton_assets.vocabulary.documents import Documents
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import RunId, Slug
from milton_assets.vocabulary.places import Place


class PastDecision(BaseModel):
    """What a benchmark run decided: who won, if anybody."""

    model_config = ConfigDict(frozen=True, strict=True)

    run_id: RunId
    verdict: str
    winner: Slug | None


class _Run(BaseModel):
    decision: PastDecision


def past_decisions(runs: Place) -> tuple[PastDecision, ...]:
    """The decisions among the run summaries below `runs`, oldest first. Raises `BadInput` for a summary without one."""
    decisions = []
    documents = Documents(runs)
    for name in documents.names():
        if not name.startswith("benchmark_"):
            continue
        try:
            decisions.append(_Run.model_validate_json(documents.read(name) or b"").decision)
        except (OSError, ValidationError) as error:
            raise BadInput(
                f"the run summary {documents.place(name)} does not hold ({error})",
                expected="a decision with run_id, verdict and winner",
                remedy="restore the file, or move it away",
            ) from error
    return tuple(decisions)


def best_version(decisions: Iterable[PastDecision]) -> PastDecision | None:
    """The newest decision that promoted a version: the best model on past evidence. None when none did."""
    promoted = [each for each in decisions if each.verdict == "promote" and each.winner is not None]
    return max(promoted, key=lambda each: each.run_id, default=None)
