"""The fidelity tier's description of itself.

What belongs here: `SPEC`. What does not: measuring and the definitions of the figures.

No figure is paired by case: near the reference they say little of what a model does on tasks (arXiv 2606.19558), so
they are a gate against gross damage and never a criterion between candidates.
"""

from __future__ import annotations

from milton_assets.tiers.fidelity import report
from milton_assets.tiers.fidelity.figures import KL, METRICS, REFERENCE, UNLISTED
from milton_assets.tiers.fidelity.goldens import FILE, SHIPPED, Passages, join, read
from milton_assets.tiers.fidelity.tier import TIER, FidelityPlan, measure_fidelity
from milton_assets.vocabulary.code_version import code_version
from milton_assets.vocabulary.metric import Direction
from milton_assets.vocabulary.tier_spec import (
    Conditions,
    GoldenFile,
    MetricSpec,
    Needs,
    PlanOption,
    TierSpec,
    Uses,
)


def plan(conditions: Conditions) -> FidelityPlan:
    """The plan of a campaign."""
    return FidelityPlan.smoke() if conditions.profile == "smoke" else FidelityPlan()


def effort(plan: FidelityPlan, goldens: Passages) -> float:
    """How many places are looked at."""
    return len(goldens.passages[: plan.passages]) * plan.places


def _better(name: str) -> Direction | None:
    return None if name == UNLISTED or name.startswith(f"{REFERENCE}:") else Direction.LOWER


SPEC = TierSpec(
    name=TIER,
    about="How far the model expects the next token as the model does that it was made from: a gate, not a ranking.",
    metrics=tuple(MetricSpec(name, unit, _better(name)) for name, unit in METRICS),
    headline=KL,
    needs=Needs.PROBABILITIES,
    plan=plan,
    measure=measure_fidelity,
    effort=effort,
    code_version=lambda: code_version("milton_assets.tiers.fidelity.tier"),
    read_goldens=read,
    join_goldens=join,
    shipped=SHIPPED,
    goldens=(GoldenFile("fidelity_passages", FILE, "The text that models are held against their reference on."),),
    uses=frozenset({Uses.REFERENCE}),
    baselines={REFERENCE: "the reference"},
    options=(
        PlanOption("limit", "passages", int, "At most this many passages."),
        PlanOption("places", "places", int, "How many tokens of each passage are looked at."),
        PlanOption("top", "top", int, "How many of the likeliest tokens are told at each place."),
    ),
    charts=report.charts,
    open_columns=frozenset({"passage_id"}),
    texts=lambda goldens: (passage.text for passage in goldens.passages),
)
