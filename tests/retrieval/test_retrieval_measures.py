"""The measures agree with pytrec_eval, with hand-worked values, and with chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from milton_assets.tiers.retrieval import Query
from milton_assets.tiers.retrieval.measures import (
    HEADLINE,
    NAMES,
    oracle_ranking,
    per_query,
    pool_recall,
    random_ndcg,
)

DOCS = [f"d{i}" for i in range(15)]
TREC_NAMES = {"nDCG@10": "ndcg_cut_10", "P@5": "P_5", "R@5": "recall_5", "R@10": "recall_10", "AP": "map"}

grades = st.dictionaries(st.sampled_from(DOCS), st.integers(0, 3)).filter(lambda graded: any(graded.values()))
rankings = st.lists(st.sampled_from(DOCS), unique=True, min_size=1)


def measured(graded: dict[str, int], ranking: list[str]) -> dict[str, float]:
    (values,) = per_query([Query("q", "?", graded)], {"q": ranking})
    return dict(zip(NAMES, values.tolist(), strict=True))


def by_pytrec_eval(graded: dict[str, int], ranking: list[str]) -> dict[str, float]:
    run = {doc_id: 1000.0 - place for place, doc_id in enumerate(ranking)}
    wanted = {*TREC_NAMES.values(), "recip_rank"}
    found = pytrec_eval.RelevanceEvaluator({"q": graded}, wanted).evaluate({"q": run})["q"]
    first_ten = dict(list(run.items())[:10])
    top = pytrec_eval.RelevanceEvaluator({"q": graded}, wanted).evaluate({"q": first_ten})["q"]
    precision, recall = found["P_5"], found["recall_5"]
    return {
        **{name: found[theirs] for name, theirs in TREC_NAMES.items()},
        "RR@10": top["recip_rank"],
        "F1@5": 2 * precision * recall / (precision + recall) if precision else 0.0,
    }


@settings(max_examples=200, deadline=None)
@given(graded=grades, ranking=rankings)
def test_every_measure_agrees_with_pytrec_eval(graded: dict[str, int], ranking: list[str]) -> None:
    assert measured(graded, ranking) == pytest.approx(by_pytrec_eval(graded, ranking))


def test_a_worked_example() -> None:
    found = measured({"a": 3, "b": 1, "c": 1}, ["x", "a", "y", "b"])
    ideal = 3 + 1 / math.log2(3) + 1 / math.log2(4)
    assert found["nDCG@10"] == pytest.approx((3 / math.log2(3) + 1 / math.log2(5)) / ideal)
    assert found["P@5"] == pytest.approx(2 / 5)
    assert found["R@5"] == pytest.approx(2 / 3)
    assert found["F1@5"] == pytest.approx(0.5)
    assert found["RR@10"] == pytest.approx(1 / 2)
    assert found["AP"] == pytest.approx((1 / 2 + 2 / 4) / 3)


def test_values_are_in_the_order_of_the_queries() -> None:
    queries = [Query("q2", "?", {"a": 1}), Query("q1", "?", {"b": 1})]
    values = per_query(queries, {"q1": ["b"], "q2": ["b", "a"]})
    assert values[:, NAMES.index("RR@10")].tolist() == [0.5, 1.0]


def test_a_query_without_a_ranking_scores_nothing_and_stays() -> None:
    values = per_query([Query("q1", "?", {"a": 1}), Query("q2", "?", {"b": 1})], {"q1": ["a"], "q2": []})
    assert values[0].max() == 1.0
    assert values[1].tolist() == [0.0] * len(NAMES)


def test_with_no_ranking_at_all_everything_is_zero() -> None:
    assert per_query([Query("q", "?", {"a": 1})], {}).sum() == 0


@settings(deadline=None)
@given(graded=grades, pool=st.lists(st.sampled_from(DOCS), unique=True), ranking=st.randoms())
def test_no_order_of_a_pool_beats_the_oracle(graded: dict[str, int], pool: list[str], ranking: object) -> None:
    query = Query("q", "?", graded)
    shuffled = list(pool)
    ranking.shuffle(shuffled)  # type: ignore[attr-defined]
    best = per_query([query], {"q": oracle_ranking(query, pool)})[0]
    assert (per_query([query], {"q": shuffled})[0] <= best + 1e-9).all()


@settings(max_examples=10, deadline=None)
@given(graded=grades, pool=st.lists(st.sampled_from(DOCS), unique=True, max_size=15), seed=st.integers(0, 100))
def test_the_expected_ndcg_of_a_shuffle_is_the_mean_over_shuffles(
    graded: dict[str, int], pool: list[str], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    queries = [Query(f"q{i}", "?", graded) for i in range(2000)]
    runs = {query.query_id: list(rng.permutation(pool)) for query in queries}
    found = per_query(queries, runs)[:, NAMES.index(HEADLINE)].mean()
    assert random_ndcg(queries[0], pool) == pytest.approx(found, abs=0.04)


def test_the_pools_recall_is_what_any_reranker_could_find() -> None:
    query = Query("q", "?", {"a": 3, "b": 1, "c": 0})
    assert pool_recall(query, ["a", "c", "x"]) == 0.5
    assert pool_recall(query, []) == 0.0
