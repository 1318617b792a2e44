"""The anchor: the best that was ever deployed, on each metric, which challengers are held to beside the incumbent.

    anchoring = anchor(eligible, policy, prepared, versions, serving, manifest=..., life=..., tiers=..., draws=...,
    seed=...)

What belongs here: whose figures those are, comparing with them, and when they move. What does not: the comparison
itself (`compare`), and what follows from it (`choose`).

Challengers that each give up a little against the incumbent before lose a lot in the end. So the margin of
non-inferiority is held against the anchor as well: over any chain of promotions, one margin is lost at most. An anchor
moves only to a model that serves and is shown to be better on that metric, which is asked once, when it begins to
serve. Weights that the field sent back are no anchor, and are none any more (`field`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.compare import Held, held_to
from milton_assets.selection.decision import Challenge, Difference
from milton_assets.selection.life import Life
from milton_assets.selection.policy import IncumbentRule, Margin, Policy
from milton_assets.selection.resample import Drawn, prepare_one
from milton_assets.statistics.multiplicity import holm
from milton_assets.vocabulary.evidence import EvidenceManifest
from milton_assets.vocabulary.ledger import Anchor
from milton_assets.vocabulary.tier_spec import Tiers


@dataclass(frozen=True)
class Anchoring:
    """The challenges with what the anchors say to them, the anchors as they are now, and sentences about both."""

    challenges: dict[str, Challenge]
    anchors: tuple[Anchor, ...]
    notes: tuple[str, ...] = ()


def anchor(
    eligible: Sequence[Candidate],
    policy: Policy,
    rule: IncumbentRule,
    prepared: Sequence[Drawn],
    serving: int,
    challenges: Mapping[str, Challenge],
    *,
    manifest: EvidenceManifest,
    life: Life,
    tiers: Tiers,
    seed: int,
) -> Anchoring:
    """Hold `challenges` to the anchors of the rule's metrics; `serving` is the incumbent's place among `eligible`.

    A metric without an anchor gets the incumbent as its first, unless the field sent its weights back: then it has none
    until another model serves.
    """
    by_metric = {drawn.criterion.key: drawn for drawn in prepared}
    versions = [one.version for one in eligible]
    known = {(one.tier, one.metric): one for one in life.ledger.anchors}
    against: dict[tuple[str, str], tuple[Anchor, Held]] = {}
    notes = []
    for margin in rule.margins:
        found = known.get(margin.key)
        if found is None or found.artefact_sha256 == life.incumbent:
            continue
        drawn, place = _with_anchor(eligible, by_metric[margin.key], found, life, tiers)
        if drawn is None:
            notes.append(
                f"{margin.metric} is not held to {found.version}, the best deployed: it was measured elsewhere "
                "or otherwise; register it as a candidate again, to be measured anew"
            )
            continue
        against[margin.key] = found, held_to(drawn, margin, place, rule, draws=policy.certainty.draws, seed=seed)
    better = _better(against, serving, rule) if life.begins else set()
    anchors = dict(known)
    for margin in rule.margins if life.sent_back is None else ():
        moves = margin.key not in known or margin.key in better
        if moves and (now := _of_incumbent(margin, versions[serving], manifest, life)) is not None:
            anchors[margin.key] = now
            against.pop(margin.key, None)
    places = {version: place for place, version in enumerate(versions)}
    held = {
        # An anchor that stands is not held to itself.
        version: _held(
            challenge, [(one, h.of(places[version])) for one, h in against.values() if h.has(places[version])]
        )
        for version, challenge in challenges.items()
    }
    return Anchoring(held, tuple(anchors[key] for key in sorted(anchors)), tuple(notes))


def _with_anchor(
    eligible: Sequence[Candidate], drawn: Drawn, found: Anchor, life: Life, tiers: Tiers
) -> tuple[Drawn | None, int]:
    """The metric drawn with the anchor's figure in it, and its place; None where it cannot be compared.

    An anchor that stands is compared as it was measured now, another one as its pinned table says.
    """
    for place, one in enumerate(eligible):
        if life.weights.get(one.version) == found.artefact_sha256:
            return drawn, place
    pinned = Candidate(f"anchor.{found.sha256[:12]}", {found.tier: life.anchored[found.sha256]})
    metric = pinned.metric(drawn.criterion)
    here = {life.hows.get((one.version, found.tier)) for one in eligible}
    if metric.value is None or (drawn.criterion.noise > 0 and here != {found.how}):
        return None, -1
    metrics = [*(one.metric(drawn.criterion) for one in eligible), metric]
    return prepare_one([*eligible, pinned], metrics, drawn.criterion, tiers, life), len(eligible)


def _better(
    against: Mapping[tuple[str, str], tuple[Anchor, Held]], serving: int, rule: IncumbentRule
) -> set[tuple[str, str]]:
    """The metrics on which the incumbent is shown to be better than their anchor, after Holm."""
    keys = list(against)
    differences = [against[key][1].of(serving) for key in keys]
    p_values = holm(np.array([np.nan if one.p_value is None else one.p_value for one in differences]))
    return {
        key
        for key, one, p_value in zip(keys, differences, p_values.tolist(), strict=True)
        if one.difference is not None and one.difference > 0 and p_value < rule.alpha
    }


def _of_incumbent(margin: Margin, version: str, manifest: EvidenceManifest, life: Life) -> Anchor | None:
    pin = manifest.candidate(version).pin(margin.tier)
    how = life.hows.get((version, margin.tier))
    if pin is None or how is None:
        return None
    return Anchor(
        tier=margin.tier,
        metric=margin.metric,
        version=version,
        artefact_sha256=life.weights[version],
        how=how,
        run_id=manifest.run_id,
        uri=pin.uri,
        sha256=pin.sha256,
    )


def _held(challenge: Challenge, against: Sequence[tuple[Anchor, Difference]]) -> Challenge:
    """The challenge, which replaces nobody where it is not shown to be within a margin of an anchor."""
    held = tuple(one.model_copy(update={"against": found.version}) for found, one in against)
    inferior = [f"{one.metric} of {one.against}" for one in held if not one.non_inferior]
    if not held:
        return challenge
    changed: dict[str, object] = {"anchored": held}
    if inferior:
        changed |= {
            "replaces": False,
            "outdoes": False,
            "why": f"it is not shown to be within the margin of the best that was deployed: {', '.join(inferior)}",
        }
    return challenge.model_copy(update=changed)
