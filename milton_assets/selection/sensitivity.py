"""What would change the outcome: other weights, another pool.

What belongs here: deciding again with one thing changed, verdict and winner and all: gates, ranking, certainty, the
incumbent rule and tie-breaks. What does not: how these are computed.

Gates and comparisons with the incumbent do not depend on weights. Whoever leaves changes the rest's ranges, their
shares of the resamplings and, through Holm's correction, their comparisons. All of that is reckoned anew while the
pool is small; what is held where it is large, `Sensitivity.held` says. The resampling keeps its seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from milton_assets.selection.contest import Contest, Outcome, enter, settle, verdict_on_nobody
from milton_assets.selection.decision import LeftOut, Sensitivity, Verdict, WeightChange
from milton_assets.selection.gates import Judgement
from milton_assets.selection.occasion import Occasion
from milton_assets.selection.policy import Normalisation, Policy, WhenUnclear
from milton_assets.selection.resample import probabilities_best

FACTORS = (0.5, 1.5)

EACH_LEFT_OUT = 20
"""Up to so many eligible candidates, each is left out and everything decided anew: quadratic in their number."""

RESCORED = 500
"""Up to so many, the resamplings are scored under each of the other weights."""

_CONTENDERS_LEFT_OUT = 10


def sensitivity(
    contest: Contest,
    outcome: Outcome,
    judgements: Sequence[Judgement],
    policy: Policy,
    occasion: Occasion,
) -> Sensitivity:
    """Each weight halved and raised by half (all rescaled to sum to 1), and each candidate left out."""
    held = []
    pool = len(contest.pool.versions)
    if pool > RESCORED and _certainty_counts(policy):
        held.append(f"for other weights P(best) is held as it is, for there are more than {RESCORED} candidates")
    if pool > EACH_LEFT_OUT:
        held.append(
            "left out were only the incumbent, the head of the ranking, the first contenders and whoever alone holds "
            f"an extreme, for there are more than {EACH_LEFT_OUT} candidates; comparisons with the incumbent are held "
            "as they are, and P(best) in proportion"
        )
    return Sensitivity(
        weights=tuple(_weights(contest, outcome, policy, occasion.seed)),
        left_out=tuple(_left_out(contest, outcome, judgements, policy, occasion)),
        held=tuple(held),
    )


def _certainty_counts(policy: Policy) -> bool:
    """Whether the outcome depends on P(best) at all."""
    return policy.certainty.when_unclear is not WhenUnclear.SCORE


def _weights(contest: Contest, outcome: Outcome, policy: Policy, seed: int) -> Iterator[WeightChange]:
    changes = [(row, factor) for row in range(len(policy.criteria)) for factor in FACTORS]
    policies = [_reweighed(policy, row, factor) for row, factor in changes]
    contests = [contest] * len(changes)
    if _certainty_counts(policy) and contest.shares is not None and 1 < len(contest.pool.versions) <= RESCORED:
        weightings = [[criterion.weight for criterion in changed.criteria] for changed in policies]
        anew = probabilities_best(contest.prepared, policy, seed, weightings)
        contests = [replace(contest, draw_shares=partial(np.asarray, shares)) for shares in anew]
    before = _result(contest, outcome)
    for (row, factor), changed, rescored in zip(changes, policies, contests, strict=True):
        after = settle(rescored, changed)
        verdict, winner = _result(rescored, after)
        yield WeightChange(
            metric=policy.criteria[row].metric,
            factor=factor,
            leader=_leader(rescored, after),
            verdict=verdict,
            winner=winner,
            changes=(verdict, winner) != before,
        )


def _reweighed(policy: Policy, row: int, factor: float) -> Policy:
    scaled = [c.weight * (factor if i == row else 1) for i, c in enumerate(policy.criteria)]
    total = math.fsum(scaled)
    criteria = tuple(
        criterion.model_copy(update={"weight": weight / total})
        for criterion, weight in zip(policy.criteria, scaled, strict=True)
    )
    return policy.model_copy(update={"criteria": criteria})


def _left_out(
    contest: Contest,
    outcome: Outcome,
    judgements: Sequence[Judgement],
    policy: Policy,
    occasion: Occasion,
) -> Iterator[LeftOut]:
    before = _result(contest, outcome)
    if contest.blind is not None and occasion.incumbent is not None:
        seeing = replace(contest, blind=None)
        verdict, winner = _result(seeing, settle(seeing, policy))
        yield LeftOut(version=occasion.incumbent, verdict=verdict, winner=winner)
    for index in _pivotal(contest, outcome, policy):
        gone = contest.pool.versions[index]
        others = [judgement for judgement in judgements if judgement.candidate.version != gone]
        if len(contest.pool.versions) == 1:
            verdict, winner = verdict_on_nobody(others), None
        else:
            anew = len(contest.pool.versions) <= EACH_LEFT_OUT
            rest = enter(others, policy, occasion) if anew else contest.without(index)
            verdict, winner = _result(rest, settle(rest, policy))
        if (verdict, winner) != before:
            yield LeftOut(version=gone, verdict=verdict, winner=winner)


def _pivotal(contest: Contest, outcome: Outcome, policy: Policy) -> list[int]:
    """Whom to leave out: everybody in a small pool, else those who are likeliest to matter."""
    versions, values = contest.pool.versions, contest.pool.values
    if len(versions) <= EACH_LEFT_OUT:
        return list(range(len(versions)))
    named = (int(outcome.ranking.order[0]), contest.serving, outcome.choice.winner)
    pivotal = {index for index in named if index is not None}
    if _certainty_counts(policy):
        contenders = outcome.confidence.contenders
        pivotal |= {versions.index(version) for version in (*contenders[:_CONTENDERS_LEFT_OUT], contenders[-1])}
    if Normalisation.MINMAX_POOL in (policy.normalisation, policy.second_opinion):
        for row in values:
            for extreme in (row.min(), row.max()):
                holders = np.flatnonzero(row == extreme)
                if holders.size == 1:
                    pivotal.add(int(holders[0]))
    return sorted(pivotal)


def _result(contest: Contest, outcome: Outcome) -> tuple[Verdict, str | None]:
    chosen = outcome.choice.winner
    return outcome.choice.verdict, None if chosen is None else contest.pool.versions[chosen]


def _leader(contest: Contest, outcome: Outcome) -> str:
    return contest.pool.versions[int(outcome.ranking.order[0])]
