"""What a model thinks aloud before it answers, apart from the answer.

What belongs here: telling the two apart in a model's text. What does not: servers that deliver thoughts in a field of
their own (the client leaves those out), and what a tier makes of either.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_OPENING = re.compile(r"\s*<(think|thinking|thought)>", re.IGNORECASE)
_CLOSING = re.compile(r"</(?:think|thinking|thought)>\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Spoken:
    """A model's text in two parts: what it thought, and what it answered."""

    thought: str
    answer: str


def without_thinking(text: str) -> Spoken:
    """Cut the block `<think>…</think>` that opens `text`.

    A block that never ends leaves no answer. A closing tag alone ends one too, since some chat templates open the block
    themselves. Tags later in an answer are part of it.
    """
    opening = _OPENING.match(text)
    closing = _CLOSING.search(text)
    if closing is None:
        return Spoken(text[opening.end() :], "") if opening else Spoken("", text)
    if opening is None and _OPENING.search(text, 0, closing.start()):
        return Spoken("", text)
    return Spoken(text[opening.end() if opening else 0 : closing.start()], text[closing.end() :])


def thinking_tokens(tokens: int | None, spoken: Spoken) -> int | None:
    """About how many of an answer's `tokens` were thought: their share by characters, as servers count both as one."""
    total = len(spoken.thought) + len(spoken.answer)
    return None if tokens is None else round(tokens * len(spoken.thought) / total) if total else 0
