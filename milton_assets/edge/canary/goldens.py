"""Golden questions among users' requests: the question in a request, and who says whether an answer to it is right.

What belongs here: finding the question, and `Marks`, which whoever puts a gateway together gives it. What does not: the
matcher, which is the reasoning tier's (`milton_assets.tiers.reasoning.marking`), and asking such questions: only what
users ask of themselves is compared.

A request is compared when it asks the question and nothing else: one user's message, beside it at most instructions of
whoever built the program that asks. One that prescribes the form of its answer (JSON, a call of a tool) is not, since
the form would be marked and not the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from milton_assets.vocabulary.chat import text_of
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.strict_json import parse_json

MAX_GOLDENS_BYTES: Final = 16 << 20
"""A larger set of golden questions is not taken to a device."""
_INSTRUCTIONS = frozenset({"system", "developer"})
_PRESCRIBING = ("functions", "grammar", "json_schema", "n", "response_format", "tools")


class Marks(Protocol):
    """Golden questions, and whether answers to them are right."""

    def question(self, asked: str) -> str | None:
        """The id of the golden question that the text `asked` is; None when it is none."""
        ...

    def is_right(self, question: str, answer: str) -> bool:
        """Whether `answer` is right. May take some milliseconds."""
        ...


OpenGoldens = Callable[[bytes], Marks]
"""Reads a set of golden questions. Raises `BadInput` for bytes that are none."""


def question_in(marks: Marks | None, body: Any) -> str | None:
    """The golden question that the chat request `body` (as JSON gives it) asks; None when it asks none."""
    if marks is None or not isinstance(body, dict) or any(body.get(name) for name in _PRESCRIBING):
        return None
    messages = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return None
    asked = [message for message in messages if message.get("role") not in _INSTRUCTIONS]
    if len(asked) != 1 or asked[0].get("role") != "user":
        return None
    content = asked[0].get("content")
    if isinstance(content, list) and any(not isinstance(part, dict) or part.get("type") != "text" for part in content):
        return None  # a picture beside the question is another question
    try:
        return marks.question(text_of(content))
    except ValueError:
        return None


def question_in_raw(marks: Marks | None, raw: bytes) -> str | None:
    """The same of a request's bytes; what is no JSON that we take asks none."""
    if marks is None:
        return None
    try:
        return question_in(marks, parse_json(raw, "the request"))
    except BadInput:
        return None
