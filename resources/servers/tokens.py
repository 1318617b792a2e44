"""Counting a text's tokens by the tokenizer of the model that is served, where the server offers it.

What belongs here: which servers do, how each is asked, and reading the answer. What does not: what is done with the
count (`milton_assets.tiers.inference`).

llama.cpp: `POST /tokenize` with `content`, and `model` for a router, answered by `tokens`. vLLM: `POST /tokenize` with
`model` and `prompt`, answered by `count`. Others have no such page.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from milton_assets.vocabulary.chat import CallErrorKind, ModelCallFailed
from milton_assets.vocabulary.server import CountTokens, Endpoint
from resources.servers.exchange import Transport

TIMEOUT_S: Final = 30.0
_Kind = TypeVar("_Kind")


def token_counter(endpoint: Endpoint, server: str) -> CountTokens | None:
    """A function that counts the tokens of texts, without any that a template adds; None where `server` offers none.

    `server` is its kind, as its fingerprint names it. The function raises `ModelCallFailed`.
    """
    if server.startswith("llama.cpp"):
        return lambda texts: llama_cpp_counts(endpoint, texts)
    if server == "vllm":
        return lambda texts: [_field(page, "count", int) for page in _pages(endpoint, texts, _as_vllm)]
    return None


def llama_cpp_counts(endpoint: Endpoint, texts: Sequence[str]) -> list[int]:
    """How many tokens each text has, as llama.cpp's server there tells. Raises `ModelCallFailed`."""
    return [len(_field(page, "tokens", list)) for page in _pages(endpoint, texts, _as_llama_cpp)]


def _as_llama_cpp(endpoint: Endpoint, text: str) -> dict[str, Any]:
    return {"model": endpoint.model, "content": text, "add_special": False, "parse_special": True}


def _as_vllm(endpoint: Endpoint, text: str) -> dict[str, Any]:
    return {"model": endpoint.model, "prompt": text, "add_special_tokens": False}


def _pages(
    endpoint: Endpoint, texts: Sequence[str], request: Callable[[Endpoint, str], dict[str, Any]]
) -> Iterator[Any]:
    with Transport(endpoint.base_url, endpoint.api_key, TIMEOUT_S, endpoint.ca_file) as transport:
        for text in texts:
            yield transport.json("POST", f"{endpoint.base_url}/tokenize", request(endpoint, text))


def _field(page: Any, name: str, kind: type[_Kind]) -> _Kind:
    found = page.get(name) if isinstance(page, dict) else None
    if not isinstance(found, kind) or isinstance(found, bool) or (isinstance(found, int) and found < 0):
        raise ModelCallFailed(CallErrorKind.MALFORMED, f"/tokenize told no {name}: {page!s:.80}")
    return found
