"""Our formulas against those of statsmodels and SciPy, which were written by others."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from milton_assets.statistics.agreement import cohen_kappa
from milton_assets.statistics.bootstrap import drawn_counts, drawn_means, percentile_ends, stream
from milton_assets.statistics.multiplicity import holm
from milton_assets.statistics.normal import z_leaving, z_of_level
from milton_assets.statistics.paired import agresti_min, mcnemar_exact, paired_difference
from milton_assets.statistics.samples import mean_interval, quantile_interval
from milton_assets.statistics.separation import auroc
from milton_assets.statistics.shares import attempts_to_show, newcombe, wilson

LEVELS = st.sampled_from([0.8, 0.9, 0.95, 0.99])
CELLS = st.integers(0, 200)


def counted(most: int = 400) -> st.SearchStrategy[tuple[int, int]]:
    return st.integers(1, most).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def near(value: float) -> object:
    return pytest.approx(value, rel=1e-9, abs=1e-9)


@given(counted(), LEVELS)
def test_wilson(share: tuple[int, int], level: float) -> None:
    interval = wilson(*share, level)
    low, high = proportion_confint(*share, alpha=1 - level, method="wilson")
    assert (interval.low, interval.high) == (near(low), near(high))


@given(counted(), counted(), LEVELS)
def test_newcombe(one: tuple[int, int], other: tuple[int, int], level: float) -> None:
    interval = newcombe(*one, *other, level)
    low, high = confint_proportions_2indep(*one, *other, method="newcomb", alpha=1 - level)
    assert (interval.low, interval.high) == (near(low), near(high))


@given(st.integers(0, 80), st.integers(0, 80))
def test_mcnemar(gained: int, lost: int) -> None:
    p_value = mcnemar_exact(np.array([float(gained)]), np.array([float(lost)]))[0]
    assert p_value == near(mcnemar([[3, gained], [lost, 4]], exact=True).pvalue if gained + lost else 1.0)


@given(CELLS, CELLS, CELLS, LEVELS)
def test_agresti_min_is_walds_interval_of_the_cells_with_a_half_added_to_each(
    gained: int, lost: int, alike: int, level: float
) -> None:
    n = gained + lost + alike
    if not n:
        return
    augmented = DescrStatsW([1.0, -1.0, 0.0], weights=[gained + 0.5, lost + 0.5, alike + 1.0])
    half = stats.norm.ppf((1 + level) / 2) * math.sqrt(augmented.var / augmented.sum_weights)
    interval = paired_difference(gained, lost, n, level)
    assert interval.low == near(max(-1.0, augmented.mean - half))
    assert interval.high == near(min(1.0, augmented.mean + half))


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=6))
def test_many_pairs_at_once_are_each_pair_alone(pairs: list[tuple[int, int]]) -> None:
    gained, lost = np.array(pairs, dtype=float).T
    low, high = agresti_min(gained, lost, 80, outside=0.1)
    alone = [paired_difference(up, down, 80, 0.9) for up, down in pairs]
    assert low.tolist() == [near(interval.low) for interval in alone]
    assert high.tolist() == [near(interval.high) for interval in alone]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm(p_values: list[float]) -> None:
    assert holm(np.array(p_values)) == pytest.approx(multipletests(p_values, method="holm")[1])


@given(st.tuples(*[st.integers(1, 60)] * 4))
def test_cohens_kappa(cells: tuple[int, int, int, int]) -> None:
    kappa, interval = cohen_kappa(*cells)
    theirs = cohens_kappa(np.array(cells).reshape(2, 2))
    assert kappa == near(theirs.kappa)
    assert (interval.low, interval.high) == (near(max(-1, theirs.kappa_low)), near(min(1, theirs.kappa_upp)))


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=40), LEVELS)
def test_students_interval_of_a_mean(values: list[int], level: float) -> None:
    interval = mean_interval(np.array(values, dtype=float), level)
    assert interval is not None
    low, high = DescrStatsW(np.array(values, dtype=float)).tconfint_mean(alpha=1 - level)
    assert (interval.low, interval.high) == (near(low), near(high))


@given(
    st.lists(st.integers(-1000, 1000), min_size=6, max_size=80, unique=True),
    st.sampled_from([0.25, 0.5, 0.75, 0.95]),
    LEVELS,
)
def test_the_order_statistics_of_a_quantile(values: list[int], q: float, level: float) -> None:
    ordered = np.sort(np.array(values, dtype=float))
    interval = quantile_interval(ordered, q, level)
    theirs = stats.quantile_test(ordered, p=q).confidence_interval(level)
    if interval is None:
        assert math.isnan(theirs.low) or math.isnan(theirs.high)
    else:
        assert (interval.low, interval.high) == (theirs.low, theirs.high)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.lists(st.integers(0, 9), min_size=1, max_size=20))
def test_auroc_is_the_statistic_of_mann_and_whitney(positive: list[int], negative: list[int]) -> None:
    u = stats.mannwhitneyu(positive, negative).statistic
    assert auroc(np.array(positive, float), np.array(negative, float)) == near(u / len(positive) / len(negative))


def test_the_bootstrap_of_a_mean_is_that_of_scipy() -> None:
    values = np.random.default_rng(5).exponential(size=(50, 1))
    low, high = percentile_ends(drawn_means(drawn_counts(stream(1), 50, 20_000), values), outside=0.1)
    theirs = stats.bootstrap(
        (values[:, 0],), np.mean, n_resamples=20_000, confidence_level=0.9, method="percentile", random_state=2
    ).confidence_interval
    assert (low[0], high[0]) == (pytest.approx(theirs.low, abs=0.01), pytest.approx(theirs.high, abs=0.01))


@given(st.floats(0.001, 0.999))
def test_both_ways_of_asking_for_a_width_have_one_answer(level: float) -> None:
    assert z_of_level(level) == pytest.approx(z_leaving(1 - level), rel=1e-9)


@given(st.floats(0, 0.99), LEVELS)
def test_fewer_attempts_than_it_takes_do_not_show_a_share(share: float, level: float) -> None:
    n = attempts_to_show(share, level)
    if n:
        assert wilson(n, n, level).low >= share - 1e-12
    if n > 1:
        assert wilson(n - 1, n - 1, level).low < share
