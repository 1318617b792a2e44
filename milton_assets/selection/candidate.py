"""A candidate: one model version and everything that was measured about it.

What belongs here: the candidate and looking up one of its metrics. What does not: judging it (`gates`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from milton_assets.selection.policy import MetricRef
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import check_key
from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.tier import TierResult


@lru_cache
def _absent(tier: str, metric: str) -> Metric:
    """The figure of a tier that nobody was measured by: the same for everybody."""
    return Metric.skipped(metric, "", f"there is no {tier} evidence")


@dataclass(frozen=True)
class Candidate:
    """One model version that stands for selection.

    `tiers` holds what was measured, `artefact_size_bytes` the size of what would be deployed. `excluded` is why
    the caller knows already that it cannot stand (its benchmark run failed, say), or None.
    """

    version: str
    tiers: Mapping[str, TierResult] = field(default_factory=dict)
    artefact_size_bytes: int = 0
    excluded: str | None = None

    def __post_init__(self) -> None:
        check_key(self.version, "model version")
        if self.artefact_size_bytes < 0:
            raise BadInput(
                f"{self.version}: the artefact's size is {self.artefact_size_bytes}", expected="bytes, at least 0"
            )
        for tier, result in self.tiers.items():
            if result.tier != tier:
                raise BadInput(f"{self.version}: the result filed under {tier} is one of {result.tier}")

    def metric(self, reference: MetricRef) -> Metric:
        """That metric, or one with status `skipped` or `error` that says why there is none."""
        result = self.tiers.get(reference.tier)
        if result is None:
            return _absent(reference.tier, reference.metric)
        for metric in result.metrics:
            if metric.name == reference.metric:
                return metric
        measured = ", ".join(metric.name for metric in result.metrics) or "nothing"
        return Metric.failed(
            reference.metric, "", f"the {reference.tier} evidence has no such metric; it has {measured}"
        )
