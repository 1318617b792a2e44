"""Order: by score, then by the policy's tie-breaks, then by version.

What belongs here: ranking a pool, with all its criteria or some candidates left out, and the Pareto front. What
does not: how a score is made (`scoring`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from milton_assets.selection.policy import Normalisation, Policy
from milton_assets.selection.scoring import Array, utilities, weighted_sum
from milton_assets.vocabulary.metric import Direction


@dataclass(frozen=True)
class Pool:
    """The eligible candidates, sorted by version: `values` is (criteria, candidates) in the policy's order."""

    versions: tuple[str, ...]
    values: Array

    def without(self, index: int) -> Pool:
        """The pool with that candidate left out."""
        rest = self.versions[:index] + self.versions[index + 1 :]
        return Pool(rest, np.delete(self.values, index, axis=1))


@dataclass(frozen=True)
class Ranking:
    """`parts` (criteria, candidates) are utilities, `scores` their weighted sums, `order` indices, best first."""

    parts: Array
    scores: Array
    order: npt.NDArray[np.intp]


def rank(
    pool: Pool,
    policy: Policy,
    *,
    normalisation: Normalisation | None = None,
    weights: Sequence[float] | None = None,
) -> Ranking:
    """Rank the pool under the policy, or under another normalisation or other weights."""
    chosen = normalisation or policy.normalisation
    parts = np.stack([utilities(pool.values[i], criterion, chosen) for i, criterion in enumerate(policy.criteria)])
    scores = weighted_sum(list(parts), weights or [criterion.weight for criterion in policy.criteria])
    return Ranking(parts, scores, np.lexsort((*_tie_keys(pool, policy), -scores)))


def _tie_keys(pool: Pool, policy: Policy) -> tuple[Array, ...]:
    """Sort keys for `np.lexsort`, the least important first; the pool's own order, by version, comes before all."""
    rows = {criterion.key: i for i, criterion in enumerate(policy.criteria)}
    keys: list[Array] = [np.arange(len(pool.versions), dtype=np.float64)]
    for tie in reversed(policy.tie_breaks):
        values = pool.values[rows[tie.key]]
        keys.append(values if tie.direction is Direction.LOWER else -values)
    return tuple(keys)


def pareto_front(pool: Pool, policy: Policy) -> npt.NDArray[np.bool_]:
    """Which candidates no other dominates: at least as good on every criterion and better on one.

    Candidates with equal figures do not dominate each other. O(candidates x front) in time.
    """
    gains = np.stack(
        [
            pool.values[i] if criterion.direction is Direction.HIGHER else -pool.values[i]
            for i, criterion in enumerate(policy.criteria)
        ],
        axis=1,
    )
    distinct, inverse = np.unique(gains, axis=0, return_inverse=True)
    optimal = np.zeros(len(distinct), dtype=bool)
    # Lexicographic order, best first: nobody that comes later can dominate somebody who came before.
    front = np.empty((0, gains.shape[1]))
    for index in range(len(distinct) - 1, -1, -1):
        if not (front >= distinct[index]).all(axis=1).any():
            optimal[index] = True
            front = np.vstack([front, distinct[index]])
    return optimal[np.asarray(inverse).reshape(-1)]
