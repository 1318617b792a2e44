"""Gathering what a decision rests on: every candidate's tables, pinned, or why it cannot be judged.

What belongs here: reading and pinning the evidence of candidates and anchors. What does not: what the event log says of
a single file or run (`resources.evidence_log`), which anchors are wanted (`milton_assets.usecases.anchors`), what else
a decision's manifest has, and deciding.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from dagster import DagsterInstance, RunsFilter

from milton_assets.selection.candidate import Candidate
from milton_assets.vocabulary.entry_table import entry_from_table
from milton_assets.vocabulary.evidence import AnchorEvidence, CandidateEvidence, EvidencePin
from milton_assets.vocabulary.fingerprint import Fingerprint
from milton_assets.vocabulary.named_weights import NamedWeights
from milton_assets.vocabulary.registry import Artefact, ArtefactKind, Registry, RegistryEntry
from milton_assets.vocabulary.tier import TierResult, table_metadata
from resources.evidence_log import pin_of, place_of, run_that_measured, why_last_run_failed
from resources.evidence_store import EvidenceFile, EvidenceStore

Files = Mapping[str, EvidenceFile]
"""The latest file of an asset, by model version."""


@dataclass(frozen=True)
class LatestFiles:
    """The latest files that a decision reads: of the registry's entries, and of each tier by its name.

    `classes` names the device class on whose reference device a tier was measured; one that is not in it was measured
    on this machine.
    """

    entries: Files
    tiers: Mapping[str, Files]
    classes: Mapping[str, str]


@dataclass(frozen=True)
class Gathered:
    """What was measured of every candidate, and the pins and environments that an evidence manifest has of it.

    Who brought nothing to be pinned stands among the candidates all the same, with the reason.
    """

    candidates: tuple[Candidate, ...]
    evidence: tuple[CandidateEvidence, ...]
    fingerprints: dict[str, dict[str, Any]]


def gather(
    instance: DagsterInstance, current: Registry, kind: ArtefactKind, files: LatestFiles, *, timed_by: str | None
) -> Gathered:
    """Read each candidate's evidence, pin it, and say of each candidate why it cannot be judged, if it cannot.

    `kind` is the artefact that is measured, `timed_by` the tier whose environment is that of a candidate's speeds.

    Raises `EvidenceMismatch` when a file and the event log disagree: such evidence proves nothing.
    """
    candidates: list[Candidate] = []
    evidence: list[CandidateEvidence] = []
    fingerprints: dict[str, dict[str, Any]] = {}
    for entry in current.candidates():
        artefact = entry.find(kind)
        if artefact is None:
            candidates.append(Candidate(entry.version, excluded=f"it has no {kind} artefact"))
            continue
        tiers, pins, excluded = _evidence_of(instance, entry, artefact, files)
        prints = {tier: fingerprint for tier, result in tiers.items() if (fingerprint := _fingerprint(result))}
        fingerprints.update({fp.digest(): fp.model_dump(mode="json") for fp in prints.values()})
        timed_in = prints.get(timed_by) if timed_by is not None else None
        evidence.append(
            CandidateEvidence(
                model_version=entry.version,
                entry_sha256=entry.entry_sha256,
                artefact_sha256=artefact.sha256,
                artefact_size_bytes=artefact.size_bytes,
                fingerprint_sha256=timed_in.digest() if timed_in else None,
                lineage=current.lineage(entry, artefact),
                pins=tuple(pins),
            )
        )
        candidates.append(Candidate(entry.version, tiers, artefact.size_bytes, excluded))
    return Gathered(tuple(candidates), tuple(evidence), fingerprints)


def gather_anchor(
    instance: DagsterInstance,
    store: EvidenceStore,
    *,
    weights: NamedWeights,
    tiers: Collection[str],
    classes: Mapping[str, str],
    campaigns: Collection[str],
) -> AnchorEvidence:
    """What one of `campaigns` measured again of an anchor's weights by `tiers`, pinned; or why it has nothing.

    `campaigns` are values of the tag `milton/campaign`; `classes` is as in `LatestFiles`.
    """
    ours = [{"milton/anchor": str(weights), "milton/campaign": campaign} for campaign in campaigns]
    tried = any(instance.get_runs_count(RunsFilter(tags=tags)) for tags in ours)
    key = weights.anchor_key
    pins: list[EvidencePin] = []
    missing: list[str] = []
    for tier in tiers:
        on_class = classes.get(tier)
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
    files: LatestFiles,
) -> tuple[dict[str, TierResult], list[EvidencePin], str | None]:
    if failure := why_last_run_failed(instance, entry.version):
        return {}, [], failure
    for device_class in files.classes.values():
        if failure := why_last_run_failed(instance, entry.version, device_class):
            return {}, [], failure
    if (recorded := files.entries.get(entry.version)) is None:
        return {}, [], "it was never benchmarked"
    if entry_from_table(recorded.read()).content_sha256 != entry.content_sha256:
        return {}, [], "its registry entry or its files changed after it was benchmarked"
    tiers: dict[str, TierResult] = {}
    pins: list[EvidencePin] = []
    for tier, by_version in files.tiers.items():
        if (file := by_version.get(entry.version)) is None:
            where = f" on the class {files.classes[tier]}" if tier in files.classes else ""
            return tiers, pins, f"tier {tier} was never measured{where}"
        table = file.read()
        if (measured := table_metadata(table)["artefact_sha256"]) != artefact.sha256:
            return tiers, pins, f"tier {tier} measured other weights ({measured}) than are registered now"
        pins.append(pin_of(instance, entry.version, tier, files.classes.get(tier), file))
        tiers[tier] = TierResult.from_table(table)
    return tiers, pins, None


def _fingerprint(result: TierResult) -> Fingerprint | None:
    raw = result.provenance.get("fingerprint")
    return Fingerprint.model_validate(raw) if raw else None
