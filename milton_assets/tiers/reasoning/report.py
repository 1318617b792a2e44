"""What the report shows of reasoning: accuracy by kind, what verification changed, and each case as a person reads it.

What belongs here: charts and sheets, from results as they are kept. What does not: figures (`scoring`) and drawing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from milton_assets.tiers.reasoning.scoring import Cell
from milton_assets.vocabulary.case_sheet import CaseSheet, Passage
from milton_assets.vocabulary.chart import Axis, BarChart, BarRow, Chart, Dot, DotChart, DotRow, Scale
from milton_assets.vocabulary.metric import Direction, Status
from milton_assets.vocabulary.tier import TierResult

_KIND = "accuracy."
_ABOUT_CELLS = {
    Cell.KEPT: "right before and after verifying",
    Cell.FIXED: "wrong before, right after",
    Cell.BROKEN: "right before, wrong after",
    Cell.MISSED: "wrong before and after",
}
_WHY = {
    "matched": "the answer holds the gold",
    "open": "nothing in the answer matches the gold",
    "denied": "the answer denies the gold",
    "hedged": "the answer leaves open which it is",
    "rival": "the answer names a known wrong answer",
    "premise_taken": "the answer takes the false premise for granted",
    "other_value": "the answer states another value",
    "other_unit": "the answer states another unit",
    "incomplete": "the answer lacks part of the gold",
    "empty": "there is no answer",
    "too_long": "the answer is too long to be read as one",
    "truncated": "the answer was cut off at its limit of tokens",
    "failed": "the call failed",
    "not_run": "the step was not reached",
    "unparseable": "the reply could not be read",
    "judged_right": "the judge calls it right",
    "judged_wrong": "the judge calls it wrong",
    "judge_invalid": "the judge gave no valid verdict",
}


def charts(results: Mapping[str, TierResult]) -> tuple[Chart, ...]:
    """Accuracy by kind with its intervals, and the 2x2 of before and after; a colour or a row for each result."""
    names = tuple(results)
    drawn: list[Chart] = []
    if kinds := _kinds(results.values()):
        drawn.append(
            DotChart(
                key="accuracy_by_kind",
                title="Accuracy by kind of question",
                about="Share of right final answers, with 95 % intervals.",
                x=Axis(label="right final answers", better=Direction.HIGHER, scale=Scale.PERCENT, low=0, high=1),
                series=names,
                rows=tuple(
                    DotRow(
                        name=kind.removeprefix(_KIND).replace("_", " "),
                        dots=tuple(Dot.of(result.metric(kind)) for result in results.values()),
                    )
                    for kind in kinds
                ),
            )
        )
    if rows := tuple(BarRow(name=name, values=cells) for name, result in results.items() if (cells := _cells(result))):
        drawn.append(
            BarChart(
                key="before_and_after",
                title="What verification changed",
                about="; ".join(f"{cell}: {about}" for cell, about in _ABOUT_CELLS.items()) + ".",
                x=Axis(label="cases", low=0),
                parts=tuple(Cell),
                rows=rows,
            )
        )
    return tuple(drawn)


def sheets(result: TierResult, _: Any) -> tuple[CaseSheet, ...]:
    """Every case that counts; the seeded drafts are about detection and not about answers."""
    samples = result.samples
    if "part" not in samples.columns:
        return ()
    rows = samples[samples["part"] == "cove"].to_dict("records")
    return tuple(_sheet({str(name): value for name, value in row.items()}) for row in rows if "question" in row)


def _kinds(results: Iterable[TierResult]) -> list[str]:
    """The kinds that any result has a figure for."""
    found: dict[str, None] = {}
    for result in results:
        found |= {m.name: None for m in result.metrics if m.name.startswith(_KIND) and m.status is Status.OK}
    return [kind for kind in found if all(any(m.name == kind for m in result.metrics) for result in results)]


def _cells(result: TierResult) -> tuple[float, ...]:
    counts = {m.name: m.value for m in result.metrics}
    values = [counts.get(f"cove_{cell}") for cell in Cell]
    return tuple(value for value in values if value is not None) if None not in values else ()


def _sheet(row: Mapping[str, Any]) -> CaseSheet:
    right = bool(row["final_right"])
    return CaseSheet(
        case_id=str(row["case_id"]),
        kind=str(row["kind"]).replace("_", " "),
        question=str(row["question"]),
        gold=str(row["gold"]),
        score=float(right),
        right=right,
        why=_why(row),
        passages=tuple(_passages(row)),
    )


def _why(row: Mapping[str, Any]) -> str:
    label = str(row["final_label"])
    sentence = _WHY.get(label, label)
    if failed := row.get("error"):
        sentence = f"{sentence}: {failed}"
    cell = str(row.get("cell", ""))
    return f"{sentence} ({cell}: {_ABOUT_CELLS[Cell(cell)]})" if cell in set(Cell) else sentence


def _passages(row: Mapping[str, Any]) -> Iterable[Passage]:
    yield Passage(label="draft", text=str(row["baseline"] or ""))
    for number, check in enumerate(_checks(row.get("checks")), 1):
        answer = str(check.get("answer") or "")
        yield Passage(label=f"check {number}", text=f"{check.get('question', '')}\n{answer}".rstrip())
        yield Passage(label=f"verdict {number}", text=str(check.get("verdict", "")).replace("_", " "))
    yield Passage(label="final answer", text=str(row["final"] or ""))


def _checks(raw: Any) -> Sequence[Mapping[str, Any]]:
    return [check for check in json.loads(raw) if isinstance(check, dict)] if isinstance(raw, str) and raw else []
