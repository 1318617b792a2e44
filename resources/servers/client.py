"""Chat completions and embeddings over HTTP, from any OpenAI-compatible server.

    with OpenAIChatModel(endpoint, timeout_s=60) as model:
        print(model.complete([Message("user", "What is the capital of France?")], Sampling(max_tokens=16)).text)

What belongs here: one request, one answer, and a name for everything that can go wrong between. What does not:
streaming and timing (`milton_assets.inference`), and what a server says of itself (`probe`).
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from milton_assets.vocabulary.chat import (
    CallErrorKind,
    Completion,
    Message,
    ModelCallFailed,
    Sampling,
    TokenLogprob,
)
from milton_assets.vocabulary.server import Endpoint
from resources.servers import wire

DEFAULT_TIMEOUT_S = 120.0
MAX_ANSWER_BYTES = 64 << 20
_CONNECT_TIMEOUT_S = 10.0
_EXCERPT_CHARACTERS = 400
_Shape = TypeVar("_Shape", bound=BaseModel)


class OpenAIChatModel:
    """A model behind an OpenAI-compatible endpoint; implements `milton_assets.vocabulary.chat.ChatModel`.

    May be called from several threads at once. A kept-alive connection that the server closed between two requests is
    replaced by a new one and is never an error. Proxies named in the environment are not used: what is measured is the
    server at this address. `timeout_s` is the longest silence and the longest whole answer; `extra` is added to every
    request's body (a server's own options, e.g. `{"cache_prompt": False}`).
    """

    def __init__(
        self,
        endpoint: Endpoint,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        *,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self._timeout_s = timeout_s
        self._extra = dict(extra or {})
        headers = {"Authorization": f"Bearer {endpoint.api_key}"} if endpoint.api_key else {}
        # Reading the certificate store takes tens of milliseconds: only for https, and once for both clients.
        verify = ssl.create_default_context() if endpoint.base_url.startswith("https:") else False
        timeout = httpx.Timeout(timeout_s, connect=min(_CONNECT_TIMEOUT_S, timeout_s))

        def client(kept_alive: int) -> httpx.Client:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=kept_alive)
            return httpx.Client(headers=headers, timeout=timeout, limits=limits, verify=verify, trust_env=False)

        self._keeping = client(kept_alive=64)
        self._fresh = client(kept_alive=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Calls after this fail."""
        self._keeping.close()
        self._fresh.close()

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
        check. Raises `ModelCallFailed`.
        """
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
        answer = self._post("chat/completions", request | self._extra, wire.ChatAnswer)
        choice, usage = answer.choices[0], answer.usage or wire.Usage()
        return Completion(
            text=choice.message.content or "",
            finish_reason=choice.finish_reason,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            first_token_alternatives=_first_token(choice.logprobs) if top_logprobs else (),
        )

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

    def server_props(self) -> dict[str, Any] | None:
        """llama.cpp's `GET /props`; None where the server has no such page. Raises `ModelCallFailed`."""
        try:
            found = self._call("GET", f"{self.endpoint.base_url}/props", None)
        except ModelCallFailed as error:
            if error.kind is CallErrorKind.HTTP_STATUS:
                return None
            raise
        return found if isinstance(found, dict) else None

    def _post(self, path: str, request: Mapping[str, Any], shape: type[_Shape]) -> _Shape:
        found = self._call("POST", f"{self.endpoint.v1}/{path}", request)
        if isinstance(found, dict) and found.get("error") and "choices" not in found:
            raise ModelCallFailed(
                CallErrorKind.ERROR_IN_STREAM, f"status 200 with an error: {_excerpt(json.dumps(found['error']))}"
            )
        try:
            return shape.model_validate(found)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the answer"
            raise ModelCallFailed(
                CallErrorKind.MALFORMED, f"{path}: {where}: {first['msg']}: {_excerpt(json.dumps(found))}"
            ) from error

    def _call(self, method: str, url: str, request: Mapping[str, Any] | None) -> Any:
        status, raw = self._exchange(method, url, request)
        if status != httpx.codes.OK:
            text = raw.decode(errors="replace")
            raise ModelCallFailed(CallErrorKind.HTTP_STATUS, f"{url} answered {status}: {_excerpt(text)}")
        try:
            # json.loads alone would let NaN and Infinity in, which are not JSON.
            return json.loads(raw, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            text = raw.decode(errors="replace")
            raise ModelCallFailed(CallErrorKind.NOT_JSON, f"{url} answered {_excerpt(text)!r}") from error

    def _exchange(self, method: str, url: str, request: Mapping[str, Any] | None) -> tuple[int, bytes]:
        attempt = _Attempt()
        try:
            try:
                return self._once(self._keeping, method, url, request, attempt)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                if not attempt.closed_between_requests:
                    raise
            return self._once(self._fresh, method, url, request, _Attempt())
        except httpx.TimeoutException as error:
            raise ModelCallFailed(
                CallErrorKind.TIMEOUT, f"{url}: {type(error).__name__}, {self._timeout_s} s"
            ) from error
        except httpx.ConnectError as error:
            raise ModelCallFailed(CallErrorKind.REFUSED, f"{url}: {error}") from error
        except httpx.DecodingError as error:
            raise ModelCallFailed(CallErrorKind.MALFORMED, f"{url}: {error}") from error
        except httpx.TransportError as error:
            raise ModelCallFailed(CallErrorKind.CUT_SHORT, f"{url}: {error}") from error

    def _once(
        self, client: httpx.Client, method: str, url: str, request: Mapping[str, Any] | None, attempt: _Attempt
    ) -> tuple[int, bytes]:
        deadline = time.monotonic() + self._timeout_s
        raw = bytearray()
        with client.stream(method, url, json=request, extensions={"trace": attempt.trace}) as response:
            for chunk in response.iter_bytes():
                raw += chunk
                if time.monotonic() > deadline:
                    raise ModelCallFailed(CallErrorKind.TIMEOUT, f"{url}: no whole answer within {self._timeout_s} s")
                if len(raw) > MAX_ANSWER_BYTES:
                    raise ModelCallFailed(
                        CallErrorKind.MALFORMED, f"{url}: an answer of more than {MAX_ANSWER_BYTES} bytes"
                    )
            return response.status_code, bytes(raw)


@dataclass
class _Attempt:
    """What one try got to, from httpcore's trace events."""

    connected: bool = False
    answered: bool = False

    def trace(self, event: str, _: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.started":
            self.connected = True
        elif event.endswith("receive_response_headers.complete"):
            self.answered = True

    @property
    def closed_between_requests(self) -> bool:
        """Whether it failed on a connection that an earlier request had left open, before any answer."""
        return not self.connected and not self.answered


def _first_token(logprobs: wire.Logprobs | None) -> tuple[TokenLogprob, ...]:
    tokens = (logprobs and logprobs.content) or ()
    if not tokens:
        return ()
    ranked = sorted(tokens[0].top_logprobs, key=lambda a: -a.logprob)
    return tuple(TokenLogprob(a.token, a.logprob) for a in ranked)


def _excerpt(text: str) -> str:
    return text if len(text) <= _EXCERPT_CHARACTERS else text[:_EXCERPT_CHARACTERS] + "…"


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
