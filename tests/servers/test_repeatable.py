"""A server's answer must not depend on what was asked before."""

from __future__ import annotations

import pytest

from milton_assets.vocabulary.fingerprint import ServerFingerprint
from resources.servers.repeatable import Asking, repeatable

LLAMA_CPP = ["llama.cpp", "llama.cpp (embedded)"]


@pytest.mark.parametrize("name", LLAMA_CPP)
def test_llama_cpp_is_told_not_to_reuse_earlier_prompts(name: str) -> None:
    assert repeatable(ServerFingerprint(name=name)) == Asking({"cache_prompt": False})


@pytest.mark.parametrize("name", LLAMA_CPP)
def test_it_goes_on_from_the_prompt_before_where_nobody_else_asks_and_there_is_one_slot(name: str) -> None:
    ours = ServerFingerprint(name=name, launched_by_us=True, slots=1)
    assert repeatable(ours) == Asking({"cache_prompt": False}, {"cache_prompt": True})
    assert repeatable(ours.model_copy(update={"slots": 2})).going_on is None
    assert repeatable(ours.model_copy(update={"launched_by_us": False})).going_on is None


def test_a_server_of_another_kind_is_sent_nothing_it_might_refuse() -> None:
    assert repeatable(ServerFingerprint(name="vllm", launched_by_us=True, slots=1)) == Asking()
