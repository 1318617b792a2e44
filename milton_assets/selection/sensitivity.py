"""What would change who leads: other weights, another pool.

What belongs here: ranking again with one thing changed. What does not: certainty under noise (`resample`).
"""

from __future__ import annotations

import math

import numpy as np

from milton_assets.selection.decision import LeftOut, Sensitivity, WeightChange
from milton_assets.selection.policy import Normalisation, Policy
from milton_assets.selection.ranking import Pool, Ranking, rank

FACTORS = (0.5, 1.5)


def sensitivity(pool: Pool, ranking: Ranking, policy: Policy) -> Sensitivity:
    """Each weight halved and raised by half (all rescaled to sum to 1), and each candidate left out."""
    head = int(ranking.order[0])
    return Sensitivity(weights=_weights(pool, policy, head), left_out=_left_out(pool, policy, head))


def _weights(pool: Pool, policy: Policy, head: int) -> tuple[WeightChange, ...]:
    changes = []
    for row, criterion in enumerate(policy.criteria):
        for factor in FACTORS:
            scaled = [c.weight * (factor if i == row else 1) for i, c in enumerate(policy.criteria)]
            total = math.fsum(scaled)
            leader = int(rank(pool, policy, weights=[weight / total for weight in scaled]).order[0])
            changes.append(
                WeightChange(
                    metric=criterion.metric, factor=factor, winner=pool.versions[leader], changes=leader != head
                )
            )
    return tuple(changes)


def _left_out(pool: Pool, policy: Policy, head: int) -> tuple[LeftOut, ...]:
    changes = []
    for index in _pivotal(pool, policy, head):
        rest = pool.without(index)
        leader = rest.versions[int(rank(rest, policy).order[0])] if rest.versions else None
        if leader != pool.versions[head]:
            changes.append(LeftOut(version=pool.versions[index], winner=leader))
    return tuple(changes)


def _pivotal(pool: Pool, policy: Policy, head: int) -> list[int]:
    """Whose leaving can change the order of the rest: the head, and under min-max whoever alone holds an extreme."""
    pivotal = {head}
    if policy.normalisation is Normalisation.MINMAX_POOL:
        for row in pool.values:
            for extreme in (row.min(), row.max()):
                holders = np.flatnonzero(row == extreme)
                if holders.size == 1:
                    pivotal.add(int(holders[0]))
    return sorted(pivotal)
