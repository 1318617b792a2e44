"""Evidence on two arms may be looked at after every request, and is still wrong no more often than it says."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from milton_assets.edge.canary.verdict import PARTS
from milton_assets.statistics.anytime import (
    Bets,
    difference_below,
    events_by_arm,
    more_often_than_not,
    needed,
    paired_difference_below,
    rate_above,
)
from milton_assets.vocabulary.errors import BadInput
from tests.support.canaries import NEVER, World, log_evidence, simulate

RUNS = 1000


def at_the_edge_of(kind: str) -> tuple[Bets, tuple[float, ...]]:
    """Bets, and the probabilities of their outcomes where the hypothesis is just true."""
    return {
        "events by arm": (events_by_arm(0.1), (0.1, 0.9)),
        "a rate at its limit": (rate_above(0.05), (0.05, 0.95)),
        "as often as not": (more_often_than_not(), (0.5, 0.5)),
        # 4 % of the challenger's requests fail and 2 % of the incumbent's; 30 % are the challenger's.
        "a difference at its margin": (difference_below(0.02, 0.3), (1 - 0.012 - 0.014, 0.012, 0.014)),
        "a paired difference at its margin": (paired_difference_below(0.02), (0.95, 0.035, 0.015)),
    }[kind]


KINDS = (
    "events by arm",
    "a rate at its limit",
    "as often as not",
    "a difference at its margin",
    "a paired difference at its margin",
)


@pytest.mark.parametrize("kind", KINDS)
def test_each_bet_is_fair_where_its_hypothesis_is_just_true(kind: str) -> None:
    bets, probabilities = at_the_edge_of(kind)
    for factors in bets.log_factors:
        mean = sum(p * math.exp(factor) for p, factor in zip(probabilities, factors, strict=True))
        assert mean == pytest.approx(1, abs=1e-12)
    assert sum(bets.shares) == pytest.approx(1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_true_hypothesis_is_rejected_at_most_once_in_twenty_however_often_it_is_looked_at(kind: str) -> None:
    bets, probabilities = at_the_edge_of(kind)
    rng = np.random.default_rng(20260111)
    outcomes = rng.choice(len(probabilities), p=probabilities, size=(RUNS, 2000))
    counts = [np.cumsum(outcomes == kind_of, axis=1) for kind_of in range(len(probabilities))]
    ever = (log_evidence(bets, *counts) >= needed(0.05)).any(axis=1)
    assert 0 < ever.mean() <= 0.05


def test_the_evidence_of_many_counts_is_that_of_each() -> None:
    bets = events_by_arm(0.3)
    one, other = np.array([0, 3, 40]), np.array([5, 0, 12])
    together = log_evidence(bets, one, other)
    assert together == pytest.approx([bets.log_evidence(pair) for pair in zip(one, other, strict=True)])


def test_nothing_that_happened_is_no_evidence() -> None:
    assert rate_above(0.05).log_evidence((0, 0)) == pytest.approx(0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: events_by_arm(0),
        lambda: events_by_arm(1),
        lambda: rate_above(0.6),
        lambda: difference_below(0, 0.5),
        lambda: needed(1),
        lambda: events_by_arm(0.5).log_evidence((1, -1)),
        lambda: events_by_arm(0.5).log_evidence((1, 1, 1)),
    ],
    ids=["no share", "whole share", "limit", "margin", "error", "negative", "too many"],
)
def test_what_makes_no_test_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(BadInput):
        make()


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_at_most_one_in_twenty_canaries_of_the_same_release_goes_back(share: float) -> None:
    ends = simulate(World(), runs=RUNS, requests=1500, share=share)
    assert (ends.went_back != NEVER).mean() <= 0.05


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_that_holds_where_users_ask_golden_questions(share: float) -> None:
    ends = simulate(World(golden=0.5), runs=RUNS, requests=1500, share=share, seed=2)
    assert (ends.went_back != NEVER).mean() <= 0.05


def test_a_challenger_that_forgot_half_of_what_was_known_goes_back() -> None:
    ends = simulate(World(golden=0.5, forgets=0.5), runs=200, requests=1000)
    assert (ends.went_back != NEVER).mean() >= 0.8


def test_ten_times_the_errors_are_noticed_within_150_requests_an_arm_in_four_of_five_canaries() -> None:
    ends = simulate(World(challenger_fails=0.1), runs=RUNS, requests=400)
    assert (ends.went_back <= 150).mean() >= 0.8


def test_a_failure_rate_of_five_times_the_limit_is_noticed_within_30_requests_in_four_of_five_canaries() -> None:
    ends = simulate(World(incumbent_fails=0.05, challenger_fails=0.25), runs=RUNS, requests=120)
    assert (ends.went_back <= 30).mean() >= 0.8


def test_the_same_release_is_promoted_in_the_end() -> None:
    ends = simulate(World(), runs=200, requests=4000)
    assert (ends.promoted != NEVER).mean() >= 0.8


@pytest.mark.parametrize(
    "world",
    [
        World(incumbent_fails=0.01, challenger_fails=0.03),
        World(slower=1.2),
        World(longer=1.5),
        # Of a known question's pairs that tell anything, 6.4 % more are wrong; of all pairs at least 5 % more.
        World(golden=0.5, forgets=0.07),
    ],
    ids=["errors", "times", "lengths", "goldens"],
)
def test_a_challenger_at_a_margin_is_promoted_at_most_once_in_twenty(world: World) -> None:
    ends = simulate(world, runs=RUNS, requests=1500)
    assert (ends.promoted != NEVER).mean() <= 0.05


def test_five_times_a_limit_is_noticed_within_30_trials_four_times_in_five() -> None:
    """Reckoned exactly: the paths of failures on which the evidence has not sufficed yet, trial by trial."""
    bets, enough, going = rate_above(0.05), needed(0.05 * PARTS["failures"]), {0: 1.0}
    for trial in range(1, 31):
        after: dict[int, float] = {}
        for failed, probability in going.items():
            for more, of in ((failed + 1, 0.25), (failed, 0.75)):
                if bets.log_evidence((more, trial - more)) < enough:
                    after[more] = after.get(more, 0.0) + probability * of
        going = after
    assert 1 - sum(going.values()) >= 0.8
