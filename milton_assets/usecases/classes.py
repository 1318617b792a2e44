"""Device classes: the reference device of each, and whether it computes the same.

What belongs here: what graph and command line both need to measure for a class. What does not: measuring on a device
(`milton_assets.fleet.measuring`), and which targets a class has (`resources.campaign`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from milton_assets.fleet.links import Unreachable
from milton_assets.fleet.measuring import (
    Expectations,
    ExpectationsRequest,
    Measured,
    Measures,
    QuestionsRequest,
)
from milton_assets.fleet.targets import Targets
from milton_assets.tiers.fidelity.divergence import difference
from milton_assets.tiers.fidelity.goldens import read as read_passages
from milton_assets.tiers.fidelity.tier import FidelityPlan
from milton_assets.tiers.inference.prompts import load_goldens
from milton_assets.usecases.bench import expectations, greedy_answers
from milton_assets.vocabulary.chat import ModelCallFailed
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import Artefact

if TYPE_CHECKING:
    from resources.model_server import ModelServerResource

SAMPLE = 6
"""So many of the shipped prompts are answered greedily here and there."""
SAMPLE_TOKENS = 32
SAMPLE_PASSAGES, SAMPLE_PLACES, SAMPLE_TOP = 3, 8, 20
"""And so many of the fidelity tier's passages, places of each and likeliest tokens are looked at."""
ROUNDING_NATS = 0.01
"""Two machines that compute the same weights differ by less, a token: 8-bit weights are hardly further from their
original."""


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


@contextmanager
def telling_who_is_away(name: str | None, device_class: str | None) -> Iterator[None]:
    """An `Unreachable` of the block says who it is that cannot be reached, and what for."""
    try:
        yield
    except Unreachable as error:
        raise Unreachable(
            f"{name}, the reference device of the class {device_class}: {error.problem}",
            expected=error.expected,
            remedy=f"see whether it runs and is on the network (`milton target show {name}`), then ask again",
        ) from None


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
class ComparedExpectations:
    """What the model expects in given texts there beside what it expects here: at how many places, the divergence of
    the two in nats a token (a lower bound, see `tiers.fidelity.divergence`), its mean and its worst, and at how many
    places another token is likeliest; or why they were not compared."""

    places: int = 0
    kl_mean: float = 0.0
    kl_max: float = 0.0
    flips: int = 0
    failed: str | None = None

    @property
    def differs(self) -> bool:
        """Whether the device computes something else, more than rounding explains."""
        return self.failed is None and self.kl_mean > ROUNDING_NATS

    @property
    def sentence(self) -> str:
        """What was found, for people."""
        if self.failed is not None:
            return f"whether it expects what this machine's model expects is not known: {self.failed}"
        found = (
            f"its expectations are {self.kl_mean:.2g} nats a token from this machine's over {self.places} places, with "
            f"another likeliest token at {self.flips}"
        )
        return f"{found}; rounding makes less than {ROUNDING_NATS:g}" if self.differs else found

    def provenance(self) -> dict[str, Any]:
        """What is written into the evidence."""
        return asdict(self)


@dataclass(frozen=True)
class Sample:
    """Greedy answers of this machine to some of the shipped prompts, and what its model expects in some of the fidelity
    tier's passages, to hold a device's against."""

    prompts: tuple[str, ...]
    request: QuestionsRequest
    here: tuple[str, ...]
    asked: ExpectationsRequest
    expected: Expectations
    failed: str | None = None

    def compared(self, there: Measured) -> Compared:
        """Whether the device answers what this machine answers.

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

    def compared_expectations(self, there: Measured) -> ComparedExpectations:
        """How far the device's expectations are from this machine's, as the fidelity tier holds two models against
        each other. A difference is told and is no failure, as for answers."""
        if self.expected.because is not None:
            return ComparedExpectations(failed=f"this machine's: {self.expected.because}")
        told = there.expectations(self.asked)
        if told.because is not None:
            return ComparedExpectations(failed=f"the device's: {told.because}")
        found = []
        for mine, its in zip(self.expected.texts, told.texts, strict=True):
            if mine.tokens != its.tokens:
                return ComparedExpectations(failed="the device reads the same text as other tokens")
            found += [difference(a, b) for a, b in zip(mine.places, its.places, strict=True) if a and b]
        if not found:
            return ComparedExpectations(failed="no text has a place to compare")
        kls = [one.kl for one in found]
        return ComparedExpectations(len(kls), sum(kls) / len(kls), max(kls), sum(one.flipped for one in found))


def sample_here(model_server: ModelServerResource, artefact: Artefact, model: str) -> Sample:
    """What this machine answers and expects. Raises as serving does."""
    prompts = load_goldens().prompts[:SAMPLE]
    names = tuple(prompt.id for prompt in prompts)
    request = QuestionsRequest(questions=tuple(prompt.text for prompt in prompts), max_tokens=SAMPLE_TOKENS)
    texts = tuple(passage.text for passage in read_passages(None).passages[:SAMPLE_PASSAGES])
    asked = ExpectationsRequest(texts=texts, first=FidelityPlan().first, places=SAMPLE_PLACES, top=SAMPLE_TOP)
    with model_server.serve(artefact, model) as served:
        expected = expectations(served, asked)
        try:
            return Sample(names, request, greedy_answers(served, request), asked, expected)
        except ModelCallFailed as error:
            return Sample(names, request, (), asked, expected, failed=error.problem)


def _same(one: str, other: str) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
