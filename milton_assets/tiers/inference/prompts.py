"""The fixed prompts of the inference tier.

What belongs here: the prompt noun and reading `goldens/inference/prompts.jsonl` (its first line is a header with the
version, every other line a prompt). What does not: making a prompt unique for a cold cache (`request`).
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import Slug

SHIPPED = Path(__file__).resolve().parents[3] / "goldens" / "inference" / "prompts.jsonl"
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


def load_goldens(path: Path | None = None) -> InferenceGoldens:
    """Read a prompts file; None reads the shipped one. Raises `BadInput` naming the line that is wrong."""
    try:
        raw = (path or SHIPPED).read_bytes()
    except OSError as error:
        raise BadInput(f"the prompts cannot be read: {error}", expected="a JSONL file of prompts") from error
    name = (path or SHIPPED).name
    lines = [(number, line) for number, line in enumerate(raw.splitlines(), 1) if line.strip()]
    if len(lines) < 2:
        raise BadInput(f"{name} holds no prompts", expected="a header line and a prompt a line", remedy=_REMEDY)
    header = _parse(name, *lines[0], _Header)
    prompts = tuple(_parse(name, number, line, Prompt) for number, line in lines[1:])
    twice = [key for key, count in Counter(prompt.id for prompt in prompts).items() if count > 1]
    if twice:
        raise BadInput(f"{name}: prompt ids {twice} appear more than once", expected="unique ids", remedy=_REMEDY)
    return InferenceGoldens(prompts, header.version, {name: sha256_bytes(raw)})


def _parse(name: str, number: int, line: bytes, kind: type[_Row]) -> _Row:
    try:
        return kind.model_validate(json.loads(line))
    except (ValueError, ValidationError) as error:
        raise BadInput(
            f"{name} line {number} is wrong: {error}", expected=f"a {kind.__name__.strip('_').lower()}", remedy=_REMEDY
        ) from error
