"""Case by case against the incumbent: what a candidate gets right that it got wrong, and the other way round.

    flips = flips_of(candidates, "v1", policy, challenges, tiers, seed=...)["v2"]

What belongs here: counting flips, and whether two models are equivalent on a metric. What does not: whether a
challenger may replace the incumbent (`compare`), whose intervals stand here too where it made them.

Every candidate is counted whom the incumbent can be paired with, eligible or not, on the metrics of the policy and on
every tier's headline that is a mean over cases. Where a case is right or wrong, won and lost cases are flips from
wrong to right and from right to wrong, and the test is McNemar's; where it has a score (a query's nDCG), the better one
wins the case and the test is the sign test. Both are the exact binomial test of wins against losses.

Equivalence is what two one-sided tests at the policy's alpha say (TOST; Schuirmann 1987): the interval that leaves
alpha out on each side lies within the policy's margin (`equivalent`), beyond it (`different`), or neither
(`undecided`). Flips say more than the difference: 40 cases lost and 40 won are no difference, and another model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.cases import line_up
from milton_assets.selection.compare import by_case
from milton_assets.selection.decision import Challenge, Difference, Equivalence, Flips
from milton_assets.selection.policy import MarginKind, MetricRef, Policy
from milton_assets.statistics.bootstrap import stream
from milton_assets.statistics.paired import mcnemar_exact
from milton_assets.vocabulary.metric import Direction, Interval
from milton_assets.vocabulary.tier_spec import Tiers

_ALPHA = 0.05
"""Where a policy has no rule for the incumbent."""


def flips_of(
    candidates: Sequence[Candidate],
    incumbent: str | None,
    policy: Policy,
    challenges: Mapping[str, Challenge],
    tiers: Tiers,
    *,
    seed: int,
) -> dict[str, tuple[Flips, ...]]:
    """The flips of every candidate but the incumbent, by version; empty where the incumbent did not stand."""
    serving = next((one for one in candidates if one.version == incumbent), None)
    if serving is None:
        return {}
    found: dict[str, list[Flips]] = {one.version: [] for one in candidates if one is not serving}
    for reference, better in _metrics(policy, tiers):
        for version, flips in _on(reference, better, candidates, serving, policy, challenges, tiers, seed):
            found[version].append(flips)
    return {version: tuple(each) for version, each in found.items()}


def _metrics(policy: Policy, tiers: Tiers) -> Iterator[tuple[MetricRef, Direction]]:
    """The metrics that are means over cases and better one way: the policy's, and the tiers' headlines."""
    references = {reference.key: reference for reference in policy.metrics()}
    for spec in tiers.values():
        references.setdefault((spec.name, spec.headline), MetricRef(tier=spec.name, metric=spec.headline))
    for reference in references.values():
        stated = tiers[reference.tier].find(reference.metric)
        if stated is not None and stated.cases is not None and stated.better is not None:
            yield reference, stated.better


def _on(
    reference: MetricRef,
    better: Direction,
    candidates: Sequence[Candidate],
    serving: Candidate,
    policy: Policy,
    challenges: Mapping[str, Challenge],
    tiers: Tiers,
    seed: int,
) -> Iterator[tuple[str, Flips]]:
    left = []
    known: list[tuple[str, Difference]] = []
    for one in candidates:
        if one is serving or reference.tier not in one.tiers:
            continue
        compared = _compared(challenges.get(one.version), reference)
        if compared is not None:
            known.append((one.version, compared))
        else:
            left.append(one)
    yield from _told(reference, policy, known)
    if left and reference.tier in serving.tiers:
        yield from _among_the_left(reference, better, left, serving, policy, tiers, seed)


def _among_the_left(
    reference: MetricRef,
    better: Direction,
    left: Sequence[Candidate],
    serving: Candidate,
    policy: Policy,
    tiers: Tiers,
    seed: int,
) -> Iterator[tuple[str, Flips]]:
    """The flips of those whom the policy's rule did not compare with the incumbent."""
    rule = policy.incumbent
    outside = 2 * (rule.alpha if rule else _ALPHA)
    cases = line_up([serving, *left], reference, tiers)
    places = [place for place in range(1, len(left) + 1) if cases.paired[0] and cases.paired[place]]
    if places:
        sign = 1.0 if better is Direction.HIGHER else -1.0
        gains = sign * (cases.values[places] - cases.values[0])
        binary = bool(np.isin(cases.values, (0.0, 1.0)).all())
        compared = by_case(gains, binary=binary, outside=outside, draws=policy.certainty.draws, rng=stream(seed))
        known = [
            (
                left[place - 1].version,
                Difference(
                    tier=reference.tier,
                    metric=reference.metric,
                    test=one.test,
                    kind=MarginKind.ABSOLUTE,
                    margin=0.0,
                    n=int(one.n),
                    wins=int(one.wins),
                    losses=int(one.losses),
                    difference=one.difference,
                    interval=Interval(low=one.low, high=one.high, level=1 - outside, method=one.test),
                    non_inferior=False,
                    superior=False,
                    why="counted for its flips alone",
                ),
            )
            for place, one in zip(places, compared.rows(), strict=True)
        ]
        yield from _told(reference, policy, known)
    for place in range(1, len(left) + 1):
        if place not in places:
            why = cases.why[0] or cases.why[place]
            yield left[place - 1].version, Flips(tier=reference.tier, metric=reference.metric, why=f"not paired: {why}")


def _compared(challenge: Challenge | None, reference: MetricRef) -> Difference | None:
    """The comparison with the incumbent on that metric, where it was made by case."""
    for one in challenge.differences if challenge is not None else ():
        if one.metric == reference.metric and one.tier == reference.tier and one.wins is not None:
            return one
    return None


def _told(reference: MetricRef, policy: Policy, known: Sequence[tuple[str, Difference]]) -> Iterator[tuple[str, Flips]]:
    margins = policy.incumbent.margins if policy.incumbent is not None else ()
    margin = next((m.margin for m in margins if m.key == reference.key and m.kind is MarginKind.ABSOLUTE), None)
    won = np.array([of.wins or 0 for _, of in known], dtype=np.float64)
    lost = np.array([of.losses or 0 for _, of in known], dtype=np.float64)
    told: dict[int, Flips] = {}
    for (version, of), exact in zip(known, mcnemar_exact(won, lost).tolist(), strict=True):
        # Comparisons of equal counts are one object, of which one thing is told.
        if (flips := told.get(id(of))) is None:
            flips = told[id(of)] = _flips(reference, of, exact, margin)
        yield version, flips


def _flips(reference: MetricRef, of: Difference, exact: float, margin: float | None) -> Flips:
    right_or_wrong = of.test.startswith("McNemar")
    equivalence = _equivalence(of.interval, margin)
    return Flips(
        tier=reference.tier,
        metric=reference.metric,
        n=of.n,
        won=of.wins or 0,
        lost=of.losses or 0,
        right_or_wrong=right_or_wrong,
        p_value=of.p_value if right_or_wrong and of.p_value is not None else exact,
        difference=of.difference,
        interval=of.interval,
        margin=margin,
        equivalence=equivalence,
        why=_words(of, margin, equivalence),
    )


def _equivalence(interval: Interval | None, margin: float | None) -> Equivalence | None:
    if margin is None or interval is None:
        return None
    if -margin < interval.low and interval.high < margin:
        return Equivalence.EQUIVALENT
    if interval.high <= -margin or interval.low >= margin:
        return Equivalence.DIFFERENT
    return Equivalence.UNDECIDED


def _words(of: Difference, margin: float | None, verdict: Equivalence | None) -> str:
    if verdict is None:
        return "the policy states no margin, so that nothing is said of equivalence"
    if verdict is Equivalence.EQUIVALENT:
        return f"shown to differ by less than {margin:g}"
    if verdict is Equivalence.DIFFERENT:
        return f"shown to differ by {margin:g} or more"
    return f"{of.n} cases cannot tell whether it differs by less than {margin:g}"
