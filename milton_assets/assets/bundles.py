"""The `edge_bundle` asset: the winner's bundle, once per benchmark run that promotes.

What belongs here: wiring. What does not: what a bundle is (`milton_assets.edge.bundle`).
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dagster import AssetExecutionContext, AssetKey, MetadataValue, Output, asset

from milton_assets.assets.beta_features import versioned_output
from milton_assets.assets.guards import guarded
from milton_assets.assets.links import its_campaign, page_of
from milton_assets.assets.pages import bundled_summary, kept_page
from milton_assets.edge.bundle import code_version, create_bundle, default_signer
from milton_assets.partitions import BENCHMARK_RUNS
from milton_assets.selection import Verdict
from milton_assets.selection.outcome import MANY_TARGETS
from milton_assets.selection.summary import BundleRecord, change_summary, read_summary
from milton_assets.settings import Profile
from milton_assets.usecases.classes import contract_on
from milton_assets.usecases.probe import measured_contract
from milton_assets.usecases.shared_bundles import hand_on, newest_release, reserved_by
from milton_assets.usecases.targets import open_targets
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.figure import figure
from milton_assets.vocabulary.keys import class_of
from resources.campaign import Campaign
from resources.evidence_log import check_manifest
from resources.model_server import EdgeServerResource
from resources.parquet_io import EvidenceStoreResource
from resources.progress import terminal_listener
from resources.registry_resource import RegistryResource

LEAST_SPEED = {Profile.FULL: 0.5, Profile.SMOKE: 0.1}
"""The share of the measured speed that a device must reach; a first look may share its machine with anything."""


@asset(
    partitions_def=BENCHMARK_RUNS,
    deps=["selection_decision"],
    group_name="bundle",
    code_version=code_version(),
    output_required=False,
    kinds={"file"},
)
@guarded
def edge_bundle(
    context: AssetExecutionContext,
    registry: RegistryResource,
    campaign: Campaign,
    evidence_store: EvidenceStoreResource,
    edge_runtime: EdgeServerResource,
) -> Iterator[Output[dict[str, Any]]]:
    """The winner's model with everything that explains why it was chosen; its value is its manifest.

    Nothing when the verdict is not promote.
    """
    store = evidence_store.store
    summary = read_summary(store.runs, context.partition_key)
    decision = summary.decision
    if decision.verdict is not Verdict.PROMOTE or decision.winner is None:
        context.log.info(f"no bundle: the verdict of {summary.run_id} is {decision.verdict}")
        return
    check_manifest(context.instance, store, summary.manifest)
    entry = registry.entry(decision.winner)
    weights = Path(entry.artefact(campaign.artifact).path)
    targets = open_targets(campaign.state, campaign.target_paths, server=edge_runtime.edge_server)
    least_speed, device_class = LEAST_SPEED[campaign.profile], class_of(summary.run_id)
    if device_class is None:
        health = measured_contract(edge_runtime.edge_server(), weights, entry.version, least_speed=least_speed)
    else:
        health = contract_on(
            targets,
            campaign.class_references,
            device_class,
            entry.artefact(campaign.artifact),
            entry.version,
            least_speed=least_speed,
        )
    now, days = datetime.now(UTC), campaign.bundle_expires_days
    bundle = create_bundle(
        entry=entry,
        kind=campaign.artifact,
        decision=decision.model_dump(mode="json"),
        summary=bundled_summary(context, campaign, store, targets, summary).model_dump(mode="json"),
        evidence=summary.manifest,
        into=campaign.state.bundles,
        state=campaign.state,
        now=now,
        expires_at=None if days is None else now + timedelta(days=days),
        health=health,
        previous_release=newest_release(store),
        reserve=reserved_by(store),
        sign=default_signer(campaign.state.keys),
        on_progress=terminal_listener(),
        on_warning=context.log.warning,
    )
    manifest = bundle.manifest
    record = BundleRecord(
        path=campaign.state.tell(bundle.path), name=manifest.name, release_digest=manifest.release_digest
    )
    hand_on(store, bundle.path, record)
    change_summary(store.runs, summary.run_id, lambda told: told.model_copy(update={"bundle": record}))
    kept_page(context, campaign, store, targets, summary.run_id)
    yield versioned_output(
        manifest.model_dump(mode="json"),
        manifest.release_digest,
        {
            "model_version": entry.version,
            "decision": page_of("selection_decision", summary.run_id),
            **_deployments_of(campaign, summary.run_id),
            **its_campaign(context),
            "name": manifest.name,
            "release": short(manifest.release_digest),
            "size": f"{figure(manifest.payload_bytes / 1e6)} MB",
            "path": MetadataValue.path(bundle.path),
        },
    )


def _deployments_of(campaign: Campaign, run_id: str) -> dict[str, MetadataValue[Any]]:
    """Links to where the bundle goes: to each deployment, or to all of them where there are many."""
    targets = campaign.targets_of(run_id)
    if len(targets) > MANY_TARGETS:
        return {"deployments": MetadataValue.asset(AssetKey("deployment"))}
    return {f"deployment on {target}": page_of("deployment", target) for target in targets}
