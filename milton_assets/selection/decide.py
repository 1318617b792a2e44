"""Deciding: a pure function of evidence and policy.

    decision = decide(run_id=..., candidates=..., policy=..., manifest=..., incumbent=None, tiers=installed)

What belongs here: the record of a decision and the report on each candidate. What does not: who wins (`hearing`), how a
step is computed, any clock, any file, any randomness that the manifest's digest does not seed.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from milton_assets.selection import comparability, contamination, explain, field, in_turn
from milton_assets.selection.candidate import Candidate
from milton_assets.selection.contest import Contest, Outcome
from milton_assets.selection.decision import (
    Between,
    CandidateReport,
    Contribution,
    Decision,
    Flips,
    NoiseReading,
    Reading,
    Standing,
    VariantsReading,
    Verdict,
)
from milton_assets.selection.flips import flips_of
from milton_assets.selection.gates import Judgement, missed_by_chance, unusable
from milton_assets.selection.hearing import Heard, hear
from milton_assets.selection.life import Life
from milton_assets.selection.policy import Criterion, MetricRef, Normalisation, Policy
from milton_assets.selection.ranking import pareto_front
from milton_assets.selection.scoring import beyond_anchors
from milton_assets.selection.sensitivity import sensitivity
from milton_assets.statistics.spending import Noise
from milton_assets.vocabulary.evidence import EvidenceManifest
from milton_assets.vocabulary.fingerprint import Fingerprint
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import Tiers

_PROBABILITY_DECIMALS = 6
_UTILITY_DECIMALS = 12


def decide(
    *,
    run_id: str,
    candidates: Sequence[Candidate],
    policy: Policy,
    manifest: EvidenceManifest,
    incumbent: str | None,
    tiers: Tiers,
    anchored: Mapping[str, TierResult] | None = None,
) -> Decision:
    """Decide which candidate is promoted, if any.

    `candidates` may come in any order; `incumbent` is the version that serves today, or None; `tiers` say how their
    metrics are paired and what they are read against; `anchored` are the tables that the anchors of the manifest's
    ledger pin, by digest. Equal arguments give an equal decision, byte for byte. Raises `BadInput` when the arguments
    contradict each other: a version that stands twice, a manifest of another run, a figure that the manifest does not
    pin, or evidence in the manifest that nobody stands for; `NoSuchTier` when the policy or the manifest names a tier
    that `tiers` lacks.
    """
    with _garbage_collection_paused(), ThreadPoolExecutor(max_workers=1) as meanwhile:
        heard = hear(
            run_id=run_id,
            candidates=candidates,
            policy=policy,
            manifest=manifest,
            incumbent=incumbent,
            tiers=tiers,
            anchored=anchored,
            meanwhile=meanwhile,
        )
        return _recorded(heard)


@contextmanager
def _garbage_collection_paused() -> Iterator[None]:
    """Reports are many objects and no reference cycles: looking for garbage takes a third of the time, for nothing.

    What was made meanwhile counts as old afterwards, or the first thing made then would have all of it looked through.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()
        if was:
            gc.enable()


def _recorded(heard: Heard) -> Decision:
    policy, manifest, incumbent, tiers = heard.policy, heard.manifest, heard.incumbent, heard.tiers
    stood, judgements, life, seed = heard.stood, heard.judgements, heard.occasion.life, heard.occasion.seed
    about = _About({one.model_version: one.lineage.template for one in manifest.candidates}, heard.variants)
    common = {
        "run_id": manifest.run_id,
        "decided_at": manifest.created_at,
        "incumbent": incumbent,
        "policy": policy,
        "policy_sha256": policy.sha256,
        "manifest_sha256": heard.manifest_sha256,
        "baselines": _baselines(stood, policy.metrics(), tiers),
        "field": field.readings(manifest.field, life.incumbent, life.sent_back),
        "verdict": heard.verdict,
        "winner": heard.winner,
        "ledger": heard.ledger,
    }
    notes = (
        *_notes(policy, manifest, judgements, incumbent),
        *contamination.notes(heard.variants),
        *in_turn.notes(stood, policy.incumbent, incumbent, life.incumbent),
        *field.notes(manifest.field, life.sent_back, life.let_go),
    )
    contest, outcome = heard.contest, heard.outcome
    by_version = contest.challenges.by_version if contest is not None else {}
    flips = flips_of(stood, incumbent, policy, by_version, tiers, seed=seed)
    unranked = tuple(
        _report(one, about, flips=flips.get(one.candidate.version, ()), why="; ".join(one.reasons))
        for one in judgements
        if not one.eligible
    )
    if contest is None or outcome is None:
        known = heard.verdict is Verdict.REJECT
        return Decision(
            **common, reasons=explain.nobody_eligible(judgements, known=known), notes=notes, candidates=unranked
        )
    report = _Report(contest, outcome, judgements, policy, about, flips)
    return Decision(
        **common,
        reasons=(*report.why_head(len(stood)), *outcome.choice.reasons),
        notes=(
            *notes,
            *field.notes_on_winner(manifest.field, heard.winner),
            *report.unpaired(),
            *report.saturated(),
            *(contest.anchoring.notes if contest.anchoring else ()),
        ),
        candidates=(*report.reports(), *unranked),
        confidence=outcome.confidence,
        sensitivity=sensitivity(contest, outcome, judgements, policy, heard.occasion),
        noise=tuple(_noise(contest, life)),
    )


def _noise(contest: Contest, life: Life) -> Iterator[NoiseReading]:
    """How far each speed varies between campaigns, and its ratio to the incumbent's between starts, where the first
    candidate was measured that was measured so."""
    for drawn in contest.prepared:
        if drawn.criterion.noise > 0:
            yield _noise_reading(drawn.criterion, drawn.noises[0], Between.CAMPAIGNS)
        if (turns := contest.turns.get(drawn.criterion.key)) is not None and drawn.criterion.noise > 0:
            known = (one for one in life.starts(drawn.criterion, contest.pool.versions, turns.gain) if one is not None)
            for noise, _ in itertools.islice(known, 1):
                yield _noise_reading(drawn.criterion, noise, Between.STARTS)


def _noise_reading(criterion: Criterion, noise: Noise, between: Between) -> NoiseReading:
    return NoiseReading(
        tier=criterion.tier,
        metric=criterion.metric,
        between=between,
        assumed=noise.assumed,
        measured=noise.measured,
        below=noise.upper(),
        freedom=noise.freedom,
    )


@dataclass(frozen=True)
class _About:
    """What is told of candidates beside their figures, by version."""

    chat_templates: Mapping[str, str]
    variants: Mapping[str, tuple[VariantsReading, ...]]


class _Report:
    """What is said of a contest and its outcome."""

    def __init__(
        self,
        contest: Contest,
        outcome: Outcome,
        judgements: Sequence[Judgement],
        policy: Policy,
        about: _About,
        flips: Mapping[str, tuple[Flips, ...]],
    ) -> None:
        self.eligible = [judgement for judgement in judgements if judgement.eligible]
        self.policy = policy
        self.about = about
        self.flips = flips
        self.contest = contest
        self.pool = contest.pool
        self.ranking = outcome.ranking
        self.labels = [one.label for one in policy.criteria]
        self.weighed = [(one.metric, one.label, one.weight) for one in policy.criteria]
        self.utilities = [
            [round(utility, _UTILITY_DECIMALS) for utility in mine] for mine in outcome.ranking.parts.T.tolist()
        ]
        self.points: list[list[float]] = (np.array(self.utilities) * [one.weight for one in policy.criteria]).tolist()
        self.scores: list[float] = outcome.ranking.scores.tolist()
        self.choice = outcome.choice

    def unpaired(self) -> tuple[str, ...]:
        """Notes on candidates whose cases could not be lined up with the others'."""
        found: dict[tuple[str, str], list[str]] = {}
        for drawn in self.contest.prepared if len(self.pool.versions) > 1 else ():
            for version, why in zip(self.pool.versions, drawn.cases.why, strict=True):
                if drawn.cases.by_case and why:
                    found.setdefault((drawn.criterion.metric, why), []).append(version)
        return tuple(
            f"{metric} of {explain.some(versions)} is not paired by case, its interval is used instead: {why}"
            for (metric, why), versions in found.items()
        )

    def saturated(self) -> tuple[str, ...]:
        """Notes on figures beyond their anchors, where being better no longer counts."""
        if self.policy.normalisation is not Normalisation.ANCHORED:
            return ()
        notes = []
        for row, criterion in enumerate(self.policy.criteria):
            beyond = [self.pool.versions[i] for i in np.flatnonzero(beyond_anchors(self.pool.values[row], criterion))]
            if beyond:
                notes.append(f"{criterion.metric} of {explain.some(beyond)} lies beyond the policy's anchors")
        return tuple(notes)

    def why_head(self, stood: int) -> tuple[str, ...]:
        """Why the head of the ranking is there, before anything else is considered."""
        head, *others = map(self.placed, self.ranking.order[:2].tolist())
        if not others:
            return (explain.best_score(head, 1, stood, None),)
        return (
            explain.best_score(head, len(self.pool.versions), stood, others[0]),
            explain.where_it_leads(head, others[0]),
        )

    def placed(self, index: int) -> explain.Placed:
        """The candidate at `index`, as sentences need it."""
        return explain.Placed(self.pool.versions[index], self.scores[index], self.labels, self.points[index])

    def contributions(self, index: int) -> tuple[Contribution, ...]:
        """What each criterion adds to the score of the candidate at `index`."""
        return tuple(
            [
                Contribution(metric=metric, label=label, weight=weight, utility=utility)
                for (metric, label, weight), utility in zip(self.weighed, self.utilities[index], strict=True)
            ]
        )

    def reports(self) -> list[CandidateReport]:
        """A report on each eligible candidate, best first."""
        front: list[bool] = pareto_front(self.pool, self.policy).tolist()
        choice, shares, challenges = self.choice, self.contest.shares, self.contest.challenges.by_version
        best = self.placed(int(self.ranking.order[0]) if choice.winner is None else choice.winner)
        chances = None if shares is None else [round(share, _PROBABILITY_DECIMALS) for share in shares.tolist()]
        reports = []
        for place, index in enumerate(self.ranking.order.tolist(), start=1):
            mine = self.placed(index)
            challenge = challenges.get(mine.version)
            reports.append(
                _report(
                    self.eligible[index],
                    self.about,
                    contributions=self.contributions(index),
                    score=mine.score,
                    rank=place,
                    probability_best=None if chances is None else chances[index],
                    pareto_optimal=front[index],
                    challenge=challenge,
                    flips=self.flips.get(mine.version, ()),
                    why="" if index == choice.winner else explain.not_chosen(place, mine, best, challenge),
                )
            )
        return reports


def _notes(
    policy: Policy, manifest: EvidenceManifest, judgements: Sequence[Judgement], incumbent: str | None
) -> tuple[str, ...]:
    notes = []
    if manifest.ledger.starts_because is not None:
        notes.append(f"what earlier decisions tested is not counted: {manifest.ledger.starts_because}")
    if manifest.policy_sha256 != policy.sha256:
        notes.append(
            f"this is a what-if: the run was decided under policy {manifest.policy_name} "
            f"({manifest.policy_sha256[:12]}), this is {policy.name} ({policy.sha256[:12]})"
        )
    by_version = {judgement.candidate.version: judgement for judgement in judgements}
    if incumbent is not None and incumbent not in by_version:
        notes.append(f"{incumbent}, which serves today, was no candidate of this run and is not compared")
    elif incumbent is not None and by_version[incumbent].standing is Standing.FAILED:
        notes.append(f"{incumbent}, which serves today, failed a gate; whoever is eligible may replace it")
    elif incumbent is not None and by_version[incumbent].eligible:
        notes += [
            f"{incumbent}, which serves today, misses the gate {gate} as measured, which may be chance: {outcome.why}; "
            "it stands all the same, and who is to replace it must be shown to be better"
            for gate, outcome in zip(policy.gates, by_version[incumbent].gates, strict=True)
            if missed_by_chance(gate, outcome)
        ]
    eligible = [judgement.candidate for judgement in judgements if judgement.eligible]
    return (
        *notes,
        *_passed_over(judgements, eligible),
        *_environments(manifest, {candidate.version for candidate in eligible}),
        *comparability.notes(eligible),
        *comparability.own_goldens(manifest),
        *comparability.imported(eligible),
    )


def _baselines(candidates: Sequence[Candidate], references: Sequence[MetricRef], tiers: Tiers) -> tuple[Reading, ...]:
    """The baselines of the policy's metrics, as the first candidate that has one states them."""
    found = {}
    for tier, name in ((r.tier, f"{baseline}:{r.metric}") for r in references for baseline in tiers[r.tier].baselines):
        results = (candidate.tiers[tier] for candidate in candidates if tier in candidate.tiers)
        metrics = (metric for result in results for metric in result.metrics if metric.name == name)
        if metric := next((metric for metric in metrics if unusable(metric) is None), None):
            found[name] = Reading(tier=tier, metric=metric)
    return tuple(found.values())


def _passed_over(judgements: Sequence[Judgement], eligible: Sequence[Candidate]) -> Iterable[str]:
    """A note on whom nothing is known about: being best among the others is not being best."""
    unjudged = [judgement for judgement in judgements if judgement.standing is Standing.NO_EVIDENCE]
    if eligible and unjudged:
        versions = explain.some([judgement.candidate.version for judgement in unjudged])
        yield (
            f"{versions} could not be judged and might have been better: "
            "the ranking and its certainty are about the others"
        )


def _environments(manifest: EvidenceManifest, eligible: set[str]) -> tuple[str, ...]:
    """Notes on eligible candidates that were measured elsewhere than the first of them."""
    first_in: dict[str, str] = {}
    for candidate in manifest.candidates:
        if candidate.model_version in eligible and candidate.fingerprint_sha256:
            first_in.setdefault(candidate.fingerprint_sha256, candidate.model_version)
    known, notes = [], []
    for digest, version in first_in.items():
        try:
            known.append((version, Fingerprint.model_validate(manifest.fingerprints.get(digest))))
        except ValidationError:
            notes.append(f"the environment that {version} was measured in is not described in a known form")
    for version, fingerprint in known[1:]:
        if differences := known[0][1].comparable_with(fingerprint):
            notes.append(
                f"{version} was measured in another environment than {known[0][0]}, so their speeds may not be "
                f"comparable: {'; '.join(differences)}"
            )
    return tuple(notes)


def _report(judgement: Judgement, about: _About, **told: Any) -> CandidateReport:
    candidate = judgement.candidate
    return CandidateReport(
        version=candidate.version,
        artefact_size_bytes=candidate.artefact_size_bytes,
        excluded=candidate.excluded,
        chat_template=about.chat_templates.get(candidate.version),
        variants=about.variants.get(candidate.version, ()),
        standing=judgement.standing,
        readings=judgement.readings,
        gates=judgement.gates,
        **told,
    )
