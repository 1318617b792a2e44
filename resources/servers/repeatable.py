"""How a server is asked so that its answer to a request does not depend on the requests before it.

What belongs here: the options for that, by kind of server, with the reason for each. What does not: sampling, which
every server understands (`milton_assets.vocabulary.chat.Sampling`), and going on from what a server keeps (`openings`).

llama.cpp reuses the cached prefix of earlier prompts. The rest of the prompt is then computed in batches of other
sizes, whose rounding differs: P(Yes) of one and the same pair was seen to move by .03 between a cold and a warm cache,
enough to change a ranking, and not at all with the cache off. An answer that depends on what was asked before it can be
neither cached by its content nor compared between candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from milton_assets.vocabulary.fingerprint import ServerFingerprint


@dataclass(frozen=True)
class Asking:
    """What is added to each request's body: `alone`, for an answer that is computed from nothing; `going_on`, for one
    that goes on from what the server kept of the request before. None where nobody knows what that was: another may
    have asked meanwhile, or the server has several places to keep it in."""

    alone: Mapping[str, Any] = field(default_factory=dict)
    going_on: Mapping[str, Any] | None = None


def repeatable(server: ServerFingerprint) -> Asking:
    """How to ask `server` (`OpenAIChatModel(asking=…)`); nothing is added for one that needs nothing."""
    if not server.name.startswith("llama.cpp"):
        return Asking()
    ours_alone = server.launched_by_us and server.slots == 1
    return Asking({"cache_prompt": False}, {"cache_prompt": True} if ours_alone else None)
