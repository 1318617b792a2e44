"""The decision: everything needed to explain, to somebody who was not there, which model won and why.

What belongs here: the decision's nouns and their JSON. What does not: taking a decision (`decide`) and showing one
(`card`, `plots`).
"""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from typing import Any, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from milton_assets.selection.policy import GateMode, MarginKind, Normalisation, Operator, Policy
from milton_assets.vocabulary.chat_template import TemplateId
from milton_assets.vocabulary.digest import Sha256, canonical_json, sha256_bytes
from milton_assets.vocabulary.errors import BadInput, one_of
from milton_assets.vocabulary.field_evidence import FieldFinding
from milton_assets.vocabulary.format_version import of_this_version
from milton_assets.vocabulary.keys import RunId, Slug, TierName
from milton_assets.vocabulary.ledger import Ledger
from milton_assets.vocabulary.metric import Interval, Metric

DECISION_VERSION = 8
"""Version 3 is written as RFC 8785 has it; version 4 names each candidate's chat template, spends alpha over the life
of an incumbent and hands on a ledger; version 5 has gates that ask only where there is a figure, flips, and what fresh
variants showed of each candidate; version 6 compares speeds in rounds in turn with the incumbent, where tables state
such rounds; version 7 tells what the field said of the incumbent; version 8 holds challengers to the best that was
deployed as it is measured in the environment of today. Another version is not read."""


class Verdict(StrEnum):
    """`promote` the winner; `reject`: nothing is promoted, and it is known why; `no_verdict`: it cannot be known."""

    PROMOTE = "promote"
    REJECT = "reject"
    NO_VERDICT = "no_verdict"


class GateAnswer(StrEnum):
    """What the evidence says about a threshold. `inconclusive`: the interval holds it, or there is no figure.

    `not_measured`: there is none, and the gate asks for it only where there could be one.
    """

    PASS = "pass"  # noqa: S105 - a gate's answer, no password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NOT_MEASURED = "not_measured"


class Standing(StrEnum):
    """Where a candidate stands after the gates. Only `eligible` ones are scored.

    `failed`: a gate was not reached. `inconclusive`: a strict gate's interval holds the threshold.
    `no_evidence`: a figure that the policy needs is missing, failed or invalid, or the caller excluded it.
    """

    ELIGIBLE = "eligible"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    NO_EVIDENCE = "no_evidence"


class _Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Reading(_Noun):
    """One metric as the decision saw it."""

    tier: TierName
    metric: Metric


class Knowledge(StrEnum):
    """Whether a model has published answers by heart. `not_known`: there were too few fresh variants to tell, or
    none."""

    KNOWS = "knows_the_answers"
    NO_SIGN = "no_sign"
    NOT_KNOWN = "not_known"


class VariantsReading(_Noun):
    """What fresh variants say of one candidate in one tier.

    Of `templates`, `published_right` published variants were answered rightly, and `fresh_right` of `fresh` fresh
    ones, which `seed` drew. `p_value` is exact and one-sided, `p_holm` after Holm over every candidate and tier of
    the decision; None where nothing was asked. `allowed` is whether the operator let it through all the same.
    """

    tier: TierName
    seed: str | None
    templates: int
    published_right: int
    fresh: int
    fresh_right: int
    p_value: float | None
    p_holm: float | None
    knowledge: Knowledge
    allowed: bool
    why: str


class GateOutcome(_Noun):
    """What one gate made of one candidate.

    `answer` is read from the confidence interval, or from the value where the figure has none. `admits` is what
    counts: under mode `point` the value decides, under `strict` only the answer `pass` does.
    """

    tier: TierName
    metric: str
    op: Operator
    threshold: float
    mode: GateMode
    answer: GateAnswer
    admits: bool
    why: str


class Contribution(_Noun):
    """What one criterion adds to a score: `weight` x `utility`, the utility in 0..1."""

    metric: str
    label: str
    weight: float
    utility: float

    @property
    def points(self) -> float:
        """The part of the score that comes from here."""
        return self.weight * self.utility


class Difference(_Noun):
    """One metric of a challenger against the incumbent, oriented so that above 0 is better.

    `test` names how it was made, on `n` cases, or over `n` campaigns where it is relative. `difference` and `interval`
    are absolute, or shares of the incumbent's value, as `kind` says; `p_value` is two-sided and of all the evidence
    there is, `p_holm` that of the last look at it, over the share of alpha that it might spend and after Holm's
    correction, of one side where it is better and the rule is one-sided. `looks` is how many pieces of evidence there
    have been over the incumbent's life; a look is taken at 1, 2, 4, 8, …
    """

    tier: TierName
    metric: str
    test: str
    kind: MarginKind
    margin: float
    n: int
    wins: int | None = None
    losses: int | None = None
    difference: float | None = None
    interval: Interval | None = None
    p_value: float | None = None
    p_holm: float | None = None
    looks: int = 0
    non_inferior: bool
    superior: bool
    worse: bool = False
    against: Slug | None = None
    against_run: RunId | None = None
    why: str


class Equivalence(StrEnum):
    """Whether two models are the same on a metric, within a margin, at the policy's alpha on each side."""

    EQUIVALENT = "equivalent"
    DIFFERENT = "different"
    UNDECIDED = "undecided"


class Flips(_Noun):
    """A candidate against the incumbent on one metric, case by case, oriented so that above 0 is better.

    `won` are the cases that it got right and the incumbent wrong, `lost` those the other way round; where cases have
    scores (`right_or_wrong` is false), those with the better and with the worse one. `p_value` is exact and of wins
    against losses; `interval` that of the mean `difference`. `equivalence` is None without a `margin` in the policy.
    All are None where the two were not paired, and `why` says so.
    """

    tier: TierName
    metric: str
    n: int = 0
    won: int | None = None
    lost: int | None = None
    right_or_wrong: bool = False
    p_value: float | None = None
    difference: float | None = None
    interval: Interval | None = None
    margin: float | None = None
    equivalence: Equivalence | None = None
    why: str


class Challenge(_Noun):
    """A challenger against the incumbent: whether it may replace it, and the comparisons behind that.

    `outdoes` is whether it may, and is shown to be worse on nothing: then no score keeps it out. `anchored` are the
    comparisons with the best that was ever deployed, where that is not the incumbent.
    """

    incumbent: Slug
    replaces: bool
    outdoes: bool
    differences: tuple[Difference, ...]
    anchored: tuple[Difference, ...] = ()
    why: str


class Between(StrEnum):
    """What a noise lies between: campaigns; or starts of the same two models, which rounds in turn do not cancel."""

    CAMPAIGNS = "campaigns"
    STARTS = "starts"


class NoiseReading(_Noun):
    """The relative noise of a speed between campaigns, where the candidates were measured; or between starts, of the
    ratio to the incumbent's in rounds in turn.

    `assumed` is the policy's; `measured` is what repeated measurements of the same weights showed, with `freedom`
    degrees of freedom, and `below` what it is below, 95 % sure. Both are None, and the assumption stands alone, until
    something was measured twice in the same way and environment.
    """

    tier: TierName
    metric: str
    between: Between = Between.CAMPAIGNS
    assumed: float
    measured: float | None
    below: float | None
    freedom: int


class CandidateReport(_Noun):
    """One candidate: what was measured, what the gates made of it, its score and rank, and why it did not win.

    `rank` counts from 1 among the eligible. `probability_best` is its share of the resamplings in which it scores
    highest; None when that cannot be known. `chat_template` is None where nothing about the candidate is pinned.
    `flips` are against the incumbent, whether or not it may be replaced. `variants` has a reading for each tier that
    asks fresh variants.
    """

    version: Slug
    artefact_size_bytes: int
    excluded: str | None
    chat_template: TemplateId | None = None
    standing: Standing
    readings: tuple[Reading, ...]
    gates: tuple[GateOutcome, ...]
    variants: tuple[VariantsReading, ...] = ()
    contributions: tuple[Contribution, ...] = ()
    score: float | None = None
    rank: int | None = None
    probability_best: float | None = None
    pareto_optimal: bool = False
    challenge: Challenge | None = None
    flips: tuple[Flips, ...] = ()
    why: str = ""

    def reading(self, tier: str, metric: str) -> Metric:
        """That metric as the decision saw it. Raises `BadInput` for one that the policy does not use."""
        for reading in self.readings:
            if reading.tier == tier and reading.metric.name == metric:
                return reading.metric
        raise BadInput(f"the decision on {self.version} did not use {metric}")


class SecondOpinion(_Noun):
    """Who would win if the same policy normalised the other way."""

    normalisation: Normalisation
    winner: Slug


class Confidence(_Noun):
    """How sure the decision is.

    `contenders` are the fewest candidates that together hold `clear_at` of the probability of being best, and the
    second opinion's winner. `unknown_because` says why the probability cannot be known, if it cannot.
    """

    clear: bool
    clear_at: float
    draws: int
    contenders: tuple[Slug, ...]
    second_opinion: SecondOpinion | None = None
    unknown_because: str | None = None
    why: str


class WeightChange(_Noun):
    """What would be if one weight were multiplied by `factor` and all were rescaled to sum to 1.

    `leader` is who would lead the ranking, `changes` whether verdict or winner would be another.
    """

    metric: str
    factor: float
    leader: Slug
    verdict: Verdict
    winner: Slug | None
    changes: bool


class LeftOut(_Noun):
    """The outcome if that candidate had not stood; recorded where it is another."""

    version: Slug
    verdict: Verdict
    winner: Slug | None


class Sensitivity(_Noun):
    """What would change the outcome: each weight halved or raised by half, each candidate left out.

    `held` says what was not reckoned anew, the pool being too large for it.
    """

    weights: tuple[WeightChange, ...]
    left_out: tuple[LeftOut, ...]
    held: tuple[str, ...] = ()


class FieldReading(_Noun):
    """One verdict of the field on the incumbent, beside the benchmark's figures.

    `challenger_errors` and `incumbent_errors` are the intervals of the two error rates, None where requests are not
    independent or there were none. `moves` says whether the decision used it; `follows` says how, or why not.
    """

    finding: FieldFinding
    challenger_errors: Interval | None
    incumbent_errors: Interval | None
    moves: bool
    follows: str


class Decision(_Noun):
    """One decision on one benchmark run. Equal evidence, policy and incumbent give an equal decision.

    `decided_at` is the manifest's time: deciding has no clock of its own. `candidates` stand in the order of their
    rank, those without one after them by version. `reasons` explain the verdict, `notes` are what a careful reader
    should also know. `baselines` are figures that are about no model, to read a model's against: what BM25 alone
    reaches, and what the best possible order of the same documents would. `noise` is how far speeds vary between
    campaigns, and whether that was measured; `field` is what canaries said of the incumbent; `ledger` is what the next
    decision is told.
    """

    decision_version: int = DECISION_VERSION
    run_id: RunId
    decided_at: AwareDatetime
    verdict: Verdict
    winner: Slug | None
    incumbent: Slug | None
    reasons: tuple[str, ...] = Field(min_length=1)
    notes: tuple[str, ...] = ()
    policy: Policy
    policy_sha256: Sha256
    manifest_sha256: Sha256
    candidates: tuple[CandidateReport, ...]
    baselines: tuple[Reading, ...] = ()
    confidence: Confidence | None = None
    sensitivity: Sensitivity | None = None
    noise: tuple[NoiseReading, ...] = ()
    field: tuple[FieldReading, ...] = ()
    ledger: Ledger = Ledger()

    @model_validator(mode="before")
    @classmethod
    def _of_this_version(cls, given: Any) -> Any:
        return of_this_version(given, what="decision", field="decision_version", version=DECISION_VERSION)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if (self.winner is not None) != (self.verdict is Verdict.PROMOTE):
            raise ValueError(f"verdict {self.verdict} with winner {self.winner}; only promote names one")
        if self.winner is not None and self.candidate(self.winner).standing is not Standing.ELIGIBLE:
            raise ValueError(f"the winner {self.winner} is not eligible")
        if self.policy_sha256 != self.policy.sha256:
            raise ValueError(f"the policy's digest is {self.policy.sha256}, recorded is {self.policy_sha256}")
        return self

    @cached_property
    def _by_version(self) -> dict[str, CandidateReport]:
        return {report.version: report for report in self.candidates}

    def candidate(self, version: str) -> CandidateReport:
        """That candidate's report. Raises `BadInput` when it did not stand."""
        try:
            return self._by_version[version]
        except KeyError:
            raise BadInput(f"{version} is no candidate of {self.run_id}", expected=one_of(self._by_version)) from None

    @property
    def eligible(self) -> tuple[CandidateReport, ...]:
        """The candidates that passed the gates, best first."""
        return tuple(report for report in self.candidates if report.standing is Standing.ELIGIBLE)

    def to_json(self) -> str:
        """Canonical JSON, the form in which two decisions are compared byte for byte."""
        return canonical_json(self.model_dump(mode="json"))

    def digest(self) -> str:
        """SHA-256 of `to_json`."""
        return sha256_bytes(self.to_json().encode())

    @classmethod
    def from_json(cls, text: str | bytes) -> Decision:
        """The inverse of `to_json`. Raises `BadInput` when the text is no decision of this version."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise BadInput(
                f"this is no decision: {error}",
                expected="JSON written by this release",
                remedy="read it with the release that took it, or benchmark and decide again",
            ) from error
