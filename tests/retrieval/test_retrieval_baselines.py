"""Embedding and hybrid baselines: over a real socket, or honestly absent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milton_assets.tiers.retrieval import Query, RetrievalPlan, load_goldens, measure_retrieval
from milton_assets.tiers.retrieval.baselines import BATCH, DEPTH, baselines, fuse, unit_vectors
from milton_assets.tiers.retrieval.figures import EMBEDDING, HYBRID
from milton_assets.vocabulary.chat import CallErrorKind, ModelCallFailed
from milton_assets.vocabulary.metric import Status
from milton_assets.vocabulary.server import Endpoint
from resources.servers.client import OpenAIChatModel
from tests.support.retrieval_models import FunctionModel, documents_of, yes_with
from tests.support.scripted_server import Body, scripted_server
from tests.support.scripted_server import Status as HttpStatus

GOLDENS = load_goldens()
PLAN = RetrievalPlan(max_queries=10, pool_size=5, resamples=200)
WORDS = sorted({word for doc in GOLDENS.corpus.values() for word in doc.full_text.lower().split()})


class Embedder:
    """Vectors from a function of the text; remembers the batches."""

    def __init__(self, vector: Sequence[float] | None = None) -> None:
        self.vector = vector
        self.batches: list[int] = []

    def embeddings(self, texts: Sequence[str]) -> list[list[float]]:
        self.batches.append(len(texts))
        return [list(self.vector) if self.vector is not None else bag_of_words(text) for text in texts]


def bag_of_words(text: str) -> list[float]:
    words = text.lower().split()
    return [float(words.count(word)) for word in WORDS] + [1e-6]


def test_dense_retrieval_ranks_by_cosine() -> None:
    corpus = documents_of({"a": "boat boat boat", "b": "boat salt", "c": "salt"})
    found = baselines(Embedder(), corpus, [Query("q", "salt", {"c": 3})], max_words=50, seed=0)
    assert found.dense["q"] == ("c", "b", "a")


def test_the_length_of_a_vector_is_no_advantage() -> None:
    vectors = unit_vectors(Embedder([3.0, 4.0]), ["x"])
    assert vectors.tolist() == [[0.6, 0.8]]


def test_texts_are_sent_in_batches() -> None:
    embedder = Embedder([1.0])
    unit_vectors(embedder, ["x"] * (BATCH + 1))
    assert embedder.batches == [BATCH, 1]


def test_an_empty_text_is_not_sent_and_is_like_nothing() -> None:
    assert unit_vectors(Embedder([1.0]), ["x", " "]).tolist() == [[1.0], [0.0]]


@pytest.mark.parametrize("vector", [[0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0]])
def test_a_vector_without_a_direction_is_refused(vector: list[float]) -> None:
    with pytest.raises(ModelCallFailed, match="zero or not finite"):
        unit_vectors(Embedder(vector), ["x"])


def test_too_few_vectors_are_refused() -> None:
    class Stingy(Embedder):
        def embeddings(self, texts: Sequence[str]) -> list[list[float]]:
            return super().embeddings(texts)[:-1]

    with pytest.raises(ModelCallFailed, match="unequal length or number"):
        unit_vectors(Stingy([1.0]), ["x", "y"])


def test_queries_and_documents_must_share_their_dimensions() -> None:
    class Growing(Embedder):
        def embeddings(self, texts: Sequence[str]) -> list[list[float]]:
            self.batches.append(len(texts))
            return [[1.0] * len(self.batches) for _ in texts]

    with pytest.raises(ModelCallFailed, match="vectors of 1 and of 2"):
        baselines(Growing(), documents_of({"a": "x"}), [Query("q", "x", {"a": 1})], max_words=9, seed=0)


def test_fusion_rewards_agreement() -> None:
    assert fuse((("a", "b", "c"), ("b", "c", "a")), 0)[0] == "b"


def test_fusion_keeps_what_only_one_ranking_found() -> None:
    assert set(fuse((("a",), ("b",)), 0)) == {"a", "b"}


@settings(deadline=None)
@given(ranking=st.lists(st.text(max_size=3), unique=True, max_size=DEPTH))
def test_fusing_a_ranking_with_itself_changes_nothing(ranking: list[str]) -> None:
    assert list(fuse((ranking, ranking), 0)) == ranking


def test_the_baselines_are_measured_over_a_socket() -> None:
    def embed(body: dict[str, Any]) -> Body:
        data = [{"index": i, "embedding": bag_of_words(text)} for i, text in enumerate(body["input"])]
        return Body({"object": "list", "data": data})

    with (
        scripted_server(posts={"/v1/embeddings": embed}) as server,
        OpenAIChatModel(Endpoint(server.base_url, "e")) as embedder,
    ):
        result = measure_retrieval(
            FunctionModel(lambda message: yes_with(0.4 + len(message) * 1e-6)), GOLDENS, PLAN, embedder=embedder
        )
    for name in (EMBEDDING, HYBRID):
        metric = result.metric(name)
        assert metric.value is not None
        assert metric.value > 0.2
        assert metric.interval is not None
        assert result.samples[name].mean() == pytest.approx(metric.value)


def test_without_an_embedder_the_baselines_are_skipped_and_say_why() -> None:
    result = measure_retrieval(FunctionModel(lambda message: yes_with(0.4 + len(message) * 1e-6)), GOLDENS, PLAN)
    assert result.metric(EMBEDDING).status is result.metric(HYBRID).status is Status.SKIPPED
    assert "no embedding server" in (result.metric(EMBEDDING).why or "")
    assert EMBEDDING not in result.samples.columns


def test_a_server_that_cannot_embed_is_an_error_of_the_baseline_alone() -> None:
    refusing = HttpStatus(501, "this server does not support embeddings")
    with (
        scripted_server(posts={"/v1/embeddings": refusing}) as server,
        OpenAIChatModel(Endpoint(server.base_url, "e")) as embedder,
    ):
        result = measure_retrieval(
            FunctionModel(lambda message: yes_with(0.4 + len(message) * 1e-6)), GOLDENS, PLAN, embedder=embedder
        )
    assert result.metric(EMBEDDING).status is Status.ERROR
    assert CallErrorKind.HTTP_STATUS.value in (result.metric(EMBEDDING).why or "")
    assert result.metric("nDCG@10").status is Status.OK
