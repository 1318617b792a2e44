"""What is other in one run than in another.

What belongs here: comparing two decisions and what they rest on. What does not: whether a difference of two campaigns
is more than noise, which two figures alone cannot say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from milton_assets.report.data import FigureChange, Since
from milton_assets.selection.card import outcome
from milton_assets.selection.decision import Decision
from milton_assets.selection.summary import RunSummary
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.metric import Interval, Metric


def changes_since(before: RunSummary, now: RunSummary) -> Since:
    """What is other in `now` than in `before`: outcome, policy, goldens, candidates, weights, and every criterion."""
    return Since(run_id=before.run_id, sentences=tuple(_sentences(before, now)), figures=tuple(_figures(before, now)))


def _sentences(before: RunSummary, now: RunSummary) -> Iterator[str]:
    old, new = before.decision, now.decision
    if outcome(old) == outcome(new):
        yield f"the outcome is the same: {outcome(new)}"
    else:
        yield f"the outcome was {outcome(old)}, now it is {outcome(new)}"
    if old.incumbent != new.incumbent:
        yield f"{old.incumbent or 'nothing'} served before that run, {new.incumbent or 'nothing'} before this one"
    if old.policy_sha256 != new.policy_sha256:
        yield (
            f"the policy was {old.policy.name} v{old.policy.version} ({short(old.policy_sha256)}), "
            f"now it is {new.policy.name} v{new.policy.version} ({short(new.policy_sha256)})"
        )
    yield from _kept_and_changed("candidate", before.manifest.weights, now.manifest.weights, other="has other weights")
    yield from _kept_and_changed("golden", before.manifest.goldens, now.manifest.goldens, other="was changed")
    fingerprints = tuple(
        {c.model_version: c.fingerprint_sha256 for c in s.manifest.candidates if c.fingerprint_sha256}
        for s in (before, now)
    )
    other = [
        name for name in fingerprints[0].keys() & fingerprints[1] if fingerprints[0][name] != fingerprints[1][name]
    ]
    if other:
        yield f"measured in another environment: {', '.join(sorted(other))}"


def _kept_and_changed(what: str, before: Mapping[str, str], now: Mapping[str, str], *, other: str) -> Iterator[str]:
    for name in sorted(now.keys() - before.keys()):
        yield f"the {what} {name} is new"
    for name in sorted(before.keys() - now.keys()):
        yield f"the {what} {name} is gone"
    for name in sorted(before.keys() & now.keys()):
        if before[name] != now[name]:
            yield f"the {what} {name} {other}"


def _figures(before: RunSummary, now: RunSummary) -> Iterator[FigureChange]:
    for report in now.decision.candidates:
        for criterion in now.decision.policy.criteria:
            metric = report.reading(criterion.tier, criterion.metric)
            earlier = _reading(before.decision, report.version, criterion.tier, criterion.metric)
            if earlier is None and metric.value is None:
                continue
            yield FigureChange(
                model=report.version,
                metric=criterion.metric,
                unit=metric.unit,
                better=criterion.direction,
                before=earlier.value if earlier else None,
                now=metric.value,
                apart=earlier is not None and _apart(earlier.interval, metric.interval),
            )


def _reading(decision: Decision, version: str, tier: str, metric: str) -> Metric | None:
    """That figure, or None where there is none, as the model did not stand or its policy did not use the metric."""
    try:
        found = decision.candidate(version).reading(tier, metric)
    except BadInput:
        return None
    return found if found.value is not None else None


def _apart(one: Interval | None, other: Interval | None) -> bool:
    return one is not None and other is not None and (one.high < other.low or other.high < one.low)
