"""Device classes: the reference device of each, whether it computes the same, and a class's health contract.

What belongs here: what graph and command line both need to measure for a class. What does not: measuring on a device
(`milton_assets.fleet.measuring`), and which targets a class has (`resources.campaign`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from milton_assets.edge.manifest import HealthContract
from milton_assets.fleet.measuring import ContractRequest, Measured, Measures, QuestionsRequest, Weights
from milton_assets.fleet.targets import Targets
from milton_assets.tiers.inference.prompts import load_goldens
from milton_assets.usecases.bench import greedy_answers
from milton_assets.vocabulary.chat import ModelCallFailed
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.progress import OnProgress, silent
from milton_assets.vocabulary.registry import Artefact

if TYPE_CHECKING:
    from resources.model_server import ModelServerResource

SAMPLE = 6
"""So many of the shipped prompts are answered greedily here and there."""
SAMPLE_TOKENS = 32


def reference_of(targets: Targets, references: Mapping[str, str], device_class: str) -> tuple[str, Measures]:
    """The name of the class's reference target, and the target. Raises `BadInput` when it has none that measures."""
    name = references.get(device_class)
    if name is None:
        raise BadInput(
            f"the device class {device_class} has no reference device",
            expected=f"one of {sorted(references)}" if references else "a class with a reference",
            remedy=f"name one of its targets in milton.yaml: device_classes: {{{device_class}: {{reference: TARGET}}}}",
        )
    target = targets.named(name)
    if not isinstance(target, Measures):
        raise BadInput(
            f"nothing can be measured on {name} ({target.url})", expected="a target on this machine or behind `ssh:`"
        )
    return name, target


def contract_on(
    targets: Targets,
    references: Mapping[str, str],
    device_class: str,
    artefact: Artefact,
    model: str,
    *,
    least_speed: float,
    same_answers: bool = True,
    on_progress: OnProgress = silent,
) -> HealthContract:
    """The health contract of an artefact, measured on the reference device of the class under its own settings."""
    _, reference = reference_of(targets, references, device_class)
    request = ContractRequest(artefact=artefact.sha256, model=model, least_speed=least_speed, same_answers=same_answers)
    return reference.contract(Weights(Path(artefact.path), artefact.sha256), request, on_progress=on_progress)


@dataclass(frozen=True)
class Compared:
    """Greedy answers there beside those here: how many were asked, and for each that differs the prompt's id and how
    many characters are the same; or why they were not compared."""

    asked: int
    differing: tuple[tuple[str, int], ...] = ()
    failed: str | None = None

    @property
    def difference(self) -> str | None:
        """A sentence; None where all are the same."""
        if self.failed is not None:
            return f"whether it answers as this machine does is not known: {self.failed}"
        if not self.differing:
            return None
        told = ", ".join(f"{name} after {same} characters" for name, same in self.differing)
        return f"{len(self.differing)} of {self.asked} greedy answers differ from this machine's: {told}"

    def provenance(self) -> dict[str, Any]:
        """What is written into the evidence."""
        return {
            "asked": self.asked,
            "max_tokens": SAMPLE_TOKENS,
            "failed": self.failed,
            "differing": [{"prompt": name, "same_characters": same} for name, same in self.differing],
        }


@dataclass(frozen=True)
class Sample:
    """Greedy answers of this machine to some of the shipped prompts, to hold a device's against."""

    prompts: tuple[str, ...]
    request: QuestionsRequest
    here: tuple[str, ...]
    failed: str | None = None

    def compared(self, there: Measured) -> Compared:
        """Whether the device computes what this machine computes.

        Kernels differ between processors, so a difference is told and is no failure; nor is a call that failed.
        """
        asked = len(self.prompts)
        if self.failed is not None:
            return Compared(asked, failed=f"this machine's server failed: {self.failed}")
        try:
            answers = there.answers(self.request)
        except ModelCallFailed as error:
            return Compared(asked, failed=f"the device's server failed: {error.problem}")
        pairs = zip(self.prompts, self.here, answers, strict=True)
        return Compared(asked, tuple((name, _same(a, b)) for name, a, b in pairs if a != b))


def sample_here(model_server: ModelServerResource, artefact: Artefact, model: str) -> Sample:
    """What this machine answers. Raises as serving does."""
    prompts = load_goldens().prompts[:SAMPLE]
    names = tuple(prompt.id for prompt in prompts)
    request = QuestionsRequest(questions=tuple(prompt.text for prompt in prompts), max_tokens=SAMPLE_TOKENS)
    with model_server.serve(artefact, model) as served:
        try:
            return Sample(names, request, greedy_answers(served, request))
        except ModelCallFailed as error:
            return Sample(names, request, (), failed=error.problem)


def _same(one: str, other: str) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
