"""Deciding: a pure function of evidence and policy.

    decision = decide(run_id=..., candidates=..., policy=..., manifest=..., incumbent=None)

What belongs here: the order of the steps (gates, score, ranking, certainty, incumbent, verdict). What does not: how
each step is computed, any clock, any file, any randomness that is not seeded by the manifest's digest.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from milton_assets.selection import explain
from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decision import (
    CandidateReport,
    Contribution,
    Decision,
    Standing,
    Verdict,
)
from milton_assets.selection.gates import Judgement, judge
from milton_assets.selection.policy import Policy
from milton_assets.selection.ranking import Pool, Ranking, pareto_front, rank
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.evidence import EvidenceManifest
from milton_assets.vocabulary.keys import check_key


def decide(
    *,
    run_id: str,
    candidates: Sequence[Candidate],
    policy: Policy,
    manifest: EvidenceManifest,
    incumbent: str | None,
) -> Decision:
    """Decide which candidate is promoted, if any.

    `candidates` may come in any order; `incumbent` is the version that serves today, or None. Equal arguments give
    an equal decision, byte for byte. Raises `BadInput` when the arguments contradict each other: a version that
    stands twice, a manifest of another run, or a figure that the manifest does not pin.
    """
    pool_of_all = _checked(run_id, candidates, manifest, incumbent)
    references = policy.metrics()
    judgements = [judge(candidate, policy, references) for candidate in pool_of_all]
    eligible = [judgement for judgement in judgements if judgement.eligible]
    notes = _notes(policy, manifest, pool_of_all, incumbent)
    if not eligible:
        known = any(judgement.standing is Standing.FAILED for judgement in judgements)
        return Decision(
            run_id=run_id,
            decided_at=manifest.created_at,
            verdict=Verdict.REJECT if known else Verdict.NO_VERDICT,
            winner=None,
            incumbent=incumbent,
            reasons=explain.nobody_eligible(judgements, known=known),
            notes=notes,
            policy=policy,
            policy_sha256=policy.sha256,
            manifest_sha256=manifest.digest(),
            candidates=tuple(_report(judgement) for judgement in judgements),
        )
    pool = _pool(eligible, policy)
    ranking = rank(pool, policy)
    reports = _ranked_reports(eligible, pool, ranking, policy)
    return Decision(
        run_id=run_id,
        decided_at=manifest.created_at,
        verdict=Verdict.PROMOTE,
        winner=reports[0].version,
        incumbent=incumbent,
        reasons=_why_head(reports, len(pool_of_all)),
        notes=notes,
        policy=policy,
        policy_sha256=policy.sha256,
        manifest_sha256=manifest.digest(),
        candidates=(*reports, *(_report(j) for j in judgements if not j.eligible)),
    )


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


def _notes(
    policy: Policy, manifest: EvidenceManifest, candidates: Sequence[Candidate], incumbent: str | None
) -> tuple[str, ...]:
    notes = []
    if manifest.policy_sha256 != policy.sha256:
        notes.append(
            f"this is a what-if: the run was decided under policy {manifest.policy_name} "
            f"({manifest.policy_sha256[:12]}), this is {policy.name} ({policy.sha256[:12]})"
        )
    if incumbent is not None and all(candidate.version != incumbent for candidate in candidates):
        notes.append(f"{incumbent}, which serves today, was no candidate of this run and is not compared")
    return tuple(notes)


def _pool(eligible: Sequence[Judgement], policy: Policy) -> Pool:
    rows = [[reading.metric.value for reading in j.readings[: len(policy.criteria)]] for j in eligible]
    return Pool(tuple(j.candidate.version for j in eligible), np.array(rows, dtype=np.float64).T)


def _report(judgement: Judgement) -> CandidateReport:
    candidate = judgement.candidate
    return CandidateReport(
        version=candidate.version,
        artefact_size_bytes=candidate.artefact_size_bytes,
        excluded=candidate.excluded,
        standing=judgement.standing,
        readings=judgement.readings,
        gates=judgement.gates,
        why="; ".join(judgement.reasons),
    )


def _ranked_reports(
    eligible: Sequence[Judgement], pool: Pool, ranking: Ranking, policy: Policy
) -> list[CandidateReport]:
    front = pareto_front(pool, policy)
    reports: list[CandidateReport] = []
    for place, index in enumerate(ranking.order.tolist(), start=1):
        contributions = tuple(
            Contribution(
                metric=criterion.metric,
                label=criterion.label,
                weight=criterion.weight,
                utility=round(float(ranking.parts[row, index]), 12),
            )
            for row, criterion in enumerate(policy.criteria)
        )
        report = _report(eligible[index]).model_copy(
            update={
                "contributions": contributions,
                "score": float(ranking.scores[index]),
                "rank": place,
                "pareto_optimal": bool(front[index]),
            }
        )
        reports.append(report.model_copy(update={"why": _why_not(report, reports[0] if reports else report)}))
    return reports


def _why_not(report: CandidateReport, head: CandidateReport) -> str:
    if report.rank == 1 or report.rank is None or report.score is None or head.score is None:
        return ""
    return explain.behind_winner(
        report.rank, report.score, report.contributions, head.version, head.score, head.contributions
    )


def _why_head(reports: Sequence[CandidateReport], stood: int) -> tuple[str, ...]:
    head, *others = reports
    score = head.score or 0.0
    if not others:
        return (explain.best_score(head.version, score, 1, stood, None, tied=False),)
    second = others[0]
    runner_up = (second.version, second.score or 0.0)
    return (
        explain.best_score(head.version, score, len(reports), stood, runner_up, tied=second.score == head.score),
        explain.where_it_leads(head.version, head.contributions, second.version, second.contributions),
    )
