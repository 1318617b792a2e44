"""What Dagster's event log says about evidence: which run wrote which file, and whether that still holds.

What belongs here: reading materialisation events and run statuses, gathering every candidate's evidence into a
manifest, and finding what disk and log say today so that a manifest can be checked. What does not: deciding.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dagster import (
    AssetKey,
    AssetRecordsFilter,
    DagsterEventType,
    DagsterInstance,
    DagsterRunStatus,
    EventLogRecord,
    JsonMetadataValue,
    RunsFilter,
)

from milton_assets.vocabulary.chat_template import Lineage
from milton_assets.vocabulary.entry_table import entry_from_table
from milton_assets.vocabulary.errors import EvidenceMismatch
from milton_assets.vocabulary.evidence import AnchorEvidence, CandidateEvidence, EvidenceManifest, EvidencePin, Found
from milton_assets.vocabulary.field_evidence import FieldEvidence
from milton_assets.vocabulary.fingerprint import Fingerprint
from milton_assets.vocabulary.keys import key_on_class
from milton_assets.vocabulary.ledger import Ledger, anchor_key
from milton_assets.vocabulary.registry import Artefact, ArtefactKind, RegistryEntry
from milton_assets.vocabulary.tier import TierResult, asset_of, asset_on_class, table_metadata
from resources.dagster_private import DATA_VERSION_TAG
from resources.evidence_store import EvidenceFile, EvidenceStore

BENCHMARK_JOB = "benchmark_model"
ON_CLASS_JOB = "benchmark_on_class"
REGISTRY_ENTRY_ASSET = "registry_entry"
DECISION_ASSET = "selection_decision"
BUNDLE_ASSET = "edge_bundle"

ANCHORS_DUE = "anchors_due"
"""Under which a decision's event names the anchors that lack figures and that nobody tried to measure again yet: each
as the tag of its run, with the tiers that it lacks."""

MANY = 1000
"""How many decisions of one run are looked through: it is decided once, or as often as somebody asks for it again."""

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
    version: str,
    artefact_sha256: str,
    tag: str,
    tiers: Collection[str],
    device_class: str | None,
    per_class: Collection[str],
    campaigns: Collection[str],
) -> AnchorEvidence:
    """What one of `campaigns` measured again of an anchor's weights by `tiers`, pinned; or why it has nothing.

    `campaigns` are values of the tag `milton/campaign`, `tag` is that of the anchor's runs; `device_class` and
    `per_class` as for `gather`.
    """
    ours = [{"milton/anchor": tag, "milton/campaign": campaign} for campaign in campaigns]
    tried = any(instance.get_runs_count(RunsFilter(tags=tags)) for tags in ours)
    key = anchor_key(artefact_sha256)
    pins: list[EvidencePin] = []
    missing: list[str] = []
    for tier in tiers:
        on_class = device_class if tier in per_class else None
        record = _latest_record(instance, *place_of(tier, key, on_class))
        run = instance.get_run_by_id(record.run_id) if record else None
        file = store.latest(*place_of(tier, key, on_class))
        in_time = run is not None and run.tags.get("milton/campaign") in campaigns
        if file is not None and in_time and table_metadata(file.read())["artefact_sha256"] == artefact_sha256:
            pins.append(_pin(instance, key, tier, on_class, file))
        else:
            why = (
                (why_last_run_failed(instance, key, on_class) or why_last_run_failed(instance, key)) if tried else None
            )
            missing.append(why or f"it was not measured by the tier {tier} in this campaign")
    return AnchorEvidence(
        version=version,
        artefact_sha256=artefact_sha256,
        tiers=tuple(tiers),
        pins=tuple(pins),
        missing="; ".join(dict.fromkeys(missing)) or None,
    )


def found_today(instance: DagsterInstance, store: EvidenceStore, manifest: EvidenceManifest) -> list[Found]:
    """What the disk and the event log say now about every pin of `manifest`, to be given to its `check`."""
    return [
        Found(
            model_version=pin.model_version,
            tier=pin.tier,
            file_sha256=store.digest(pin.uri),
            logged_sha256=_logged_sha256(instance, pin),
        )
        for pin in manifest.pins()
    ]


def check_manifest(instance: DagsterInstance, store: EvidenceStore, manifest: EvidenceManifest) -> None:
    """Raise `EvidenceMismatch`, naming every difference, unless disk and event log agree with every pin."""
    manifest.check(found_today(instance, store, manifest))


def logged_content_digests(instance: DagsterInstance, versions: Collection[str]) -> dict[str, str | None]:
    """The content digest of each version's entry when it was last benchmarked; those that never were are left out.

    A query for the latest events of all of them and one for each `MANY` of those events, however many versions.
    """
    asset = AssetKey(REGISTRY_ENTRY_ASSET)
    latest = instance.get_latest_storage_id_by_partition(
        asset, DagsterEventType.ASSET_MATERIALIZATION, partitions=set(versions)
    )
    found: dict[str, str | None] = {}
    ids = sorted(latest.values())
    for start in range(0, len(ids), MANY):
        wanted = AssetRecordsFilter(asset_key=asset, storage_ids=ids[start : start + MANY])
        for record in instance.fetch_materializations(wanted, limit=MANY).records:
            if record.partition_key is not None:
                found[record.partition_key] = _metadata(record).get("content_sha256")
    return found


def due_after(instance: DagsterInstance, run_id: str) -> dict[str, list[str]]:
    """The anchors that the decision of that run lacks figures of, as `ANCHORS_DUE`; none where none was taken."""
    wanted = AssetRecordsFilter(asset_key=AssetKey(DECISION_ASSET), asset_partitions=[run_id])
    for record in instance.fetch_materializations(wanted, limit=1).records:
        materialization = record.asset_materialization
        told = materialization.metadata.get(ANCHORS_DUE) if materialization else None
        return dict(told.value) if isinstance(told, JsonMetadataValue) and isinstance(told.value, dict) else {}
    return {}


def was_bundled(instance: DagsterInstance, run_id: str) -> bool:
    """Whether that benchmark run made a bundle."""
    wanted = AssetRecordsFilter(asset_key=AssetKey(BUNDLE_ASSET), asset_partitions=[run_id])
    return bool(instance.fetch_materializations(wanted, limit=1).records)


@dataclass(frozen=True)
class LoggedDecision:
    """A decision as the event log knows it: the document and the ranking table that the store keeps of it."""

    storage_id: int
    document_uri: str
    ranking: EvidenceFile


def logged_decision(instance: DagsterInstance, store: EvidenceStore, manifest: EvidenceManifest) -> LoggedDecision:
    """The decision that was taken on `manifest`. Raises `EvidenceMismatch` when the event log holds none."""
    wanted = AssetRecordsFilter(asset_key=AssetKey(DECISION_ASSET), asset_partitions=[manifest.run_id])
    for record in instance.fetch_materializations(wanted, limit=MANY).records:
        if _metadata(record).get("evidence_manifest_sha256") == manifest.digest():
            return LoggedDecision(record.storage_id, _metadata(record)["decision_uri"], _file(store, record))
    raise EvidenceMismatch(
        f"the event log holds no decision of {manifest.run_id} on the manifest {manifest.digest()}",
        expected="the event that was logged when the decision was taken",
        remedy="trace with the Dagster instance that decided",
    )


def logged_entry(
    instance: DagsterInstance, store: EvidenceStore, manifest: EvidenceManifest, version: str
) -> EvidenceFile:
    """The table of the registry entry that the decision on `manifest` rests on. Raises `EvidenceMismatch`."""
    wanted = AssetRecordsFilter(
        asset_key=AssetKey(REGISTRY_ENTRY_ASSET),
        asset_partitions=[version],
        before_storage_id=logged_decision(instance, store, manifest).storage_id,
    )
    records = instance.fetch_materializations(wanted, limit=1).records
    if not records:
        raise EvidenceMismatch(
            f"the event log holds no registry entry of {version} from before {manifest.run_id} was decided",
            expected="the event of the run that benchmarked it",
        )
    return _file(store, records[0])


def measured_in(
    instance: DagsterInstance, store: EvidenceStore, asset: str, version: str, tags: Mapping[str, str]
) -> bool:
    """Whether the version's latest evidence of `asset` was written by a run with these tags, and is still whole.

    The event log and the store must agree on the latest file, and its bytes must have the digest that was logged.
    """
    record = _latest_record(instance, asset, version)
    run = instance.get_run_by_id(record.run_id) if record else None
    if record is None or run is None or any(run.tags.get(name) != value for name, value in tags.items()):
        return False
    file = store.latest(asset, version)
    return file is not None and file.sha256 == _sha256_of(record) == store.digest(file.uri)


def why_last_run_failed(instance: DagsterInstance, version: str, device_class: str | None = None) -> str | None:
    """One sentence on why the version's newest benchmark run did not succeed, here or on that device class; None when
    it did or there is none."""
    if device_class is None:
        wanted = RunsFilter(job_name=BENCHMARK_JOB, tags={"dagster/partition": version})
    else:
        dimensions = {"model_version": version, "device_class": device_class}
        tags = {f"dagster/partition/{name}": key for name, key in dimensions.items()}
        wanted = RunsFilter(job_name=ON_CLASS_JOB, tags=tags)
    records = instance.get_run_records(wanted, limit=1)
    if not records or records[0].dagster_run.status is DagsterRunStatus.SUCCESS:
        return None
    run = records[0].dagster_run
    where = f" on the class {device_class}" if device_class else ""
    if run.status not in {DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED}:
        return f"its benchmark run {run.run_id}{where} is {run.status.value.lower()}"
    ended = run.status.value.lower()
    return f"its benchmark run {run.run_id}{where} ended in {ended}: {_first_cause(instance, run.run_id)}"


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
        pins.append(_pin(instance, entry.version, tier, classes.get(tier), file))
        tiers[tier] = TierResult.from_table(table)
    return tiers, pins, None


def place_of(tier: str, version: str, device_class: str | None) -> tuple[str, str]:
    """The asset and the partition that hold what a tier measured of a version, on a device class or here."""
    if device_class is None:
        return asset_of(tier), version
    return asset_on_class(tier), key_on_class(device_class, version)


def _pin(
    instance: DagsterInstance, version: str, tier: str, device_class: str | None, file: EvidenceFile
) -> EvidencePin:
    record = _latest_record(instance, *place_of(tier, version, device_class))
    logged = _sha256_of(record) if record else None
    if record is None or logged != file.sha256:
        raise EvidenceMismatch(
            f"tier {tier} of {version}: the store's latest file is {file.sha256}, the event log's is {logged}",
            expected="the same file in both",
            remedy=f"wait for a running {BENCHMARK_JOB} of {version} to end, or benchmark it again",
        )
    materialization = record.asset_materialization
    tags = (materialization.tags if materialization else None) or {}
    return EvidencePin(
        model_version=version,
        tier=tier,
        dagster_run_id=record.run_id,
        storage_id=record.storage_id,
        data_version=tags.get(DATA_VERSION_TAG, ""),
        uri=file.uri,
        sha256=file.sha256,
        device_class=device_class,
    )


def _latest_record(instance: DagsterInstance, asset: str, version: str) -> EventLogRecord | None:
    wanted = AssetRecordsFilter(asset_key=AssetKey(asset), asset_partitions=[version])
    records = instance.fetch_materializations(wanted, limit=1).records
    return records[0] if records else None


def _logged_sha256(instance: DagsterInstance, pin: EvidencePin) -> str | None:
    asset, partition = place_of(pin.tier, pin.model_version, pin.device_class)
    wanted = AssetRecordsFilter(
        asset_key=AssetKey(asset),
        asset_partitions=[partition],
        after_storage_id=pin.storage_id - 1,
        before_storage_id=pin.storage_id + 1,
    )
    records = instance.fetch_materializations(wanted, limit=1).records
    if not records or records[0].run_id != pin.dagster_run_id:
        return None
    return _sha256_of(records[0])


def _sha256_of(record: EventLogRecord) -> str | None:
    return _metadata(record).get("sha256")


def _file(store: EvidenceStore, record: EventLogRecord) -> EvidenceFile:
    told = _metadata(record)
    return EvidenceFile(store, told["uri"], told["sha256"], record.run_id)


def _metadata(record: EventLogRecord) -> dict[str, str]:
    materialization = record.asset_materialization
    return {name: str(value.value) for name, value in (materialization.metadata if materialization else {}).items()}


def _fingerprint(result: TierResult) -> Fingerprint | None:
    raw = result.provenance.get("fingerprint")
    return Fingerprint.model_validate(raw) if raw else None


def _first_cause(instance: DagsterInstance, run_id: str) -> str:
    for log in instance.all_logs(run_id):
        event = log.dagster_event
        if event and event.is_step_failure and (error := event.step_failure_data.error):
            while error.cause:
                error = error.cause
            return f"{event.step_key}: {error.message.strip().splitlines()[0]}"
    return "no step says why"
