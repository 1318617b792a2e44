"""Measuring fidelity: both models read the same passages, and what they expected is held against each other.

What belongs here: the plan, the order of asking, and what becomes of a reference that cannot be had. What does not:
formulas (`divergence`, `figures`).

The tokens must be the same for both: probabilities of different vocabularies cannot be compared, and where the two read
a passage differently nothing is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from milton_assets.tiers.fidelity import figures
from milton_assets.tiers.fidelity.goldens import Passage, Passages
from milton_assets.vocabulary.chat import ModelCallFailed
from milton_assets.vocabulary.digest import sha256_json
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.forcing import Forced, ReferenceNotToBeHad, TeacherForcing
from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.progress import OnProgress, Progress
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import Measuring, NoReference, Reference

TIER = "fidelity"


class FidelityPlan(BaseModel):
    """What is asked: of each passage `places` tokens from the one numbered `first` on, with the `top` likeliest each.

    `passages` takes the first so many. The first few tokens of a passage are given, for what comes there is anybody's
    guess. `draws`, `seed` and `confidence` are the bootstrap's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    passages: int | None = Field(default=None, ge=1)
    first: int = Field(default=4, ge=1, le=4096)
    places: int = Field(default=30, ge=1, le=4096)
    top: int = Field(default=100, ge=2, le=1000)
    draws: int = Field(default=2000, ge=100, le=100_000)
    seed: int = 0
    confidence: float = Field(default=0.95, gt=0.5, lt=1)

    @classmethod
    def smoke(cls) -> Self:
        """A plan for a first look: 6 passages of 12 places, which tell a poor quantisation from a good one."""
        return cls(passages=6, places=12)


class Unlike(MiltonError):
    """Two models that read a text as different tokens."""


def measure_fidelity(measuring: Measuring) -> TierResult:
    """The figures of the model that is served, against its reference where there is one.

    Without anybody who tells probabilities every figure is `skipped`; without a reference those that need one are. What
    failed is an `error` with its reason.
    """
    plan: FidelityPlan = measuring.plan
    goldens: Passages = measuring.goldens
    stated: dict[str, Any] = {"plan": plan.model_dump(mode="json")}
    passages = goldens.passages[: plan.passages]
    if measuring.forcing is None:
        name = measuring.served.fingerprint.name
        why = f"the server ({name}) does not tell what its model expects at each place of a text; llama.cpp's does"
        return TierResult(TIER, figures.nothing(Metric.skipped("any", "", why)), provenance=stated)
    asking = _Asking(plan, passages, measuring.on_progress, compares=isinstance(measuring.reference, Reference))
    try:
        mine = asking.ask(measuring.forcing, "the model")
    except ModelCallFailed as failed:
        return TierResult(TIER, figures.nothing(Metric.failed("any", "", failed.problem)), provenance=stated)
    theirs, missing = _of_reference(measuring.reference, asking, mine, stated)
    samples = figures.columns([passage.id for passage in passages], mine, theirs)
    if not len(samples):
        why = f"no passage is longer than {plan.first} tokens"
        return TierResult(TIER, figures.nothing(Metric.failed("any", "", why)), provenance=stated)
    found = figures.metrics(samples, missing, draws=plan.draws, seed=plan.seed, level=plan.confidence)
    return TierResult(TIER, found, samples, stated)


def _of_reference(
    reference: Reference | NoReference, asking: _Asking, mine: Sequence[Forced], stated: dict[str, Any]
) -> tuple[list[Forced] | None, Metric | None]:
    """What the reference expected; or a metric that says why that is not known."""
    if isinstance(reference, NoReference):
        return None, Metric.skipped("any", "", reference.why)
    stated["reference"] = {"version": reference.name, "artefact_sha256": reference.artefact_sha256}
    try:
        with reference.forcing() as forcing:
            theirs = asking.ask(forcing, "its reference")
        _check_same(reference, asking.passages, mine, theirs)
    except (ReferenceNotToBeHad, Unlike) as why:
        return None, Metric.skipped("any", "", why.problem)
    except MiltonError as failed:
        return None, Metric.failed("any", "", f"its reference {reference.name} failed: {failed.problem}")
    # The digest of all that the reference said, so that two candidates are seen to be held against the same.
    stated["reference"]["expectations_sha256"] = sha256_json(
        [[list(one.tokens), [e and [e.logprob, [list(t) for t in e.top]] for e in one.places]] for one in theirs]
    )
    return theirs, None


def _check_same(
    reference: Reference, passages: Sequence[Passage], mine: Sequence[Forced], theirs: Sequence[Forced]
) -> None:
    for passage, one, other in zip(passages, mine, theirs, strict=True):
        if one.tokens != other.tokens:
            raise Unlike(
                f"the tokenizers differ: passage {passage.id} has {len(one.tokens)} tokens here and "
                f"{len(other.tokens)} for {reference.name}, or others",
                expected="one vocabulary, for probabilities of different tokens cannot be compared",
            )


class _Asking:
    """Asks about the passages, one model after the other, and says how far it is."""

    def __init__(
        self, plan: FidelityPlan, passages: Sequence[Passage], on_progress: OnProgress, *, compares: bool
    ) -> None:
        self.plan, self.passages, self.on_progress = plan, passages, on_progress
        self.total, self.done = len(passages) * (2 if compares else 1), 0

    def ask(self, forcing: TeacherForcing, whom: str) -> list[Forced]:
        """What that model expects in every passage. Raises `ModelCallFailed`."""
        plan, answers = self.plan, []
        for passage in self.passages:
            answers.append(forcing.forced(passage.text, first=plan.first, places=plan.places, top=plan.top))
            self.done += 1
            self.on_progress(Progress(TIER, self.done, self.total, f"{passage.id}, {whom}"))
        return answers
