"""The shipped collection is what its datasheet says."""

from __future__ import annotations

import re
from functools import cache
from itertools import combinations

import pytest

from milton_assets.tiers.retrieval import Query, RetrievalGoldens, load_goldens
from milton_assets.tiers.retrieval.goldens import SHIPPED
from milton_assets.tiers.retrieval.measures import HEADLINE, NAMES, oracle_ranking, per_query
from milton_assets.tiers.retrieval.plan import RetrievalPlan
from milton_assets.tiers.retrieval.pool import Pool, pools, subset

NEARLY_THE_SAME = {"documents": 0.3, "queries": 0.5}
"""The share of the shorter text's word trigrams that the other may have too."""


@cache
def shipped() -> RetrievalGoldens:
    return load_goldens()


@cache
def every_query() -> tuple[Query, ...]:
    return tuple(query for split in shipped().splits.values() for query in split)


def bm25_pools(split: str, size: int = 20) -> tuple[Pool, ...]:
    answerable = [query for query in shipped().queries(split) if query.answerable]
    return pools(shipped().corpus, answerable, size=size, seed=0)


def trigrams(text: str) -> frozenset[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return frozenset(zip(words, words[1:], words[2:], strict=False))


def test_there_are_at_least_two_hundred_documents() -> None:
    assert len(shipped().corpus) >= 200


def test_every_document_is_thirty_to_seventy_words_with_a_title() -> None:
    for document in shipped().corpus.values():
        assert 30 <= len(document.text.split()) <= 70
        assert document.title


def test_there_are_at_least_sixty_queries_in_the_test_split_and_as_many_to_develop_with() -> None:
    assert len(shipped().queries("test")) >= 60
    assert len(shipped().queries("dev")) >= 60


def test_there_are_at_least_six_unanswerable_queries_to_decide_on() -> None:
    assert sum(not query.answerable for query in shipped().queries("test")) >= 6


def test_the_splits_share_no_query() -> None:
    ids = [query.query_id for query in every_query()]
    assert len(ids) == len(set(ids))


def test_every_query_in_the_file_belongs_to_a_split() -> None:
    lines = (SHIPPED / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(every_query())


def test_grades_run_from_none_to_three_and_all_occur() -> None:
    assert {grade for query in every_query() for grade in query.grades.values()} == {0, 1, 2, 3}


def test_every_answerable_query_has_a_document_that_answers_it_fully() -> None:
    for query in every_query():
        if query.answerable:
            assert max(query.grades.values()) == 3, query.text


def test_every_query_has_hard_negatives_that_bm25_puts_among_its_best() -> None:
    found = pools(shipped().corpus, every_query(), size=20, seed=0)
    for pool in found:
        negatives = {doc_id for doc_id, grade in pool.query.grades.items() if grade == 0}
        assert len(negatives & set(pool.shown)) >= 4, pool.query.text


def test_no_query_is_asked_twice() -> None:
    texts = [query.text.casefold() for query in every_query()]
    assert len(texts) == len(set(texts))


@pytest.mark.parametrize("what", ["documents", "queries"])
def test_nothing_is_there_nearly_twice(what: str) -> None:
    texts = (
        {doc.doc_id: trigrams(doc.text) for doc in shipped().corpus.values()}
        if what == "documents"
        else {query.query_id: trigrams(query.text) for query in every_query()}
    )
    for (left, some), (right, other) in combinations(texts.items(), 2):
        shared = len(some & other) / max(1, min(len(some), len(other)))
        assert shared <= NEARLY_THE_SAME[what], (left, right)


@pytest.mark.parametrize("split", ["test", "dev"])
def test_bm25_alone_leaves_room_above_and_below(split: str) -> None:
    found = bm25_pools(split)
    scores = per_query([p.query for p in found], {p.query.query_id: p.bm25_ranking for p in found})
    assert 0.3 <= scores[:, NAMES.index(HEADLINE)].mean() <= 0.8


def test_a_perfect_reranker_would_pass_the_default_gate_with_room_to_spare() -> None:
    found = bm25_pools("test", RetrievalPlan().pool_size)
    best = {p.query.query_id: oracle_ranking(p.query, p.shown) for p in found}
    assert per_query([p.query for p in found], best)[:, NAMES.index(HEADLINE)].mean() >= 0.6


def test_the_smoke_plan_asks_at_least_twelve_answerable_queries_and_some_that_are_not() -> None:
    plan = RetrievalPlan.smoke()
    asked = subset(shipped().queries(plan.split), plan.max_queries, plan.seed)
    assert sum(query.answerable for query in asked) >= 12
    assert any(not query.answerable for query in asked)
