"""The fixed prompts of the inference tier.

What belongs here: the prompt noun and reading `goldens/inference/prompts.jsonl` (its first line is a header with the
version, every other line a prompt). What does not: making a prompt unique for a cold cache (`request`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import Slug
from milton_assets.vocabulary.strict_json import Line, json_lines

SHIPPED = Path(__file__).resolve().parents[3] / "goldens" / "inference" / "prompts.jsonl"
MAX_LINE_BYTES = 1 << 20
CHARACTERS_A_TOKEN = 4
"""A rule of thumb for English; how many tokens a prompt has is the server's to say."""
_Row = TypeVar("_Row", bound=BaseModel)
_REMEDY = "compare it with goldens/inference/prompts.jsonl of this release"


class Prompt(BaseModel):
    """One fixed prompt. `kind` says what it asks of the model; timing does not depend on the answer being right."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Slug
    kind: Literal["factual", "reasoning", "code"]
    text: str = Field(min_length=1)


class _Header(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    golden: Literal["inference-prompts"]
    version: str = Field(min_length=1)
    licence: str
    source: str


@dataclass(frozen=True)
class InferenceGoldens:
    """The prompts, their version, and the SHA-256 of the file by its name."""

    prompts: tuple[Prompt, ...]
    version: str
    digests: dict[str, str]


def about_tokens(prompts: Sequence[Prompt]) -> int:
    """About how many tokens the longest of them has, by the rule of thumb."""
    return max(len(prompt.text) for prompt in prompts) // CHARACTERS_A_TOKEN


def lengthened(prompts: Sequence[Prompt], tokens: int) -> tuple[Prompt, ...]:
    """The prompts, each after as many of the others, over and over, as makes it about `tokens` long."""
    longer = []
    for number, prompt in enumerate(prompts):
        text, before = prompt.text, number
        while len(text) < tokens * CHARACTERS_A_TOKEN:
            before -= 1
            text = f"{prompts[before % len(prompts)].text}\n\n{text}"
        longer.append(prompt.model_copy(update={"text": text}))
    return tuple(longer)


def load_goldens(path: Path | None = None) -> InferenceGoldens:
    """Read a prompts file; None reads the shipped one. Raises `BadInput` naming the line that is wrong."""
    try:
        raw = (path or SHIPPED).read_bytes()
    except OSError as error:
        raise BadInput(f"the prompts cannot be read: {error}", expected="a JSONL file of prompts") from error
    name = (path or SHIPPED).name
    lines = list(json_lines(raw, name, max_line_bytes=MAX_LINE_BYTES))
    if len(lines) < 2:
        raise BadInput(f"{name} holds no prompts", expected="a header line and a prompt a line", remedy=_REMEDY)
    header = _parse(lines[0], _Header)
    prompts = tuple(_parse(line, Prompt) for line in lines[1:])
    twice = [key for key, count in Counter(prompt.id for prompt in prompts).items() if count > 1]
    if twice:
        raise BadInput(f"{name}: prompt ids {twice} appear more than once", expected="unique ids", remedy=_REMEDY)
    return InferenceGoldens(prompts, header.version, {name: sha256_bytes(raw)})


def _parse(line: Line, kind: type[_Row]) -> _Row:
    try:
        return kind.model_validate(line.value)
    except ValidationError as error:
        raise BadInput(
            f"{line.where} is wrong: {error}", expected=f"a {kind.__name__.strip('_').lower()}", remedy=_REMEDY
        ) from error
