"""Named baselines that need no judgement: dense retrieval by embeddings, and its fusion with BM25.

What belongs here: embedding the corpus, ranking by cosine, reciprocal rank fusion. What does not: BM25 itself (`pool`),
HTTP, and the model under test, which has no part in these figures.

Dense retrieval ranks the whole corpus by the cosine between the vectors of query and document. The hybrid adds, for
each document, 1 / (60 + rank) over BM25's and the dense ranking (reciprocal rank fusion, Cormack, Clarke and Büttcher
2009, doi:10.1145/1571941.1572114), each taken to rank 100.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from milton_assets.tiers.retrieval.documents import Document, Query
from milton_assets.tiers.retrieval.pool import pools
from milton_assets.tiers.retrieval.prompts import passage_of
from milton_assets.vocabulary.chat import CallErrorKind, ModelCallFailed
from milton_assets.vocabulary.shuffles import ranked
from milton_assets.vocabulary.tier_spec import Embeds

Floats = npt.NDArray[np.float64]

DEPTH = 100
RRF_OFFSET = 60
BATCH = 32


@dataclass(frozen=True)
class Baselines:
    """Rankings by query id, best first, to rank `DEPTH`."""

    dense: Mapping[str, tuple[str, ...]]
    hybrid: Mapping[str, tuple[str, ...]]


def baselines(
    embedder: Embeds,
    corpus: Mapping[str, Document],
    queries: Sequence[Query],
    *,
    max_words: int,
    seed: int,
) -> Baselines:
    """Rank the corpus for each query. Raises `ModelCallFailed` when the server gives no usable vectors."""
    doc_ids = list(corpus)
    documents = unit_vectors(embedder, [passage_of(doc.full_text, max_words) for doc in corpus.values()])
    asked = unit_vectors(embedder, [query.text for query in queries])
    if documents.shape[1] != asked.shape[1]:
        raise ModelCallFailed(
            CallErrorKind.MALFORMED, f"vectors of {documents.shape[1]} and of {asked.shape[1]} numbers from one server"
        )
    lexical = pools(corpus, queries, size=DEPTH, seed=seed)
    dense, hybrid = {}, {}
    for query, vector, pool in zip(queries, asked, lexical, strict=True):
        scores = list(zip(doc_ids, (documents @ vector).tolist(), strict=True))
        dense[query.query_id] = _ids(ranked(scores, seed, "dense", query.query_id)[:DEPTH])
        hybrid[query.query_id] = fuse((pool.bm25_ranking, dense[query.query_id]), seed, "hybrid", query.query_id)
    return Baselines(dense, hybrid)


def fuse(rankings: Sequence[Sequence[str]], *salt: object) -> tuple[str, ...]:
    """Reciprocal rank fusion of rankings, equal sums in hash order, to rank `DEPTH`."""
    sums: dict[str, float] = {}
    for ranking in rankings:
        for rank, doc_id in enumerate(ranking, start=1):
            sums[doc_id] = sums.get(doc_id, 0.0) + 1 / (RRF_OFFSET + rank)
    return _ids(ranked(tuple(sums.items()), *salt)[:DEPTH])


def unit_vectors(embedder: Embeds, texts: Sequence[str]) -> Floats:
    """The texts' vectors at length 1, shape (texts, dimensions); a text without words has a zero vector.

    Raises `ModelCallFailed` for vectors that are not finite, differ in length, or are zero for a text with words.
    """
    full = [index for index, text in enumerate(texts) if text.strip()]
    found = [vector for batch in _batches([texts[i] for i in full]) for vector in embedder.embeddings(batch)]
    if len(found) != len(full) or len({len(vector) for vector in found}) != 1:
        raise ModelCallFailed(CallErrorKind.MALFORMED, f"{len(found)} vectors of unequal length or number came back")
    raw = np.asarray(found, dtype=np.float64)
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise ModelCallFailed(CallErrorKind.MALFORMED, "a vector is zero or not finite")
    vectors = np.zeros((len(texts), raw.shape[1]))
    vectors[full] = raw / lengths
    return vectors


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))


def _ids(pairs: Sequence[tuple[str, float]]) -> tuple[str, ...]:
    return tuple(one for one, _ in pairs)
