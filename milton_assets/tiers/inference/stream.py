"""What a streamed chat completion said, and when: the events of one response, reduced as they come.

What belongs here: which event is a token, which is the usage, which is an error; and the verdict at the end. What
does not: bytes on a socket (`transport`), and figures (`sample`).

A *token event* has a choice whose delta carries non-empty `content`, or non-empty `reasoning_content` or
`reasoning`. A role alone, an empty string and a usage chunk are none. The *first* token is the first of which a reader
would see anything: blank or zero-width text before it would only stop the clock. Memory is bounded however long the
stream.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from milton_assets.tiers.inference.shape import Shape, prints
from milton_assets.tiers.inference.sse import Event, EventParser, EventTooLarge
from milton_assets.vocabulary.chat import CallErrorKind, aborted, text_of

HEAD_CHARACTERS = 160
_BODY_HEAD_BYTES = 2048
MOST_KEPT_CHARACTERS = 1 << 18
"""Of an answer's text, to count its tokens; a longer one is not counted."""
_SILENT_TOKENS = 8
"""Tokens without a text of their own that a server may count: the end of the turn, and of a reasoning part."""
_REASONING_KEYS = ("reasoning_content", "reasoning")


@dataclass(frozen=True)
class Failure:
    """Why a request gave no usable measurement."""

    kind: CallErrorKind
    detail: str


@dataclass(frozen=True)
class Usage:
    """Token counts as the server told them. `cached_tokens` is None where it does not tell."""

    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None


class ChatStream:
    """Takes a response's head and body pieces with their arrival stamps (ns) and keeps what the figures need.

    `on_gap` is given the nanoseconds between each token event and the one before it.
    """

    def __init__(self, on_gap: Callable[[int], None] = lambda _: None) -> None:
        self._on_gap = on_gap
        self._parser = EventParser()
        self._body_head = b""
        self._events = 0
        self._failure: Failure | None = None
        self.status: int | None = None
        self.content_type = ""
        self._told = ""
        self.first_token_ns: int | None = None
        self.first_visible_ns: int | None = None
        self.last_token_ns: int | None = None
        self.last_event_ns: int | None = None
        self.token_events = 0
        self.shape = Shape()
        self.text_bytes = 0
        self.reasoning_events = 0
        self.joined_events = 0
        self.first_token_joined = False
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.done = False
        self.head = ""
        self._texts: list[str] = []
        self._characters = 0

    def on_head(self, status: int, headers: Mapping[str, str]) -> None:
        """The status line and headers (names in lower case)."""
        self.status = status
        self.content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        told = {"it leads to": headers.get("location"), "Retry-After": headers.get("retry-after")}
        self._told = "".join(f" ({what} {words[:HEAD_CHARACTERS]})" for what, words in told.items() if words)
        if (encoding := headers.get("content-encoding", "identity").lower()) != "identity":
            self._fail(CallErrorKind.MALFORMED, f"the body is encoded as {encoding!r} though none was asked for")

    def on_body(self, stamp_ns: int, piece: bytes) -> None:
        """One piece of the body, which arrived at `stamp_ns`."""
        if len(self._body_head) < _BODY_HEAD_BYTES:
            self._body_head += piece[: _BODY_HEAD_BYTES - len(self._body_head)]
        if self.status != 200:
            return
        try:
            events = self._parser.feed(piece)
        except EventTooLarge as error:
            self._fail(CallErrorKind.NOT_SSE, error.problem)
            return
        for event in events:
            self._events += 1
            self.last_event_ns = stamp_ns
            if event.data == b"[DONE]":
                self.done = True
            elif event.data.strip():
                self._chunk(stamp_ns, event)

    def verdict(self, max_tokens: int, transport: Failure | None = None) -> Failure | None:
        """Why this response cannot be counted as good, or None. `transport` is what the connection died of."""
        if self.status is not None and self.status != 200:
            return Failure(CallErrorKind.HTTP_STATUS, f"status {self.status}{self._told}: {self._body_text()}")
        if self._failure:
            return self._failure
        if transport and not self.done:
            return transport
        if not self._events:
            if self._body_head.strip():
                return Failure(CallErrorKind.NOT_SSE, f"{self.content_type or 'no content type'}: {self._body_text()}")
            return Failure(CallErrorKind.EMPTY, "the response has no body")
        if not self.done and self.finish_reason is None:
            return Failure(CallErrorKind.CUT_SHORT, "the stream ended with neither a finish reason nor [DONE]")
        if (why := aborted(self.finish_reason)) is not None:
            return Failure(CallErrorKind.ABORTED, why)
        if self.first_token_ns is None:
            return Failure(CallErrorKind.EMPTY, "the stream carried no token that prints")
        return self._usage_verdict(max_tokens)

    def _usage_verdict(self, max_tokens: int) -> Failure | None:
        if self.usage is None or self.usage.completion_tokens is None:
            return Failure(CallErrorKind.USAGE_MISSING, "the stream ended without usage.completion_tokens")
        told = self.usage.completion_tokens
        if told < 1:
            return Failure(CallErrorKind.MALFORMED, f"usage counts {told} tokens, {self.token_events} events had some")
        if told > max_tokens:
            return Failure(CallErrorKind.MALFORMED, f"usage counts {told} tokens, asked were {max_tokens} at most")
        if told > self.text_bytes + _SILENT_TOKENS:
            return Failure(
                CallErrorKind.MALFORMED,
                f"usage counts {told} tokens, but {self.text_bytes} bytes of text came, and a token is at least one",
            )
        if self.finish_reason == "length" and told < max_tokens:
            return Failure(CallErrorKind.TRUNCATED, f"stopped for length after {told} of {max_tokens} tokens")
        return None

    def _chunk(self, stamp_ns: int, event: Event) -> None:
        try:
            chunk = json.loads(event.data.decode())
        except (ValueError, RecursionError):
            self._fail(CallErrorKind.NOT_JSON, event.data[:HEAD_CHARACTERS].decode(errors="replace"))
            return
        if not isinstance(chunk, dict):
            self._fail(CallErrorKind.MALFORMED, f"a chunk is {type(chunk).__name__}, not an object")
            return
        if event.name == b"error" or chunk.get("error") or chunk.get("object") == "error":
            self._fail(CallErrorKind.ERROR_IN_STREAM, str(chunk.get("error") or chunk)[:HEAD_CHARACTERS])
            return
        self._read_usage(chunk.get("usage"))
        choices = chunk.get("choices") or ()
        if not isinstance(choices, list | tuple) or not all(isinstance(choice, dict) for choice in choices):
            self._fail(CallErrorKind.MALFORMED, f"choices are {str(choices)[:HEAD_CHARACTERS]}")
            return
        for choice in choices:
            self._choice(stamp_ns, choice)

    def _choice(self, stamp_ns: int, choice: dict[str, Any]) -> None:
        if isinstance(reason := choice.get("finish_reason"), str):
            self.finish_reason = reason
        delta = choice.get("delta") or {}
        if not isinstance(delta, dict):
            self._fail(CallErrorKind.MALFORMED, f"a delta is {type(delta).__name__}, not an object")
            return
        try:
            content = text_of(delta.get("content"))
            reasoning = text_of(next((delta[key] for key in _REASONING_KEYS if delta.get(key)), ""))
        except ValueError as error:
            self._fail(CallErrorKind.MALFORMED, f"a delta's {error}")
            return
        if content or reasoning:
            self._keep(content + reasoning)
            self.text_bytes += len((content + reasoning).encode(errors="surrogatepass"))
            self._token(stamp_ns, visible=prints(content), is_reasoning=not content, text=content or reasoning)

    def _keep(self, text: str) -> None:
        self._characters += len(text)
        if self._characters <= MOST_KEPT_CHARACTERS:
            self._texts.append(text)

    @property
    def text(self) -> str | None:
        """All that was said, reasoning included; None when it was more than is kept."""
        return None if self._characters > MOST_KEPT_CHARACTERS else "".join(self._texts)

    def _token(self, stamp_ns: int, *, visible: bool, is_reasoning: bool, text: str) -> None:
        self.token_events += 1
        has_printed = self.shape.add(stamp_ns, text)
        if self.first_token_ns is None and has_printed:
            self.first_token_ns = stamp_ns
        elif self.first_token_ns is not None and self.last_token_ns is not None:
            self._on_gap(stamp_ns - self.last_token_ns)
            self.joined_events += stamp_ns == self.last_token_ns
            self.first_token_joined |= stamp_ns == self.first_token_ns
        self.last_token_ns = stamp_ns
        self.reasoning_events += is_reasoning
        if visible and self.first_visible_ns is None:
            self.first_visible_ns = stamp_ns
        if len(self.head) < HEAD_CHARACTERS:
            self.head = (self.head + text)[:HEAD_CHARACTERS]

    def _read_usage(self, usage: object) -> None:
        if not isinstance(usage, dict):
            return
        details = usage.get("prompt_tokens_details")
        self.usage = Usage(
            _count(usage.get("prompt_tokens")),
            _count(usage.get("completion_tokens")),
            _count(details.get("cached_tokens")) if isinstance(details, dict) else None,
        )

    def _fail(self, kind: CallErrorKind, detail: str) -> None:
        self._failure = self._failure or Failure(kind, detail)

    def _body_text(self) -> str:
        return " ".join(self._body_head.decode(errors="replace").split())[:HEAD_CHARACTERS]


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
