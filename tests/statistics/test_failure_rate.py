"""The test of a failure rate: what its verdicts take, and how often it errs, looked at after every trial."""

from __future__ import annotations

import random

import pytest
from scipy.stats import beta as beta_distribution

from milton_assets.statistics.failure_rate import Rate, RateTest, highest_rate
from milton_assets.vocabulary.errors import BadInput

TEST = RateTest(tolerable=0.02, intolerable=0.2, alpha=0.05, beta=0.05)


def test_as_many_trials_as_it_names_show_that_the_rate_is_small_and_one_fewer_do_not() -> None:
    for failed in range(4):
        trials = TEST.trials_to_show_small(failed)
        assert TEST.verdict(begun=trials, well=trials - failed, failed=failed) is Rate.SMALL
        assert TEST.verdict(begun=trials - 1, well=trials - 1 - failed, failed=failed) is not Rate.SMALL


def test_as_many_failures_as_it_names_show_that_the_rate_is_large_and_one_fewer_do_not() -> None:
    for trials in (2, 10, 100):
        failed = TEST.failures_to_show_large(trials)
        assert failed is not None
        assert TEST.verdict(begun=trials, well=trials - failed, failed=failed) is Rate.LARGE
        assert TEST.verdict(begun=trials, well=trials - failed + 1, failed=failed - 1) is not Rate.LARGE
    assert TEST.failures_to_show_large(1) is None


def test_one_canary_shows_nothing() -> None:
    assert TEST.verdict(begun=1, well=1, failed=0) is Rate.NOT_YET
    assert TEST.verdict(begun=1, well=0, failed=1) is Rate.NOT_YET


def test_who_has_not_ended_speaks_for_neither_verdict() -> None:
    assert TEST.verdict(begun=40, well=15, failed=0) is Rate.NOT_YET
    assert TEST.verdict(begun=15, well=15, failed=0) is Rate.SMALL
    assert TEST.verdict(begun=40, well=0, failed=2) is Rate.NOT_YET
    assert TEST.verdict(begun=2, well=0, failed=2) is Rate.LARGE


def ever(verdict: Rate, rate: float, *, at_once: int, trials: int, rng: random.Random) -> bool:
    """Whether so many trials, `at_once` beside one another, ever show that; what fails ends ten times as fast."""
    begun = well = failed = 0
    out: list[tuple[float, bool]] = []
    now = 0.0
    while begun < trials or out:
        while begun < trials and len(out) < at_once:
            fails = rng.random() < rate
            out.append((now + (0.1 if fails else 1.0) * rng.uniform(0.9, 1.1), fails))
            begun += 1
        now, fails = min(out)
        out.remove((now, fails))
        well, failed = well + (not fails), failed + fails
        if TEST.verdict(begun=begun, well=well, failed=failed) is verdict:
            return True
    return False


@pytest.mark.parametrize("at_once", [1, 32])
def test_of_a_thousand_rollouts_at_the_tolerable_rate_at_most_a_twentieth_is_ever_stopped(at_once: int) -> None:
    rng = random.Random(7)
    stopped = sum(ever(Rate.LARGE, TEST.tolerable, at_once=at_once, trials=200, rng=rng) for _ in range(1000))
    assert 0 < stopped <= 50 + 14  # two standard errors of a count whose mean is at most 50


@pytest.mark.parametrize("at_once", [1, 32])
def test_of_a_thousand_rollouts_at_the_intolerable_rate_at_most_a_twentieth_ever_goes_on(at_once: int) -> None:
    rng = random.Random(8)
    went_on = sum(ever(Rate.SMALL, TEST.intolerable, at_once=at_once, trials=200, rng=rng) for _ in range(1000))
    assert went_on <= 50 + 14
    assert went_on or at_once > 1  # beside many that have not ended it is harder still to show


@pytest.mark.parametrize("at_once", [1, 32])
def test_what_is_intolerable_is_stopped_nearly_always(at_once: int) -> None:
    rng = random.Random(9)
    assert sum(ever(Rate.LARGE, 0.4, at_once=at_once, trials=200, rng=rng) for _ in range(500)) > 490


@pytest.mark.parametrize(("failed", "trials"), [(0, 1), (0, 15), (1, 20), (7, 50), (40, 10_000)])
def test_the_highest_rate_is_the_bound_of_clopper_and_pearson(failed: int, trials: int) -> None:
    assert highest_rate(failed, trials) == pytest.approx(beta_distribution.ppf(0.95, failed + 1, trials - failed))


def test_nothing_tried_leaves_every_rate_possible() -> None:
    assert highest_rate(0, 0) == highest_rate(3, 3) == 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        (0.2, 0.02, 0.05, 0.05),
        (0.0, 0.2, 0.05, 0.05),
        (0.02, 1.0, 0.05, 0.05),
        (0.02, 0.2, 0.0, 0.05),
        (0.02, 0.2, 0.5, 0.5),
    ],
    ids=["reversed", "nothing-tolerated", "all-tolerated", "never-wrong", "a-coin"],
)
def test_rates_and_errors_that_make_no_test_are_refused(wrong: tuple[float, float, float, float]) -> None:
    with pytest.raises(BadInput, match="make no test"):
        RateTest(*wrong)


def test_counts_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(BadInput, match="3 well and 2 failed of 4"):
        TEST.verdict(begun=4, well=3, failed=2)
