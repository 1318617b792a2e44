"""Gathering what a decision rests on: every candidate's tables, pinned, or why it cannot be judged.

What belongs here: reading the evidence of candidates and anchors, and the manifest of it. What does not: what the event
log says of a single file or run (`resources.evidence_log`), which anchors are wanted
(`milton_assets.usecases.anchors`), and deciding.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dagster import DagsterInstance, RunsFilter

from milton_assets.vocabulary.chat_template import Lineage
from milton_assets.vocabulary.entry_table import entry_from_table
from milton_assets.vocabulary.evidence import AnchorEvidence, CandidateEvidence, EvidenceManifest, EvidencePin
from milton_assets.vocabulary.field_evidence import FieldEvidence
from milton_assets.vocabulary.fingerprint import Fingerprint
from milton_assets.vocabulary.ledger import Ledger
from milton_assets.vocabulary.named_weights import NamedWeights
from milton_assets.vocabulary.registry import Artefact, ArtefactKind, RegistryEntry
from milton_assets.vocabulary.tier import TierResult, table_metadata
from resources.evidence_log import pin_of, place_of, run_that_measured, why_last_run_failed
from resources.evidence_store import EvidenceFile, EvidenceStore

Files = Mapping[str, EvidenceFile]
"""The latest file of an asset, by model version."""


@dataclass(frozen=True)
class GatheredCandidate:
    """One candidate's tables, or the reason why it cannot be judged."""

    entry: RegistryEntry
    artefact_size_bytes: int
    tiers: Mapping[str, TierResult]
    excluded: str | None


@dataclass(frozen=True)
class Gathered:
    """Everything a decision rests on, and the manifest that pins it."""

    candidates: tuple[GatheredCandidate, ...]
    manifest: EvidenceManifest


def gather(
    instance: DagsterInstance,
    *,
    run_id: str,
    created_at: datetime,
    entries: Sequence[RegistryEntry],
    registry_sha256: str,
    lineage: Callable[[RegistryEntry, Artefact], Lineage],
    allowed_templates: Sequence[str],
    allowed_contaminated: Sequence[str],
    measured_kind: ArtefactKind,
    entry_files: Files,
    tier_files: Mapping[str, Files],
    timed_by: str | None,
    device_class: str | None,
    per_class: Collection[str],
    goldens: Mapping[str, str],
    private_goldens: Sequence[str],
    policy_name: str,
    policy_sha256: str,
    ledger: Ledger,
    field: FieldEvidence,
    anchors: Sequence[AnchorEvidence] = (),
    anchors_let_go: Sequence[str] = (),
) -> Gathered:
    """Read each candidate's evidence, pin it, and say of each candidate why it cannot be judged, if it cannot.

    `lineage` says what an artefact descends from, `allowed_templates` which chat templates the operator let
    through, `allowed_contaminated` which weights though they know published answers. `device_class` is the class that
    is decided for, whose reference device the tiers `per_class` measured on; None is this machine. `timed_by` is the
    tier whose environment is that of the candidate's speeds, `ledger` what the decision before handed on, `field` what
    canaries said of the model that serves, `anchors` what `gather_anchor` found, `anchors_let_go` which weights
    challengers are held to no more.

    Raises `EvidenceMismatch` when a file and the event log disagree: such evidence proves nothing.
    """
    candidates: list[GatheredCandidate] = []
    pinned: list[CandidateEvidence] = []
    fingerprints: dict[str, dict[str, Any]] = {}
    for entry in entries:
        artefact = entry.find(measured_kind)
        if artefact is None:
            candidates.append(GatheredCandidate(entry, 0, {}, f"it has no {measured_kind} artefact"))
            continue
        tiers, pins, excluded = _evidence_of(
            instance, entry, artefact, entry_files, tier_files, dict.fromkeys(per_class, device_class)
        )
        prints = {tier: fingerprint for tier, result in tiers.items() if (fingerprint := _fingerprint(result))}
        fingerprints.update({fp.digest(): fp.model_dump(mode="json") for fp in prints.values()})
        timed_in = prints.get(timed_by) if timed_by is not None else None
        pinned.append(
            CandidateEvidence(
                model_version=entry.version,
                entry_sha256=entry.entry_sha256,
                artefact_sha256=artefact.sha256,
                artefact_size_bytes=artefact.size_bytes,
                fingerprint_sha256=timed_in.digest() if timed_in else None,
                lineage=lineage(entry, artefact),
                pins=tuple(pins),
            )
        )
        candidates.append(GatheredCandidate(entry, artefact.size_bytes, tiers, excluded))
    manifest = EvidenceManifest(
        run_id=run_id,
        created_at=created_at,
        policy_name=policy_name,
        policy_sha256=policy_sha256,
        registry_sha256=registry_sha256,
        goldens=dict(goldens),
        fingerprints=fingerprints,
        candidates=tuple(pinned),
        tiers=tuple(tier_files),
        private_goldens=tuple(private_goldens),
        ledger=ledger,
        field=field,
        allowed_templates=tuple(sorted(set(allowed_templates))),
        allowed_contaminated=tuple(sorted(set(allowed_contaminated))),
        anchors=tuple(anchors),
        anchors_let_go=tuple(sorted(set(anchors_let_go))),
    )
    return Gathered(tuple(candidates), manifest)


def gather_anchor(
    instance: DagsterInstance,
    store: EvidenceStore,
    *,
    weights: NamedWeights,
    tiers: Collection[str],
    device_class: str | None,
    per_class: Collection[str],
    campaigns: Collection[str],
) -> AnchorEvidence:
    """What one of `campaigns` measured again of an anchor's weights by `tiers`, pinned; or why it has nothing.

    `campaigns` are values of the tag `milton/campaign`; `device_class` and `per_class` as for `gather`.
    """
    ours = [{"milton/anchor": str(weights), "milton/campaign": campaign} for campaign in campaigns]
    tried = any(instance.get_runs_count(RunsFilter(tags=tags)) for tags in ours)
    key = weights.anchor_key
    pins: list[EvidencePin] = []
    missing: list[str] = []
    for tier in tiers:
        on_class = device_class if tier in per_class else None
        run = run_that_measured(instance, tier, key, on_class)
        file = store.latest(*place_of(tier, key, on_class))
        in_time = run is not None and run.tags.get("milton/campaign") in campaigns
        if file is not None and in_time and table_metadata(file.read())["artefact_sha256"] == weights.sha256:
            pins.append(pin_of(instance, key, tier, on_class, file))
        else:
            why = (
                (why_last_run_failed(instance, key, on_class) or why_last_run_failed(instance, key)) if tried else None
            )
            missing.append(why or f"it was not measured by the tier {tier} in this campaign")
    return AnchorEvidence(
        version=weights.version,
        artefact_sha256=weights.sha256,
        tiers=tuple(tiers),
        pins=tuple(pins),
        missing="; ".join(dict.fromkeys(missing)) or None,
    )


def _evidence_of(
    instance: DagsterInstance,
    entry: RegistryEntry,
    artefact: Artefact,
    entry_files: Files,
    tier_files: Mapping[str, Files],
    classes: Mapping[str, str | None],
) -> tuple[dict[str, TierResult], list[EvidencePin], str | None]:
    if failure := why_last_run_failed(instance, entry.version):
        return {}, [], failure
    for device_class in filter(None, classes.values()):
        if failure := why_last_run_failed(instance, entry.version, device_class):
            return {}, [], failure
    if (recorded := entry_files.get(entry.version)) is None:
        return {}, [], "it was never benchmarked"
    if entry_from_table(recorded.read()).content_sha256 != entry.content_sha256:
        return {}, [], "its registry entry or its files changed after it was benchmarked"
    tiers: dict[str, TierResult] = {}
    pins: list[EvidencePin] = []
    for tier, files in tier_files.items():
        if (file := files.get(entry.version)) is None:
            where = f" on the class {classes[tier]}" if classes.get(tier) else ""
            return tiers, pins, f"tier {tier} was never measured{where}"
        table = file.read()
        if (measured := table_metadata(table)["artefact_sha256"]) != artefact.sha256:
            return tiers, pins, f"tier {tier} measured other weights ({measured}) than are registered now"
        pins.append(pin_of(instance, entry.version, tier, classes.get(tier), file))
        tiers[tier] = TierResult.from_table(table)
    return tiers, pins, None


def _fingerprint(result: TierResult) -> Fingerprint | None:
    raw = result.provenance.get("fingerprint")
    return Fingerprint.model_validate(raw) if raw else None
