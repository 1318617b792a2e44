"""Chains of campaigns: how often unchanged models are promoted over one another in a year of looking.

    found = ever_promoted(Chain(noise=0.06, candidates=5), chains=1000, seed=1)
    found.by_rule, found.chains       # alpha spent over the incumbent's life
    each_for_itself(Chain(noise=0.06), chains=1000, seed=1)      # the same tests, campaign by campaign

What belongs here: drawing many chains at once as arrays, from variances as they were measured, and applying the
incumbent's rule to them with the formulas that decisions use (`statistics`); that it says what whole decisions say of
the same figures is a test. What does not: campaigns with tables of cases for whole decisions (`simulate`), and which
chains are run (`benches/selection`).

A model answers each campaign anew, which is harder than greedy decoding that repeats itself. Its speeds carry noise
between campaigns that follows an AR(1) process, error within the campaign, and now and then an outlier: something else
ran beside it and made it slower.

Answers are drawn when somebody asks for them: at a look, for the chains in which something is shown until they promote,
and for those in which the incumbent misses its gate. Nothing else reads them, and the others are as likely as before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from milton_assets.selection.life import ASSUMED_OF_STARTS
from milton_assets.selection.scoring import Array
from milton_assets.statistics.multiplicity import holm, one_sided
from milton_assets.statistics.normal import z_leaving
from milton_assets.statistics.paired import agresti_min, mcnemar_exact
from milton_assets.statistics.shares import wilson
from milton_assets.statistics.spending import (
    LATER_LOOK,
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
_Rows = npt.NDArray[np.intp]

ALPHA = 0.05
SPEED_MARGIN = 0.25
QUALITY_MARGIN = 0.05
OWN_ERRORS_IN_TURN = (0.15 * math.sqrt(2 / ROUNDS), 0.02 * math.sqrt(8) * math.sqrt(2 / ROUNDS))
"""Of a gain over `ROUNDS` rounds in turn of one request each. Eight of these vary together as little as a round of the
model's own figures does."""
OWN_ERRORS = (0.15 * math.sqrt(math.pi / 2 / 40), 0.02 / math.sqrt(5))
"""Of the median of 40 times to first token, and of the mean throughput of 5 rounds: relative."""
METRICS = 4
"""Two speeds, right or wrong by case, a score by query."""

_FLOATS_PER_BLOCK = 20_000
"""A campaign's figures of so many candidates at once stay in a core's own cache."""


@dataclass(frozen=True)
class Chain:
    """Unchanged candidates, measured campaign after campaign; the first of them serves.

    `noise` is the standard deviation of speeds between campaigns, `memory` how much of one campaign's deviation is in
    the next (AR(1)), `outliers` the share of a candidate's campaigns in which it was slowed by a factor with a median
    of 1.3. `slower` and `down` are how much worse every challenger is: a share on speeds, points on both qualities.
    `ndcg_sd` is the standard deviation of the difference of two models' nDCG@10 on a query: 0.16 to 0.22 as measured.
    `gate` is the share of cases that a challenger must get right to stand at all.

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
    gate: float = 0.90
    starts: float | None = None


@dataclass(frozen=True)
class EverPromoted:
    """In how many of so many chains a challenger was ever promoted: by the incumbent's rule, as if there were no gate;
    and by the gate, as the incumbent was shown to miss it and so was protected by nothing, while a challenger reached
    it. `as_measured` is the last as it was: the incumbent missed it as measured."""

    chains: int
    by_rule: int
    by_gate: int
    as_measured: int


@dataclass(frozen=True)
class Answers:
    """What challengers answered in one campaign, against the incumbent: arrays (chains, challengers).

    `wins` and `losses` count cases; `ndcg` is the mean difference by query, `ndcg_error` its standard error as the
    queries show it.
    """

    wins: Array
    losses: Array
    ndcg: Array
    ndcg_error: Array

    def of(self, rows: _Rows) -> Answers:
        """Those of some of the chains."""
        return Answers(self.wins[rows], self.losses[rows], self.ndcg[rows], self.ndcg_error[rows])

    @property
    def better(self) -> _Flags:
        """Which way cases and queries point: (2, chains, challengers)."""
        return np.stack([self.wins > self.losses, self.ndcg > 0])


def ever_promoted(chain: Chain, *, chains: int, seed: int) -> EverPromoted:
    """Run `chains` chains under the rule as it is. Memory is bounded: they are run in blocks."""
    by_rule = by_gate = as_measured = 0
    for world in _blocks(chain, chains, seed):
        rule, everybody = Spending(chain, world.count), np.arange(world.count)
        promoted, shown, let_in = np.zeros((3, world.count), dtype=bool)
        for _ in range(chain.campaigns):
            rule.see(world.speeds())
            world.incumbents_answer()
            missed = world.misses_its_gate() & ~let_in, world.is_shown_to_miss_it() & ~shown
            unsettled = (rule.shows & ~promoted) | missed[0] | missed[1]
            asked = everybody if rule.looks else np.flatnonzero(unsettled)
            if not asked.size:
                continue
            answers = world.answers(asked)
            if rule.looks:
                rule.look(answers)
            promoted[asked] |= rule.replacing(asked, answers).any(axis=1)
            reached = world.reach_the_gate(asked, answers).any(axis=1)
            let_in[asked] |= missed[0][asked] & reached
            shown[asked] |= missed[1][asked] & reached
        by_rule += int(promoted.sum())
        by_gate += int(shown.sum())
        as_measured += int(let_in.sum())
    return EverPromoted(chains, by_rule, by_gate, as_measured)


def each_for_itself(chain: Chain, *, chains: int, seed: int) -> int:
    """In how many of so many chains a challenger was ever promoted, each campaign tested for itself at the assumed
    noise: as it was before alpha was spent over a life. A chain ends with its first promotion."""
    tests = _EachForItself(chain)
    found = 0
    for world in _blocks(chain, chains, seed):
        for _ in range(chain.campaigns):
            speeds = world.speeds()
            world.incumbents_answer()
            promoted = tests.promoting(speeds[:, :, 1:] - speeds[:, :, :1], world.answers(np.arange(world.count)))
            found += int(promoted.sum())
            world.end(promoted)
            if not world.count:
                break
    return found


def _blocks(chain: Chain, chains: int, seed: int) -> Iterator[_World]:
    block = max(1, _FLOATS_PER_BLOCK // chain.candidates)
    rng = np.random.default_rng(seed)
    for start in range(0, chains, block):
        yield _World(chain, min(block, chains - start), rng)


class _World:
    """What is true of some chains, and drawn of it campaign by campaign. Speeds are logarithms, above is better."""

    def __init__(self, chain: Chain, count: int, rng: np.random.Generator) -> None:
        self.chain, self.count, self.rng = chain, count, rng
        self.truth = math.log1p(-chain.slower)
        self.drift = rng.normal(0, chain.noise, (2, count, chain.candidates))
        # The same hard cases all along: the goldens do not change.
        certain = 1 - 1 / chain.case_spread
        self.hard = rng.binomial(chain.cases, (1 - chain.pass_rate) / certain, count)
        self.harder = rng.binomial(chain.cases - self.hard, chain.down / certain / chain.pass_rate, count)
        self.right = self.hard
        """How many of the hard cases the incumbent got right, this campaign."""

    def speeds(self) -> Array:
        """One campaign's: (2, chains, candidates); in rounds in turn the gains, (2, chains, challengers)."""
        chain, rng, shape = self.chain, self.rng, self.drift.shape
        if chain.starts is not None:
            return self._in_turn(chain.starts)
        self.drift *= chain.memory
        self.drift += rng.standard_normal(shape) * (chain.noise * math.sqrt(1 - chain.memory**2))
        speeds = rng.standard_normal(shape)
        speeds *= np.array(OWN_ERRORS)[:, None, None]
        speeds += self.drift
        speeds[:, :, 1:] += self.truth
        if chain.outliers:
            chains, candidates = np.nonzero(rng.random(shape[1:]) < chain.outliers)
            speeds[:, chains, candidates] -= np.abs(rng.normal(0, 0.4, chains.size))
        return speeds

    def _in_turn(self, starts: float) -> Array:
        """The gain of each challenger in rounds in turn: both drift alike, and each was started for itself."""
        shape = (2, self.count, self.chain.candidates - 1)
        own = np.array(OWN_ERRORS_IN_TURN)[:, None, None]
        # The difference of two starts, each with its own noise.
        gains: Array = self.rng.standard_normal(shape) * (math.sqrt(2) * starts)
        gains += self.rng.standard_normal(shape) * own
        gains += self.truth
        return gains

    def end(self, ended: _Flags) -> None:
        """Go on without those chains."""
        left = ~ended
        self.count, self.drift = int(left.sum()), self.drift[:, left]
        self.hard, self.harder, self.right = self.hard[left], self.harder[left], self.right[left]

    def incumbents_answer(self) -> None:
        """The incumbents answer this campaign's cases."""
        self.right = self.rng.binomial(self.hard, 1 / self.chain.case_spread)

    def misses_its_gate(self) -> _Flags:
        """Whose incumbent got too few cases right, this campaign."""
        missed: _Flags = self._passed / self.chain.cases < self.chain.gate
        return missed

    def is_shown_to_miss_it(self) -> _Flags:
        """Whose incumbent got so few right that its whole interval is below the gate."""
        shown: _Flags = self._passed < _fewest_within(self.chain.cases, self.chain.gate)
        return shown

    @property
    def _passed(self) -> npt.NDArray[np.intp]:
        return self.chain.cases - self.hard + self.right

    def answers(self, rows: _Rows) -> Answers:
        """The challengers of those chains answer this campaign's cases and queries."""
        chain, rng, luck = self.chain, self.rng, 1 / self.chain.case_spread
        shape = (rows.size, chain.candidates - 1)
        hard, right, harder = (one[rows][:, None] for one in (self.hard, self.right, self.harder))
        wins = rng.binomial(hard - right, luck, shape)
        losses = rng.binomial(right, 1 - luck, shape)
        if chain.down:
            losses += rng.binomial(harder, 1 - luck, shape)
        error = chain.ndcg_sd / math.sqrt(2 * chain.queries)
        ndcg = rng.normal(-chain.down, error, shape) - rng.normal(0, error, (rows.size, 1))
        freedom = chain.queries - 1
        shown = chain.ndcg_sd * np.sqrt(rng.chisquare(freedom, shape) / freedom / chain.queries)
        return Answers(wins.astype(np.float64), losses.astype(np.float64), ndcg, shown)

    def reach_the_gate(self, rows: _Rows, answers: Answers) -> _Flags:
        """Which challengers of those chains get enough cases right, (chains, challengers)."""
        theirs = self._passed[rows][:, None]
        reached: _Flags = (theirs + answers.wins - answers.losses) / self.chain.cases >= self.chain.gate
        return reached


class Spending:
    """The incumbent's rule, over as many chains at once as `count`: what was seen of each, and what is shown.

    Campaign after campaign, `see` its speeds; where it `looks`, `look` at every chain's answers; then `replacing` says
    of any of them who may replace the incumbent today.
    """

    def __init__(self, chain: Chain, count: int) -> None:
        self.chain = chain
        self.challengers = chain.candidates - 1
        # Of gains in turn there is one a challenger, else a figure a candidate.
        kept = (2, count, chain.candidates if chain.starts is None else self.challengers)
        self.sums, self.squares = np.zeros(kept), np.zeros(kept)
        self.seen = 0
        self.shown: _Flags = np.zeros((METRICS, count, self.challengers), dtype=bool)

    @property
    def looks(self) -> bool:
        """Whether this campaign's evidence is looked at."""
        return is_look(self.seen)

    @property
    def shows(self) -> _Flags:
        """In which chains somebody is shown to be better on something, by the last look: (chains,)."""
        some: _Flags = np.any(self.shown, axis=(0, 2))
        return some

    def see(self, speeds: Array) -> None:
        """One more campaign's speeds, as `_World.speeds` gives them."""
        self.seen += 1
        self.sums += speeds
        self.squares += speeds * speeds

    def look(self, answers: Answers) -> None:
        """Test everything. Holm's correction is asked of chains in which Bonferroni's lets anything pass, as without
        that it rejects nothing."""
        self.shown[:] = False
        rows = np.flatnonzero(self._something_passes(answers))
        if rows.size:
            some = answers.of(rows)
            self.shown[:, rows] = self.better(rows, some) & (self.corrected(rows, some) < ALPHA)

    def corrected(self, rows: _Rows, answers: Answers) -> Array:
        """The p-values of this look in some chains after all corrections: (metrics, chains, challengers)."""
        gains, better = self._gains(rows), self.better(rows, answers)
        # What rests on assumed noise spends of "better" what it spends of both sides, between campaigns what a later
        # look may.
        times = np.where(better[:2] & (self.seen == 1), LATER_LOOK if self.chain.starts is None else 2.0, 1.0)
        p_values = np.stack(
            [
                *(
                    np.minimum(times[row] * student_p(gains[row] / error, freedom), 1.0)
                    for row, (freedom, error) in enumerate(self._noises(rows))
                ),
                mcnemar_exact(answers.wins, answers.losses),
                student_p(answers.ndcg / answers.ndcg_error, self.chain.queries - 1),
            ]
        )
        spent = np.minimum(p_values / look_share(self.seen), 1.0)
        held = np.where(better, _holm_by_chain(one_sided(spent, better)), _holm_by_chain(spent))
        return np.minimum(held / group_share(1), 1.0)

    def replacing(self, rows: _Rows, answers: Answers) -> _Flags:
        """Who may replace the incumbent today, in some chains: (chains, challengers). What the last look showed holds
        where today's figures point the same way."""
        superior = np.any(self.shown[:, rows] & self.better(rows, answers), axis=0)
        may: _Flags = superior & np.all(self.within(rows, answers), axis=0)
        return may

    def better(self, rows: _Rows, answers: Answers) -> _Flags:
        """Which figures point to the challenger today, in some chains: (metrics, chains, challengers)."""
        found: _Flags = np.concatenate([self._gains(rows) > 0, answers.better])
        return found

    def within(self, rows: _Rows, answers: Answers) -> _Flags:
        """Who is within each margin today, in some chains: (metrics, chains, challengers)."""
        gains = self._gains(rows)
        speeds = [
            np.expm1(gains[row] - student_reach(freedom, 2 * ALPHA) * error) >= -SPEED_MARGIN
            for row, (freedom, error) in enumerate(self._noises(rows))
        ]
        return np.stack([*speeds, *_quality_within(self.chain, answers)])

    def _something_passes(self, answers: Answers) -> _Flags:
        """In which chains any p-value passes Bonferroni's threshold, a hair more than it, by what it takes to pass:
        (chains,). Of one side: twice that of two."""
        level = 2 * ALPHA * look_share(self.seen) * group_share(1) / (METRICS * self.challengers) * (1 + 1e-9)
        everybody = np.arange(self.sums.shape[1])
        passes = _mcnemar_by_counts(self.chain, answers) < level
        passes |= np.abs(answers.ndcg) > student_reach(self.chain.queries - 1, level) * answers.ndcg_error
        gains = np.abs(self._gains(everybody))
        for row, (freedom, error) in enumerate(self._noises(everybody)):
            passes |= gains[row] > student_reach(freedom, level) * error
        some: _Flags = np.any(passes, axis=1)
        return some

    def _gains(self, rows: _Rows) -> Array:
        """The mean gain over all campaigns: (2, chains, challengers)."""
        means = self.sums[:, rows] / self.seen
        return means if self.chain.starts is not None else means[:, :, 1:] - means[:, :, :1]

    def _noises(self, rows: _Rows) -> list[tuple[Array, Array]]:
        """For each speed its degrees of freedom, and the standard error of a challenger's gain: (chains, 1) each."""
        in_turn = self.chain.starts is not None
        deviations = (self.squares[:, rows] - self.sums[:, rows] ** 2 / self.seen).sum(axis=2, keepdims=True)
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


class _EachForItself:
    """The same tests of one campaign alone, speeds at the assumed noise, and nothing spent."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.errors = [math.sqrt(2) * math.hypot(own, chain.assumed) for own in OWN_ERRORS]

    def promoting(self, gains: Array, answers: Answers) -> _Flags:
        """In which chains somebody may replace the incumbent; `gains` (2, chains, challengers) are this campaign's."""
        chain = self.chain
        promoted: _Flags = np.zeros(gains.shape[1], dtype=bool)
        # Holm can only add rejections beyond Bonferroni's first.
        level = ALPHA / (METRICS * gains.shape[2]) * (1 + 1e-9)
        passes = _mcnemar_by_counts(chain, answers) < level
        passes |= np.abs(answers.ndcg) > student_reach(chain.queries - 1, level) * answers.ndcg_error
        for gain, error in zip(gains, self.errors, strict=True):
            passes |= np.abs(gain) > z_leaving(level) * error
        rows = np.flatnonzero(passes.any(axis=1))
        if not rows.size:
            return promoted
        gains, some = gains[:, rows], answers.of(rows)
        p_values = np.stack(
            [
                *(2 * ndtr(-np.abs(gain) / error) for gain, error in zip(gains, self.errors, strict=True)),
                mcnemar_exact(some.wins, some.losses),
                student_p(some.ndcg / some.ndcg_error, chain.queries - 1),
            ]
        )
        better = np.concatenate([gains > 0, some.better])
        superior = (better & (_holm_by_chain(p_values) < ALPHA)).any(axis=0)
        within = np.logical_and(*_quality_within(chain, some))
        for gain, error in zip(gains, self.errors, strict=True):
            within &= np.expm1(gain - z_leaving(2 * ALPHA) * error) >= -SPEED_MARGIN
        promoted[rows] = (superior & within).any(axis=1)
        return promoted


def _quality_within(chain: Chain, answers: Answers) -> tuple[_Flags, _Flags]:
    """Who is within the margin by cases, and by queries: (chains, challengers) each."""
    low, _ = agresti_min(answers.wins, answers.losses, chain.cases, outside=2 * ALPHA)
    low = np.minimum(low, (answers.wins - answers.losses) / chain.cases)
    reach = student_reach(chain.queries - 1, 2 * ALPHA)
    return low >= -QUALITY_MARGIN, answers.ndcg - reach * answers.ndcg_error >= -QUALITY_MARGIN


@lru_cache(maxsize=8)
def _fewest_within(cases: int, gate: float) -> int:
    """The fewest right cases that chance leaves a gate possible at."""
    return next(right for right in range(cases + 1) if wilson(right, cases).high >= gate)


def _mcnemar_by_counts(chain: Chain, answers: Answers) -> Array:
    """`mcnemar_exact` of counts of which many are the same, looked up."""
    found: Array = _mcnemar_table(chain.cases)[answers.wins.astype(np.intp), answers.losses.astype(np.intp)]
    return found


@lru_cache(maxsize=8)
def _mcnemar_table(cases: int) -> Array:
    counts = np.arange(cases + 1, dtype=np.float64)
    return mcnemar_exact(*np.meshgrid(counts, counts, indexing="ij"))


def _holm_by_chain(p_values: Array) -> Array:
    """Holm's correction within each chain; `p_values` (metrics, chains, challengers)."""
    return np.stack([holm(p_values[:, chain]) for chain in range(p_values.shape[1])], axis=1)
