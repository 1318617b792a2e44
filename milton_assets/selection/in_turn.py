"""Rounds in turn as a decision reads them: each candidate's speeds against what serves, drift cancelled.

What belongs here: from the tables' statements to gains and their errors, and the sentences on who has none. What does
not: the statements themselves (`milton_assets.vocabulary.beside`), the noise that rounds do not cancel (`life`), and
the comparison that is made of both (`compare`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.explain import some
from milton_assets.selection.policy import Criterion, IncumbentRule, MarginKind, MetricRef
from milton_assets.selection.scoring import Array
from milton_assets.vocabulary.beside import Beside


@dataclass(frozen=True)
class InTurn:
    """One speed of every candidate against what serves, in rounds in turn: arrays (candidates,), NaN where there were
    none with it.

    `gain` is the mean over the rounds of the logarithm of the candidate's figure over the incumbent's, `own` its
    standard error as the spread of so many `rounds` tells.
    """

    criterion: Criterion
    gain: Array
    own: Array
    rounds: Array

    def and_also(self, others: InTurn) -> InTurn:
        """These candidates and then those, of the same criterion."""
        gain, own, rounds = (
            np.concatenate([getattr(self, name), getattr(others, name)]) for name in ("gain", "own", "rounds")
        )
        return InTurn(self.criterion, gain, own, rounds)


def in_turn(candidates: Sequence[Candidate], criterion: Criterion, serving: str | None) -> InTurn:
    """Those of one criterion; `serving` is the SHA-256 of the weights that serve, None where it is not known.

    Raises `BadInput` for a table whose statement does not read.
    """
    gain, own, rounds = np.full((3, len(candidates)), np.nan)
    for place, one in enumerate(candidates):
        beside = _beside(one, criterion)
        if beside is None or beside.artefact_sha256 != serving:
            continue
        if ratios := beside.log_ratios(criterion.metric):
            gain[place] = round(math.fsum(ratios) / len(ratios), 12)
            own[place] = np.std(ratios, ddof=1) / math.sqrt(len(ratios))
            rounds[place] = len(ratios)
    return InTurn(criterion, gain, own, rounds)


def notes(
    candidates: Sequence[Candidate], rule: IncumbentRule | None, incumbent: str | None, serving: str | None
) -> tuple[str, ...]:
    """A sentence for each reason why somebody's speeds are not compared with the incumbent's in rounds in turn.

    Whoever was measured when nothing served, or served itself, states nothing, and nothing is said of it.
    """
    if rule is None or incumbent is None:
        return ()
    found: dict[tuple[str, str], list[str]] = {}
    for one in candidates:
        for margin in rule.margins:
            if margin.kind is not MarginKind.RELATIVE or (beside := _beside(one, margin)) is None:
                continue
            if beside.artefact_sha256 != serving:
                why: str | None = f"it was measured beside {beside.version}, whose weights do not serve any more"
            else:
                why = beside.why_not(margin.metric)
            if why is not None:
                found.setdefault((why, margin.metric), []).append(one.version)
    by_reason: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (why, metric), versions in found.items():
        by_reason.setdefault((why, tuple(versions)), []).append(metric)
    return tuple(
        f"{' and '.join(metrics)} of {some(versions)} and of {incumbent} are compared across campaigns and not in "
        f"rounds in turn: {why}"
        for (why, versions), metrics in by_reason.items()
    )


def _beside(candidate: Candidate, reference: MetricRef) -> Beside | None:
    result = candidate.tiers.get(reference.tier)
    return None if result is None else Beside.of(result.provenance)
