"""Chains as arrays say what whole decisions say of the same figures, and hold the limits of `docs/selection.md`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.chains import (
    OWN_ERRORS,
    OWN_ERRORS_IN_TURN,
    QUALITY_MARGIN,
    Answers,
    Chain,
    Spending,
    each_for_itself,
    ever_promoted,
)
from milton_assets.selection.decide import decide
from milton_assets.selection.decision import Decision
from milton_assets.selection.life import with_previous
from milton_assets.selection.policy_file import load_policy
from milton_assets.selection.simulate import pinned, tables
from milton_assets.statistics.failure_rate import highest_rate
from milton_assets.statistics.normal import z_of_level
from milton_assets.vocabulary.beside import ROUNDS, Beside, RoundPair
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.ledger import Ledger
from milton_assets.vocabulary.tier import TierResult
from tests.support.selection import RUN_ID, candidate
from tests.support.tiers import TIERS

SEED = load_policy("seed")
SEED = SEED.model_copy(update={"certainty": SEED.certainty.model_copy(update={"draws": 300})})
TTFT, RATE = "ttft_ms.median", "output_tokens_per_s"
VERSIONS = ("old", "one", "other", "third")
CAMPAIGNS = 8
AWAY = 0.01
"""So far from its margin nDCG@10 is compared: decisions draw its interval, and chains reckon it."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """One campaign: speeds as logarithms (2, candidates), cases and queries (candidates, n), gains (2, challengers)."""

    speeds: Array
    passed: npt.NDArray[np.bool_]
    ndcg: Array
    gains: Array

    def candidates(self, *, in_turn: bool) -> list[Candidate]:
        stood = [self._candidate(place) for place in range(len(VERSIONS))]
        return [stood[0], *(self._beside(stood, place) for place in range(1, len(stood)))] if in_turn else stood

    def _candidate(self, place: int) -> Candidate:
        z = z_of_level(0.95)
        latency, rate = (
            tuple(centre * math.exp(sign * speed) * math.exp(off * own) for off in (0, -z, z))
            for sign, centre, speed, own in zip(
                (-1, 1), (100.0, 50.0), self.speeds[:, place].tolist(), OWN_ERRORS, strict=True
            )
        )
        share, ndcg = float(self.passed[place].mean()), float(self.ndcg[place].mean())
        return candidate(
            VERSIONS[place],
            (latency[0], latency[1], latency[2]),
            (rate[0], rate[1], rate[2]),
            (share, share - 0.04, min(share + 0.04, 1)),
            (ndcg, ndcg - 0.03, ndcg + 0.03),
            passed=self.passed[place].tolist(),
            ndcg_by_query=self.ndcg[place].tolist(),
        )

    def _beside(self, stood: list[Candidate], place: int) -> Candidate:
        """Rounds of which the mean is the gain, and the spread what chains take it to be."""
        spreads = [own * math.sqrt(ROUNDS - 1) for own in OWN_ERRORS_IN_TURN]
        gain = self.gains[:, place - 1]
        rounds = tuple(
            RoundPair(
                mine={
                    TTFT: 100 * math.exp(-gain[0] + toss * spreads[0]),
                    RATE: 50 * math.exp(gain[1] + toss * spreads[1]),
                },
                theirs={TTFT: 100.0, RATE: 50.0},
            )
            for toss in (1, -1) * (ROUNDS // 2)
        )
        stated = Beside(version="old", artefact_sha256=sha256_bytes(b"old"), rounds=rounds)
        timed = stood[place].tiers["inference"]
        timed = replace(timed, provenance={**timed.provenance, "beside": stated.model_dump(mode="json")})
        return replace(stood[place], tiers={**stood[place].tiers, "inference": timed})

    def answers(self) -> Answers:
        mine, theirs = self.passed[1:], self.passed[0]
        differences = self.ndcg[1:] - self.ndcg[0]
        error = differences.std(axis=1, ddof=1) / math.sqrt(differences.shape[1])
        counts = ((mine & ~theirs).sum(axis=1), (~mine & theirs).sum(axis=1))
        return Answers(*(np.asarray(one, dtype=np.float64)[None] for one in (*counts, differences.mean(axis=1), error)))


def drawn(rng: np.random.Generator, ahead: Array) -> Drawn:
    """A campaign in which challengers are `ahead` (3,) on speeds, and a little on quality, more or less."""
    noise = rng.normal(0, 0.05, (2, len(VERSIONS)))
    truth = np.concatenate([[0.0], ahead])
    passed = rng.random((len(VERSIONS), 150)) < np.array([0.94, 0.97, 0.95, 0.99])[:, None]
    passed[:, :136] = True  # Nobody misses the gate.
    # What one campaign shows of the third, the next may not.
    ahead_by_query = np.array([0.0, 0.03, rng.choice([0.1, -0.01]), -0.01])
    ndcg = 0.6 + rng.normal(0, 0.13, (len(VERSIONS), 60)) + ahead_by_query[:, None]
    return Drawn(truth + noise, passed, ndcg, ahead + rng.normal(0, 0.02, (2, 3)))


def decisions(campaigns: list[Drawn], *, in_turn: bool) -> list[Decision]:
    ledger, found = Ledger(), []
    known: dict[str, TierResult] = {}
    for number, one in enumerate(campaigns):
        pool = one.candidates(in_turn=in_turn)
        evidence = pinned(pool, SEED, nonce=str(number), ledger=ledger)
        known |= tables(pool, evidence)
        decision = decide(
            run_id=RUN_ID, candidates=pool, policy=SEED, manifest=evidence, incumbent="old", tiers=TIERS, anchored=known
        )
        found.append(decision)
        ledger = with_previous(decision.ledger, RUN_ID, decision.digest())
    return found


@pytest.mark.parametrize("in_turn", [False, True], ids=["one-after-the-other", "in-turn"])
def test_chains_show_what_whole_decisions_show_of_the_same_figures(*, in_turn: bool) -> None:
    compared = superior = replacing = 0
    for seed in range(2):
        rng = np.random.default_rng(seed)
        campaigns = [drawn(rng, rng.permutation([0.0, 0.3, 1.1])) for _ in range(CAMPAIGNS)]
        if seed:  # What holds from campaign to campaign, and what does not.
            campaigns = [drawn(rng, np.array([0.25, 0.6, -0.1])) for _ in range(CAMPAIGNS)]
        rule = Spending(Chain(candidates=len(VERSIONS), starts=0.01 if in_turn else None), 1)
        only, corrected = np.arange(1), np.ones((4, 1, 3))
        for one, decision in zip(campaigns, decisions(campaigns, in_turn=in_turn), strict=True):
            answers = one.answers()
            rule.see((one.gains if in_turn else one.speeds)[:, None])
            if rule.looks:
                rule.look(answers)
                corrected = rule.corrected(only, answers)
            within, better = rule.within(only, answers), rule.better(only, answers)
            for place, version in enumerate(VERSIONS[1:]):
                challenge = decision.candidate(version).challenge
                assert challenge is not None
                by_draws = challenge.differences[3].interval
                assert by_draws is not None
                near = abs(by_draws.low + QUALITY_MARGIN) < AWAY
                for row, told in enumerate(challenge.differences):
                    where = (row, 0, place)
                    assert told.p_holm == pytest.approx(corrected[where], abs=1e-9)
                    assert told.superior is bool(rule.shown[where] & better[where])
                    assert told.non_inferior is bool(within[where]) or (row == 3 and near)
                    compared, superior = compared + 1, superior + told.superior
                assert challenge.replaces is bool(rule.replacing(only, answers)[0, place]) or near
                replacing += challenge.replaces
    assert compared == 2 * CAMPAIGNS * 3 * 4
    assert superior > compared / 10
    assert replacing > 5


def test_what_a_look_showed_holds_while_the_days_figures_point_the_same_way() -> None:
    rule, only, even = Spending(Chain(candidates=2), 1), np.arange(1), np.zeros((2, 1, 2))

    def answers(wins: float, losses: float) -> Answers:
        return Answers(*(np.array([[one]]) for one in (wins, losses, 0.0, 0.005)))

    for _ in range(2):
        rule.see(even)
        rule.look(answers(30, 0))
    rule.see(even)
    assert rule.replacing(only, answers(1, 0)).all()
    assert not rule.replacing(only, answers(0, 1)).any()


@pytest.mark.parametrize("starts", [None, 0.01, 0.03], ids=["apart", "starts-as-assumed", "three-times-as-noisy"])
@pytest.mark.parametrize("candidates", [2, 20])
def test_in_a_chain_of_campaigns_an_equal_model_is_hardly_ever_promoted_and_a_worse_one_less(
    candidates: int, starts: float | None
) -> None:
    """A small form of `benches/selection/chains.py`, with seeds of its own, at the noisiest of its rows; 95 % sure."""
    chain = Chain(noise=0.10, outliers=0.0 if starts else 0.05, candidates=candidates, starts=starts)
    chains = 10_000 // candidates
    equal = ever_promoted(chain, chains=500, seed=2003)
    worse = ever_promoted(replace(chain, slower=0.05, down=0.02), chains=chains, seed=2004)
    assert highest_rate(equal.by_rule, 500) <= 0.05
    assert highest_rate(worse.by_rule, chains) <= 0.01
    assert highest_rate(equal.by_gate, 500) <= 0.01
    assert highest_rate(worse.by_gate, chains) <= 0.01


def test_what_an_incumbent_misses_by_chance_let_worse_ones_in() -> None:
    """As it was: the gate alone, missed as measured once in 200 campaigns, let in more than all tests together."""
    worse = ever_promoted(Chain(slower=0.05, down=0.02), chains=1000, seed=7)
    assert worse.as_measured > 20 > 10 * (worse.by_gate + worse.by_rule)


def test_each_campaign_tested_for_itself_promotes_an_equal_model_sooner_or_later() -> None:
    assert each_for_itself(Chain(noise=0.06, candidates=3), chains=100, seed=3) > 90


def test_chains_are_the_same_again() -> None:
    chain = Chain(noise=0.10, candidates=5, outliers=0.05)
    assert ever_promoted(chain, chains=50, seed=1) == ever_promoted(chain, chains=50, seed=1)
