"""The reasoning tier's description of itself.

What belongs here: `SPEC`, and joining sets of cases. What does not: measuring and the definitions of the figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from milton_assets.tiers.reasoning import report
from milton_assets.tiers.reasoning.datasets import load_dataset
from milton_assets.tiers.reasoning.effort import effort
from milton_assets.tiers.reasoning.goldens import SHIPPED, ReasoningGoldens, load_goldens
from milton_assets.tiers.reasoning.scoring import FRESH_RATE, METRICS, UNANSWERED
from milton_assets.tiers.reasoning.tier import ReasoningPlan, code_version, measure_reasoning
from milton_assets.vocabulary.metric import Direction
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import (
    VARIANTS_SEED,
    CaseColumns,
    Conditions,
    GoldenFile,
    Measuring,
    MetricSpec,
    Needs,
    PlanOption,
    TierSpec,
    Uses,
    VariantColumns,
)

_BETTER_LOWER = frozenset({"cove_broken", "cove_missed", "verification_slowdown", "case_ms.median"})
_COLUMN = {"cove_pass_rate": "final_right", "baseline_pass_rate": "baseline_right"}
"""A case without an answer did not pass."""


def _metric(name: str, unit: str) -> MetricSpec:
    better = Direction.LOWER if name in _BETTER_LOWER else Direction.HIGHER
    if name == FRESH_RATE:
        return MetricSpec(name, unit, better, CaseColumns("case_id", "baseline_right", missing=0.0, part="fresh"))
    column = _COLUMN.get(name)
    return MetricSpec(
        name, unit, better, CaseColumns("case_id", column, missing=0.0, part="cove") if column is not None else None
    )


def plan(conditions: Conditions) -> ReasoningPlan:
    """The plan of a campaign; as many calls under way as the server has slots."""
    chosen = ReasoningPlan.smoke() if conditions.profile == "smoke" else ReasoningPlan()
    return chosen.model_copy(
        update={
            "concurrency": conditions.slots,
            "variants_seed": conditions.variants_seed,
            "budget_s": conditions.reasoning_budget_s,
        }
    )


def measure(measuring: Measuring) -> TierResult:
    """Chain-of-Verification over the cases given, with the campaign's judge if it names one.

    A set without labelled pairs of its own leaves the judge to prove itself on those that ship.
    """
    goldens: ReasoningGoldens = measuring.goldens
    with measuring.judge(goldens.judge_pairs or load_goldens().judge_pairs) as judge:
        return measure_reasoning(
            measuring.chat, goldens, measuring.plan, judge=judge, on_progress=measuring.on_progress
        )


def read(path: Path | None) -> ReasoningGoldens:
    """A folder in our own format, or a JSON Lines file in a common one (`datasets`); None reads the shipped set."""
    return load_dataset(path) if path is not None and path.is_file() else load_goldens(path)


def join(sets: Mapping[str, ReasoningGoldens]) -> ReasoningGoldens:
    """All cases of the sets; a case's id begins with its set's name."""
    cases = [case.model_copy(update={"id": f"{name}.{case.id}"}) for name, one in sets.items() for case in one.cases]
    pairs = [
        pair.model_copy(update={"id": f"{name}.{pair.id}"}) for name, one in sets.items() for pair in one.judge_pairs
    ]
    templates = [
        template.model_copy(update={"id": f"{name}.{template.id}"})
        for name, one in sets.items()
        for template in one.templates
    ]
    digests = {f"{name}/{file}": sha256 for name, one in sets.items() for file, sha256 in one.digests.items()}
    version = "+".join(one.version for one in sets.values())
    return ReasoningGoldens(tuple(cases), version, digests, tuple(pairs), templates=tuple(templates))


def _texts(goldens: ReasoningGoldens) -> Iterator[str]:
    for case in goldens.cases:
        yield from (case.question, case.answer.shown(), *case.wrong)
    for template in goldens.templates:
        yield from template.texts()
    for pair in goldens.judge_pairs:
        yield from (pair.question, pair.gold, pair.answer)


SPEC = TierSpec(
    name="reasoning",
    about="How often the model ends with the right answer after verifying its own draft (Chain-of-Verification).",
    metrics=tuple(_metric(name, unit) for name, unit in METRICS),
    headline="cove_pass_rate",
    needs=Needs.CHAT,
    plan=plan,
    measure=measure,
    code_version=code_version,
    effort=effort,
    read_goldens=read,
    join_goldens=join,
    shipped=SHIPPED,
    goldens=(
        GoldenFile("reasoning_cases", "cases.jsonl", "Questions with gold answers and aliases."),
        GoldenFile(
            "reasoning_judge_pairs",
            "judge_pairs.jsonl",
            "Labelled answers that a judge proves itself on.",
            scored=False,
        ),
        GoldenFile("reasoning_dataset", "dataset.json", "Name, version and licence of the cases.", scored=False),
    ),
    uses=frozenset({Uses.JUDGE}),
    options=(
        PlanOption("limit", "cases_per_kind", int, "At most this many cases of each kind."),
        PlanOption(
            "budget",
            "budget_s",
            float,
            "Spend at most so many seconds on calls; what tells most is asked first, and drafts stand for the rest.",
        ),
        VARIANTS_SEED,
    ),
    variants=VariantColumns(
        "part", "cove", "fresh", "template", "baseline_right", "baseline_label", UNANSWERED, "right_at_some_step"
    ),
    charts=report.charts,
    sheets=report.sheets,
    open_columns=frozenset(
        {
            "part",
            "case_id",
            "template",
            "kind",
            "split",
            "baseline_label",
            "plan_label",
            "final_label",
            "decided_by",
            "cell",
            "error_step",
            "error_kind",
        }
    ),
    texts=_texts,
)
