"""The parts of the OpenAI-compatible protocol that we read, as types that validate themselves.

What belongs here: the shapes of answers, as narrow as we need them and blind to what else a server adds. What does not:
HTTP, and what the shapes mean to us.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from milton_assets.vocabulary.chat import clean_text, text_of


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


def _empty_for_null(value: object) -> object:
    return () if value is None else value


def _whole_number(value: object) -> object:
    """Some servers write counts as 8192.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Text = Annotated[str, BeforeValidator(lambda content: clean_text(text_of(content)))]
"""A message's content: a string, null (empty), or a list of text parts (joined)."""
Count = Annotated[int, BeforeValidator(_whole_number)]


class Alternative(_Wire):
    """One candidate for a token with its natural-log probability."""

    token: str
    logprob: float = Field(allow_inf_nan=False)


class Token(_Wire):
    """One generated token and the most likely alternatives at its place, itself included."""

    token: str
    top_logprobs: Annotated[tuple[Alternative, ...], BeforeValidator(_empty_for_null)] = Field(default=(), strict=False)


class Logprobs(_Wire):
    """The generated tokens; some servers send null for an answer without any."""

    content: tuple[Token, ...] | None = Field(default=None, strict=False)


class AnswerMessage(_Wire):
    """What the model said. Empty in an answer that is all reasoning, refusal or tool call."""

    content: Text = ""


class Choice(_Wire):
    """One answer. `logprobs` is read (`Logprobs`) only where it was asked for: what servers send unasked is odd."""

    message: AnswerMessage
    finish_reason: str | None = None
    logprobs: Any = None


class PromptTokens(_Wire):
    """Of a prompt's tokens, those that the server had kept from an earlier prompt."""

    cached_tokens: Count | None = Field(default=None, ge=0)


class Usage(_Wire):
    """Token counts."""

    prompt_tokens: Count | None = Field(default=None, ge=0)
    completion_tokens: Count | None = Field(default=None, ge=0)
    prompt_tokens_details: PromptTokens | None = None


class ChatAnswer(_Wire):
    """`POST /v1/chat/completions` without streaming."""

    choices: tuple[Choice, ...] = Field(min_length=1, strict=False)
    usage: Usage | None = None


class Embedding(_Wire):
    """One text's vector; `index` is the text's place in the request."""

    index: int = Field(ge=0)
    embedding: tuple[float, ...] = Field(min_length=1, strict=False)


class EmbeddingsAnswer(_Wire):
    """`POST /v1/embeddings`."""

    data: tuple[Embedding, ...] = Field(strict=False)


class ServedModel(_Wire):
    """One line of `GET /v1/models`. `root` (vLLM, SGLang) is the path or name that the weights were loaded from;
    `status` (a router) whether they are loaded."""

    id: str
    root: str | None = None
    max_model_len: Count | None = None
    owned_by: str | None = None
    aliases: tuple[str, ...] | None = Field(default=None, strict=False)
    status: Any = None


class ServedModels(_Wire):
    """`GET /v1/models`. Each line is judged alone (`ServedModel`), so that an odd one does not hide the others."""

    data: tuple[Any, ...] | None = Field(strict=False)
