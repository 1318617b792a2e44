"""How often each candidate would be best if the evidence had been drawn anew.

What belongs here: drawing the criteria of the whole pool, and counting who leads. What does not: what follows from
it (`decide`).

A criterion that can be paired by case is drawn by the bootstrap over cases, the same cases for every candidate
(Efron and Tibshirani 1993, chapter 6); any other by its standard error (`noise`). A draw in which several lead
counts in equal shares. The pool is the eligible candidates: the gates' outcome is taken as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.cases import Cases, line_up
from milton_assets.selection.life import Life
from milton_assets.selection.noise import Errors, errors_of
from milton_assets.selection.policy import Criterion, Policy
from milton_assets.selection.scoring import SCORE_DECIMALS, Array, plain_sum, utilities
from milton_assets.statistics.bootstrap import drawn_counts, drawn_means, stream
from milton_assets.statistics.spending import Noise
from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.tier_spec import Tiers

_FLOATS_PER_CHUNK = 1 << 19
_TIE_DECIMALS = 9
"""Products of matrices may differ in the last digits by where a column stands; equal candidates must still tie."""

_NEAR = 1e-8
"""Further apart than this, two scores cannot be equal once rounded."""

_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Drawn:
    """What one criterion is drawn from: cases where `cases.paired`, else the value and its standard error.

    `noises` are those between campaigns that the errors hold.
    """

    criterion: Criterion
    values: Array
    cases: Cases
    errors: Errors
    noises: tuple[Noise, ...]

    @property
    def known(self) -> _Mask:
        """Whose uncertainty is known."""
        return self.cases.paired | self.errors.known

    def without(self, index: int) -> Drawn:
        """The figures with that candidate left out, and no cases: what is held is not drawn again."""
        values, errors = np.delete(self.values, index), self.errors
        nobody = np.zeros(len(values), dtype=bool)
        why = self.cases.why[:index] + self.cases.why[index + 1 :]
        return Drawn(
            self.criterion,
            values,
            Cases(np.empty((len(values), 0)), nobody, why, by_case=False),
            errors.without(index),
            self.noises[:index] + self.noises[index + 1 :],
        )

    def draw(self, rng: np.random.RandomState, counts: Array | None, out: Array) -> None:
        """Fill `out` (draws, candidates) with draws of the criterion. `counts` (draws, cases) are the shared cases
        drawn."""
        paired = self.cases.paired
        if counts is None:
            self._by_error(rng, ~paired, out)
            return
        drawn_means(counts, self.cases.values.T, out)
        if not paired.all():
            some = np.empty((len(out), np.count_nonzero(~paired)))
            self._by_error(rng, ~paired, some)
            out[:, ~paired] = some

    def _by_error(self, rng: np.random.RandomState, some: _Mask, out: Array) -> None:
        values, log = self.values[some], self.errors.log[some]
        shift = np.multiply(rng.standard_normal(out.shape), self.errors.standard_error[some], out=out)
        if log.all():
            np.multiply(values, np.exp(shift, out=shift), out=out)
        else:
            out[:] = np.where(log, values * np.exp(np.where(log, shift, 0.0)), values + shift)


def prepare(
    candidates: Sequence[Candidate], metrics: Sequence[Sequence[Metric]], policy: Policy, tiers: Tiers, life: Life
) -> tuple[Drawn, ...]:
    """What each criterion of the policy is drawn from; `metrics` is (criteria, candidates).

    `life` knows the noise between campaigns where it was measured.
    """
    return tuple(
        prepare_one(candidates, row, criterion, tiers, life)
        for criterion, row in zip(policy.criteria, metrics, strict=True)
    )


def prepare_one(
    candidates: Sequence[Candidate], metrics: Sequence[Metric], criterion: Criterion, tiers: Tiers, life: Life
) -> Drawn:
    """The same of one criterion; `metrics` are the candidates'."""
    values = np.array([metric.value for metric in metrics], dtype=np.float64)
    noises = life.noises(criterion, [candidate.version for candidate in candidates], values)
    return Drawn(criterion, values, line_up(candidates, criterion, tiers), errors_of(metrics, noises), tuple(noises))


def unknown(prepared: Sequence[Drawn], versions: Sequence[str]) -> str | None:
    """Why resampling is impossible: which figures have neither cases nor an interval. None when it is possible."""
    for drawn in prepared:
        bare = np.flatnonzero(~drawn.known)
        if bare.size:
            first = int(bare[0])
            others = f" and {bare.size - 1} more" if bare.size > 1 else ""
            return (
                f"{drawn.criterion.metric} of {versions[first]}{others} has no interval, "
                f"and no cases to resample: {drawn.cases.why[first]}"
            )
    return None


def probability_best(prepared: Sequence[Drawn], policy: Policy, seed: int) -> Array:
    """The share of `policy.certainty.draws` resamplings in which each candidate scores highest; sums to 1."""
    weights = [drawn.criterion.weight for drawn in prepared]
    best: Array = probabilities_best(prepared, policy, seed, [weights])[0]
    return best


def probabilities_best(
    prepared: Sequence[Drawn], policy: Policy, seed: int, weightings: Sequence[Sequence[float]]
) -> Array:
    """The same, (weightings, candidates), under each of the weightings instead of the policy's own: of the same draws.

    Memory is bounded: the draws are made in chunks of about four megabytes a table.
    """
    rng = stream(seed)
    pool = len(prepared[0].values)
    draws = policy.certainty.draws
    chunk = max(1, _FLOATS_PER_CHUNK // pool)
    led = np.zeros((len(weightings), pool))
    room = np.empty((len(prepared), min(chunk, draws), pool))
    for start in range(0, draws, chunk):
        count = min(chunk, draws - start)
        shared: dict[tuple[str, int], Array] = {}
        parts = list(room[:, :count])
        for drawn, part in zip(prepared, parts, strict=True):
            drawn.draw(rng, _shared_counts(drawn, shared, rng, count), part)
            utilities(part, drawn.criterion, policy.normalisation, out=part)
        for row, weights in enumerate(weightings):
            led[row] += _shares_led(parts, weights)
    return led / draws


def _shares_led(parts: Sequence[Array], weights: Sequence[float]) -> Array:
    """In how many draws each candidate leads; `parts` (draws, candidates) are the criteria's utilities."""
    scores = plain_sum(parts, weights)
    # Rounding keeps order, so only who comes near the best can equal it once rounded.
    draw, candidate = np.nonzero(scores >= scores.max(axis=1, keepdims=True) - _NEAR)
    near = np.round(np.round(scores[draw, candidate], SCORE_DECIMALS), _TIE_DECIMALS)
    best = np.zeros(len(scores))
    np.maximum.at(best, draw, near)
    leads = near == best[draw]
    draw, candidate = draw[leads], candidate[leads]
    led: Array = np.bincount(candidate, 1 / np.bincount(draw)[draw], minlength=scores.shape[1]).astype(np.float64)
    return led


def _shared_counts(
    drawn: Drawn, shared: dict[tuple[str, int], Array], rng: np.random.RandomState, count: int
) -> Array | None:
    """How often each case is drawn, (count, cases); metrics of one tier over the same cases share them."""
    if not drawn.cases.paired.any():
        return None
    key = (drawn.criterion.tier, drawn.cases.values.shape[1])
    if key not in shared:
        shared[key] = drawn_counts(rng, key[1], count)
    return shared[key]
