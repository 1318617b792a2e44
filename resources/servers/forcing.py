"""Asking a server what its model expects at each place of a text that is given to it token by token.

What belongs here: which servers answer that, how they are asked, and reading the answer. What does not: what is made of
it (`milton_assets.tiers.fidelity`), and keeping it (`resources.predictions`).

llama.cpp: `POST /tokenize` reads the text; then, for every place, `POST /completion` with the tokens before it as
`prompt` and one token to be predicted. `n_probs` asks for the likeliest tokens and, with `post_sampling_probs` false,
their probabilities are those of the whole vocabulary before any sampling. The text's own token is made certain to be
chosen by a bias, which changes what is sampled and not the probabilities that are told: so its probability is known
however unlikely it was. The tokens before are kept in the server's cache from one place to the next, and a text's first
place is computed from nothing, so that a text is computed in the same steps whatever was asked before it.

A token that is no whole character (half of an "ü") comes without probabilities: the server waits for the rest of the
character. Nothing is known of such a place, of no model.

vLLM and others: no such page is relied on here. Source: llama.cpp, `tools/server/README.md`, and its answers as
xllamacpp 2026.10 gave them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from milton_assets.vocabulary.chat import CallErrorKind, ModelCallFailed
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.forcing import Expectation, Forced, TeacherForcing
from milton_assets.vocabulary.server import Endpoint
from resources.servers.exchange import Transport

TIMEOUT_S: Final = 120.0
_CERTAIN: Final = 1e4
"""A bias in nats that no logit comes near."""
_LEAST_LOGPROB: Final = -1e4
"""llama.cpp tells the logarithm of a probability of 0 as the least number that a float holds."""

_HALF_A_CHARACTER: Final = "\N{REPLACEMENT CHARACTER}"
_Told = TypeVar("_Told")


class _Listed(BaseModel):
    model_config = ConfigDict(strict=True)

    id: int = Field(ge=0)
    logprob: float


class _Place(_Listed):
    top_logprobs: list[_Listed]


class _Completion(BaseModel):
    content: str
    completion_probabilities: list[_Place] | None = None


class _Reading(BaseModel):
    model_config = ConfigDict(strict=True)

    tokens: list[int]


def teacher_forcing(endpoint: Endpoint, server: str) -> TeacherForcing | None:
    """Whom to ask what the model at `endpoint` expects; None where `server`, its kind as its fingerprint names it, does
    not tell."""
    return LlamaCppForcing(endpoint) if server.startswith("llama.cpp") else None


@dataclass(frozen=True)
class LlamaCppForcing:
    """A model behind llama.cpp's server. Texts are asked one after another, on the server's first slot."""

    endpoint: Endpoint
    timeout_s: float = TIMEOUT_S

    def forced(self, text: str, *, first: int, places: int, top: int) -> Forced:
        """See `TeacherForcing.forced`."""
        if first < 1 or places < 1 or top < 1:
            raise BadInput(f"first {first}, places {places}, top {top}", expected="at least 1 each")
        with Transport(
            self.endpoint.base_url, self.endpoint.api_key, self.timeout_s, self.endpoint.ca_file
        ) as transport:
            tokens = self._read(transport, text)
            ends = range(first, min(first + places, len(tokens)))
            found = tuple(self._expect(transport, tokens[:end], tokens[end], top, fresh=end == first) for end in ends)
        return _told("/completion", lambda: Forced(tokens, first, found))

    def _read(self, transport: Transport, text: str) -> tuple[int, ...]:
        body = {"model": self.endpoint.model, "content": text, "add_special": True, "parse_special": False}
        page = transport.json("POST", f"{self.endpoint.base_url}/tokenize", body)
        return tuple(_told("/tokenize", lambda: _Reading.model_validate(page)).tokens)

    def _expect(
        self, transport: Transport, before: Sequence[int], token: int, top: int, *, fresh: bool
    ) -> Expectation | None:
        body = {
            "model": self.endpoint.model,
            "prompt": list(before),
            "n_predict": 1,
            "n_probs": top,
            "post_sampling_probs": False,
            "temperature": 0.0,
            "logit_bias": [[token, _CERTAIN]],
            "cache_prompt": not fresh,
            "id_slot": 0,
            "stream": False,
        }
        page = transport.json("POST", f"{self.endpoint.base_url}/completion", body)
        told = _told("/completion", lambda: _Completion.model_validate(page))
        if not told.completion_probabilities:
            if told.content and not told.content.endswith(_HALF_A_CHARACTER):
                raise ModelCallFailed(CallErrorKind.MALFORMED, "/completion gave no probabilities beside its text")
            return None
        place = told.completion_probabilities[0]
        if place.id != token:
            raise ModelCallFailed(
                CallErrorKind.MALFORMED, f"/completion was made to choose token {token} and chose {place.id}"
            )
        listed = tuple((one.id, max(one.logprob, _LEAST_LOGPROB)) for one in place.top_logprobs)
        return _told("/completion", lambda: Expectation(token, max(place.logprob, _LEAST_LOGPROB), listed))


def _told(page: str, read: Callable[[], _Told]) -> _Told:
    """What `read` makes of a page. Raises `ModelCallFailed` where that is nothing."""
    try:
        return read()
    except (ValidationError, BadInput) as error:
        said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.problem
        raise ModelCallFailed(CallErrorKind.MALFORMED, f"{page} gave no probabilities: {said}") from error
