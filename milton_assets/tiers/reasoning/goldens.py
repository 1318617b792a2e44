"""The gold questions: a set of them, and reading one from JSON Lines.

What belongs here: `ReasoningGoldens`, digests and choosing a fixed subset. What does not: what a case is (`cases`,
`variants`), other people's formats (`datasets`), comparing (`matching`).

A set is a folder holding `cases.jsonl` (a case or a template a line), `judge_pairs.jsonl` (labelled pairs that a judge
is qualified on) and `dataset.json` (its name, version and licence). The digests of all three go into every result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Discriminator, Field, RootModel, Tag, ValidationError

from milton_assets.tiers.reasoning.cases import MAX_LINE_BYTES, GoldenCase, Kind, Split
from milton_assets.tiers.reasoning.variants import CaseTemplate
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import Slug
from milton_assets.vocabulary.strict_json import json_lines, parse_json

SHIPPED = Path(__file__).resolve().parents[3] / "goldens" / "reasoning"
CASES_FILE = "cases.jsonl"
PAIRS_FILE = "judge_pairs.jsonl"
ABOUT_FILE = "dataset.json"
MAX_CASES = 100_000


class LabelledPair(BaseModel):
    """A question, its gold, a candidate's answer, and a person's label: is the answer right?"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Slug
    question: str = Field(min_length=3)
    gold: str = Field(min_length=1)
    answer: str
    right: bool


class _About(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Slug
    version: str = Field(min_length=1, max_length=80)
    licence: str = Field(min_length=1)


def _sort_of_line(value: object) -> str:
    return (
        "template" if isinstance(value, CaseTemplate) or (isinstance(value, dict) and "parameters" in value) else "case"
    )


class _CaseLine(
    RootModel[
        Annotated[
            Annotated[GoldenCase, Tag("case")] | Annotated[CaseTemplate, Tag("template")], Discriminator(_sort_of_line)
        ]
    ]
):
    """A line of `cases.jsonl`: one that has parameters is a template."""


@dataclass(frozen=True)
class ReasoningGoldens:
    """A validated set. `digests` maps each file's name to its SHA-256; ids are unique.

    `cases` holds the published variant of each of `templates`, under the template's id. `left_out` says of other
    people's lines which cannot be asked and why; a set of ours has none.
    """

    cases: tuple[GoldenCase, ...]
    version: str
    digests: dict[str, str]
    judge_pairs: tuple[LabelledPair, ...] = field(default=())
    left_out: tuple[str, ...] = field(default=())
    templates: tuple[CaseTemplate, ...] = field(default=())

    def __post_init__(self) -> None:
        _check_unique((case.id for case in self.cases), "case id")
        _check_unique((case.question.casefold().strip() for case in self.cases), "question")
        if not self.cases:
            raise BadInput("the reasoning set holds no case", expected=f"at least one line in {CASES_FILE}")

    def choose(self, split: Split | None, per_kind: int | None = None) -> tuple[GoldenCase, ...]:
        """The cases of `split` (all when None), the first `per_kind` of each kind in file order.

        The same set and arguments always choose the same cases. Raises `BadInput` when none is left.
        """
        taken: Counter[Kind] = Counter()
        chosen = []
        for case in self.cases:
            if split is not None and case.split is not split:
                continue
            if per_kind is not None and taken[case.kind] >= per_kind:
                continue
            taken[case.kind] += 1
            chosen.append(case)
        if not chosen:
            raise BadInput(f"the reasoning set has no case in split {split}", remedy="ask for the other split, or all")
        return tuple(chosen)


def load_goldens(path: Path | None = None) -> ReasoningGoldens:
    """Read the set in folder `path`, or the one that ships. Raises `BadInput` naming file, line and fault."""
    folder = SHIPPED if path is None else path
    raw_cases = read_bytes(folder / CASES_FILE)
    digests = {CASES_FILE: sha256_bytes(raw_cases)}
    lines = [line.root for line in parse_lines(raw_cases, _CaseLine, folder / CASES_FILE)]
    cases = tuple(line.published if isinstance(line, CaseTemplate) else line for line in lines)
    templates = tuple(line for line in lines if isinstance(line, CaseTemplate))
    pairs: tuple[LabelledPair, ...] = ()
    if (folder / PAIRS_FILE).exists():
        raw_pairs = read_bytes(folder / PAIRS_FILE)
        digests[PAIRS_FILE] = sha256_bytes(raw_pairs)
        pairs = parse_lines(raw_pairs, LabelledPair, folder / PAIRS_FILE)
        _check_unique((pair.id for pair in pairs), "pair id")
    raw_about = read_bytes(folder / ABOUT_FILE)
    digests[ABOUT_FILE] = sha256_bytes(raw_about)
    try:
        about = _About.model_validate(parse_json(raw_about, str(folder / ABOUT_FILE)))
    except ValidationError as error:
        raise BadInput(
            f"{folder / ABOUT_FILE}: {error.errors()[0]['msg']}",
            expected="a JSON object with name, version and licence",
        ) from error
    return ReasoningGoldens(cases, about.version, digests, pairs, templates=templates)


def read_bytes(path: Path) -> bytes:
    """The file's bytes. Raises `BadInput` when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}", expected="a readable file") from error


Record = TypeVar("Record", bound=BaseModel)


def parse_lines(raw: bytes, kind: type[Record], path: Path) -> tuple[Record, ...]:
    """Every line as a `kind`. Raises `BadInput` naming file, line and every fault of that line.

    The same bytes are parsed once: a case is held against the matcher, and a campaign reads its goldens many times.
    """
    return cast("tuple[Record, ...]", _parsed(raw, kind, path))


@lru_cache(maxsize=32)
def _parsed(raw: bytes, kind: type[BaseModel], path: Path) -> tuple[BaseModel, ...]:
    records = []
    for line in json_lines(raw, path, max_line_bytes=MAX_LINE_BYTES, max_lines=MAX_CASES):
        try:
            records.append(kind.model_validate(line.value))
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'case'}: {e['msg']}" for e in error.errors())
            raise BadInput(f"{line.where}: {faults}", expected=f"a {kind.__name__.lstrip('_')}") from error
    return tuple(records)


def _check_unique(values: Iterable[str], what: str) -> None:
    counted: Sequence[tuple[str, int]] = Counter(values).most_common(1)
    if counted and counted[0][1] > 1:
        raise BadInput(f"the {what} {counted[0][0]!r:.200} appears {counted[0][1]} times", expected=f"each {what} once")
