"""Talking to a model: the small protocol that the quality tiers need, and the values that cross it.

What belongs here: messages, sampling, completions, errors by kind, and the `ChatModel` protocol. What does not:
HTTP (`resources.servers.client` implements the protocol) and streaming, which is the inference tier's subject.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal, Protocol, runtime_checkable

from milton_assets.vocabulary.errors import MiltonError


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. The default is greedy and seeded, so an unchanged model answers alike."""

    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    top_p: float = 1.0


@dataclass(frozen=True)
class TokenLogprob:
    """One alternative for a token, with its natural-log probability."""

    token: str
    logprob: float


@dataclass(frozen=True)
class Completion:
    """A model's answer. `first_token_alternatives` is filled when `top_logprobs` was asked for.

    `elapsed_s` is the wall time the model took when that is known better than by timing `complete`: an answer from
    a cache carries the time it took when it was first given. `system_folded` says that the server's template knows no
    system role, so that the system turn's text was sent at the beginning of the first user turn.
    """

    text: str
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    first_token_alternatives: tuple[TokenLogprob, ...] = ()
    elapsed_s: float | None = None
    system_folded: bool = False


class CallErrorKind(StrEnum):
    """Why a call to a model server gave no usable answer."""

    REFUSED = "refused"
    HTTP_STATUS = "http_status"
    ERROR_IN_STREAM = "error_in_stream"
    CUT_SHORT = "cut_short"
    TIMEOUT = "timeout"
    NOT_SSE = "not_sse"
    NOT_JSON = "not_json"
    MALFORMED = "malformed"
    USAGE_MISSING = "usage_missing"
    TRUNCATED = "truncated"
    EMPTY = "empty"
    ABORTED = "aborted"


_FINISHED = frozenset({"stop", "length", "tool_calls", "function_call", "eos_token", "stop_sequence"})
"""Why an answer may end: OpenAI's reasons, and text-generation-inference's names for the first."""

_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


def aborted(finish_reason: str | None) -> str | None:
    """What is wrong with an answer that ended for this reason, None when it is whole or was cut at its token limit.

    "abort" (vLLM), "error", "cancelled", "content_filter" and whatever else no server gives for a finished answer.
    """
    if finish_reason is None or finish_reason in _FINISHED:
        return None
    return f"the server ended the answer for the reason {finish_reason!r:.60}"


def clean_text(text: str) -> str:
    """`text` with halves of surrogate pairs joined where they meet and replaced (U+FFFD) where they stand alone.

    JSON can carry half a character; no file format of ours can.
    """
    if not _HALF_A_PAIR.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def text_of(content: object) -> str:
    """The text of a message's `content`: a string, null, or a list of parts of which those of type `text` count.

    Raises `ValueError` for anything else.
    """
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        texts = [part.get("text") for part in content if part.get("type") == "text"]
        if all(isinstance(text, str) for text in texts):
            return "".join(map(str, texts))
    raise ValueError(f"content is {content!s:.80}, not a text or a list of text parts")


class ModelCallFailed(MiltonError):
    """A call that gave no usable answer; `kind` is what a table row records. Never swallowed, always counted."""

    def __init__(self, kind: CallErrorKind, problem: str) -> None:
        super().__init__(f"{kind}: {problem}")
        self.kind = kind

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.kind, self.problem.removeprefix(f"{self.kind}: ")))


AS_IT_IS: Final = "as it is"
FOLDED: Final = "folded into the first user turn"


@runtime_checkable
class TellsSystemRole(Protocol):
    """A model that knows how the system turns of what it was asked were sent: `AS_IT_IS` or `FOLDED`."""

    @property
    def system_role(self) -> str:
        """How they were sent."""
        ...


class ChatModel(Protocol):
    """A model that answers conversations. Implementations may be called from several threads at once."""

    def complete(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        top_logprobs: int = 0,
        json_schema: Mapping[str, Any] | None = None,
    ) -> Completion:
        """Answer the conversation. Raises `ModelCallFailed`; a truncated or empty answer is returned as it is."""
        ...
