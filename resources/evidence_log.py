"""What Dagster's event log says about evidence: which run wrote which file, and whether that still holds.

What belongs here: reading materialisation events and run statuses, pinning a file by them, and finding what disk and
log say today so that a manifest can be checked. What does not: gathering what a decision rests on
(`resources.gathering`), and deciding.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dagster import (
    AssetKey,
    AssetRecordsFilter,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    EventLogRecord,
    JsonMetadataValue,
    RunsFilter,
)

from milton_assets.vocabulary.errors import EvidenceMismatch
from milton_assets.vocabulary.evidence import EvidenceManifest, EvidencePin, Found
from milton_assets.vocabulary.keys import key_on_class
from milton_assets.vocabulary.tier import asset_of, asset_on_class
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


def run_that_measured(
    instance: DagsterInstance, tier: str, version: str, device_class: str | None
) -> DagsterRun | None:
    """The run that wrote the version's latest table of the tier, on that device class or here."""
    record = _latest_record(instance, *place_of(tier, version, device_class))
    return instance.get_run_by_id(record.run_id) if record else None


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


def place_of(tier: str, version: str, device_class: str | None) -> tuple[str, str]:
    """The asset and the partition that hold what a tier measured of a version, on a device class or here."""
    if device_class is None:
        return asset_of(tier), version
    return asset_on_class(tier), key_on_class(device_class, version)


def pin_of(
    instance: DagsterInstance, version: str, tier: str, device_class: str | None, file: EvidenceFile
) -> EvidencePin:
    """The pin of the file that a tier wrote of the version. Raises `EvidenceMismatch` unless the log says the same."""
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


def _first_cause(instance: DagsterInstance, run_id: str) -> str:
    for log in instance.all_logs(run_id):
        event = log.dagster_event
        if event and event.is_step_failure and (error := event.step_failure_data.error):
            while error.cause:
                error = error.cause
            return f"{event.step_key}: {error.message.strip().splitlines()[0]}"
    return "no step says why"
