"""A policy: what a model must reach, what is weighed, and what happens when it is close.

What belongs here: the policy's nouns, which validate themselves, and the policy's digest. What does not: reading
YAML (`policy_file`) and applying a policy (`gates`, `scoring`, `ranking`, `decide`).
"""

from __future__ import annotations

import math
from enum import StrEnum
from functools import cached_property
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from milton_assets.vocabulary.digest import sha256_json
from milton_assets.vocabulary.keys import Slug, TierName
from milton_assets.vocabulary.metric import Direction

_WEIGHT_SUM_TOLERANCE = 1e-9


class Operator(StrEnum):
    """How a gate compares a metric with its threshold."""

    AT_LEAST = ">="
    AT_MOST = "<="


class GateMode(StrEnum):
    """`point`: the measured value decides. `strict`: the whole confidence interval must be on the right side."""

    POINT = "point"
    STRICT = "strict"


class ServesUntil(StrEnum):
    """What ends the protection of the model that serves: a gate that it `missed` as measured, as for everybody, or one
    that it is `shown` to miss, by its whole confidence interval."""

    MISSED = "missed"
    SHOWN = "shown"


class Superiority(StrEnum):
    """What alpha is the error of: saying "better" or "worse" of two equal models (`two_sided`), of which half is spent
    on each, or saying "better" alone (`one_sided`), which is what promotes. "Worse" is said as rarely in both."""

    TWO_SIDED = "two_sided"
    ONE_SIDED = "one_sided"


class AssumedNoise(StrEnum):
    """What the first look at a speed may spend whose noise between campaigns is only assumed: as much as any
    `first_look`, or what a `later_look` may. The next campaign looks again, with noise that was measured."""

    FIRST_LOOK = "first_look"
    LATER_LOOK = "later_look"


class Normalisation(StrEnum):
    """How metrics become utilities in 0..1.

    `minmax_pool`: relative to the best and the worst *eligible* candidate. `anchored`: relative to absolute
    anchors that the policy states, whoever else is in the pool.
    """

    MINMAX_POOL = "minmax_pool"
    ANCHORED = "anchored"


class Scale(StrEnum):
    """On which scale anchors are interpolated; `log` makes every doubling count the same."""

    LINEAR = "linear"
    LOG = "log"


class MarginKind(StrEnum):
    """`absolute`: in the metric's own unit. `relative`: a share of the incumbent's value, 0.1 is 10 %."""

    ABSOLUTE = "absolute"
    RELATIVE = "relative"


class WhenUnclear(StrEnum):
    """What decides when there is no clear winner.

    `score`: the ranking stands, and the decision says that it is not clear. `tie_break`: the tie-breaks choose
    among the contenders. `nothing`: nothing is promoted.
    """

    SCORE = "score"
    TIE_BREAK = "tie_break"
    NOTHING = "nothing"


class _Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MetricRef(_Noun):
    """One metric of one tier, e.g. `inference` and `ttft_ms.median`."""

    tier: TierName
    metric: str = Field(min_length=1)

    @property
    def key(self) -> tuple[str, str]:
        """What makes two references the same."""
        return (self.tier, self.metric)

    def __str__(self) -> str:
        return self.metric


class Gate(MetricRef):
    """A threshold that a candidate must reach before it is scored.

    With `only_where_measured`, the gate lets those pass of whom nobody could measure the figure (`skipped`, as without
    a reference to compare with); one that failed or is invalid stops them as everywhere.
    """

    op: Operator
    threshold: float
    mode: GateMode = GateMode.POINT
    only_where_measured: bool = False

    def holds(self, value: float) -> bool:
        """Whether `value` is on the right side of the threshold."""
        return value >= self.threshold if self.op is Operator.AT_LEAST else value <= self.threshold

    def __str__(self) -> str:
        return f"{self.metric} {self.op} {self.threshold:g}"


class Anchors(_Noun):
    """The values that are worth 0 and 1. Values beyond them are worth no less and no more."""

    worst: float
    best: float
    scale: Scale = Scale.LINEAR

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.worst == self.best:
            raise ValueError(f"the anchors are both {self.worst:g}; they must differ")
        if self.scale is Scale.LOG and min(self.worst, self.best) <= 0:
            raise ValueError("anchors on a log scale must be above 0")
        return self


class Criterion(MetricRef):
    """A metric that is weighed. `weight` is its share of the score; the weights of a policy sum to 1.

    `noise` is the relative standard deviation of the figure between two campaigns on one unchanged model. It is
    added to what the figure's own interval says, because requests within one campaign share that campaign's luck.
    """

    label: str = Field(min_length=1)
    direction: Direction
    weight: float = Field(gt=0, le=1)
    noise: float = Field(default=0.0, ge=0, lt=1)
    anchors: Anchors | None = None

    @model_validator(mode="after")
    def _anchors_agree(self) -> Self:
        if self.anchors and (self.anchors.best > self.anchors.worst) != (self.direction is Direction.HIGHER):
            raise ValueError(
                f"{self.metric} is better {self.direction}, but its best anchor {self.anchors.best:g} "
                f"is on the other side of its worst {self.anchors.worst:g}"
            )
        return self


class TieBreak(MetricRef):
    """Orders candidates whose scores are equal."""

    direction: Direction


class Margin(MetricRef):
    """How much worse than the incumbent a challenger may be, at most, and still replace it."""

    margin: float = Field(gt=0)
    kind: MarginKind = MarginKind.ABSOLUTE


class IncumbentRule(_Noun):
    """When a challenger may replace the model that serves today.

    It must be non-inferior within every margin, and better on at least one of them at the family-wise level
    `alpha` (Holm over all challengers and margins), of which `superiority` says what it is the error of and
    `assumed_noise` what a first look spends on noise that nobody measured. `until` says which gates the incumbent has
    to reach for that.
    """

    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    margins: tuple[Margin, ...] = Field(min_length=1)
    until: ServesUntil = ServesUntil.MISSED
    superiority: Superiority = Superiority.TWO_SIDED
    assumed_noise: AssumedNoise = AssumedNoise.FIRST_LOOK

    @model_validator(mode="after")
    def _unique(self) -> Self:
        _refuse_duplicates("a margin", self.margins)
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A rule from before there was a field is written as it was, and keeps its digest."""
        told: dict[str, Any] = handler(self)
        if self.until is ServesUntil.MISSED:
            del told["until"]
        if self.superiority is Superiority.TWO_SIDED:
            del told["superiority"]
        if self.assumed_noise is AssumedNoise.FIRST_LOOK:
            del told["assumed_noise"]
        return told


class Certainty(_Noun):
    """How sure one must be to speak of a clear winner.

    A winner is clear when its probability of being best, over `draws` resamplings of the evidence, is at least
    `clear_at`, and when the second opinion, if the policy asks for one, has the same winner.
    """

    draws: int = Field(default=1000, ge=100, le=100_000)
    clear_at: float = Field(default=0.8, gt=0.5, le=1)
    when_unclear: WhenUnclear = WhenUnclear.SCORE


class Policy(_Noun):
    """Gates, weights, tie-breaks and what to do when it is close. Its digest is written into every decision."""

    name: Slug
    version: int = Field(ge=1)
    summary: str = Field(min_length=1)
    gates: tuple[Gate, ...] = ()
    normalisation: Normalisation
    second_opinion: Normalisation | None = None
    criteria: tuple[Criterion, ...] = Field(min_length=1)
    tie_breaks: tuple[TieBreak, ...] = ()
    certainty: Certainty = Certainty()
    incumbent: IncumbentRule | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        for what, references in (
            ("a criterion", self.criteria),
            ("a gate", [(g.tier, g.metric, g.op) for g in self.gates]),
            ("a tie-break", self.tie_breaks),
        ):
            _refuse_duplicates(what, references)
        total = math.fsum(criterion.weight for criterion in self.criteria)
        if abs(total - 1) > _WEIGHT_SUM_TOLERANCE:
            raise ValueError(f"the weights sum to {total:g}; they must sum to 1")
        if self.second_opinion is self.normalisation:
            raise ValueError(f"the second opinion is the first, {self.normalisation}; name the other or none")
        if Normalisation.ANCHORED in (self.normalisation, self.second_opinion):
            bare = [criterion.metric for criterion in self.criteria if criterion.anchors is None]
            if bare:
                raise ValueError(f"normalisation anchored needs anchors, which are missing for {bare}")
        weighed = {criterion.key for criterion in self.criteria}
        unweighed = [tie.metric for tie in self.tie_breaks if tie.key not in weighed]
        if self.incumbent:
            unweighed += [margin.metric for margin in self.incumbent.margins if margin.key not in weighed]
        if unweighed:
            raise ValueError(f"{unweighed} are used to break ties or as margins, but are no criteria")
        return self

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the policy's content as canonical JSON; comments and layout of the file do not count."""
        return sha256_json(self.model_dump(mode="json"))

    def criterion(self, reference: MetricRef) -> Criterion:
        """The criterion that weighs that metric."""
        return next(criterion for criterion in self.criteria if criterion.key == reference.key)

    def metrics(self) -> tuple[MetricRef, ...]:
        """Every metric that the policy needs: the criteria in their order, then gates on other metrics."""
        references = {item.key: MetricRef(tier=item.tier, metric=item.metric) for item in self.criteria}
        for gate in self.gates:
            references.setdefault(gate.key, MetricRef(tier=gate.tier, metric=gate.metric))
        return tuple(references.values())


def _refuse_duplicates(what: str, references: object) -> None:
    seen = set()
    for item in references:  # type: ignore[attr-defined]
        key = item.key if isinstance(item, MetricRef) else item
        if key in seen:
            raise ValueError(f"{what} on {key[1]} appears twice")
        seen.add(key)
