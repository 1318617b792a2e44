"""The cases, for the page: every model side by side, what flipped first, and no larger than a page may be.

What belongs here: putting the sheets of several models together, telling flips, and keeping within a budget of bytes.
What does not: what a case is (`milton_assets.vocabulary.case_sheet`), and showing it, which the page's script does.

Texts that appear more than once are kept once. Where all texts are too much, each is shortened to one common length,
and the page says so: the evidence has them whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from milton_assets.report.data import ReportData, TierPart
from milton_assets.report.embedded import embedded
from milton_assets.vocabulary.case_sheet import CaseSheet
from milton_assets.vocabulary.terminal import printable

BUDGET_BYTES = 2_000_000
"""What the cases may take of a page of at most 3 MB."""

_LENGTHS = (None, 4000, 2000, 1200, 800, 600, 400, 300, 200, 120, 60)
_LEAST_DIFFERENCE = 1e-9


@dataclass(frozen=True)
class Flips:
    """How many cases of a tier a model got right that the reference got wrong, and the other way round."""

    tier: str
    model: str
    gained: int
    lost: int
    cases: int


@dataclass(frozen=True)
class CaseData:
    """The cases as JSON that may stand in a `<script>`: `shown` of `there_are`, no text longer than `longest`
    characters (None: all are whole)."""

    json: str
    longest: int | None
    shown: int
    there_are: int


def case_data(data: ReportData, budget_bytes: int = BUDGET_BYTES) -> CaseData:
    """All cases, with texts as long as the budget lets them be; where that is not enough, without the last cases."""
    lined_up = {tier.name: _lined_up(tier, data) for tier in data.tiers if tier.cases}
    there_are = sum(map(len, lined_up.values()))
    for longest in _LENGTHS:
        text = _encoded(data, lined_up, longest)
        if len(text.encode()) <= budget_bytes:
            return CaseData(text, longest, there_are, there_are)
    kept = lined_up
    while (count := max(map(len, kept.values()), default=0)) > 1:
        kept = {tier: cases[: max(1, min(len(cases), count * 3 // 4))] for tier, cases in kept.items()}
        text = _encoded(data, kept, _LENGTHS[-1])
        if len(text.encode()) <= budget_bytes:
            break
    return CaseData(text, _LENGTHS[-1], sum(map(len, kept.values())), there_are)


def flips(data: ReportData) -> tuple[Flips, ...]:
    """For every model but the reference and every tier with cases: gains and losses, counted over the cases of both.

    None against the incumbent: those the decision holds, with their tests, and its card tells them.
    """
    if data.reference == data.decision.incumbent:
        return ()
    found = []
    for tier in data.tiers:
        reference = _by_id(tier, data.reference)
        for model in data.models:
            pairs = [
                (sheet.score, reference[key].score)
                for key, sheet in _by_id(tier, model).items()
                if model != data.reference and key in reference
            ]
            both = [(mine, theirs) for mine, theirs in pairs if mine is not None and theirs is not None]
            if both:
                gained = sum(mine > theirs + _LEAST_DIFFERENCE for mine, theirs in both)
                lost = sum(mine < theirs - _LEAST_DIFFERENCE for mine, theirs in both)
                found.append(Flips(tier.name, model, gained, lost, len(both)))
    return tuple(found)


@dataclass(frozen=True)
class _Case:
    """One case: its own text, each model's sheet (None where it was not asked), and what it became beside the reference
    (1 gained, -1 lost, 0 neither)."""

    first: CaseSheet
    sheets: tuple[CaseSheet | None, ...]
    turned: tuple[int, ...]


def _lined_up(tier: TierPart, data: ReportData) -> list[_Case]:
    """The tier's cases, those that flipped first, then those that models differ in, then the others by id."""
    by_model = [_by_id(tier, model) for model in data.models]
    reference = _by_id(tier, data.reference)
    cases = []
    for key in dict.fromkeys(key for sheets in by_model for key in sheets):
        sheets = tuple(found.get(key) for found in by_model)
        turned = tuple(_turned(sheet, reference.get(key)) for sheet in sheets)
        cases.append(_Case(next(sheet for sheet in sheets if sheet is not None), sheets, turned))
    return sorted(cases, key=lambda case: (-sum(map(abs, case.turned)), -_spread(case), case.first.case_id))


def _by_id(tier: TierPart, model: str | None) -> Mapping[str, CaseSheet]:
    return {sheet.case_id: sheet for sheet in tier.cases.get(model or "", ())}


def _turned(sheet: CaseSheet | None, reference: CaseSheet | None) -> int:
    if sheet is None or reference is None or sheet.score is None or reference.score is None:
        return 0
    difference = sheet.score - reference.score
    return 0 if abs(difference) <= _LEAST_DIFFERENCE else 1 if difference > 0 else -1


def _spread(case: _Case) -> float:
    scores = [sheet.score for sheet in case.sheets if sheet is not None and sheet.score is not None]
    return max(scores) - min(scores) if scores else 0.0


class _Texts:
    """Every text once, made harmless to show, by its number."""

    def __init__(self, longest: int | None) -> None:
        self.longest = longest
        self.numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        shown = "\n".join(map(printable, text.splitlines()))
        if self.longest is not None and len(shown) > self.longest:
            shown = f"{shown[: self.longest]}… [{len(shown) - self.longest} more characters in the evidence]"
        return self.numbers.setdefault(shown, len(self.numbers))


def _encoded(data: ReportData, lined_up: Mapping[str, Sequence[_Case]], longest: int | None) -> str:
    texts = _Texts(longest)
    tiers = [
        {"name": name, "cases": [_case(case, texts) for case in cases]} for name, cases in lined_up.items() if cases
    ]
    reference = data.models.index(data.reference) if data.reference is not None else None
    whole = {"models": list(data.models), "reference": reference, "tiers": tiers, "texts": list(texts.numbers)}
    return embedded(whole)


def _case(case: _Case, texts: _Texts) -> dict[str, Any]:
    return {
        "id": texts.number(case.first.case_id),
        "kind": texts.number(case.first.kind),
        "question": texts.number(case.first.question),
        "gold": texts.number(case.first.gold),
        "turned": list(case.turned),
        "answers": [_answer(sheet, texts) for sheet in case.sheets],
    }


def _answer(sheet: CaseSheet | None, texts: _Texts) -> list[Any] | None:
    """Score, whether it is right, why, and the passages as pairs of label and text."""
    if sheet is None:
        return None
    return [
        None if sheet.score is None else round(sheet.score, 4),
        sheet.right,
        texts.number(sheet.why),
        [[texts.number(passage.label), texts.number(passage.text)] for passage in sheet.passages],
    ]
