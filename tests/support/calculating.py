"""A model that can calculate: it reads any variant of a template and works its answer out, knowing no answer by heart.

What belongs here: reading a question by its template, and players that do so. What does not: assertions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from milton_assets.tiers.reasoning.expressions import Expression
from milton_assets.tiers.reasoning.goldens import ReasoningGoldens
from milton_assets.tiers.reasoning.numerals import spelled_value
from milton_assets.tiers.reasoning.variants import CaseTemplate, Choice
from tests.support.reasoning_player import Player, Prompt

_PLACE = re.compile(r"\{(\w+)(?::digits)?\}")


def worked_out(goldens: ReasoningGoldens) -> Callable[[str], str | None]:
    """A function from a question to its answer; None for a question that is no variant of a template."""
    readers = [(template, re.compile(_pattern(template, template.question), re.I)) for template in goldens.templates]

    def answer(question: str) -> str | None:
        for template, reader in readers:
            if (found := reader.fullmatch(question)) is not None:
                return _answer(template, found.groupdict())
        return None

    return answer


def calculating(goldens: ReasoningGoldens, player: Player, *, able: Callable[[str], bool] = lambda _: True) -> Player:
    """`player`, which works out what it can before it answers as it would; only questions that it is `able` to."""
    solve, otherwise = worked_out(goldens), player.answer

    def answering(prompt: Prompt) -> str:
        found = solve(prompt.question) if able(prompt.question) else None
        return otherwise(prompt) if found is None else found

    player.answer = answering
    return player


def _answer(template: CaseTemplate, read: dict[str, str]) -> str:
    told = read.pop("facts", "")
    for fact in template.facts:
        found = re.search(_pattern(template, fact), told, re.I)
        assert found is not None, (fact, told)
        read |= found.groupdict()
    numbers = {name: _number(text) for name, text in read.items() if not _is_text(template, name)}
    field = "value" if template.answer["type"] == "number" else "year"
    return f"{float(Expression(template.answer[field]).value(numbers)):.12g}"


def _is_text(template: CaseTemplate, name: str) -> bool:
    return isinstance(template.parameters.get(name), Choice)


def _number(text: str) -> Fraction:
    return Fraction(text) if text.isdigit() else Fraction(str(spelled_value(text)))


def _pattern(template: CaseTemplate, text: str) -> str:
    seen: set[str] = set()

    def group(name: str) -> str:
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        parameter = template.parameters.get(name)
        if isinstance(parameter, Choice):
            return f"(?P<{name}>{'|'.join(map(re.escape, parameter.choose))})"
        return f"(?P<{name}>.+)" if name == "facts" else rf"(?P<{name}>\d+|[a-z -]+?)"

    pieces = _PLACE.split(text)
    return "".join(group(piece) if place % 2 else re.escape(piece) for place, piece in enumerate(pieces))
