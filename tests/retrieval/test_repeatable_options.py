"""A server's answer must not depend on what was asked before."""

from __future__ import annotations

import pytest

from milton_assets.vocabulary.fingerprint import ServerFingerprint
from resources.servers.repeatable import repeatable_options


@pytest.mark.parametrize("name", ["llama.cpp", "llama.cpp (embedded)"])
def test_llama_cpp_is_told_not_to_reuse_earlier_prompts(name: str) -> None:
    assert repeatable_options(ServerFingerprint(name=name)) == {"cache_prompt": False}


def test_a_server_of_another_kind_is_sent_nothing_it_might_refuse() -> None:
    assert repeatable_options(ServerFingerprint(name="vllm")) == {}
