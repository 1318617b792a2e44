"""A language model small enough to be checked by hand, behind the pages of llama.cpp that the fidelity tier asks.

What belongs here: a vocabulary of words, an expectation that depends on the last word, and those pages. What does not:
assertions.

    with scripted_server("unused", posts=pages(table(seed=1))) as server: ...
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from milton_assets.vocabulary.forcing import Expectation, Forced
from tests.support.scripted_server import Body, Handler, Reply

WORDS = 40


@dataclass(frozen=True)
class WordModel:
    """`probabilities` (words, words): after the word of a row, each word of a column. `shift` makes other tokens of the
    same words, as another tokenizer would."""

    probabilities: npt.NDArray[np.float64]
    shift: int = 0

    def tokens(self, text: str) -> tuple[int, ...]:
        """A first token that begins every text, then one a word."""
        return (0, *(1 + (zlib.crc32(word.encode()) + self.shift) % (WORDS - 1) for word in text.split()))

    def logprobs(self, before: Sequence[int]) -> npt.NDArray[np.float64]:
        """The logarithms of what comes after these tokens."""
        return np.log(self.probabilities[before[-1]])

    def expectation(self, before: Sequence[int], token: int, top: int) -> Expectation:
        """What it expects after these tokens."""
        logprobs = self.logprobs(before)
        best = np.argsort(-logprobs, kind="stable")[:top].tolist()
        return Expectation(token, float(logprobs[token]), tuple((i, float(logprobs[i])) for i in best))

    def forced(self, text: str, *, first: int, places: int, top: int) -> Forced:
        """`TeacherForcing`, without a server between."""
        tokens = self.tokens(text)
        ends = range(first, min(first + places, len(tokens)))
        return Forced(tokens, first, tuple(self.expectation(tokens[:end], tokens[end], top) for end in ends))


def model(seed: int, *, like: WordModel | None = None, damage: float = 1.0) -> WordModel:
    """A model drawn by `seed`; with `like`, that one with so much noise on its logits."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (WORDS, WORDS)) if like is None else np.log(like.probabilities)
    if like is not None:
        logits = logits + rng.normal(0, damage, (WORDS, WORDS))
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return WordModel(exp / exp.sum(axis=1, keepdims=True))


def pages(of: WordModel) -> Mapping[str, Reply | Handler]:
    """`/tokenize` and `/completion` as llama.cpp answers them; a biased token is chosen, whatever its probability."""

    def tokenize(body: dict[str, Any]) -> Body:
        return Body({"tokens": list(of.tokens(body["content"]))})

    def completion(body: dict[str, Any]) -> Body:
        ((token, _),) = body["logit_bias"]
        told = of.expectation(body["prompt"], token, body["n_probs"])
        listed = [{"id": i, "token": str(i), "bytes": [], "logprob": p} for i, p in told.top]
        place = {"id": token, "token": str(token), "bytes": [], "logprob": told.logprob, "top_logprobs": listed}
        return Body({"content": str(token), "completion_probabilities": [place], "tokens_evaluated": 1})

    return {"/tokenize": tokenize, "/completion": completion}
