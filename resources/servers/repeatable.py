"""Options that make a server's answer to a request independent of the requests before it.

What belongs here: those options, by kind of server, with the reason for each. What does not: sampling, which every
server understands (`milton_assets.vocabulary.chat.Sampling`).

llama.cpp reuses the cached prefix of earlier prompts. The rest of the prompt is then computed in batches of other
sizes, whose rounding differs: P(Yes) of one and the same pair was seen to move by .03 between a cold and a warm cache,
enough to change a ranking, and not at all with the cache off. An answer that depends on what was asked before it can be
neither cached by its content nor compared between candidates.
"""

from __future__ import annotations

from typing import Any

from milton_assets.vocabulary.fingerprint import ServerFingerprint

_OPTIONS: dict[str, dict[str, Any]] = {"llama.cpp": {"cache_prompt": False}}


def repeatable_options(server: ServerFingerprint) -> dict[str, Any]:
    """What to add to each request's body (`OpenAIChatModel(extra=…)`); empty for servers that need nothing."""
    return next((dict(options) for name, options in _OPTIONS.items() if server.name.startswith(name)), {})
