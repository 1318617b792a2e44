"""Figures of values in blocks: whole blocks are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from milton_assets.statistics.blocks import mean_interval, quantile, quantile_interval

SETTINGS = {"draws": 500, "seed": 1, "level": 0.95}


def coverage(tied: float) -> float:
    """How often the interval of a mean of 20 blocks of 12 holds the true mean, where a block shares `tied` of its
    luck."""
    rng, held = np.random.default_rng(3), 0
    for _ in range(300):
        luck = rng.normal(0, np.sqrt(tied), (20, 1)) + rng.normal(0, np.sqrt(1 - tied), (20, 12))
        found = mean_interval(luck.ravel(), np.repeat(np.arange(20), 12), draws=200, seed=1, level=0.95)
        assert found is not None
        held += found.low <= 0 <= found.high
    return held / 300


@pytest.mark.parametrize("tied", [0.0, 0.5], ids=["independent", "tied"])
def test_the_interval_holds_the_mean_whether_or_not_a_blocks_values_hang_together(tied: float) -> None:
    assert coverage(tied) > 0.89


def test_blocks_of_unequal_size_count_by_their_values() -> None:
    values, blocks = np.array([0.0, 0.0, 0.0, 1.0]), np.array([0, 0, 0, 1])
    found = mean_interval(values, blocks, **SETTINGS)
    assert found is not None
    assert (found.low, found.high) == (0.0, 1.0)


def test_one_block_has_no_interval() -> None:
    assert mean_interval(np.array([1.0, 2.0]), np.array([0, 0]), **SETTINGS) is None
    assert quantile_interval(np.array([1.0, 2.0]), np.array([0, 0]), 0.9, **SETTINGS) is None


def test_a_quantile_is_a_value_that_was_seen_and_so_are_its_ends() -> None:
    values = np.random.default_rng(2).exponential(size=1200)
    found = quantile_interval(values, np.repeat(np.arange(40), 30), 0.999, **SETTINGS)
    assert found is not None
    assert quantile(values, 0.999) == np.sort(values)[1198]
    assert found.low <= quantile(values, 0.999) <= found.high <= values.max()


def test_where_one_block_is_drawn_always_the_quantile_is_that_of_all() -> None:
    values = np.tile(np.arange(10.0), 2)
    found = quantile_interval(values, np.repeat([0, 1], 10), 0.5, **SETTINGS)
    assert found is not None
    assert found.low == found.high == 4.0
