"""The turns that many conversations begin with are read once, and an answer still depends on its own request alone.

What belongs here: putting what a server keeps into one and the same state before each answer, and noticing where that
cannot be. What does not: the options by which a server keeps or forgets (`repeatable`), and HTTP (`client`).

Examples make most of a short question's prompt. A server that keeps the longest prefix that two prompts in a row share
would read them once, but where that prefix ends depends on the prompt before, and with it the rounding of the
answer. So the opening is read with a filler for its last turn, from nothing, and before each further conversation the
filler is asked again: it shares the opening and no more with whatever came between, and costs the few tokens after it.
From there every conversation goes on alike, in whatever order they are asked: bit for bit the same on llama.cpp.

That nothing else stood in the server is seen by its own count of the tokens that it had kept. Where the count is not as
it was, the opening is read from nothing again. A server that does not count, or keeps nothing (models whose state can
not be cut back to a prefix), is asked from nothing, from the first answer on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Final

from resources.servers.repeatable import Asking
from resources.servers.wire import ChatAnswer

FILLER: Final = "\x01"
"""A last turn that no conversation has, nor one that begins so."""
_ONE_TURN_BEFORE: Final = 2
"""Turns of a conversation whose opening is an instruction alone: too little to be worth a request."""


class Openings:
    """Asks `ask`, which sends one request's body and reads its answer. One conversation at a time."""

    def __init__(self, ask: Callable[[Mapping[str, Any]], ChatAnswer], asking: Asking) -> None:
        self._ask = ask
        self._alone = dict(asking.alone)
        self._going_on = None if asking.going_on is None else dict(asking.going_on)
        self._turn = threading.Lock()
        self._known = False
        """Whether the server was seen to go on from an opening."""
        self._opening: Sequence[Mapping[str, Any]] | None = None
        self._kept = 0
        """Tokens of `_opening` that conversations share."""

    def answer(self, request: Mapping[str, Any]) -> ChatAnswer:
        """The answer to `request`, whose `messages` may share their opening with others. Raises as `ask` does."""
        with self._turn if self._going_on is not None else nullcontext():
            if self._going_on is not None and _opens(request["messages"]):
                if (found := self._from_opening(request, self._going_on)) is not None:
                    return found
                self._going_on = None
            return self._ask({**request, **self._alone})

    def _from_opening(self, request: Mapping[str, Any], going_on: Mapping[str, Any]) -> ChatAnswer | None:
        """The answer, going on from the opening; None where the server does not let that be."""
        opening = request["messages"][:-1]
        filler = {**request, "messages": [*opening, {"role": "user", "content": FILLER}], "max_tokens": 1}
        if opening == self._opening and _kept(self._ask({**filler, **going_on})) >= self._kept:
            answer = self._ask({**request, **going_on})
            if _kept(answer) <= self._kept:
                return answer
        self._opening = None
        self._ask({**filler, **self._alone})
        answer = self._ask({**request, **going_on})
        kept = _kept(answer)
        if not self._known and not (kept and _kept(self._ask({**filler, **going_on})) == kept):
            return None
        self._known, self._opening, self._kept = True, opening, kept
        return answer


def _opens(messages: Sequence[Mapping[str, Any]]) -> bool:
    return len(messages) > _ONE_TURN_BEFORE and not messages[-1]["content"].startswith(FILLER)


def _kept(answer: ChatAnswer) -> int:
    """How many of the prompt's tokens the server had kept from before; 0 where it does not tell."""
    details = answer.usage.prompt_tokens_details if answer.usage else None
    return (details.cached_tokens if details else None) or 0
