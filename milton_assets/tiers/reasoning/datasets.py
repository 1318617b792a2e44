"""Other people's question and answer files, read as they are.

What belongs here: mapping the common JSON Lines shapes onto gold cases. What does not: our own format (`goldens`);
no other set's text is in this project.

A line is one JSON object with `question` and one of

| field | becomes |
|---|---|
| `answer` that is an object with `type` | the gold answer in our own format |
| `answers`, a list of strings, or an object with such a list as `text` (SQuAD) | any of them is right |
| `answer` that is a list of strings (NQ-open) | any of them is right |
| `answer` that is true or false (BoolQ) | yes or no |
| `answer` that is an object with `value` and `aliases` (TriviaQA) | any of them is right |
| `answer` that is text ending in `#### N` (GSM8K) | the number N |
| `answer` or `right_answer` that is text or a number | that number, when the whole of it is one; else that text |

and, if it has them, `id` or `question_id`, `kind`, `wrong` (a list) or `hallucinated_answer` (HaluEval), and `source`.
Other fields are ignored. A wrong answer that the matcher would accept is no usable fault and is left out; cases are
then counted as `other` unless `kind` says better. An id that is no slug is made into one that ends in the line's
number; an alias longer than an answer may be is left out. The whole file is one split, `test`.

A line that is sound and cannot be asked is left out, named and counted in `left_out`: a question that its set calls
unanswerable (SQuAD 2), and one whose gold has no word. A line of another shape is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from milton_assets.tiers.reasoning.answers import MOST_ALIAS_CHARACTERS, Gold, NumberAnswer, TextAnswer
from milton_assets.tiers.reasoning.cases import MAX_LINE_BYTES, GoldenCase, Kind, Split
from milton_assets.tiers.reasoning.goldens import MAX_CASES, ReasoningGoldens, read_bytes
from milton_assets.tiers.reasoning.matching import match
from milton_assets.tiers.reasoning.quantities import quantities
from milton_assets.tiers.reasoning.text import canonical, phrase
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import check_key
from milton_assets.vocabulary.strict_json import json_lines

_GSM8K_ANSWER = re.compile(r"####\s*(\S.*)\s*$")
_GOLD: TypeAdapter[Gold] = TypeAdapter(Gold)
_MOST_OF_AN_ID = 60
_EXPECTED = "a JSON object with question and answer, answers or right_answer"


class _Unusable(Exception):
    """A line without a question or an answer."""


class _NotAsked(Exception):
    """A line that holds, and whose question cannot be asked; its text says why."""


def load_dataset(path: Path) -> ReasoningGoldens:
    """Read a JSON Lines file of questions and answers. Raises `BadInput` naming file, line and fault.

    Its version is the file's digest: nobody else's version is believed.
    """
    raw = read_bytes(path)
    cases = []
    left_out = []
    for line in json_lines(raw, path, max_line_bytes=MAX_LINE_BYTES, max_lines=MAX_CASES):
        try:
            cases.append(_case(line.value, line.number, path.name))
        except _NotAsked as reason:
            left_out.append(f"{path.name}:{line.number}: {reason}")
        except (ValidationError, _Unusable) as error:
            fault = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise BadInput(f"{line.where}: {fault}", expected=_EXPECTED) from error
    digest = sha256_bytes(raw)
    if left_out and not cases:
        raise BadInput(
            f"{path}: none of its {len(left_out)} questions can be asked, the first since {left_out[0]}",
            expected="at least one question with an answer",
        )
    return ReasoningGoldens(_without_repeats(cases), digest, {path.name: digest}, left_out=tuple(left_out))


def _without_repeats(cases: list[GoldenCase]) -> tuple[GoldenCase, ...]:
    """Other people's sets repeat questions; the first of each is kept."""
    first: dict[str, GoldenCase] = {}
    for case in cases:
        first.setdefault(case.question.casefold().strip(), case)
    return tuple(first.values())


def _case(value: object, number: int, file: str) -> GoldenCase:
    if not isinstance(value, Mapping) or not isinstance(question := value.get("question"), str):
        raise _Unusable("the line has no question")
    if value.get("is_impossible") is True:
        raise _NotAsked("its set calls the question unanswerable")
    answer = _answer(value)
    kind = value.get("kind")
    return GoldenCase(
        id=_id(value.get("id", value.get("question_id")), number),
        kind=Kind(kind) if kind in set(Kind) else Kind.OTHER,
        split=Split.TEST,
        question=question,
        answer=answer,
        wrong=tuple(wrong for wrong in _wrong(value) if _usable_as_fault(wrong, answer, question)),
        source=value["source"] if isinstance(value.get("source"), str) else f"{file}, line {number}",
    )


def _id(given: object, number: int) -> str:
    if given is None:
        return f"line-{number:06d}"
    try:
        return check_key(str(given), "case id")
    except BadInput:
        kept = re.sub(r"[^A-Za-z0-9]+", "-", str(given)).strip("-")[:_MOST_OF_AN_ID]
        return f"{kept or 'line'}-{number:06d}"


def _answer(value: Mapping[Any, Any]) -> Gold:
    accepted = value.get("answers")
    if isinstance(accepted, Mapping):
        accepted = accepted.get("text")
    given = value.get("answer", value.get("right_answer"))
    accepted = given if isinstance(given, list) else accepted
    if isinstance(accepted, list):
        if not accepted:
            raise _NotAsked("its set gives no answer, so the question is unanswerable")
        if not (distinct := _distinct(accepted)):
            raise _NotAsked(f"none of its {len(accepted)} answers has a word")
        return TextAnswer(accept=distinct)
    if isinstance(given, bool):
        return TextAnswer(accept=("yes", "true") if given else ("no", "false"))
    if isinstance(given, Mapping) and "value" in given and "type" not in given:
        aliases = given.get("aliases")
        return TextAnswer(accept=_distinct([given["value"], *(aliases if isinstance(aliases, list) else [])]))
    if isinstance(given, Mapping):
        return _GOLD.validate_python(given)
    if not isinstance(given, str | int | float):
        raise _Unusable("the line has no answer")
    marked = _GSM8K_ANSWER.search(given) if isinstance(given, str) else None
    return _number_or_text(marked.group(1) if marked else str(given))


def _number_or_text(written: str) -> Gold:
    found = quantities(written)
    whole = canonical(written).strip()
    if len(found) == 1 and found[0].unit is None and found[0].start == 0 and found[0].end == len(whole):
        return NumberAnswer(value=found[0].value)
    return TextAnswer(accept=(written.strip(),))


def _distinct(accepted: list[Any]) -> tuple[str, ...]:
    first: dict[tuple[str, ...], str] = {}
    for alias in map(str, accepted):
        if len(alias) > MOST_ALIAS_CHARACTERS:
            continue
        first.setdefault(phrase(alias), alias)
    return tuple(alias for spelled, alias in first.items() if spelled)


def _wrong(value: Mapping[Any, Any]) -> list[str]:
    wrong = value.get("wrong", [])
    if isinstance(value.get("hallucinated_answer"), str):
        return [value["hallucinated_answer"]]
    return [text for text in wrong if isinstance(text, str)] if isinstance(wrong, list) else []


def _usable_as_fault(wrong: str, answer: Gold, question: str) -> bool:
    return bool(phrase(wrong)) and not match(wrong, answer, question=question).right
