"""Utilities, scores, order and the Pareto front."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.selection.policy import Anchors, Criterion, Normalisation, Scale
from milton_assets.selection.policy_file import load_policy
from milton_assets.selection.ranking import Pool, pareto_front, rank
from milton_assets.selection.scoring import anchored, beyond_anchors, minmax_pool, utilities
from milton_assets.vocabulary.metric import Direction

FIGURES = st.floats(0.001, 1000, allow_nan=False)


def pool(**figures: tuple[float, float, float, float]) -> Pool:
    versions = tuple(sorted(figures))
    return Pool(versions, np.array([figures[v] for v in versions], dtype=np.float64).T)


def test_minmax_gives_the_best_one_and_the_worst_nought() -> None:
    values = np.array([30.0, 10.0, 20.0])
    assert minmax_pool(values, Direction.LOWER).tolist() == [0.0, 1.0, 0.5]
    assert minmax_pool(values, Direction.HIGHER).tolist() == [1.0, 0.0, 0.5]


def test_minmax_of_one_or_of_equals_is_one() -> None:
    assert minmax_pool(np.array([7.0]), Direction.LOWER).tolist() == [1.0]
    assert minmax_pool(np.array([7.0, 7.0]), Direction.HIGHER).tolist() == [1.0, 1.0]


def test_anchors_on_a_log_scale_make_every_doubling_count_the_same() -> None:
    anchors = Anchors(worst=1000, best=1, scale=Scale.LOG)
    gains = np.diff(anchored(np.array([400.0, 200.0, 100.0, 50.0]), anchors))
    assert gains == pytest.approx([gains[0]] * 3)
    assert gains[0] == pytest.approx(np.log10(2) / 3)


def test_beyond_the_anchors_nothing_more_is_won_or_lost() -> None:
    anchors = Anchors(worst=1000, best=1, scale=Scale.LOG)
    assert anchored(np.array([0.0, 0.1, 1.0, 1000.0, 5000.0]), anchors).tolist() == [1.0, 1.0, 1.0, 0.0, 0.0]


def test_values_beyond_the_anchors_are_named() -> None:
    latency = load_policy("seed").criteria[0]
    assert beyond_anchors(np.array([0.5, 5.0, 20_000.0]), latency).tolist() == [True, False, True]
    bare = latency.model_copy(update={"anchors": None})
    assert not beyond_anchors(np.array([0.5]), bare).any()


def test_anchored_without_anchors_is_refused() -> None:
    bare = Criterion(tier="inference", metric="x", label="x", direction="lower", weight=1)
    with pytest.raises(ValueError, match="no anchors"):
        utilities(np.array([1.0]), bare, Normalisation.ANCHORED)


@given(st.lists(FIGURES, min_size=1, max_size=8))
def test_utilities_lie_in_nought_to_one_and_the_best_of_the_pool_gets_one(values: list[float]) -> None:
    result = minmax_pool(np.array(values), Direction.HIGHER)
    assert result.min() >= 0
    assert result.max() == 1
    assert result[int(np.argmax(values))] == 1


def test_the_worked_case_gives_779_to_500() -> None:
    worked = pool(A=(2.1, 59, 0.98, 0.58), B=(2.6, 38, 0.98, 0.57), C=(1.4, 68, 0.97, 0.57))
    scores = rank(worked, load_policy("seed")).scores
    assert scores.round(3).tolist() == [0.779, 0.25, 0.5]


def test_equal_scores_are_ordered_by_latency_then_throughput_then_version() -> None:
    policy = load_policy("seed")
    # Mirror images: what one gains in latency the other gains in throughput.
    mirrored = pool(a=(20, 60, 0.95, 0.6), b=(10, 50, 0.95, 0.6))
    assert rank(mirrored, policy).scores.tolist() == [0.75, 0.75]
    assert rank(mirrored, policy).order.tolist() == [1, 0]
    # Equal latency: what one gains in throughput the other gains in retrieval.
    level = pool(a=(10, 50, 0.95, 0.7), b=(10, 60, 0.95, 0.6))
    assert rank(level, policy).order.tolist() == [1, 0]
    equal = pool(b=(10, 50, 0.95, 0.6), a=(10, 50, 0.95, 0.6))
    assert rank(equal, policy).order.tolist() == [0, 1]


def test_the_pareto_front_holds_whom_nobody_dominates() -> None:
    some = pool(a=(10, 50, 0.9, 0.6), b=(20, 60, 0.9, 0.6), c=(20, 50, 0.9, 0.6), d=(10, 50, 0.9, 0.6))
    assert pareto_front(some, load_policy("seed")).tolist() == [True, True, False, True]


@given(st.lists(st.tuples(*[st.sampled_from([1.0, 2.0, 3.0])] * 4), min_size=1, max_size=12))
def test_the_pareto_front_agrees_with_its_definition(rows: list[tuple[float, float, float, float]]) -> None:
    some = Pool(tuple(f"v{i:02}" for i in range(len(rows))), np.array(rows).T)
    gains = np.array(rows) * [-1, 1, 1, 1]
    expected = [not any((other >= mine).all() and (other > mine).any() for other in gains) for mine in gains]
    assert pareto_front(some, load_policy("seed")).tolist() == expected


@given(st.lists(st.tuples(FIGURES, FIGURES, FIGURES, FIGURES), min_size=2, max_size=6), st.randoms())
def test_under_anchors_leaving_one_out_never_reorders_the_rest(
    rows: list[tuple[float, float, float, float]], random: object
) -> None:
    policy = load_policy("seed")
    some = Pool(tuple(f"v{i}" for i in range(len(rows))), np.array(rows).T)
    order = rank(some, policy, normalisation=Normalisation.ANCHORED).order.tolist()
    left_out = random.randrange(len(rows))  # type: ignore[attr-defined]
    rest = some.without(left_out)
    shorter = [rest.versions[i] for i in rank(rest, policy, normalisation=Normalisation.ANCHORED).order]
    assert shorter == [some.versions[i] for i in order if i != left_out]
