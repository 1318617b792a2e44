"""The reasoning tier: Chain-of-Verification over gold questions, scored by the final answer.

What belongs here: goldens, prompts, the CoVe procedure, matching, scoring, the optional judge and the tier itself.
What does not: HTTP, Dagster, and anything about other tiers.

    goldens = load_goldens()
    result = measure_reasoning(model, goldens, ReasoningPlan.smoke())
    print(result.metric("cove_pass_rate"))

Its names are loaded when they are asked for: a device marks answers (`marking`) without what measuring takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from milton_assets.vocabulary.lazy_names import loaded_on_demand

if TYPE_CHECKING:
    from milton_assets.tiers.reasoning.goldens import ReasoningGoldens, load_goldens
    from milton_assets.tiers.reasoning.scoring import METRICS
    from milton_assets.tiers.reasoning.tier import ReasoningPlan, code_version, measure_reasoning

__all__ = ["METRICS", "ReasoningGoldens", "ReasoningPlan", "code_version", "load_goldens", "measure_reasoning"]

_WHERE = {
    "milton_assets.tiers.reasoning.goldens": ("ReasoningGoldens", "load_goldens"),
    "milton_assets.tiers.reasoning.scoring": ("METRICS",),
    "milton_assets.tiers.reasoning.tier": ("ReasoningPlan", "code_version", "measure_reasoning"),
}

__getattr__ = loaded_on_demand(__name__, _WHERE)
