"""A health contract from a measurement: what a model answered where it was decided on is what a device must see again.

What belongs here: turning a probe's report into the contract that a bundle carries. What does not: asking the
questions (`loadtest`) and holding a device to the contract (`loadtest.judge`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from milton_assets.edge.deployment.attempt_ending import require_healthy
from milton_assets.edge.deployment.loadtest import LoadTest
from milton_assets.edge.manifest import HealthContract, Probe
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.server import ServingSettings

LEAST_SPEED = 0.5
"""The share of the measured speed that a device must reach, unless another is chosen."""

QUESTIONS = (
    Probe(prompt="Name the capital of France in one short sentence.", max_tokens=24),
    Probe(prompt="Count from one to ten in words.", max_tokens=32),
    Probe(prompt="What is 7 plus 5? Answer with the number only.", max_tokens=8),
)
"""The questions that are asked unless others are chosen: short, so that the probe takes seconds on a small device."""


def measure_contract(
    load_test: LoadTest,
    artefact: Path,
    model: str,
    *,
    questions: Sequence[Probe] = QUESTIONS,
    least_speed: float = LEAST_SPEED,
    same_answers: bool = True,
    served_with: ServingSettings | None = None,
) -> HealthContract:
    """Serve `artefact`, ask the questions, and promise the answers and `least_speed` of the speed in tokens/s.

    `same_answers` promises each greedy answer byte for byte. Kernels differ between kinds of processors, so leave it
    out for devices that are not of the kind that the model was measured on. `served_with` is what to serve it with here
    and on the device; None leaves that to the server.

    Raises `ProbeFailed` when the model does not answer, `BadInput` for a share that is none.
    """
    if not 0 < least_speed <= 1:
        raise BadInput(f"the least speed is {least_speed}", expected="a share above 0, at most 1")
    asked = tuple(question.model_copy(update={"answer_sha256": None}) for question in questions)
    unbound = HealthContract(probes=asked, served_with=served_with)
    report = require_healthy(load_test(artefact, model, unbound), "measuring the health contract")
    promised = zip(asked, report.answer_sha256, strict=True)
    speed = report.output_tokens_per_s
    return HealthContract(
        probes=tuple(q.model_copy(update={"answer_sha256": said if same_answers else None}) for q, said in promised),
        min_output_tokens_per_s=None if speed is None else speed * least_speed,
        served_with=served_with,
    )
