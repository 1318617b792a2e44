"""Closed-form intervals, held against known values and against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from milton_assets.statistics.agreement import cohen_kappa
from milton_assets.statistics.paired import paired_difference
from milton_assets.statistics.shares import wilson


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_what_scipy_computes(counts: tuple[int, int]) -> None:
    successes, n = counts
    ours, theirs = wilson(successes, n), binomtest(successes, n).proportion_ci(method="wilson")
    assert (ours.low, ours.high) == (pytest.approx(theirs.low, abs=1e-12), pytest.approx(theirs.high, abs=1e-12))


def test_three_of_three_says_little_and_96_of_100_says_90_percent() -> None:
    assert wilson(3, 3).low == pytest.approx(0.44, abs=0.005)
    assert wilson(35, 35).low > 0.90 and wilson(34, 34).low < 0.90
    assert wilson(96, 100).low > 0.90 and wilson(95, 100).low < 0.90


def test_wilson_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = [wilson(int(k), 120) for k in rng.binomial(120, 0.8, size=2000)]
    assert 0.93 <= np.mean([i.low <= 0.8 <= i.high for i in covered]) <= 0.97


def test_the_paired_difference_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    cells = rng.multinomial(120, [0.15, 0.05, 0.8], size=2000)
    covered = [paired_difference(int(up), int(down), 120) for up, down, _ in cells]
    assert 0.92 <= np.mean([i.low <= 0.10 <= i.high for i in covered]) <= 0.98


@pytest.mark.parametrize(("gained", "lost", "n"), [(0, 0, 1), (5, 0, 5), (0, 5, 5), (3, 3, 100)])
def test_the_paired_difference_stays_within_minus_one_and_one(gained: int, lost: int, n: int) -> None:
    interval = paired_difference(gained, lost, n)
    assert -1 <= interval.low <= (gained - lost) / n <= interval.high + 1e-9 or n < 6
    assert -1 <= interval.low <= interval.high <= 1


def test_kappa_of_a_worked_table() -> None:
    # Both say yes 20, only the first 5, only the second 10, neither 15: agreement .7 against .5 by chance.
    kappa, interval = cohen_kappa(20, 5, 10, 15)
    assert kappa == pytest.approx(0.4)
    assert interval.low < 0.4 < interval.high


def test_kappa_is_one_for_agreement_and_at_most_zero_for_chance_or_worse() -> None:
    assert cohen_kappa(10, 0, 0, 10)[0] == pytest.approx(1.0)
    assert cohen_kappa(25, 25, 25, 25)[0] == pytest.approx(0.0)
    assert cohen_kappa(0, 10, 10, 0)[0] == pytest.approx(-1.0)


def test_a_rater_of_one_label_has_no_kappa_to_speak_of() -> None:
    kappa, interval = cohen_kappa(50, 0, 50, 0)
    assert (kappa, interval.low, interval.high) == (0.0, -1.0, 1.0)


def test_kappa_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one pair"):
        cohen_kappa(0, 0, 0, 0)


def test_kappas_interval_agrees_with_a_bootstrap() -> None:
    rng = np.random.default_rng(3)
    table = np.array([45, 6, 9, 40])
    kappas = [cohen_kappa(*map(int, rng.multinomial(100, table / 100)))[0] for _ in range(3000)]
    _, interval = cohen_kappa(*map(int, table))
    low, high = np.quantile(kappas, [0.025, 0.975])
    assert interval.low == pytest.approx(low, abs=0.03)
    assert interval.high == pytest.approx(high, abs=0.03)
