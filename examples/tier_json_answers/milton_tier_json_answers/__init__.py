"""A tier of one's own: does the model answer in JSON when it is asked to?

What belongs here: the tier, whole: its cases, its plan, asking, scoring, and `SPEC`, which the entry point names. What
does not: serving the model, storing the table, the check, the dry run, `milton bench json_answers`, pairing candidates
by case and deciding, which Milton Autobench does for every tier by its spec.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from milton_assets.statistics.shares import wilson
from milton_assets.vocabulary.chat import ChatModel, Message, ModelCallFailed, Sampling
from milton_assets.vocabulary.code_version import code_version
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import Slug
from milton_assets.vocabulary.metric import Direction, Metric
from milton_assets.vocabulary.progress import Progress
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import (
    CaseColumns,
    Conditions,
    GoldenFile,
    Measuring,
    MetricSpec,
    Needs,
    PlanOption,
    TierSpec,
)

NAME = "json_answers"
SHIPPED = Path(__file__).parent
CASES_FILE = "cases.jsonl"


class Case(BaseModel):
    """A request, and the keys that the JSON object must have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Slug
    request: str = Field(min_length=1)
    keys: tuple[str, ...] = Field(min_length=1)

    def prompt(self) -> str:
        """What is asked."""
        return f"{self.request} Answer with one JSON object and nothing else. Its keys: {', '.join(self.keys)}."


@dataclass(frozen=True)
class Cases:
    """A set of cases with the SHA-256 of its file."""

    cases: tuple[Case, ...]
    digests: dict[str, str]


class JsonPlan(BaseModel):
    """How many cases, how long an answer may be, and how many are asked at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: int | None = Field(default=None, ge=1)
    max_tokens: int = Field(default=120, ge=1)
    concurrency: int = Field(default=1, ge=1)


def read_cases(path: Path | None) -> Cases:
    """The cases in a JSON Lines file (or a folder that holds `cases.jsonl`); None reads those that ship."""
    file = SHIPPED if path is None else path
    file = file / CASES_FILE if file.is_dir() else file
    raw = file.read_bytes()
    cases = []
    for number, line in enumerate(raw.decode().splitlines(), start=1):
        try:
            cases.append(Case.model_validate_json(line))
        except ValidationError as error:
            raise BadInput(
                f"{file}:{number}: {error.errors()[0]['msg']}", expected="a JSON object with id, request and keys"
            ) from error
    return Cases(tuple(cases), {file.name: sha256_bytes(raw)})


def join_cases(sets: Mapping[str, Cases]) -> Cases:
    """All cases of several sets; ids begin with their set's name."""
    cases = [c.model_copy(update={"id": f"{name}.{c.id}"}) for name, one in sets.items() for c in one.cases]
    digests = {f"{name}/{file}": sha256 for name, one in sets.items() for file, sha256 in one.digests.items()}
    return Cases(tuple(cases), digests)


def plan(conditions: Conditions) -> JsonPlan:
    """Six cases for a first look, else all."""
    return JsonPlan(limit=6 if conditions.profile == "smoke" else None, concurrency=conditions.slots)


def is_valid(answer: str, case: Case) -> bool:
    """Whether the whole answer is a JSON object with the keys asked for."""
    try:
        value = json.loads(answer)
    except ValueError:
        return False
    return isinstance(value, dict) and set(case.keys) <= value.keys()


def measure(measuring: Measuring) -> TierResult:
    """Ask every case once. A call that failed is a row of its own and counts as not valid."""
    chosen = measuring.goldens.cases[: measuring.plan.limit]
    sampling = Sampling(max_tokens=measuring.plan.max_tokens)
    rows = []
    with ThreadPoolExecutor(measuring.plan.concurrency) as pool:
        for row in pool.map(lambda case: _row(measuring.chat, case, sampling), chosen):
            rows.append(row)
            measuring.on_progress(Progress(NAME, len(rows), len(chosen), str(row["case_id"])))
    valid, failed = sum(bool(row["is_valid"]) for row in rows), sum(row["error_kind"] is not None for row in rows)
    share = Metric.measured(
        "valid_share", "share", valid / len(rows), n=len(rows), errors=failed, interval=wilson(valid, len(rows))
    )
    if failed == len(rows):
        share = Metric.failed("valid_share", "share", "every call failed", n=len(rows), errors=failed)
    return TierResult(NAME, (share,), pd.DataFrame(rows), {"plan": measuring.plan.model_dump(mode="json")})


def _row(model: ChatModel, case: Case, sampling: Sampling) -> dict[str, object]:
    try:
        answer = model.complete([Message("user", case.prompt())], sampling).text
    except ModelCallFailed as failed:
        return {"case_id": case.id, "answer": None, "is_valid": False, "error_kind": failed.kind.value}
    return {"case_id": case.id, "answer": answer, "is_valid": is_valid(answer, case), "error_kind": None}


SPEC = TierSpec(
    name=NAME,
    about="How often the model answers in JSON, with the keys asked for, when it is asked to.",
    metrics=(MetricSpec("valid_share", "share", Direction.HIGHER, CaseColumns("case_id", "is_valid", missing=0.0)),),
    headline="valid_share",
    needs=Needs.CHAT,
    plan=plan,
    measure=measure,
    code_version=lambda: code_version(__name__),
    read_goldens=read_cases,
    join_goldens=join_cases,
    goldens=(GoldenFile("json_answers_cases", CASES_FILE, "Requests for JSON objects."),),
    shipped=SHIPPED,
    options=(PlanOption("limit", "limit", int, "At most this many cases."),),
    open_columns=frozenset({"case_id", "error_kind"}),
    texts=lambda goldens: (case.request for case in goldens.cases),
)
