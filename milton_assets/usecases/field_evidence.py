"""What canaries said of the model that serves, gathered from this machine's state folder for the next decision.

    field_evidence(state, store.runs, "v2")       # for the evidence manifest

What belongs here: which verdicts hold, whose weights they were about, and the counts behind them. What does not: what a
decision makes of them (`milton_assets.selection.field`), and keeping them (`fleet.canaries`, `rollout.arms_kept`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from milton_assets.edge.canary.counts import ArmCounts
from milton_assets.edge.canary.plan import Arm, Way
from milton_assets.fleet.canaries import (
    DoesNotHold,
    KeptVerdict,
    kept_verdicts,
    problems_of,
    signature_problems,
    verdict_file,
)
from milton_assets.rollout.arms_kept import DeviceTold, KeptFleetVerdict, fleet_verdict_file, kept_fleet_verdicts
from milton_assets.selection.summary import run_ids
from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.documents import Documents
from milton_assets.vocabulary.field_evidence import FieldArm, FieldEvidence, FieldFinding
from milton_assets.vocabulary.places import Place
from milton_assets.vocabulary.state import StateDir

TOLD = 20
"""So many verdicts in which the model was the challenger are told, and so many in which it was not; the latest."""
_WHY = 1000


def field_evidence(state: StateDir, runs: Place, version: str | None) -> FieldEvidence:
    """The verdicts on the model version that serves, as far as they hold; `runs` tell what releases were made of.

    One that does not hold is told as a sentence. Nothing serves (None) is nothing to tell of.
    """
    if version is None:
        return FieldEvidence()
    found, refused = [], []
    for kept in (*kept_verdicts(state), *kept_fleet_verdicts(state)):
        if isinstance(kept, DoesNotHold):
            refused.append(f"{kept.canary}: {kept.why}"[:_WHY])
            continue
        told = _of_target(kept) if isinstance(kept, KeptVerdict) else _of_fleet(kept)
        if told is None or not told.finding.concerns(version):
            continue
        if problems := tuple(told.problems(state)):
            refused.append(f"{told.finding.canary}: {'; '.join(problems)}"[:_WHY])
        else:
            found.append(told)
    found.sort(key=lambda one: (one.finding.until, one.finding.canary))
    own = [one for one in found if one.finding.challenger_version == version]
    kept_ids = {one.finding.canary for one in (*own[-TOLD:], *[one for one in found if one not in own][-TOLD:])}
    chosen = [one for one in found if one.finding.canary in kept_ids]
    weights = _weights(runs, {one.release for one in chosen if one.finding.challenger_version == version})
    findings = (
        one.finding.model_copy(
            update={"challenger_artefact": weights.get((one.release, one.finding.challenger_version))}
        )
        for one in chosen
    )
    return FieldEvidence(
        version=version, findings=tuple(findings), older=len(found) - len(chosen), refused=tuple(sorted(refused))
    )


def changed_since(state: StateDir, evidence: FieldEvidence) -> Iterator[str]:
    """A sentence for each verdict that a decision was told and whose document here is another one now.

    One that is not here is none: it may be kept on the host that decided.
    """
    for finding in evidence.findings:
        if finding.target is None:
            path = fleet_verdict_file(state, finding.canary)
        else:
            path = verdict_file(state, finding.target, finding.canary)
        if path.is_file() and (found := sha256_file(path)) != finding.sha256:
            yield f"{path} is {found}, and the decision was told {finding.sha256}"


@dataclass(frozen=True)
class _Told:
    """A verdict as a finding, the release that it judged, and where its document lies."""

    finding: FieldFinding
    release: str
    kept: KeptVerdict | KeptFleetVerdict

    def problems(self, state: StateDir) -> Iterator[str]:
        if isinstance(self.kept, KeptVerdict):
            return problems_of(state, self.kept)
        return signature_problems(state, self.kept.path, self.kept.signer)


def _of_target(kept: KeptVerdict) -> _Told | None:
    told = kept.verdict.told
    plan, verdict = told.plan, told.verdict
    if verdict is None or plan.way is Way.WHOLE:
        return None  # an arm of a fleet's comparison, which has a verdict of its own
    finding = FieldFinding(
        canary=plan.id,
        sha256=kept.sha256,
        signer=kept.signer,
        target=kept.verdict.target,
        challenger_version=plan.challenger_version,
        beside=(plan.incumbent_version,),
        said=verdict.outcome.value,
        by_evidence=verdict.fact is None,
        why=(verdict.fact or "; ".join(verdict.reasons))[:_WHY],
        challenger=_counted(told.counts.challenger),
        incumbent=_counted(told.counts.incumbent),
        since=plan.started_at,
        until=verdict.at,
    )
    return _Told(finding, plan.challenger, kept)


def _counted(arm: ArmCounts) -> FieldArm:
    return FieldArm(requests=arm.requests, erred=arm.erred, units=arm.units, units_erred=arm.first_erred)


def _of_fleet(kept: KeptFleetVerdict) -> _Told:
    verdict = kept.verdict
    plan = verdict.plan
    finding = FieldFinding(
        canary=plan.id,
        sha256=kept.sha256,
        signer=kept.signer,
        target=None,
        devices=sum(len(block.devices) for block in plan.blocks),
        challenger_version=plan.challenger_version,
        beside=tuple(sorted({block.incumbent_version for block in plan.blocks})),
        said=verdict.outcome.value,
        by_evidence=verdict.fact is None,
        why=(verdict.fact or "; ".join(verdict.reasons))[:_WHY],
        challenger=_together(one for one in verdict.told.values() if one.arm is Arm.CHALLENGER),
        incumbent=_together(one for one in verdict.told.values() if one.arm is Arm.INCUMBENT),
        since=plan.started_at,
        until=verdict.at,
    )
    return _Told(finding, plan.challenger, kept)


def _together(devices: Iterable[DeviceTold]) -> FieldArm:
    """One arm of a fleet. A device tells its share of errors, of which the number is got back."""
    figures = [one.figures for one in devices if one.figures is not None]
    return FieldArm(
        requests=sum(one.requests for one in figures),
        erred=sum(round(one.errors * one.requests) for one in figures),
        per_device=tuple(sorted(one.errors for one in figures)),
    )


class _Bundle(BaseModel):
    release_digest: str


class _Candidate(BaseModel):
    model_version: str
    artefact_sha256: str


class _Manifest(BaseModel):
    candidates: tuple[_Candidate, ...]


class _Run(BaseModel):
    """What of a run's summary says which weights its bundle's release holds; the same in every format version."""

    bundle: _Bundle | None = None
    manifest: _Manifest


def _weights(runs: Place, releases: set[str]) -> dict[tuple[str, str], str]:
    """The SHA-256 of the weights by release and model version, of those releases that runs here made."""
    found: dict[tuple[str, str], str] = {}
    wanted, documents = set(releases), Documents(runs)
    for run_id in reversed(run_ids(runs) if wanted else ()):
        try:
            run = _Run.model_validate_json(documents.read(run_id) or b"")
        except ValidationError:
            continue  # whoever reads that run says what is wrong with it; here its weights are not known
        if run.bundle is None or run.bundle.release_digest not in wanted:
            continue
        wanted.discard(run.bundle.release_digest)
        found |= {
            (run.bundle.release_digest, one.model_version): one.artefact_sha256 for one in run.manifest.candidates
        }
        if not wanted:
            break
    return found
