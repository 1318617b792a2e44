"""Golden questions that users ask in the field, and marking the answers that they get: small enough for a device.

    marks = marks_of(sheet_of(goldens))
    if (question := marks.question("What is the capital of France?")) is not None:
        marks.is_right(question, "It is Paris.")

What belongs here: a set as the bytes that travel to a device, finding a question in it, and marking. What does not: the
matcher (`matching`), and when requests are compared (`milton_assets.edge.canary.goldens`).

A question is found by its text, whatever its case, its spaces and the mark at its end: a user who asks it otherwise
asks another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from milton_assets.tiers.reasoning.cases import MAX_LINE_BYTES, GoldenCase
from milton_assets.tiers.reasoning.goldens import ReasoningGoldens, parse_lines
from milton_assets.tiers.reasoning.matching import match
from milton_assets.tiers.reasoning.text import canonical
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.thinking import without_thinking

_WHERE = Path("the golden questions")


def sheet_of(goldens: ReasoningGoldens) -> bytes:
    """The cases as JSON lines, in our own format, whatever format they were read from."""
    return b"".join(case.model_dump_json(exclude_none=True).encode() + b"\n" for case in goldens.cases)


@dataclass(frozen=True)
class Marking:
    """The questions of one set (see `edge.canary.goldens.Marks`): `cases` by id, `asked` the ids by what is asked."""

    cases: dict[str, GoldenCase]
    asked: dict[str, str]

    def question(self, asked: str) -> str | None:
        """The id of the question that `asked` is; None when it is none."""
        return self.asked.get(_spelled(asked)) if len(asked) <= MAX_LINE_BYTES else None

    def is_right(self, question: str, answer: str) -> bool:
        """Whether the answer is right by the matcher, without what the model thought aloud before it."""
        case = self.cases[question]
        said = without_thinking(answer).answer
        return match(said, case.answer, question=case.question, rivals=case.wrong).right


def marks_of(sheet: bytes) -> Marking:
    """Read what `sheet_of` gave. Raises `BadInput` naming the line, or what is there twice."""
    goldens = ReasoningGoldens(parse_lines(sheet, GoldenCase, _WHERE), "", {})
    asked = {_spelled(case.question): case.id for case in goldens.cases}
    if len(asked) != len(goldens.cases):
        raise BadInput(
            "two of the golden questions are told apart by case, spaces or a mark at their end alone",
            expected="each question once",
        )
    return Marking({case.id: case for case in goldens.cases}, asked)


def _spelled(text: str) -> str:
    return " ".join(canonical(text).casefold().split()).rstrip(" .?!")
