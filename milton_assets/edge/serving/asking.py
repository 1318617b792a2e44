"""Asking a model server a question of our own: the probe before a swap, and the canary questions afterwards.

What belongs here: one streamed, greedy answer with its times and counts. What does not: users' requests (`gateway`),
and judging what came back (`watch`, `supervisor`).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from milton_assets.edge.manifest import Probe
from milton_assets.edge.serving.heads import RequestHead, ResponseHead
from milton_assets.edge.serving.http1 import Request, forwarded
from milton_assets.edge.serving.model_server import ModelServer, UpstreamLost
from milton_assets.edge.serving.observe import Watched
from milton_assets.edge.serving.texts import NoAnswer, streamed_text
from milton_assets.vocabulary.digest import sha256_bytes

_MOST_BYTES = 8 << 20


class Unanswered(Exception):
    """The server did not answer the question; the text says how."""


@dataclass(frozen=True)
class Asked:
    """One answer. Times are seconds; `output_tokens` and `input_tokens` are None where the server does not tell."""

    text: str
    time_to_first_token_s: float | None
    took_s: float
    input_tokens: int | None
    output_tokens: int | None

    @property
    def sha256(self) -> str:
        """The digest of the text, as health contracts promise it."""
        return sha256_bytes(self.text.encode())

    @property
    def decode_tokens_per_s(self) -> float | None:
        """Output tokens a second after the first; None for an answer of one token, or where nothing was told."""
        if self.output_tokens is None or self.time_to_first_token_s is None or self.output_tokens < 2:
            return None
        took_s = self.took_s - self.time_to_first_token_s
        return (self.output_tokens - 1) / took_s if took_s > 0 else None

    @property
    def prefill_tokens_per_s(self) -> float | None:
        """Input tokens a second until the first output token."""
        if self.input_tokens is None or not self.time_to_first_token_s:
            return None
        return self.input_tokens / self.time_to_first_token_s


async def ask(server: ModelServer, probe: Probe, *, timeout_s: float) -> Asked:
    """Ask `probe` of the server as contracts are measured: one user message, greedy, seed 0, and nothing from a cache.

    Raises `Unanswered` for an error, an answer that was cut or too long, and no answer within `timeout_s`. To cancel it
    cancels the request.
    """
    body = {"messages": [{"role": "user", "content": probe.prompt}], "max_tokens": probe.max_tokens}
    return await ask_again(server, body | {"temperature": 0.0, "top_p": 1.0, "seed": 0}, timeout_s=timeout_s)


async def ask_again(server: ModelServer, asked: Mapping[str, Any], *, timeout_s: float) -> Asked:
    """Ask the server a chat completion that somebody asked before, as a stream and with nothing from a cache.

    Raises as `ask`.
    """
    how = {"model": server.model, "stream": True, "stream_options": {"include_usage": True}, "cache_prompt": False}
    body = json.dumps({**asked, **how}).encode()
    headers = [(b"host", server.host.encode()), (b"content-type", b"application/json"), *_key(server)]
    head = RequestHead(headers, 1, b"POST", b"/v1/chat/completions")
    server.begin()
    try:
        async with asyncio.timeout(timeout_s):
            return await _asked(server, Request(head, body))
    except UpstreamLost as error:
        raise Unanswered(f"the model server was lost: {error}") from error
    except TimeoutError:
        raise Unanswered(f"no whole answer within {timeout_s:g} s") from None
    finally:
        server.end()


def _key(server: ModelServer) -> list[tuple[bytes, bytes]]:
    key = server.running.endpoint.api_key if server.running else None
    return [] if key is None else [(b"authorization", f"Bearer {key}".encode("ascii"))]


async def _asked(server: ModelServer, request: Request) -> Asked:
    # A kept connection may be closed under us, which must not look like a server that does not answer.
    exchange = await server.fresh()
    watched, raw, statuses = Watched(streamed=True), bytearray(), list[int]()

    def on_head(head: ResponseHead, _: bool) -> None:
        statuses.append(head.status)

    def on_body(_: bytes, pieces: Sequence[bytes]) -> None:
        now_s = time.perf_counter()
        for piece in pieces:
            watched.see(piece, now_s)
            raw.extend(piece)
        if len(raw) > _MOST_BYTES:
            raise Unanswered(f"an answer of more than {_MOST_BYTES} bytes")

    began = time.perf_counter()
    try:
        exchange.send(request.head.method, forwarded(request, server.host))
        await exchange.pass_to(on_head, on_body)
        took_s = time.perf_counter() - began
    finally:
        exchange.close()
    if statuses != [200]:
        raise Unanswered(f"it answered {statuses[0]}: {bytes(raw[:200]).decode(errors='replace')}")
    tokens = watched.tokens()
    first = None if watched.first_token_s is None else watched.first_token_s - began
    try:
        text = streamed_text(bytes(raw))
    except NoAnswer as error:
        raise Unanswered(str(error)) from error
    return Asked(text, first, took_s, tokens.input, tokens.output)
