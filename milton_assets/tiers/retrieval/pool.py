"""The candidate pool: what BM25 finds for each query, frozen and shuffled.

What belongs here: BM25 over the corpus, the pool's order for showing, choosing a subset of queries. What does not:
the model.

BM25 is `bm25s` (Lucene's variant, k1 = 1.5, b = 0.75, English stop words, no stemming). Equal scores are ordered by
hash, so the pool does not depend on the corpus' order. A document that shares no word with the query is never in
its pool, so a pool can be smaller than asked for, or empty. Nor is the document that has the query's own id: in sets
like ArguAna the queries are documents, and finding itself is no answer (BEIR's evaluation ignores identical ids too).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from milton_assets.tiers.retrieval.documents import Document, Query
from milton_assets.tiers.retrieval.lexical import bm25s
from milton_assets.vocabulary.digest import sha256_json
from milton_assets.vocabulary.shuffles import hash_order, ranked


@dataclass(frozen=True)
class Pool:
    """One query's candidates. `bm25` is by descending score; `shown` is the order a model sees them in."""

    query: Query
    bm25: tuple[tuple[str, float], ...]
    shown: tuple[str, ...]

    @property
    def bm25_ranking(self) -> tuple[str, ...]:
        """The ids as BM25 ranks them."""
        return tuple(doc_id for doc_id, _ in self.bm25)


def pools(corpus: Mapping[str, Document], queries: Sequence[Query], *, size: int, seed: int) -> tuple[Pool, ...]:
    """The `size` best documents of each query by BM25, in the order of `queries`."""
    doc_ids = list(corpus)
    places = {doc_id: place for place, doc_id in enumerate(doc_ids)}
    tokens = bm25s.tokenize([doc.full_text for doc in corpus.values()], stopwords="en", show_progress=False)
    index = bm25s.BM25()
    has_words = any(tokens.ids)  # of stop words alone nothing is indexed, and nothing found
    if has_words:
        index.index(tokens, show_progress=False)
    asked = bm25s.tokenize([query.text for query in queries], stopwords="en", show_progress=False, return_ids=False)
    found = []
    for query, words in zip(queries, asked, strict=True):
        scores = np.array(index.get_scores(words), dtype=np.float64) if words and has_words else np.zeros(len(doc_ids))
        if (own := places.get(query.query_id)) is not None:
            scores[own] = 0.0
        hits = [(doc_ids[i], float(scores[i])) for i in _best(scores, size)]
        best = ranked(hits, seed, "bm25", query.query_id)[:size]
        shown = hash_order((doc_id for doc_id, _ in best), seed, "shown", query.query_id)
        found.append(Pool(query, best, shown))
    return tuple(found)


def _best(scores: np.ndarray, size: int) -> np.ndarray:
    """Positions of every score that is positive and not below the `size`-th largest (ties at the edge included)."""
    edge = np.partition(scores, -size)[-size] if size < len(scores) else 0.0
    return np.flatnonzero((scores > 0) & (scores >= edge))


def pools_digest(found: Sequence[Pool]) -> str:
    """SHA-256 over every pool in its shown order: two results are comparable only when theirs agree."""
    return sha256_json({pool.query.query_id: list(pool.shown) for pool in found})


def subset(queries: Sequence[Query], limit: int | None, seed: int) -> tuple[Query, ...]:
    """At most `limit` queries in hash order, answerable and unanswerable in proportion, the former never none."""
    if limit is None or limit >= len(queries):
        return tuple(queries)
    by_id = {query.query_id: query for query in queries}
    order = [by_id[one] for one in hash_order(by_id, seed, "subset")]
    answerable = [query for query in order if query.answerable]
    unanswerable = [query for query in order if not query.answerable]
    spare = min(round(limit * len(unanswerable) / len(order)), limit - 1, len(unanswerable))
    chosen = {query.query_id for query in (*answerable[: limit - spare], *unanswerable[:spare])}
    return tuple(query for query in queries if query.query_id in chosen)
