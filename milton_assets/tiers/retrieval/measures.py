"""Measures of a ranking, per query, by ir-measures; and what chance and a perfect ranker would earn.

What belongs here: definitions, per query, as pure functions. What does not: intervals (`statistics`), asking.

- nDCG@10: gains are the grades, the discount is log2(rank + 1), the ideal order is over all judged documents (Järvelin
  and Kekäläinen 2002, as trec_eval computes it).
- P@5, R@5, R@10: the share of the first k that is relevant; the share of the relevant that is in the first k.
- F1@5: the harmonic mean of the query's P@5 and R@5, 0 where both are 0.
- RR@10: 1 / rank of the first relevant document, 0 below rank 10; its mean is MRR@10.
- AP: the mean precision at the ranks of the relevant documents, one that is not found counting 0; its mean is MAP.

Relevant means a grade of at least 1. A document that is not in a ranking was not found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ir_measures
import numpy as np
import numpy.typing as npt

from milton_assets.tiers.retrieval.documents import Query

Floats = npt.NDArray[np.float64]

UNIT = "ratio"
"""The unit of every figure of the tier."""
HEADLINE = "nDCG@10"
NAMES = (HEADLINE, "P@5", "R@5", "F1@5", "R@10", "RR@10", "AP")
_CUTOFF = 10
_PARSED = {name: ir_measures.parse_measure(name) for name in NAMES if name != "F1@5"}
_COLUMN = {measure: NAMES.index(name) for name, measure in _PARSED.items()}


def per_query(queries: Sequence[Query], rankings: Mapping[str, Sequence[str]]) -> Floats:
    """Every measure of every query: an array of shape (queries, `NAMES`), each value in [0, 1].

    `rankings` maps a query's id to document ids, best first; a query without one scores 0. Each query must be
    answerable: the measures are not defined otherwise.
    """
    values = np.zeros((len(queries), len(NAMES)))
    row = {query.query_id: index for index, query in enumerate(queries)}
    qrels = {query.query_id: dict(query.grades) for query in queries}
    run = {
        query_id: {doc_id: float(len(ids) - place) for place, doc_id in enumerate(ids)}
        for query_id, ids in rankings.items()
        if query_id in row and len(ids)
    }
    if run:
        for measured in ir_measures.iter_calc(list(_PARSED.values()), qrels, run):
            values[row[measured.query_id], _COLUMN[measured.measure]] = measured.value
    precision, recall = (values[:, NAMES.index(name)] for name in ("P@5", "R@5"))
    both = precision + recall
    values[:, NAMES.index("F1@5")] = np.divide(2 * precision * recall, both, out=np.zeros_like(both), where=both > 0)
    return values


def oracle_ranking(query: Query, pool: Sequence[str]) -> tuple[str, ...]:
    """The best order of that pool: by grade. What it earns is the ceiling for any reranker of the pool."""
    return tuple(sorted(pool, key=lambda doc_id: -query.grades.get(doc_id, 0)))


def random_ndcg(query: Query, pool: Sequence[str]) -> float:
    """The expected nDCG@10 of a uniformly random order of the pool, in closed form.

    Each of the first min(10, pool) ranks holds the pool's mean gain in expectation.
    """
    if not pool:
        return 0.0
    ideal = sorted(query.grades.values(), reverse=True)[:_CUTOFF]
    discounts = 1 / np.log2(np.arange(2, _CUTOFF + 2))
    mean_gain = sum(query.grades.get(doc_id, 0) for doc_id in pool) / len(pool)
    best = float(np.dot(ideal, discounts[: len(ideal)]))
    return mean_gain * float(discounts[: len(pool)].sum()) / best


def pool_recall(query: Query, pool: Sequence[str]) -> float:
    """The share of the query's relevant documents that are in the pool at all."""
    relevant = {doc_id for doc_id, grade in query.grades.items() if grade > 0}
    return len(relevant.intersection(pool)) / len(relevant)
