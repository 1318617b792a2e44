"""Two evaluations as tiers: the same questions as a task of inspect_ai and of lm-evaluation-harness.

What belongs here: what is run, and which score is which figure. What does not: the tasks, which know nothing of Milton
and lie in `task`.
"""

from __future__ import annotations

from pathlib import Path

from milton_assets.tiers.evaluations.result import Figure
from milton_assets.tiers.evaluations.tier import evaluation_tier
from milton_assets.vocabulary.evaluation import Evaluation, Package

TASK = Path(__file__).parent / "task"

CAPITALS = evaluation_tier(
    name="capitals",
    about="Whether the model names the capitals of countries, as a task of inspect_ai asks it.",
    evaluation=Evaluation(Package.INSPECT, "capitals.py@capitals", TASK, max_tokens=24),
    files=("capitals.py", "capitals.jsonl"),
    figures=(Figure("accuracy", score="includes"),),
)

CAPITALS_HARNESS = evaluation_tier(
    name="capitals_harness",
    about="Whether the model names the capitals of countries, as a task of lm-evaluation-harness asks it.",
    evaluation=Evaluation(Package.LM_EVAL, "capitals", TASK, max_tokens=24),
    files=("capitals.yaml", "capitals.jsonl"),
    figures=(Figure("exact_match", score="exact_match,first_word"),),
)
