"""Intervals: they cover, they are the same every time, and they do not pretend with one query."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from milton_assets.statistics.bootstrap import intervals_of_means, percentile_ends
from milton_assets.statistics.separation import auroc, auroc_interval

OPTIONS = {"resamples": 1000, "seed": 0, "level": 0.95, "method": "query_bootstrap"}


def test_an_interval_contains_its_mean_and_is_repeatable() -> None:
    values = np.random.default_rng(1).random((40, 3))
    intervals = intervals_of_means(values, **OPTIONS)
    assert intervals == intervals_of_means(values, **OPTIONS)
    for interval, mean in zip(intervals, values.mean(axis=0), strict=True):
        assert interval is not None
        assert interval.low < mean < interval.high
        assert (interval.level, interval.method) == (0.95, "query_bootstrap")


def test_about_nineteen_in_twenty_intervals_cover_the_truth() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        (interval,) = intervals_of_means(rng.beta(2, 3, size=(60, 1)), **OPTIONS)
        assert interval is not None
        covered += interval.low <= 0.4 <= interval.high
    assert 178 <= covered <= 199


def test_columns_are_resampled_together_so_that_a_constant_difference_has_no_width() -> None:
    base = np.random.default_rng(3).random((30, 1))
    (difference,) = intervals_of_means((base + 0.25) - base, **OPTIONS)
    assert difference is not None
    assert difference.low == pytest.approx(difference.high) == pytest.approx(0.25)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_queries_have_no_interval(count: int) -> None:
    assert intervals_of_means(np.ones((count, 2)), **OPTIONS) == [None, None]


def test_ten_thousand_queries_are_resampled_in_seconds() -> None:
    began = time.perf_counter()
    intervals_of_means(np.random.default_rng(4).random((10_000, 12)), **OPTIONS)
    assert time.perf_counter() - began < 20


def test_auroc_is_the_share_of_pairs_the_right_way_round() -> None:
    assert auroc(np.array([0.9, 0.4]), np.array([0.5, 0.1])) == 0.75
    assert auroc(np.array([0.5, 0.5]), np.array([0.5])) == 0.5


@settings(deadline=None)
@given(
    positive=st.lists(st.floats(0, 1), min_size=2, max_size=12),
    negative=st.lists(st.floats(0, 1), min_size=2, max_size=12),
)
def test_the_interval_of_auroc_lies_within_zero_and_one(positive: list[float], negative: list[float]) -> None:
    interval = auroc_interval(
        np.array(positive), np.array(negative), resamples=200, seed=0, level=0.9, method="query_bootstrap"
    )
    assert interval is not None
    assert -1e-9 <= interval.low <= interval.high <= 1 + 1e-9


def test_auroc_with_one_query_in_a_group_has_no_interval() -> None:
    assert auroc_interval(np.array([0.9]), np.array([0.1, 0.2]), **OPTIONS) is None


@given(
    drawn=arrays(np.float64, st.tuples(st.integers(1, 40), st.integers(1, 4)), elements=st.floats(-9, 9, width=16)),
    outside=st.sampled_from([0.0, 0.002, 0.05, 0.1, 0.2, 0.9]),
)
def test_an_intervals_ends_are_numpys_quantiles_to_the_last_bit(drawn: np.ndarray, outside: float) -> None:
    low, high = np.quantile(drawn, [outside / 2, 1 - outside / 2], axis=0)
    for found, expected in zip(percentile_ends(drawn + 0.0, outside=outside), (low, high), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_where_a_draw_is_unknown_so_is_the_interval() -> None:
    drawn = np.ones((100, 2))
    drawn[50, 1] = np.nan
    for end in percentile_ends(drawn, outside=0.05):
        np.testing.assert_array_equal(end, [1.0, np.nan])
