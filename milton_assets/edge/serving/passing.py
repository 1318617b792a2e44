"""A request on its way to a model server, and its answer on the way back to its user.

What belongs here: what is known of a request while it passes, and writing its response as it comes. What does not:
which server gets it, and what happens when that is lost (`gateway`); the user's connection (`users`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from milton_assets.edge.serving.heads import ResponseHead
from milton_assets.edge.serving.http1 import end_to_end
from milton_assets.edge.serving.metrics import Outcome, Told
from milton_assets.edge.serving.model_server import ModelServer
from milton_assets.edge.serving.observe import Watched
from milton_assets.edge.serving.splitting import Drawn
from milton_assets.edge.serving.texts import NoAnswer, streamed_text, whole_text
from milton_assets.edge.serving.users import Client, Framing

_MOST_KEPT_BYTES = 1 << 20
"""An answer to a golden question that comes in more bytes is not marked."""


@dataclass
class Passing:
    """One request being passed on: what is known of it so far. Times are `time.perf_counter` seconds. `kept` is its
    answer, while it passes, where a golden question was asked."""

    arrived_s: float
    held_s: float = 0.0
    status: int = 0
    model: str = ""
    watched: Watched | None = None
    drawn: Drawn | None = None
    kept: bytearray | None = None

    def answer(self) -> str:
        """The text of the answer that was kept. Raises `NoAnswer`."""
        if self.kept is None or self.watched is None or len(self.kept) > _MOST_KEPT_BYTES:
            raise NoAnswer("the answer was not kept")
        return (streamed_text if self.watched.streamed else whole_text)(bytes(self.kept))

    def told(self, operation: str, outcome: Outcome, ended_s: float) -> Told:
        """What is told of it, which ended then."""
        duration_s = ended_s - self.arrived_s
        if self.watched is None:
            return Told(operation, self.model, outcome, self.status, duration_s, self.held_s)
        tokens = self.watched.tokens()
        first_s, last_s = self.watched.first_token_s, self.watched.last_s
        output = tokens.output if tokens.output is not None else (tokens.events or None)
        per_token = None
        if first_s is not None and last_s is not None and output is not None and output > 1:
            per_token = (last_s - first_s) / (output - 1)
        return Told(
            operation,
            self.model,
            outcome,
            self.status,
            duration_s,
            self.held_s,
            time_to_first_token_s=None if first_s is None else first_s - self.arrived_s,
            time_per_output_token_s=per_token,
            input_tokens=tokens.input,
            output_tokens=tokens.output,
        )


class Back:
    """A response on its way back to its user: told what comes, it writes it at once, and watches it pass."""

    def __init__(self, client: Client[Any], server: ModelServer, passing: Passing) -> None:
        self.has_begun = False
        self._client = client
        self._server = server
        self._passing = passing
        self._passes_as_is = False

    def head(self, response: ResponseHead, comes_in_chunks: bool) -> None:
        """See `model_server.OnHead`."""
        self.has_begun = True
        self._passing.status = response.status
        kind = response.values(b"content-type")
        self._passing.watched = Watched(streamed=bool(kind) and kind[0].startswith(b"text/event-stream"))
        if self._passing.drawn is not None and self._passing.drawn.question is not None:
            self._passing.kept = bytearray()
        if not response.has_body(asked_head_only=self._client.asked_head_only) or response.length is not None:
            framing = Framing.AS_THE_HEAD_SAYS
        elif not self._client.takes_chunks:
            framing = Framing.UNTIL_CLOSED
        else:
            framing = Framing.CHUNKS_AS_THEY_ARE if comes_in_chunks else Framing.CHUNKS
        self._passes_as_is = framing is Framing.CHUNKS_AS_THEY_ARE
        if self._passing.drawn is None:
            self._client.pass_head_of(response, self._server.signed, framing)
        else:
            drawn = (b"x-milton-response-id", self._passing.drawn.response.encode())
            headers = [*end_to_end(response.headers), *self._server.signed, drawn]
            self._client.pass_head(response.status, response.reason, headers, framing)

    def body(self, raw: bytes, pieces: Sequence[bytes]) -> None:
        """See `model_server.OnBody`."""
        if self._passes_as_is or not raw:
            self._client.pass_bytes(raw)
        else:
            for piece in pieces:
                self._client.pass_body(piece)
        if self._passing.watched is not None and pieces:
            self._passing.watched.see(pieces[0] if len(pieces) == 1 else b"".join(pieces), time.perf_counter())
        if self._passing.kept is not None and len(self._passing.kept) <= _MOST_KEPT_BYTES:
            for piece in pieces:
                self._passing.kept += piece

    async def end(self) -> None:
        """The response has come to its end."""
        await self._client.finish()
