"""How much a plan of the reasoning tier asks, from which it is reckoned how long it will take.

What belongs here: that figure. What does not: asking (`tier`, `cove`).
"""

from __future__ import annotations

from typing import Final

from milton_assets.tiers.reasoning.goldens import ReasoningGoldens
from milton_assets.tiers.reasoning.tier import ReasoningPlan, fresh_variants, seeds_of

READ: Final = 60
"""What reading a call's prompt takes, in tokens written: prompts of one step begin alike, so most is remembered."""


def effort(plan: ReasoningPlan, goldens: ReasoningGoldens) -> float | None:
    """Tokens that the calls of the plan write at most, and `READ` for each call. None with a time budget, which says by
    itself how long the tier may take."""
    if plan.budget_s is not None:
        return None
    answer, check = READ + plan.answer_tokens, READ + plan.cross_check_tokens
    verifying = READ + plan.plan_tokens + plan.questions * (answer + check)
    whole = answer + verifying + answer
    chosen = goldens.choose(plan.split, plan.cases_per_kind)
    seeded, fresh = len(seeds_of(goldens, plan)), len(fresh_variants(goldens, chosen, plan))
    return len(chosen) * whole + seeded * verifying + fresh * (whole if plan.verifies_fresh else answer)
