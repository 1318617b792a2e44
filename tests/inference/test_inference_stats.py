"""Figures and their intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milton_assets.statistics.samples import quantile_interval, rate
from milton_assets.tiers.inference.durations import BINS, Durations
from milton_assets.tiers.inference.histogram import GroupedHistogram, LogHistogram
from milton_assets.tiers.inference.stats import share, summarise, summarise_gaps


def test_the_statistics_are_those_of_numpy() -> None:
    values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0]
    figures = {name: value for name, (value, _) in summarise(values).items()}
    assert figures == pytest.approx(
        {
            "mean": np.mean(values),
            "median": np.median(values),
            "std": np.std(values, ddof=1),
            "p95": np.quantile(values, 0.95),
            "p99": np.quantile(values, 0.99),
        }
    )


def test_a_single_value_has_no_spread_and_no_interval() -> None:
    figures = summarise([5.0])
    assert math.isnan(figures["std"][0])
    assert all(interval is None for _, interval in figures.values())


def test_equal_values_have_intervals_of_no_width() -> None:
    figures = summarise([2.0] * 20)
    median = figures["median"][1]
    assert median is not None
    assert (median.low, median.high) == (2.0, 2.0)
    assert figures["std"] == (0.0, None)


def test_the_median_of_ten_has_the_textbook_ranks() -> None:
    interval = quantile_interval(np.arange(1.0, 11.0), 0.5)
    assert interval is not None
    assert (interval.low, interval.high) == (2.0, 9.0)


@pytest.mark.parametrize(("n", "known"), [(0, False), (5, False), (6, True), (368, True)])
def test_the_median_has_an_interval_from_six_values_on(n: int, known: bool) -> None:
    assert (quantile_interval(np.arange(float(n)), 0.5) is not None) is known


@pytest.mark.parametrize(("n", "known"), [(100, False), (367, False), (368, True)])
def test_a_99th_percentile_has_an_interval_only_in_a_large_sample(n: int, known: bool) -> None:
    assert (quantile_interval(np.arange(float(n)), 0.99) is not None) is known


@pytest.mark.parametrize("statistic", ["mean", "median", "std"])
def test_intervals_cover_the_truth_about_as_often_as_they_say(statistic: str) -> None:
    draw = np.random.default_rng(1)
    truth = {"mean": 10.0, "median": 10.0, "std": 2.0}[statistic]
    covered = 0
    for _ in range(400):
        _, interval = summarise(draw.normal(10, 2, 60))[statistic]
        assert interval is not None
        covered += interval.low <= truth <= interval.high
    assert covered / 400 > 0.90


def test_a_share_has_the_wilson_interval() -> None:
    value, interval = share(3, 3)
    assert interval is not None
    assert value == 1.0
    assert interval.low == pytest.approx(0.4385, abs=1e-4)
    assert interval.high == 1.0


def test_a_rate_is_the_ratio_of_the_sums() -> None:
    value, interval = rate([10, 30], [1, 3])
    assert value == 10.0
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((10.0, 10.0))


def test_a_rate_over_one_unit_has_no_interval() -> None:
    assert rate([10], [2]) == (5.0, None)


def test_a_rate_over_no_time_is_not_a_number() -> None:
    value, interval = rate([0], [0])
    assert math.isnan(value)
    assert interval is None


def test_the_interval_of_a_rate_covers_the_truth() -> None:
    draw = np.random.default_rng(2)
    covered = 0
    for _ in range(400):
        seconds = draw.uniform(0.5, 2.0, 12)
        _, interval = rate(draw.poisson(100 * seconds).astype(float), seconds)
        assert interval is not None
        covered += interval.low <= 100 <= interval.high
    assert covered / 400 > 0.90


def counted(durations: Iterable[int]) -> Durations:
    one = Durations()
    for duration_ns in durations:
        one.add(int(duration_ns))
    return one


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
@settings(max_examples=60)
def test_a_histogram_quantile_is_within_a_tenth_of_a_per_cent(durations: list[int], q: float) -> None:
    histogram = LogHistogram()
    histogram.add(counted(durations))
    exact = sorted(durations)[max(math.ceil(q * len(durations)), 1) - 1]
    assert histogram.quantile_ns(q) == (0.0 if exact < 1000 else pytest.approx(exact, rel=1.01e-3))
    assert counted(durations).quantile_ns(q) == pytest.approx(histogram.quantile_ns(q))


def test_a_histogram_keeps_mean_and_deviation_exactly_across_merges() -> None:
    values = np.random.default_rng(3).integers(1_000, 50_000_000, 10_000)
    merged = LogHistogram()
    for part in np.array_split(values, 7):
        merged.add(counted(part))
    assert merged.n == 10_000
    assert merged.mean_ns == pytest.approx(values.mean())
    assert merged.std_ns == pytest.approx(values.std(ddof=1))


def test_an_empty_histogram_knows_nothing() -> None:
    histogram = LogHistogram()
    histogram.add(Durations())
    assert math.isnan(histogram.mean_ns)
    assert math.isnan(histogram.std_ns)
    assert math.isnan(histogram.quantile_ns(0.5))


def test_counts_take_no_more_than_a_place_for_every_bin_however_many_there_are() -> None:
    one = counted(number * 1000 for number in range(10_000))
    assert (one.n, one.mean_ns) == (10_000, pytest.approx(4_999_500))
    assert len(one.counts) < BINS
    assert max(counted([10**20]).counts) < BINS


def grouped(requests: int, *, spread: float) -> GroupedHistogram:
    draw = np.random.default_rng(4)
    gaps = GroupedHistogram()
    for _ in range(requests):
        gaps.add_request(counted(draw.normal(10e6, 0.1e6, 50) * draw.normal(1, spread)))
    return gaps


def test_gaps_are_resampled_by_request_since_those_of_one_request_are_alike() -> None:
    (alike, alike_interval), (unlike, unlike_interval) = (
        summarise_gaps(grouped(40, spread=spread))["mean"] for spread in (0.001, 0.2)
    )
    assert alike == pytest.approx(10, rel=0.01)
    assert unlike == pytest.approx(10, rel=0.1)
    assert alike_interval is not None
    assert unlike_interval is not None
    assert unlike_interval.high - unlike_interval.low > 20 * (alike_interval.high - alike_interval.low)


def test_gaps_of_few_requests_have_no_interval() -> None:
    assert all(interval is None for _, interval in summarise_gaps(grouped(5, spread=0.1)).values())


def test_any_number_of_requests_is_held_in_sixty_four_groups() -> None:
    gaps = grouped(200, spread=0.1)
    assert len(gaps.groups) == 64
    assert sum(group.n for group in gaps.groups) == gaps.total.n == 10_000
