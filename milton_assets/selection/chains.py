"""Chains of campaigns: how often unchanged models are promoted over one another in a year of looking.

    shares = ever_promoted(Chain(noise=0.06, candidates=5), chains=1000, seed=1)
    shares.spending, shares.each_for_itself      # with alpha spent over the incumbent's life, and campaign by campaign

What belongs here: drawing many chains at once as arrays, from variances as they were measured, and applying the
incumbent's rule to them with the formulas that decisions use (`statistics`). What does not: campaigns with tables of
cases for whole decisions (`simulate`), and which chains are run (`benches/selection`).

A model answers each campaign anew, which is harder than greedy decoding that repeats itself. Its speeds carry noise
between campaigns that follows an AR(1) process, error within the campaign, and now and then an outlier: something else
ran beside it and made it slower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from milton_assets.selection.life import ASSUMED_OF_STARTS
from milton_assets.selection.scoring import Array
from milton_assets.statistics.multiplicity import holm
from milton_assets.statistics.normal import z_leaving
from milton_assets.statistics.paired import agresti_min, mcnemar_exact
from milton_assets.statistics.spending import (
    Noise,
    combined_freedom,
    group_share,
    is_look,
    look_share,
    student_p,
    student_reach,
)
from milton_assets.vocabulary.beside import ROUNDS

_Flags = npt.NDArray[np.bool_]

ALPHA = 0.05
SPEED_MARGIN = 0.25
QUALITY_MARGIN = 0.05
OWN_ERRORS_IN_TURN = (0.15 * math.sqrt(2 / ROUNDS), 0.02 * math.sqrt(8) * math.sqrt(2 / ROUNDS))
"""Of a gain over `ROUNDS` rounds in turn of one request each. Eight of these vary together as little as a round of the
model's own figures does."""
OWN_ERRORS = (0.15 * math.sqrt(math.pi / 2 / 40), 0.02 / math.sqrt(5))
"""Of the median of 40 times to first token, and of the mean throughput of 5 rounds: relative."""


@dataclass(frozen=True)
class Chain:
    """Unchanged candidates, measured campaign after campaign; the first of them serves.

    `noise` is the standard deviation of speeds between campaigns, `memory` how much of one campaign's deviation is in
    the next (AR(1)), `outliers` the share of a candidate's campaigns in which it was slowed by a factor with a median
    of 1.3. `slower` and `down` are how much worse every challenger is: a share on speeds, points on both qualities.
    `ndcg_sd` is the standard deviation of the difference of two models' nDCG@10 on a query: 0.16 to 0.22 as measured.

    `starts` is the standard deviation that each start of a server adds to its speeds, where challengers are measured
    beside the incumbent in rounds in turn: what drifts is the same for both then. None: one after the other.
    """

    noise: float = 0.03
    candidates: int = 2
    memory: float = 0.5
    outliers: float = 0.0
    slower: float = 0.0
    down: float = 0.0
    campaigns: int = 200
    assumed: float = 0.03
    cases: int = 150
    queries: int = 60
    pass_rate: float = 0.95
    case_spread: float = 4.0
    ndcg_sd: float = 0.19
    starts: float | None = None


@dataclass(frozen=True)
class EverPromoted:
    """The shares of chains in which a challenger was ever promoted: with alpha spent once over the incumbent's life,
    and with each campaign tested for itself at the assumed noise."""

    spending: float
    each_for_itself: float


def ever_promoted(chain: Chain, *, chains: int, seed: int) -> EverPromoted:
    """Run `chains` chains. Memory is bounded: they are run in blocks."""
    block = max(1, 100_000 // chain.candidates)
    rng = np.random.default_rng(seed)
    spending = alone = 0
    for start in range(0, chains, block):
        one = _Block(chain, min(block, chains - start), rng)
        for _ in range(chain.campaigns):
            one.measure()
        spending += int(one.promoted.sum())
        alone += int(one.promoted_alone.sum())
    return EverPromoted(spending / chains, alone / chains)


class _Block:
    """Some chains at once. Speeds are (2, chains, candidates) logarithms, oriented so that above is better."""

    def __init__(self, chain: Chain, count: int, rng: np.random.Generator) -> None:
        self.chain, self.rng = chain, rng
        shape = (2, count, chain.candidates)
        self.shape = shape
        self.truth = np.zeros(shape)
        self.truth[:, :, 1:] = math.log1p(-chain.slower)
        self.drift = rng.normal(0, chain.noise, shape)
        # Of gains in turn there is one a challenger, else a figure a candidate.
        kept = shape if chain.starts is None else (2, count, chain.candidates - 1)
        self.sums, self.squares = np.zeros(kept), np.zeros(kept)
        self.seen = 0
        # The same hard cases all along: the goldens do not change.
        certain = 1 - 1 / chain.case_spread
        self.hard = rng.binomial(chain.cases, (1 - chain.pass_rate) / certain, count)
        left = (chain.cases - self.hard)[:, None]
        self.harder = rng.binomial(left, chain.down / certain / chain.pass_rate, (count, 1))
        self.superior: _Flags = np.zeros((count, chain.candidates - 1), dtype=bool)
        self.promoted: _Flags = np.zeros(count, dtype=bool)
        self.promoted_alone: _Flags = np.zeros(count, dtype=bool)
        self.p_spent = np.ones((4, count, chain.candidates - 1))

    def measure(self) -> None:
        """One campaign, and both rules' answers to it."""
        chain, rng = self.chain, self.rng
        kept = chain.memory
        self.drift = kept * self.drift + rng.normal(0, chain.noise * math.sqrt(1 - kept**2), self.shape)
        own = np.array(OWN_ERRORS)[:, None, None]
        speeds = self.truth + self.drift + rng.standard_normal(self.shape) * own
        if chain.outliers:
            slowed = rng.random(self.shape[1:]) < chain.outliers
            speeds = speeds - slowed * np.abs(rng.normal(0, 0.4, self.shape[1:]))
        self.seen += 1
        told = speeds if chain.starts is None else self._in_turn(chain.starts)
        self.sums += told
        self.squares += told**2
        unsettled: _Flags = self.superior.any(axis=1) & ~self.promoted
        if not is_look(self.seen) and self.promoted_alone.all() and not unsettled.any():
            return  # nobody asks this campaign anything; the next one drifts on from its speeds
        wins, losses = self._cases()
        ndcg, ndcg_error = self._queries()
        self._each_for_itself(speeds, wins, losses, ndcg, ndcg_error)
        if is_look(self.seen):
            self._look(wins, losses, ndcg, ndcg_error)
            unsettled = self.superior.any(axis=1) & ~self.promoted
        if unsettled.any():
            within = self._non_inferior(wins, losses, ndcg, ndcg_error)
            self.promoted |= unsettled & (within & self.superior).any(axis=1)

    def _in_turn(self, starts: float) -> Array:
        """The gain of each challenger in rounds in turn: both drift alike, and each was started for itself."""
        shape = (2, self.shape[1], self.shape[2] - 1)
        own = np.array(OWN_ERRORS_IN_TURN)[:, None, None]
        of_starts = self.rng.normal(0, starts, shape) - self.rng.normal(0, starts, shape)
        gains: Array = self.truth[:, :, 1:] - self.truth[:, :, :1] + of_starts + self.rng.standard_normal(shape) * own
        return gains

    def _cases(self) -> tuple[Array, Array]:
        """In how many cases each challenger was right and the incumbent wrong, and the other way round."""
        luck, rng = 1 / self.chain.case_spread, self.rng
        right = rng.binomial(self.hard, luck)[:, None]
        shape = (self.shape[1], self.shape[2] - 1)
        wins = rng.binomial(self.hard[:, None] - right, luck, shape)
        losses = rng.binomial(right, 1 - luck, shape) + rng.binomial(self.harder, 1 - luck, shape)
        return wins.astype(np.float64), losses.astype(np.float64)

    def _queries(self) -> tuple[Array, Array]:
        """The mean difference of nDCG@10 of each challenger, and its standard error as the queries show it."""
        chain, rng = self.chain, self.rng
        error = chain.ndcg_sd / math.sqrt(2 * chain.queries)
        means = rng.normal(0, error, self.shape[1:])
        freedom = chain.queries - 1
        shown = chain.ndcg_sd * np.sqrt(rng.chisquare(freedom, means[:, 1:].shape) / freedom / chain.queries)
        return means[:, 1:] - means[:, :1] - chain.down, shown

    def _noises(self) -> list[tuple[Array, Array]]:
        """For each speed its degrees of freedom, and the standard error of a challenger's gain in each chain."""
        in_turn = self.chain.starts is not None
        deviations = (self.squares - self.sums**2 / self.seen).sum(axis=2)
        freedom = (self.seen - 1) * self.sums.shape[2]
        found = []
        for row, own in enumerate(OWN_ERRORS_IN_TURN if in_turn else OWN_ERRORS):
            assumed = Noise(self.chain.assumed * (ASSUMED_OF_STARTS if in_turn else 1.0), 0.0, freedom)
            pooled = np.sqrt(assumed.pooled(own) ** 2 + deviations[row] / assumed.total_freedom)
            known = np.full(pooled.shape, float(assumed.total_freedom))
            if in_turn:
                alone = np.full(pooled.shape, own)
                found.append((combined_freedom(pooled, alone, np.full(pooled.shape, ROUNDS - 1.0), known), pooled))
            else:
                found.append((known, math.sqrt(2) * pooled))
        return found

    def _differences(self) -> Array:
        means = self.sums / self.seen
        return means if self.chain.starts is not None else means[:, :, 1:] - means[:, :, :1]

    def _look(self, wins: Array, losses: Array, ndcg: Array, ndcg_error: Array) -> None:
        gains = self._differences()
        cases = self.chain.cases
        p_values = np.stack(
            [
                *(
                    student_p(gains[row] / error[:, None], freedom[:, None])
                    for row, (freedom, error) in enumerate(self._noises())
                ),
                mcnemar_exact(wins, losses),
                student_p(ndcg / ndcg_error, self.chain.queries - 1),
            ]
        )
        better = np.stack([gains[0] > 0, gains[1] > 0, wins > losses, ndcg > 0]) & (cases > 0)
        spent = p_values / (look_share(self.seen) * group_share(1))
        corrected = _holm_by_chain(spent)
        superior: _Flags = np.any(better & (corrected < ALPHA), axis=0)
        self.superior = superior

    def _non_inferior(self, wins: Array, losses: Array, ndcg: Array, ndcg_error: Array) -> _Flags:
        gains = self._differences()
        within = _quality_within(self.chain, wins, losses, ndcg, ndcg_error)
        for row, (freedom, error) in enumerate(self._noises()):
            reach = student_reach(freedom[:, None], 2 * ALPHA) * error[:, None]
            within = within & (np.expm1(gains[row] - reach) >= -SPEED_MARGIN)
        return within

    def _each_for_itself(self, speeds: Array, wins: Array, losses: Array, ndcg: Array, ndcg_error: Array) -> None:
        # A chain counts once: those that promoted already are not asked again.
        left = np.flatnonzero(~self.promoted_alone)
        if not left.size:
            return
        gains = (speeds[:, :, 1:] - speeds[:, :, :1])[:, left]
        wins, losses, ndcg, ndcg_error = wins[left], losses[left], ndcg[left], ndcg_error[left]
        errors = [math.sqrt(2) * math.hypot(own, self.chain.assumed) for own in OWN_ERRORS]
        many = 10**9
        p_values = np.stack(
            [
                *(student_p(gains[row] / error, many) for row, error in enumerate(errors)),
                mcnemar_exact(wins, losses),
                student_p(ndcg / ndcg_error, self.chain.queries - 1),
            ]
        )
        better = np.stack([gains[0] > 0, gains[1] > 0, wins > losses, ndcg > 0])
        # Bonferroni's threshold first: Holm can only add rejections beyond the first.
        some = np.flatnonzero((p_values * p_values.shape[0] * p_values.shape[2] < ALPHA).any(axis=(0, 2)))
        if not some.size:
            return
        superior = (better[:, some] & (_holm_by_chain(p_values[:, some]) < ALPHA)).any(axis=0)
        within = _quality_within(self.chain, wins[some], losses[some], ndcg[some], ndcg_error[some])
        for row, error in enumerate(errors):
            within &= np.expm1(gains[row][some] - z_leaving(2 * ALPHA) * error) >= -SPEED_MARGIN
        self.promoted_alone[left[some]] = (superior & within).any(axis=1)


def _quality_within(chain: Chain, wins: Array, losses: Array, ndcg: Array, ndcg_error: Array) -> _Flags:
    low, _ = agresti_min(wins, losses, chain.cases, outside=2 * ALPHA)
    reach = student_reach(chain.queries - 1, 2 * ALPHA)
    within: _Flags = (low >= -QUALITY_MARGIN) & (ndcg - reach * ndcg_error >= -QUALITY_MARGIN)
    return within


def _holm_by_chain(p_values: Array) -> Array:
    """Holm's correction within each chain; `p_values` (metrics, chains, challengers)."""
    metrics, chains, challengers = p_values.shape
    if challengers == 1 and metrics == 1:
        return p_values
    corrected = [holm(p_values[:, chain]) for chain in range(chains)]
    return np.stack(corrected, axis=1)
