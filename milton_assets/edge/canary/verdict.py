"""What the counts of a canary say: promote, go back, or not yet.

What belongs here: the verdict and its evidence, a pure function of plan and counts, so that whoever has both can judge
again. What does not: the bets (`milton_assets.statistics.anytime`).

It goes back when any one question is answered by evidence whose probability, if the challenger makes no difference, is
at most that question's part of `alpha`; the parts sum to `alpha`, so that whatever depends on what, the probability
that a challenger that makes no difference is ever sent back is at most `alpha`. It is promoted when *every* question
about a margin is answered at `alpha`: then a challenger beyond any of them is promoted with a probability of at most
`alpha`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from milton_assets.edge.canary.counts import Counts
from milton_assets.edge.canary.plan import CanaryId, CanaryPlan, Way
from milton_assets.statistics.anytime import (
    difference_below,
    events_by_arm,
    more_often_than_not,
    needed,
    paired_difference_below,
    rate_above,
)
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.format_version import of_this_version

VERDICT_VERSION: Final = 3


class Outcome(StrEnum):
    """What is to be done with the challenger."""

    PROMOTE = "promote"
    GO_BACK = "go_back"
    NOT_YET = "not_yet"


PARTS = {
    "failures": 0.40,
    "errors": 0.35,
    "answer": 0.07,
    "writing": 0.07,
    "longer": 0.025,
    "shorter": 0.025,
    "feedback": 0.06,
}
"""Each question's part of `alpha`. Errors get most of it, since they hurt most and are to be noticed soonest."""
GOLDENS_PART = 0.10
"""The part of answers to golden questions, of a canary that has such; the others then share the rest."""
_SAYS = {
    "failures": "its server fails more of its requests than the limit",
    "errors": "more of its requests end in errors than the incumbent's",
    "answer": "it begins to answer later than the margin allows",
    "writing": "it writes slower than the margin allows",
    "longer": "its answers are longer than the margin allows",
    "shorter": "its answers are shorter than the margin allows",
    "feedback": "its answers are rated badly more often than the incumbent's",
    "goldens": "more of its answers to golden questions are wrong than of the incumbent's",
}
_SHOWN = {
    "errors": "its errors are within the margin",
    "answer": "it begins to answer within the margin",
    "writing": "it writes within the margin",
    "longer": "its answers are not too long",
    "shorter": "its answers are not too short",
    "goldens": "its answers to golden questions are right within the margin",
}


class Finding(BaseModel):
    """One question: the evidence against the challenger that it can answer, or for it, as logarithms, and how much is
    needed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    question: str = Field(max_length=40)
    speaks_for: Literal[Outcome.GO_BACK, Outcome.PROMOTE]
    log_evidence: float
    needed: float

    @property
    def is_answered(self) -> bool:
        """Whether the evidence suffices."""
        return self.log_evidence >= self.needed


class Judgement(BaseModel):
    """What the counts say, with its reasons as sentences and every finding."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: Outcome
    reasons: tuple[str, ...]
    findings: tuple[Finding, ...]


class CanaryVerdict(BaseModel):
    """How a canary ended: by its evidence (`fact` is None), or by a fact, such as a server that kept dying or somebody
    who stopped it. `journal_sha256` is the digest of the first `journal_bytes` of its records: what ended later does
    not count."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[3] = VERDICT_VERSION
    canary: CanaryId
    outcome: Outcome
    reasons: tuple[str, ...] = Field(max_length=20)
    fact: str | None = Field(default=None, max_length=2000)
    counts: Counts
    journal_bytes: int = Field(ge=0)
    journal_sha256: Sha256
    at: AwareDatetime

    @model_validator(mode="before")
    @classmethod
    def _of_this_version(cls, given: Any) -> Any:
        return of_this_version(given, what="verdict of a canary", field="version", version=VERDICT_VERSION)


def parts_of(others: Mapping[str, float] = PARTS, *, goldens: bool) -> dict[str, float]:
    """Each question, with `goldens` or without, and its part of `alpha`; they sum to 1, as those of the `others` do."""
    if not goldens:
        return dict(others)
    return {name: part * (1 - GOLDENS_PART) for name, part in others.items()} | {"goldens": GOLDENS_PART}


def judge(plan: CanaryPlan, counts: Counts) -> Judgement:
    """What `counts` say under `plan`; those of a whole device say nothing by themselves."""
    if plan.way is Way.WHOLE:
        return Judgement(outcome=Outcome.NOT_YET, reasons=("it is compared with other devices",), findings=())
    findings = (*_against(plan, counts), *_for(plan, counts))
    against = [one for one in findings if one.speaks_for is Outcome.GO_BACK and one.is_answered]
    if against:
        return Judgement(
            outcome=Outcome.GO_BACK, reasons=tuple(_SAYS[one.question] for one in against), findings=findings
        )
    missing = [one for one in findings if one.speaks_for is Outcome.PROMOTE and not one.is_answered]
    if missing:
        reasons = tuple(f"not shown yet: {_SHOWN[one.question]}" for one in missing)
        return Judgement(outcome=Outcome.NOT_YET, reasons=reasons, findings=findings)
    shown = tuple(_SHOWN[one.question] for one in findings if one.speaks_for is Outcome.PROMOTE)
    return Judgement(outcome=Outcome.PROMOTE, reasons=shown, findings=findings)


def _against(plan: CanaryPlan, counts: Counts) -> tuple[Finding, ...]:
    ours, theirs = counts.challenger, counts.incumbent
    by_arm, signs = events_by_arm(plan.share), more_often_than_not()
    evidence = {
        "failures": rate_above(plan.margins.failures).log_evidence((ours.first_failed, ours.units - ours.first_failed)),
        "errors": by_arm.log_evidence((ours.units_erred, theirs.units_erred)),
        "feedback": by_arm.log_evidence((ours.units_rated_badly, theirs.units_rated_badly)),
    }
    if plan.way is Way.SHADOW:
        # Both were asked the same, so only what one of them failed tells them apart.
        evidence["errors"] = signs.log_evidence((counts.one_failed.beyond, counts.one_failed.within))
    for name in ("answer", "writing", "longer", "shorter"):
        pairs = getattr(counts, name)
        evidence[name] = signs.log_evidence((pairs.beyond, pairs.within))
    evidence["goldens"] = signs.log_evidence((counts.one_wrong.beyond, counts.one_wrong.within))
    return tuple(
        Finding(
            question=name,
            speaks_for=Outcome.GO_BACK,
            log_evidence=evidence[name],
            needed=needed(plan.alpha * part),
        )
        for name, part in parts_of(goldens=plan.goldens is not None).items()
    )


def _for(plan: CanaryPlan, counts: Counts) -> tuple[Finding, ...]:
    ours, theirs = counts.challenger, counts.incumbent
    well = ours.units + theirs.units - ours.first_erred - theirs.first_erred
    if plan.way is Way.SHADOW:
        only_ours, only_theirs = counts.one_failed.beyond, counts.one_failed.within
        outcomes = (ours.units - only_ours - only_theirs, only_ours, only_theirs)
        erring = paired_difference_below(plan.margins.errors)
    else:
        outcomes = (well, ours.first_erred, theirs.first_erred)
        erring = difference_below(plan.margins.errors, plan.share)
    evidence = {"errors": erring.log_evidence(outcomes)}
    signs = more_often_than_not()
    for name in ("answer", "writing", "longer", "shorter"):
        pairs = getattr(counts, name)
        # What servers do not tell (tokens of answers that are no streams) cannot be asked; times there always are.
        if name == "answer" or pairs.beyond or pairs.within:
            evidence[name] = signs.log_evidence((pairs.within, pairs.beyond))
    if plan.goldens is not None:
        outcomes = (counts.both_right, counts.one_wrong.beyond, counts.one_wrong.within)
        evidence["goldens"] = paired_difference_below(plan.margins.wrong).log_evidence(outcomes)
    return tuple(
        Finding(question=name, speaks_for=Outcome.PROMOTE, log_evidence=value, needed=needed(plan.alpha))
        for name, value in evidence.items()
    )
