"""The anchor: the best that was ever deployed, on each metric, which challengers are held to beside the incumbent.

    wanted = due(ledger, rule, here, standing)                  # before deciding: what is to be measured again
    anchoring = anchor(eligible, stood, policy, rule, prepared, serving, challenges, occasion=..., turns=...)

What belongs here: whose figures those are, when they are to be measured again, comparing with them, and when they move.
What does not: the comparison itself (`compare`), what follows from it (`choose`), and where an anchor's weights lie.

Challengers that each give up a little against the incumbent before lose a lot in the end. So the margin of
non-inferiority is held against the anchor as well: over any chain of promotions, one margin is lost at most. An anchor
moves only to a model that serves and is shown to be better on that metric, which is asked once, when it begins to
serve. Weights that the field sent back are no anchor, and are none any more (`field`).

An anchor's figures are those of the environment that the incumbent is measured in. In a new one the anchor is measured
once, where it is no candidate; its tables from before stay pinned. Until it has figures there, nobody who cannot be
held to it replaces anything (ADR 273).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.comparability import how_they_differ, on_pinned_goldens
from milton_assets.selection.compare import Held, Through, held_to
from milton_assets.selection.decision import Challenge, Difference
from milton_assets.selection.gates import unusable
from milton_assets.selection.in_turn import InTurn, in_turn
from milton_assets.selection.life import Life, how_of
from milton_assets.selection.occasion import Occasion
from milton_assets.selection.policy import IncumbentRule, Margin, Policy
from milton_assets.selection.resample import Drawn, prepare_one
from milton_assets.statistics.multiplicity import holm
from milton_assets.vocabulary.evidence import EvidenceManifest
from milton_assets.vocabulary.ledger import Anchor, AnchorTable, Ledger
from milton_assets.vocabulary.named_weights import NamedWeights
from milton_assets.vocabulary.tier import TierResult


@dataclass(frozen=True)
class Due:
    """An anchor to be measured again: its weights under the version they were deployed as, and the metrics on which
    they are the best that was deployed.

    `tiers` are those that lack a table from here, each with how the incumbent was measured by it; `newest` is the
    newest table of the first of them, from elsewhere.
    """

    weights: NamedWeights
    tiers: Mapping[str, str]
    metrics: tuple[str, ...]
    newest: AnchorTable


def due(
    ledger: Ledger, rule: IncumbentRule | None, here: Mapping[str, str], excused: Collection[str]
) -> tuple[Due, ...]:
    """The anchors that have no figure from the environment in which the incumbent was measured, and are not measured
    there as candidates, or let go.

    `here` is the digest of how the incumbent was measured, by tier (`life.how_of`), and lacks what it was not measured
    by; `excused` are the weights of the candidates, of what serves, and those that were let go.
    """
    found: dict[str, tuple[Anchor, list[Margin]]] = {}
    for margin in rule.margins if rule is not None else ():
        anchor = ledger.anchor(margin.tier, margin.metric)
        if anchor is None or anchor.artefact_sha256 in excused or margin.tier not in here:
            continue
        if anchor.measured(here[margin.tier]) is None:
            found.setdefault(anchor.artefact_sha256, (anchor, []))[1].append(margin)
    return tuple(
        Due(
            weights=anchor.weights,
            tiers={margin.tier: here[margin.tier] for margin in margins},
            metrics=tuple(margin.metric for margin in margins),
            newest=anchor.tables[-1],
        )
        for anchor, margins in found.values()
    )


@dataclass(frozen=True)
class Anchoring:
    """The challenges with what the anchors say to them, the anchors as they are now, and sentences about both.

    `withheld` are the versions that would replace the incumbent, were there figures of an anchor to hold them to, each
    with why there are none.
    """

    challenges: dict[str, Challenge]
    anchors: tuple[Anchor, ...]
    notes: tuple[str, ...] = ()
    withheld: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Figures:
    """An anchor's figures for one metric: everybody's with its own at `place`, or None, and `why` not.

    `anchor` has the table that they are from, which `run_id` pinned first; `note` is what a reader of the decision
    should know of them. `through` are rounds in turn with what serves, where it and others were measured so.
    """

    anchor: Anchor
    run_id: str
    drawn: Drawn | None = None
    place: int = -1
    through: Through | None = None
    why: str = ""
    note: str = ""


def anchor(
    eligible: Sequence[Candidate],
    stood: Sequence[Candidate],
    policy: Policy,
    rule: IncumbentRule,
    prepared: Sequence[Drawn],
    serving: int,
    challenges: Mapping[str, Challenge],
    *,
    occasion: Occasion,
    turns: Mapping[tuple[str, str], InTurn],
) -> Anchoring:
    """Hold `challenges` to the anchors of the rule's metrics; `serving` is the incumbent's place among `eligible`, who
    are those of `stood` that passed the gates. `turns` are their rounds in turn with it, by the key of the criterion.

    A metric without an anchor gets the incumbent as its first, unless the field sent its weights back: then it has none
    until another model serves.
    """
    life, manifest = occasion.life, occasion.manifest
    by_metric = {drawn.criterion.key: drawn for drawn in prepared}
    versions = [one.version for one in eligible]
    anchors = {(one.tier, one.metric): one for one in life.ledger.anchors}
    looking = _Looking(eligible, stood, serving, occasion, turns)
    against: dict[tuple[str, str], tuple[_Figures, Held]] = {}
    lacking: list[tuple[Margin, Anchor, str]] = []
    told: list[tuple[Margin, Anchor, str]] = []
    for margin in rule.margins:
        found = anchors.get(margin.key)
        if found is None:
            continue
        if found.artefact_sha256 == life.incumbent:
            anchors[margin.key] = looking.measured_now(found, eligible[serving])
            continue
        figures = looking.figures(by_metric[margin.key], found)
        if figures.note:
            told.append((margin, found, figures.note))
        if figures.drawn is None:
            lacking.append((margin, found, figures.why))
            continue
        anchors[margin.key] = figures.anchor
        held = held_to(
            figures.drawn,
            margin,
            figures.place,
            rule,
            draws=policy.certainty.draws,
            seed=occasion.seed,
            through=figures.through,
        )
        against[margin.key] = figures, held
    better = _better(against, serving, rule) if life.begins else set()
    may_be_one = life.sent_back is None and life.incumbent not in manifest.anchors_let_go
    for margin in rule.margins if may_be_one else ():
        moves = margin.key not in anchors or margin.key in better
        if moves and (now := _of_incumbent(margin, versions[serving], manifest, life)) is not None:
            anchors[margin.key] = now
            against.pop(margin.key, None)
    places = {version: place for place, version in enumerate(versions)}
    held_back: dict[str, str] = {}
    result = {}
    for version, challenge in challenges.items():
        # An anchor that stands is not held to itself.
        compared = [(one, h.of(places[version])) for one, h in against.values() if h.has(places[version])]
        held_challenge = _held(challenge, compared)
        if lacking and held_challenge.replaces:
            held_back[version] = f"{version} would replace {challenge.incumbent}, but {_lacking(lacking)}"
        result[version] = _withheld(held_challenge, lacking)
    return Anchoring(
        result,
        tuple(anchors[key] for key in sorted(anchors)),
        (*_released(life), *_about(told), *((f"{_lacking(lacking)}; {_REMEDY}",) if lacking else ())),
        held_back,
    )


_REMEDY = (
    "every campaign tries to measure it; where it cannot be, register its weights again, as a candidate or not, or "
    "name them in anchors_let_go"
)


class _Looking:
    """Where the figures of anchors are looked for in one decision."""

    def __init__(
        self,
        eligible: Sequence[Candidate],
        stood: Sequence[Candidate],
        serving: int,
        occasion: Occasion,
        turns: Mapping[tuple[str, str], InTurn],
    ) -> None:
        life = occasion.life
        self.turns = turns
        self.eligible, self.manifest, self.life, self.tiers = eligible, occasion.manifest, life, occasion.tiers
        self.places = {life.weights.get(one.version): place for place, one in enumerate(eligible)}
        self.standing = {life.weights.get(one.version): one for one in stood}
        self.incumbent = eligible[serving].version

    def figures(self, drawn: Drawn, found: Anchor) -> _Figures:
        """Those of `found` for the metric of `drawn`: as it was measured now where it stands, as its table from this
        environment says, or as it was measured again for this decision.

        Right or wrong answers to the same goldens say something wherever they were given: where there is nothing from
        here, the newest table counts. Speeds from elsewhere say nothing.
        """
        here = self.life.hows.get((self.incumbent, found.tier), "")
        known = found.measured(here)
        why = "it was not measured in the environment of today"
        one = self.standing.get(found.artefact_sha256)
        if one is not None and one.excluded is not None:
            why = one.excluded
        elif one is not None and (result := one.tiers.get(found.tier)) is not None:
            now, how = self.measured_now(found, one), self.life.hows[one.version, found.tier]
            place = self.places.get(found.artefact_sha256)
            if place is not None:
                return _Figures(now, self.manifest.run_id, drawn, place, self._through(drawn, None, self.life))
            if (figures := self._with(drawn, now, self.manifest.run_id, result, how)).drawn is not None:
                return figures
            why = figures.why
        if known is not None:
            return self._with(drawn, found, known.run_id, self.life.anchored[known.sha256], known.how)
        evidence = self.manifest.anchor(found.artefact_sha256)
        if evidence is not None and (pin := evidence.pin(found.tier)) is not None:
            result = self.life.anchored[pin.sha256]
            how = how_of(result)
            table = AnchorTable(how=how, here=here, run_id=self.manifest.run_id, uri=pin.uri, sha256=pin.sha256)
            figures = self._with(drawn, found.with_table(table), table.run_id, result, how)
            if figures.drawn is not None:
                return replace(figures, note=self._measured_again(found))
            why = figures.why
        elif evidence is not None and evidence.missing is not None:
            why = evidence.missing
        newest = found.tables[-1]
        if drawn.criterion.noise > 0:
            return _Figures(found, newest.run_id, why=why)
        figures = self._with(drawn, found, newest.run_id, self.life.anchored[newest.sha256], newest.how)
        if figures.drawn is None:
            return replace(figures, why=f"{why}; {figures.why}")
        return replace(figures, note=f"as it answered in another environment, in {newest.run_id}: {why}")

    def _with(self, drawn: Drawn, found: Anchor, run_id: str, result: TierResult, how: str) -> _Figures:
        """The metric drawn with that table's figure in it."""
        stands = Candidate(found.weights.anchor_key, {found.tier: result})
        pinned = on_pinned_goldens(stands, self.manifest, self.tiers)
        metric = pinned.metric(drawn.criterion)
        if (why := unusable(metric)) is not None:
            return _Figures(found, run_id, why=why)
        metrics = [*(one.metric(drawn.criterion) for one in self.eligible), metric]
        # Its noise is that of what was measured as it was.
        life = replace(
            self.life,
            hows={**self.life.hows, (pinned.version, found.tier): how},
            keys={**self.life.keys, pinned.version: found.artefact_sha256},
        )
        everybody = prepare_one([*self.eligible, pinned], metrics, drawn.criterion, self.tiers, life)
        return _Figures(found, run_id, everybody, len(self.eligible), self._through(drawn, pinned, life))

    def _through(self, drawn: Drawn, pinned: Candidate | None, life: Life) -> Through | None:
        """Everybody's rounds in turn with what serves, those of a `pinned` anchor last; None where there are none."""
        turns = self.turns.get(drawn.criterion.key)
        if turns is None:
            return None
        versions = [one.version for one in self.eligible]
        serving = versions.index(self.incumbent)
        if pinned is None:
            return Through(turns, versions, serving, life)
        own = in_turn([pinned], drawn.criterion, life.incumbent)
        return Through(turns.and_also(own), [*versions, pinned.version], serving, life)

    def _measured_again(self, found: Anchor) -> str:
        """That it was, why, and what became of the figures of before."""
        newest = found.tables[-1]
        serves = next(one for one in self.eligible if one.version == self.incumbent)
        differs = how_they_differ(serves.tiers[found.tier], self.life.anchored[newest.sha256])
        return (
            f"as it was measured again for this run, for its figures of {newest.run_id} are from another environment"
            + (f" ({differs})" if differs else "")
            + "; these stay pinned"
        )

    def measured_now(self, found: Anchor, stands: Candidate) -> Anchor:
        """The anchor, whose weights the candidate `stands` has, with that one's table where it is its first from the
        environment of today."""
        here = self.life.hows.get((self.incumbent, found.tier), "")
        pin = self.manifest.candidate(stands.version).pin(found.tier)
        how = self.life.hows.get((stands.version, found.tier))
        if pin is None or how != here or found.measured(here) is not None:
            return found
        run_id = self.manifest.run_id
        return found.with_table(AnchorTable(how=how, here=here, run_id=run_id, uri=pin.uri, sha256=pin.sha256))


def _better(
    against: Mapping[tuple[str, str], tuple[_Figures, Held]], serving: int, rule: IncumbentRule
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
    table = AnchorTable(how=how, here=how, run_id=manifest.run_id, uri=pin.uri, sha256=pin.sha256)
    return Anchor(
        tier=margin.tier,
        metric=margin.metric,
        version=version,
        artefact_sha256=life.weights[version],
        tables=(table,),
    )


def _held(challenge: Challenge, against: Sequence[tuple[_Figures, Difference]]) -> Challenge:
    """The challenge, which replaces nobody where it is not shown to be within a margin of an anchor."""
    held = tuple(
        one.model_copy(update={"against": figures.anchor.version, "against_run": figures.run_id})
        for figures, one in against
    )
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


def _withheld(challenge: Challenge, lacking: Sequence[tuple[Margin, Anchor, str]]) -> Challenge:
    """The challenge, which replaces nobody while there is an anchor that it cannot be held to."""
    if not lacking or not challenge.replaces:
        return challenge
    why = f"it would be let through, but {_lacking(lacking)}"
    return challenge.model_copy(update={"replaces": False, "outdoes": False, "why": why})


def _lacking(lacking: Iterable[tuple[Margin, Anchor, str]]) -> str:
    """Which anchors nobody can be held to, and why."""
    return "; ".join(f"nobody can be held to {who}: {why}" for who, why in _grouped(lacking))


def _about(told: Iterable[tuple[Margin, Anchor, str]]) -> Iterator[str]:
    for who, note in _grouped(told):
        yield f"challengers are held to {who}, {note}"


def _grouped(told: Iterable[tuple[Margin, Anchor, str]]) -> Iterator[tuple[str, str]]:
    """Who is meant, and what is said of them: once for each weights, with the metrics."""
    found: dict[tuple[NamedWeights, str], list[str]] = {}
    for margin, one, said in told:
        found.setdefault((one.weights, said), []).append(margin.metric)
    for (weights, said), metrics in found.items():
        yield f"{weights.version}, the best deployed on {' and '.join(metrics)}", said


def _released(life: Life) -> Iterator[str]:
    """That anchors were let go by a setting."""
    found: dict[NamedWeights, list[str]] = {}
    for one in life.released:
        found.setdefault(one.weights, []).append(one.metric)
    for weights, metrics in found.items():
        yield (
            f"challengers are held to {weights.version} no more, the best deployed on {' and '.join(metrics)} until "
            f"now: anchors_let_go names its weights {weights.sha256}"
        )
