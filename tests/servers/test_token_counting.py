"""Tokens counted by the served model's own tokenizer, as each server that offers it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from milton_assets.vocabulary.chat import ModelCallFailed
from milton_assets.vocabulary.server import CountTokens, Endpoint
from resources.servers.tokens import token_counter
from tests.support.scripted_server import Body, ScriptedServer, scripted_server


def words(body: dict[str, Any]) -> Body:
    """What llama.cpp and vLLM answer, each by what it is asked with."""
    if "content" in body:
        return Body({"tokens": list(range(len(body["content"].split())))})
    return Body({"count": len(body["prompt"].split()), "max_model_len": 4096, "tokens": []})


@contextmanager
def counting(kind: str, page: Any = words) -> Iterator[tuple[CountTokens | None, ScriptedServer]]:
    with scripted_server("unused", posts={"/tokenize": page}) as server:
        yield token_counter(Endpoint(server.base_url, "scripted"), kind), server


@pytest.mark.parametrize("kind", ["llama.cpp", "llama.cpp (embedded)", "vllm"])
def test_a_server_with_a_tokenize_page_counts_each_text(kind: str) -> None:
    with counting(kind) as (count, server):
        assert count is not None
        assert count(["one two", "three", ""]) == [2, 1, 0]
        asked = server.requests[0]
    assert asked.get("content", asked.get("prompt")) == "one two"
    assert not asked.get("add_special", asked.get("add_special_tokens"))


def test_a_server_without_one_offers_no_count() -> None:
    with counting("ollama") as (count, _):
        assert count is None


@pytest.mark.parametrize("page", [{"tokens": None}, {"count": -1}, {"count": True}, [], {}], ids=str)
@pytest.mark.parametrize("kind", ["llama.cpp", "vllm"])
def test_a_page_that_tells_no_count_is_an_error(kind: str, page: Any) -> None:
    with counting(kind, lambda _: Body(page)) as (count, _), pytest.raises(ModelCallFailed):
        assert count is not None
        count(["one"])
