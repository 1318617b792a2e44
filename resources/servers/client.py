"""Chat completions and embeddings over HTTP, from any OpenAI-compatible server.

    with OpenAIChatModel(endpoint, timeout_s=60) as model:
        print(model.complete([Message("user", "What is the capital of France?")], Sampling(max_tokens=16)).text)

What belongs here: what is asked, and reading the answer. What does not: connections and their failures (`exchange`),
streaming and timing (`milton_assets.tiers.inference`), and what a server says of itself (`probe`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ValidationError

from milton_assets.vocabulary.chat import (
    AS_IT_IS,
    FOLDED,
    CallErrorKind,
    Completion,
    Message,
    ModelCallFailed,
    Sampling,
    TokenLogprob,
    aborted,
)
from milton_assets.vocabulary.secrets import redact
from milton_assets.vocabulary.server import Endpoint
from resources.servers import wire
from resources.servers.exchange import Transport, excerpt
from resources.servers.openings import Openings
from resources.servers.repeatable import Asking

DEFAULT_TIMEOUT_S = 120.0
_REFUSES_ROLE = re.compile(r"answered (?:400|422|500): .*\brole", re.IGNORECASE | re.DOTALL)
"""How servers pass on what a template raises: "System role not supported", "Conversation roles must alternate"."""
_Shape = TypeVar("_Shape", bound=BaseModel)


class OpenAIChatModel:
    """A model behind an OpenAI-compatible endpoint; implements `milton_assets.vocabulary.chat.ChatModel`.

    May be called from several threads at once. `timeout_s` is the longest silence and the longest whole answer;
    `asking` has a server's own options, for answers that depend on nothing else that it is asked.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        *,
        asking: Asking = Asking(),  # noqa: B008 - it is frozen
    ) -> None:
        self.endpoint = endpoint
        self._openings = Openings(self._ask, asking)
        self._transport = Transport(endpoint.base_url, endpoint.api_key, timeout_s, endpoint.ca_file)
        self._folds_system = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def system_role(self) -> str:
        """How a conversation's system turn was sent: `as it is`, or `folded into the first user turn`."""
        return FOLDED if self._folds_system else AS_IT_IS

    def close(self) -> None:
        """Close the connections. Calls after this fail."""
        self._transport.close()

    def complete(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        top_logprobs: int = 0,
        json_schema: Mapping[str, Any] | None = None,
    ) -> Completion:
        """Answer the conversation, as `ChatModel.complete` says.

        `top_logprobs` asks for that many alternatives at each token; those of the first token are returned, most
        likely first. `json_schema` is sent as `response_format`; whether the answer keeps to it is the caller's to
        check. An answer that the server broke off (`aborted`), or whose `usage` counts more than `max_tokens`, is none.

        A server whose chat template knows no system role (Gemma 2) refuses the first conversation that has one; from
        then on its text opens the first user turn (`system_role`). Raises `ModelCallFailed`.
        """
        without = folded(messages)
        has_system = without != list(messages)
        if not (self._folds_system and has_system):
            try:
                return self._complete(messages, sampling, top_logprobs, json_schema)
            except ModelCallFailed as refusal:
                if not has_system or not _REFUSES_ROLE.search(refusal.problem):
                    raise
        completion = self._complete(without, sampling, top_logprobs, json_schema)
        self._folds_system = True
        return replace(completion, system_folded=True)

    def _complete(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        top_logprobs: int,
        json_schema: Mapping[str, Any] | None,
    ) -> Completion:
        request: dict[str, Any] = {
            "model": self.endpoint.model,
            "messages": [{"role": m.role, "content": m.content} for m in messages],
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "stream": False,
        }
        if top_logprobs:
            request |= {"logprobs": True, "top_logprobs": top_logprobs}
        if json_schema is not None:
            schema = {"name": "answer", "strict": True, "schema": dict(json_schema)}
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        answer = self._openings.answer(request)
        choice, usage = answer.choices[0], answer.usage or wire.Usage()
        if (why := aborted(choice.finish_reason)) is not None:
            raise ModelCallFailed(CallErrorKind.ABORTED, why)
        if (told := usage.completion_tokens or 0) > sampling.max_tokens:
            raise ModelCallFailed(
                CallErrorKind.MALFORMED, f"usage counts {told} tokens, asked were {sampling.max_tokens} at most"
            )
        return Completion(
            text=choice.message.content,
            finish_reason=choice.finish_reason,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            first_token_alternatives=self._first_token(choice.logprobs) if top_logprobs else (),
        )

    def _ask(self, request: Mapping[str, Any]) -> wire.ChatAnswer:
        return self._post("chat/completions", request, wire.ChatAnswer)

    def embeddings(self, texts: Sequence[str]) -> list[list[float]]:
        """A vector a text, in the texts' order, all of one length. Raises `ModelCallFailed`."""
        if not texts:
            return []
        request = {"model": self.endpoint.model, "input": list(texts), "encoding_format": "float"}
        answer = self._post("embeddings", request, wire.EmbeddingsAnswer)
        by_index = {item.index: list(item.embedding) for item in answer.data}
        if sorted(by_index) != list(range(len(texts))) or len({len(v) for v in by_index.values()}) != 1:
            raise ModelCallFailed(
                CallErrorKind.MALFORMED,
                f"{len(texts)} texts were sent, and vectors came for the indices {sorted(by_index)[:8]}"
                f" with lengths {sorted({len(v) for v in by_index.values()})[:8]}",
            )
        return [by_index[index] for index in range(len(texts))]

    def _post(self, path: str, request: Mapping[str, Any], shape: type[_Shape]) -> _Shape:
        found = self._transport.json("POST", f"{self.endpoint.v1}/{path}", request)
        if isinstance(found, dict) and found.get("error") and "choices" not in found:
            raise ModelCallFailed(
                CallErrorKind.ERROR_IN_STREAM, f"status 200 with an error: {self._excerpt(found['error'])}"
            )
        return self._valid(path, shape, found)

    def _valid(self, path: str, shape: type[_Shape], found: Any) -> _Shape:
        try:
            return shape.model_validate(found)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the answer"
            raise ModelCallFailed(
                CallErrorKind.MALFORMED, f"{path}: {where}: {first['msg']}: {self._excerpt(found)}"
            ) from error

    def _excerpt(self, found: Any) -> str:
        return excerpt(redact(json.dumps(found), self.endpoint.api_key))

    def _first_token(self, logprobs: Any) -> tuple[TokenLogprob, ...]:
        """The alternatives of the first token; none where the server sent null or an empty list."""
        if not logprobs:
            return ()
        tokens = self._valid("chat/completions, logprobs", wire.Logprobs, logprobs).content
        if not tokens:
            return ()
        ranked = sorted(tokens[0].top_logprobs, key=lambda a: -a.logprob)
        return tuple(TokenLogprob(a.token, a.logprob) for a in ranked)


def folded(messages: Sequence[Message]) -> list[Message]:
    """The conversation with an opening system turn's text at the beginning of the first user turn."""
    match list(messages):
        case [Message(role="system") as system, Message(role="user") as user, *rest]:
            return [Message("user", f"{system.content}\n\n{user.content}"), *rest]
        case unchanged:
            return unchanged
