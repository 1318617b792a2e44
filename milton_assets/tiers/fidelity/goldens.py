"""The text that models are held against their reference on: passages, read and digested.

What belongs here: the passage and reading sets of them. What does not: what is asked about them (`tier`).

A set is a JSON Lines file of `id` and `text` (or a folder that holds `passages.jsonl`), or a plain text file
(`.txt`) whose passages are parted by blank lines.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import Slug
from milton_assets.vocabulary.strict_json import json_lines, text_lines

SHIPPED = Path(__file__).resolve().parents[3] / "goldens" / "fidelity"
FILE = "passages.jsonl"
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")
_EXPECTED = "a JSON Lines file of id and text, or a .txt file with a blank line between passages"


class Passage(BaseModel):
    """A piece of text that is read from its beginning."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Slug
    text: str = Field(min_length=1)


@dataclass(frozen=True)
class Passages:
    """A set of passages in their order, with the SHA-256 of each file by its name."""

    passages: tuple[Passage, ...]
    digests: dict[str, str]


def read(path: Path | None) -> Passages:
    """The passages at `path`; None reads those that ship. Raises `BadInput` naming the line that is wrong."""
    file = SHIPPED if path is None else path
    file = file / FILE if file.is_dir() else file
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise BadInput(f"the passages cannot be read: {error}", expected=_EXPECTED) from error
    passages = tuple(_plain(raw, file) if file.suffix.lower() == ".txt" else _lines(raw, file))
    if not passages:
        raise BadInput(f"{file} holds no passage", expected=_EXPECTED)
    if twice := [key for key, count in Counter(one.id for one in passages).items() if count > 1]:
        raise BadInput(f"{file}: the passages {twice[:5]} are there twice", expected="unique ids")
    return Passages(passages, {file.name: sha256_bytes(raw)})


def join(sets: Mapping[str, Passages]) -> Passages:
    """All passages of the sets; a passage's id begins with its set's name."""
    passages = [p.model_copy(update={"id": f"{name}.{p.id}"}) for name, one in sets.items() for p in one.passages]
    digests = {f"{name}/{file}": sha256 for name, one in sets.items() for file, sha256 in one.digests.items()}
    return Passages(tuple(passages), digests)


def _lines(raw: bytes, file: Path) -> Iterator[Passage]:
    for line in json_lines(raw, file):
        try:
            yield Passage.model_validate(line.value)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise BadInput(f"{line.where} is no passage: {where}: {first['msg']}", expected=_EXPECTED) from error


def _plain(raw: bytes, file: Path) -> Iterator[Passage]:
    # Read by lines once, for what is no text is refused with its line.
    for _ in text_lines(raw, file):
        pass
    text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    parts = [part.strip("\n") for part in _BLANK_LINES.split(text) if part.strip()]
    for number, part in enumerate(parts, start=1):
        yield Passage(id=f"passage-{number:06d}", text=part)
