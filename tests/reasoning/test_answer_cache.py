"""Answers kept by content: what is found again, what never is, and what is said about it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milton_assets.tiers.reasoning import ReasoningPlan, load_goldens, measure_reasoning
from milton_assets.tiers.reasoning.cases import Split
from milton_assets.vocabulary.chat import (
    AS_IT_IS,
    FOLDED,
    CallErrorKind,
    Completion,
    Message,
    ModelCallFailed,
    Sampling,
    TokenLogprob,
)
from milton_assets.vocabulary.fingerprint import ServerFingerprint
from milton_assets.vocabulary.server import Endpoint
from resources.answer_cache import CachedChatModel, CacheKey
from resources.servers.client import OpenAIChatModel
from tests.support.reasoning_player import handler, honest
from tests.support.scripted_server import scripted_server

KEY = CacheKey(artefact_sha256="a" * 64, server="llama.cpp", server_build="b1", settings=("--ctx-size", "4096"))
HELLO = [Message("user", "Hello?")]


@dataclass
class Counting:
    """A model that numbers its answers, or gives those it was told to."""

    reply: Callable[[int], Completion] = lambda n: Completion(f"answer {n}", "stop", 3, 4)
    asked: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def complete(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        top_logprobs: int = 0,
        json_schema: Mapping[str, Any] | None = None,
    ) -> Completion:
        with self.lock:
            self.asked += 1
        return self.reply(self.asked)


def test_how_the_system_turn_was_sent_is_told_of_cached_answers_too(tmp_path: Path) -> None:
    folds = Counting(lambda n: Completion(f"answer {n}", "stop", 3, 4, system_folded=True))
    first = CachedChatModel(folds, tmp_path, KEY)
    assert first.system_role == AS_IT_IS
    first.complete(HELLO, Sampling())
    assert first.system_role == FOLDED
    again = CachedChatModel(Counting(), tmp_path, KEY)
    assert again.complete(HELLO, Sampling()).system_folded
    assert (again.counts().hits, again.system_role) == (1, FOLDED)


def test_the_same_question_is_asked_once(tmp_path: Path) -> None:
    inner = Counting()
    first = CachedChatModel(inner, tmp_path, KEY).complete(HELLO, Sampling())
    again = CachedChatModel(inner, tmp_path, KEY)
    assert again.complete(HELLO, Sampling()) == first
    assert inner.asked == 1
    assert again.provenance() == {
        "key": KEY.model_dump(mode="json"), "hits": 1, "misses": 0, "damaged": 0, "bypassed": 0,
    }  # fmt: skip


def test_logprobs_and_the_time_it_first_took_come_back(tmp_path: Path) -> None:
    alternatives = (TokenLogprob(" Yes", -0.1), TokenLogprob(" No", -2.5))
    inner = Counting(lambda n: Completion(" Yes", "length", 9, 1, alternatives))
    first = CachedChatModel(inner, tmp_path, KEY).complete(HELLO, Sampling(max_tokens=1), top_logprobs=2)
    again = CachedChatModel(inner, tmp_path, KEY).complete(HELLO, Sampling(max_tokens=1), top_logprobs=2)
    assert first == again
    assert again.first_token_alternatives == alternatives
    assert again.elapsed_s is not None and again.elapsed_s >= 0


@pytest.mark.parametrize(
    "changed",
    [
        {"key": KEY.model_copy(update={"artefact_sha256": "b" * 64})},
        {"key": KEY.model_copy(update={"server_build": "b2"})},
        {"key": KEY.model_copy(update={"server": "vllm"})},
        {"key": KEY.model_copy(update={"settings": ()})},
        {"messages": [Message("user", "Hello!")]},
        {"messages": [Message("system", "Hello?")]},
        {"messages": [*HELLO, *HELLO]},
        {"sampling": Sampling(max_tokens=7)},
        {"sampling": Sampling(seed=1)},
        {"sampling": Sampling(top_p=0.5)},
        {"top_logprobs": 5},
        {"json_schema": {"type": "object"}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_anything_else_that_may_change_the_answer_is_another_question(tmp_path: Path, changed: dict[str, Any]) -> None:
    inner = Counting()
    CachedChatModel(inner, tmp_path, KEY).complete(HELLO, Sampling())
    other = CachedChatModel(inner, tmp_path, changed.get("key", KEY))
    other.complete(
        changed.get("messages", HELLO),
        changed.get("sampling", Sampling()),
        top_logprobs=changed.get("top_logprobs", 0),
        json_schema=changed.get("json_schema"),
    )
    assert inner.asked == 2


def test_a_failed_call_is_never_kept(tmp_path: Path) -> None:
    def fail_once(n: int) -> Completion:
        if n == 1:
            raise ModelCallFailed(CallErrorKind.TIMEOUT, "too slow")
        return Completion("at last", "stop", 1, 2)

    model = CachedChatModel(Counting(fail_once), tmp_path, KEY)
    with pytest.raises(ModelCallFailed):
        model.complete(HELLO, Sampling())
    assert not list(tmp_path.rglob("*.json"))
    assert model.complete(HELLO, Sampling()).text == "at last"


@pytest.mark.parametrize(
    "completion",
    [
        Completion("half", None, 1, 1),
        Completion("odd", "content_filter", 1, 1),
        Completion("\ud800", "stop", 1, 1),
        Completion("x", "stop", 1, 1, (TokenLogprob("x", float("-inf")),)),
    ],
)
def test_an_answer_that_is_not_whole_or_not_storable_is_given_but_not_kept(
    tmp_path: Path, completion: Completion
) -> None:
    inner = Counting(lambda n: completion)
    model = CachedChatModel(inner, tmp_path, KEY)
    assert model.complete(HELLO, Sampling()) == model.complete(HELLO, Sampling()) == completion
    assert inner.asked == 2


def test_sampling_that_is_not_deterministic_goes_past_the_cache(tmp_path: Path) -> None:
    inner = Counting()
    model = CachedChatModel(inner, tmp_path, KEY)
    for _ in range(2):
        model.complete(HELLO, Sampling(temperature=0.7))
    assert inner.asked == 2
    assert model.counts().bypassed == 2
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("damage", ["truncated", "edited", "emptied", "a folder", "another format"])
def test_a_damaged_entry_is_counted_and_asked_again(tmp_path: Path, damage: str) -> None:
    inner = Counting()
    CachedChatModel(inner, tmp_path, KEY).complete(HELLO, Sampling())
    (entry,) = tmp_path.rglob("*.json")
    content = json.loads(entry.read_text())
    if damage == "truncated":
        entry.write_bytes(entry.read_bytes()[:20])
    elif damage == "edited":
        entry.write_text(json.dumps(content | {"text": "forged"}))
    elif damage == "emptied":
        entry.write_text("")
    elif damage == "another format":
        entry.write_text(json.dumps(content | {"format": 0}))
    else:
        entry.unlink()
        entry.mkdir()
        with pytest.raises(OSError, match=r"directory|Is a"):
            CachedChatModel(inner, tmp_path, KEY).complete(HELLO, Sampling())
        return
    model = CachedChatModel(inner, tmp_path, KEY)
    assert model.complete(HELLO, Sampling()).text == "answer 2"
    assert (model.counts().damaged, model.counts().misses) == (1, 1)
    assert CachedChatModel(inner, tmp_path, KEY).complete(HELLO, Sampling()).text == "answer 2"


def test_many_threads_may_ask_at_once(tmp_path: Path) -> None:
    inner = Counting(lambda n: Completion("same", "stop", 1, 1))
    model = CachedChatModel(inner, tmp_path, KEY)
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda n: model.complete([Message("user", str(n % 5))], Sampling()).text, range(200)))
    counts = model.counts()
    assert set(texts) == {"same"}
    assert counts.hits + counts.misses == 200 and counts.misses == inner.asked
    assert len(list(tmp_path.rglob("*.json"))) == 5


def test_a_server_whose_build_is_unknown_has_no_key() -> None:
    assert CacheKey.of("a" * 64, ServerFingerprint(name="some server", launched_by_us=True)) is None
    key = CacheKey.of("a" * 64, LAUNCHED)
    assert key is not None and key.settings == ("--x", "quantization fp8", "chat-template t")


LAUNCHED = ServerFingerprint(
    name="vllm", build="0.32", launched_by_us=True, flags=("--x",), quantization="fp8", chat_template_sha256="t"
)


def test_a_server_that_somebody_else_launched_has_no_key() -> None:
    assert CacheKey.of("a" * 64, LAUNCHED.model_copy(update={"launched_by_us": False})) is None


def test_a_server_with_an_adapter_has_no_key() -> None:
    assert CacheKey.of("a" * 64, LAUNCHED.model_copy(update={"flags": ("--lora", "x.gguf")})) is None


def test_what_may_change_answers_changes_the_key_and_what_may_not_does_not() -> None:
    def key(**environment: str) -> CacheKey | None:
        return CacheKey.of("a" * 64, LAUNCHED, environment)

    assert key(HOME="/a") == key(HOME="/b") == CacheKey.of("a" * 64, LAUNCHED)
    assert key(VLLM_ATTENTION_BACKEND="A") != key(VLLM_ATTENTION_BACKEND="B")
    assert CacheKey.of("a" * 64, LAUNCHED.model_copy(update={"quantization": "awq"})) != key()


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=200))
def test_any_text_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("cache")
    model = CachedChatModel(Counting(lambda n: Completion(text, "stop", 1, 1)), folder, KEY)
    assert model.complete([Message("user", text)], Sampling()).text == text
    assert model.complete([Message("user", text)], Sampling()).text == text
    assert model.counts().hits == 1


def test_a_second_evaluation_of_an_unchanged_model_costs_no_generation(tmp_path: Path) -> None:
    # One at a time: two threads that ask the same unknown thing both ask, and either one's time is kept.
    goldens, plan = load_goldens(), ReasoningPlan(cases_per_kind=2, seeded_per_kind=1, questions=1, concurrency=1)
    with scripted_server(handler(honest(goldens.choose(Split.TEST, 2)))) as server:
        with OpenAIChatModel(Endpoint(server.base_url, "scripted"), timeout_s=20) as model:
            first = measure_reasoning(CachedChatModel(model, tmp_path, KEY), goldens, plan)
            requests = len(server.requests)
            second = measure_reasoning(CachedChatModel(model, tmp_path, KEY), goldens, plan)
        assert len(server.requests) == requests
    assert second.metrics == first.metrics
    assert second.samples.drop(columns="elapsed_ms").equals(first.samples.drop(columns="elapsed_ms"))


def test_a_changed_golden_asks_only_what_it_touches(tmp_path: Path) -> None:
    goldens, plan = load_goldens(), ReasoningPlan(cases_per_kind=2, seeded_per_kind=0, questions=1)
    changed_case = goldens.cases[0].model_copy(update={"question": "Which two letters stand for gold?"})
    changed = type(goldens)((changed_case, *goldens.cases[1:]), "1.0.1", {})
    with scripted_server(handler(honest([*goldens.cases, changed_case]))) as server:
        with OpenAIChatModel(Endpoint(server.base_url, "scripted"), timeout_s=20) as model:
            measure_reasoning(CachedChatModel(model, tmp_path, KEY), goldens, plan)
            before = len(server.requests)
            measure_reasoning(CachedChatModel(model, tmp_path, KEY), changed, plan)
        asked = server.requests[before:]
    assert asked and all("Which two letters" in request["messages"][-1]["content"] for request in asked)
