"""The text of a chat completion's answer, from the bytes in which it came.

What belongs here: streams of events, and answers in one piece. What does not: figures of a response while it passes
(`observe`), and whether the text is right (`milton_assets.edge.canary.goldens`).
"""

from __future__ import annotations

import json
from typing import Any

from milton_assets.vocabulary.chat import clean_text, text_of


class NoAnswer(ValueError):
    """The bytes are no whole answer; the text says why."""


def streamed_text(raw: bytes) -> str:
    """The text of a stream of events. Raises `NoAnswer`."""
    said = []
    for line in raw.splitlines():
        if not line.startswith(b"data:") or line[5:].strip() == b"[DONE]":
            continue
        try:
            event: Any = json.loads(line[5:])
            if "error" in event:
                raise NoAnswer(f"an error inside the answer: {str(event['error'])[:200]}")
            said += [choice["delta"].get("content") or "" for choice in event.get("choices", ())]
        except NoAnswer:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise NoAnswer(f"an event that does not hold: {line[:100]!r}") from error
    return clean_text("".join(said))


def whole_text(raw: bytes) -> str:
    """The text of an answer that came in one piece. Raises `NoAnswer`."""
    try:
        (choice,) = json.loads(raw)["choices"]
        return clean_text(text_of(choice["message"]["content"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise NoAnswer(f"an answer that does not hold: {raw[:100]!r}") from error
