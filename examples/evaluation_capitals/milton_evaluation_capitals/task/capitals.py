"""A task of inspect_ai: the capital of a country, in one word. Run by inspect alone, too: `inspect eval capitals.py`.

What belongs here: the task. What does not: anything of Milton's.
"""

from __future__ import annotations

from pathlib import Path

from inspect_ai import Task, task
from inspect_ai.dataset import FieldSpec, json_dataset
from inspect_ai.scorer import includes
from inspect_ai.solver import generate


@task
def capitals() -> Task:
    """Ask for each capital; an answer that includes it is right."""
    questions = json_dataset(
        str(Path(__file__).with_name("capitals.jsonl")), FieldSpec(input="question", target="answer", id="id")
    )
    return Task(dataset=questions, solver=generate(), scorer=includes())
