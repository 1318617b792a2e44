"""A campaign is heard: who stands, who wins, and what the next decision is told.

    heard = hear(run_id=..., candidates=..., policy=..., manifest=..., incumbent=None, tiers=installed)
    heard.winner, heard.challenge("v2"), heard.ledger

What belongs here: the order of the steps from evidence to the winner (gates, scores, incumbent, choice). What does not:
how a step is computed, and the record of it all with how sure it is (`decide`).

Whoever asks only who wins, as a simulation does, pays for no more: what the winner does not depend on is reckoned when
it is asked for (ADR 286).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property

from milton_assets.selection import comparability, contamination, templates
from milton_assets.selection.candidate import Candidate
from milton_assets.selection.contest import Contest, Outcome, enter, settle, verdict_on_nobody
from milton_assets.selection.decision import Challenge, VariantsReading, Verdict
from milton_assets.selection.gates import Gatekeeper, Judgement, judge
from milton_assets.selection.life import Life
from milton_assets.selection.occasion import Occasion
from milton_assets.selection.policy import Policy
from milton_assets.selection.speed_doubts import without_doubtful_speeds
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.evidence import EvidenceManifest
from milton_assets.vocabulary.keys import check_key
from milton_assets.vocabulary.ledger import Ledger
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import Tiers


@dataclass(frozen=True)
class Heard:
    """What was heard: the candidates as they `stood`, sorted by version, what their answers to fresh `variants` say,
    the `judgements` on each, and the contest of the eligible, None where nobody is."""

    policy: Policy
    manifest: EvidenceManifest
    manifest_sha256: str
    stood: list[Candidate]
    variants: Mapping[str, tuple[VariantsReading, ...]]
    judgements: list[Judgement]
    occasion: Occasion
    contest: Contest | None

    @property
    def incumbent(self) -> str | None:
        """The version that serves."""
        return self.occasion.incumbent

    @property
    def tiers(self) -> Tiers:
        """How metrics are paired and what they are read against."""
        return self.occasion.tiers

    @cached_property
    def outcome(self) -> Outcome | None:
        """What the policy makes of the contest."""
        return None if self.contest is None else settle(self.contest, self.policy)

    @property
    def verdict(self) -> Verdict:
        """What is done."""
        return verdict_on_nobody(self.judgements) if self.outcome is None else self.outcome.choice.verdict

    @property
    def winner(self) -> str | None:
        """The version that is promoted."""
        if self.contest is None or self.outcome is None or (place := self.outcome.choice.winner) is None:
            return None
        return self.contest.pool.versions[place]

    def challenge(self, version: str) -> Challenge | None:
        """That version against the incumbent; None where it was not compared."""
        return None if self.contest is None else self.contest.challenges.by_version.get(version)

    @cached_property
    def ledger(self) -> Ledger:
        """What the next decision is told of this one."""
        life, contest = self.occasion.life, self.contest
        if contest is None:
            return life.after((), {})
        anchors = contest.anchoring.anchors if contest.anchoring else None
        return life.after(contest.measured, contest.tests, anchors, contest.measured_in_turn)


def hear(
    *,
    run_id: str,
    candidates: Sequence[Candidate],
    policy: Policy,
    manifest: EvidenceManifest,
    incumbent: str | None,
    tiers: Tiers,
    anchored: Mapping[str, TierResult] | None = None,
    meanwhile: Executor | None = None,
) -> Heard:
    """Judge the candidates and compare the eligible; arguments and errors are those of `decide`. `meanwhile` is where
    P(best) is drawn at once, for who will ask for it."""
    checked = _checked(run_id, candidates, manifest, incumbent)
    stood = [comparability.on_pinned_goldens(candidate, manifest, tiers) for candidate in checked]
    stood = without_doubtful_speeds(stood, manifest, tiers)
    references = policy.metrics()
    variants = contamination.readings(stood, manifest, tiers)
    objections = _joined(templates.objections(manifest, incumbent), contamination.objections(variants, manifest))
    keeper = Gatekeeper(policy)
    judgements = [
        judge(
            candidate,
            keeper,
            references,
            objection=objections.get(candidate.version),
            serves=candidate.version == incumbent,
        )
        for candidate in stood
    ]
    manifest_sha256 = manifest.digest()
    life = Life.of(manifest, stood, incumbent, anchored or {})
    seed = int(manifest_sha256[:8], 16)
    occasion = Occasion(seed=seed, incumbent=incumbent, tiers=tiers, life=life, manifest=manifest)
    somebody = any(judgement.eligible for judgement in judgements)
    contest = enter(judgements, policy, occasion, meanwhile) if somebody else None
    return Heard(policy, manifest, manifest_sha256, stood, variants, judgements, occasion, contest)


def _joined(*objections: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in objections:
        for version, why in each.items():
            found[version] = f"{found[version]}; {why}" if version in found else why
    return found


def _checked(
    run_id: str, candidates: Sequence[Candidate], manifest: EvidenceManifest, incumbent: str | None
) -> list[Candidate]:
    if manifest.run_id != run_id:
        raise BadInput(f"the manifest is that of {manifest.run_id}", expected=f"the manifest of {run_id}")
    if incumbent is not None:
        check_key(incumbent, "incumbent")
    ordered = sorted(candidates, key=lambda candidate: candidate.version)
    for one, next_one in itertools.pairwise(ordered):
        if one.version == next_one.version:
            raise BadInput(f"{one.version} stands twice in {run_id}", expected="each model version once")
    if manifest.field.version not in {None, incumbent}:
        raise BadInput(
            f"the manifest tells what the field said of {manifest.field.version}, and {incumbent} serves",
            expected="field evidence of the incumbent",
        )
    _all_stand(ordered, manifest)
    pinned = {(pin.model_version, pin.tier) for pin in manifest.pins()}
    loose = [
        f"{candidate.version}/{tier}"
        for candidate in ordered
        if candidate.excluded is None
        for tier in candidate.tiers
        if (candidate.version, tier) not in pinned
    ]
    if loose:
        raise BadInput(
            f"{run_id} would rest on evidence that its manifest does not pin: {', '.join(loose[:20])}",
            expected="a pin for every tier of every candidate that is not excluded",
        )
    return ordered


def _all_stand(candidates: Sequence[Candidate], manifest: EvidenceManifest) -> None:
    """Raise `BadInput` unless candidates and manifest name the same versions.

    Only somebody without an artefact to measure has nothing that a manifest could pin; and whoever is excluded has no
    complete evidence.
    """
    pinned = {evidence.model_version: evidence for evidence in manifest.candidates}
    standing = {candidate.version for candidate in candidates}
    problems = [f"{version} is pinned, but does not stand" for version in sorted(pinned.keys() - standing)]
    for candidate in candidates:
        evidence = pinned.get(candidate.version)
        if evidence is None and (candidate.excluded is None or candidate.tiers):
            problems.append(f"{candidate.version} stands, but is not pinned")
        if evidence and candidate.excluded is not None and {pin.tier for pin in evidence.pins} >= set(manifest.tiers):
            problems.append(f"{candidate.version} is excluded ({candidate.excluded}), but all its evidence is pinned")
    if problems:
        raise BadInput(
            f"{manifest.run_id} does not stand on its manifest: {'; '.join(problems[:20])}",
            expected="the candidates whose evidence the manifest pins, no more and no fewer",
            remedy="check who edited the run's summary, or benchmark and decide again",
        )
