"""The parts of the OpenAI-compatible protocol that we read, as types that validate themselves.

What belongs here: the shapes of answers, as narrow as we need them and blind to what else a server adds. What does not:
HTTP, and what the shapes mean to us.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Alternative(_Wire):
    """One candidate for a token with its natural-log probability."""

    token: str
    logprob: float = Field(allow_inf_nan=False)


class Token(_Wire):
    """One generated token and the most likely alternatives at its place, itself included."""

    token: str
    top_logprobs: tuple[Alternative, ...] = Field(default=(), strict=False)


class Logprobs(_Wire):
    """The generated tokens; some servers send null for an answer without any."""

    content: tuple[Token, ...] | None = Field(default=None, strict=False)


class AnswerMessage(_Wire):
    """What the model said. `content` is null in an answer that is all reasoning, refusal or tool call."""

    content: str | None = None


class Choice(_Wire):
    """One answer."""

    message: AnswerMessage
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class Usage(_Wire):
    """Token counts."""

    prompt_tokens: int | None = Field(default=None, ge=0)
    completion_tokens: int | None = Field(default=None, ge=0)


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
    """One line of `GET /v1/models`. `root` (vLLM, SGLang) is the path or name that the weights were loaded from."""

    id: str
    root: str | None = None
    max_model_len: int | None = None
    owned_by: str | None = None
    aliases: tuple[str, ...] | None = Field(default=None, strict=False)


class ServedModels(_Wire):
    """`GET /v1/models`."""

    data: tuple[ServedModel, ...] = Field(strict=False)
