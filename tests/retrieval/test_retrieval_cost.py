"""What a measurement costs: as many calls at once as there are slots, and none that was made before."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from milton_assets.tiers.retrieval import Document, RetrievalPlan, load_goldens, measure_retrieval
from milton_assets.tiers.retrieval.concurrency import map_in_order
from milton_assets.vocabulary.server import Endpoint
from resources.answer_cache import CachedChatModel, CacheKey
from resources.servers.client import OpenAIChatModel
from tests.support.retrieval_models import FunctionModel, knowing, yes_with
from tests.support.scripted_server import Reply, answer, scripted_server

GOLDENS = load_goldens()
PLAN = RetrievalPlan(max_queries=10, pool_size=6, resamples=200)
KEY = CacheKey(artefact_sha256="0" * 64, server="scripted", server_build="1")


class Gauge:
    """Counts how many calls are in progress at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_the_server_sees_as_many_calls_at_once_as_it_has_slots_and_no_more(slots: int) -> None:
    gauge = Gauge()
    full = threading.Event()

    def hold_until_every_slot_is_taken(_: dict[str, Any]) -> Reply:
        with gauge:
            if gauge.most >= slots:
                full.set()
            full.wait(60)
        return answer("Yes", top_logprobs={"Yes": -0.5, "No": -1.0})

    with (
        scripted_server(hold_until_every_slot_is_taken) as server,
        OpenAIChatModel(Endpoint(server.base_url, "scripted")) as model,
    ):
        measure_retrieval(model, GOLDENS, PLAN.model_copy(update={"concurrency": slots}))
    assert gauge.most == slots


def test_one_slow_call_does_not_idle_the_other_threads() -> None:
    held = threading.Event()
    done: list[int] = []

    def call(item: int) -> int:
        if item == 0:
            assert held.wait(10)
        done.append(item)
        if len(done) == 7:
            held.set()
        return item

    assert list(map_in_order(call, range(30), 2)) == list(range(30))


def test_stopping_early_cancels_what_has_not_begun() -> None:
    begun: list[int] = []
    results = map_in_order(lambda item: begun.append(item) or item, range(10_000), 4)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert len(begun) < 100
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("retrieval")]


def judge() -> FunctionModel:
    grade = knowing(GOLDENS)
    return FunctionModel(lambda message: yes_with(0.1 + 0.8 * grade(message)))


def test_measuring_an_unchanged_model_again_asks_nothing_and_finds_the_same(tmp_path: Path) -> None:
    first, again = judge(), judge()
    before = measure_retrieval(CachedChatModel(first, tmp_path, KEY), GOLDENS, PLAN)
    after = measure_retrieval(CachedChatModel(again, tmp_path, KEY), GOLDENS, PLAN)
    assert len(first.asked) > 0
    assert again.asked == []
    assert after.metrics == before.metrics
    assert after.samples.equals(before.samples)


def test_a_changed_document_is_asked_about_again_and_the_others_are_not(tmp_path: Path) -> None:
    measure_retrieval(CachedChatModel(judge(), tmp_path, KEY), GOLDENS, PLAN)
    shown = measure_retrieval(judge(), GOLDENS, PLAN).samples["shown"]
    changed = shown.iloc[0][0]
    old = GOLDENS.corpus[changed]
    corpus = {**GOLDENS.corpus, changed: Document(changed, old.title, f"{old.text} Nevertheless.")}
    again = FunctionModel(lambda _: yes_with(0.5))
    measure_retrieval(CachedChatModel(again, tmp_path, KEY), replace(GOLDENS, corpus=corpus), PLAN)
    assert 1 <= len(again.asked) <= sum(changed in pool for pool in shown) + 2
    assert all("Nevertheless." in messages[-1].content for messages, _, _ in again.asked[:1])
