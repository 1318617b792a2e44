"""The `edge_bundle` asset: the winner's bundle, once per benchmark run that promotes.

What belongs here: wiring. What does not: what a bundle is (`milton_assets.edge.bundle`).
"""

from collections.abc import Iterator
from typing import Any

from dagster import AssetExecutionContext, AssetKey, MetadataValue, Output, asset

from milton_assets.assets.beta_features import versioned_output
from milton_assets.assets.guards import guarded
from milton_assets.assets.links import its_campaign, page_of
from milton_assets.assets.pages import kept_page, sources_from
from milton_assets.edge.bundle import Making, code_version, default_signer
from milton_assets.partitions import BENCHMARK_RUNS
from milton_assets.selection.decision import Verdict
from milton_assets.selection.outcome import MANY_TARGETS
from milton_assets.selection.summary import BundleRecord, change_summary, read_summary
from milton_assets.settings import Profile
from milton_assets.usecases.bundling import Contracts, Winner, bundle_winner
from milton_assets.usecases.shared_bundles import hand_on
from milton_assets.usecases.targets import open_targets
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.figure import figure
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
    winner = Winner(summary, registry.entry(decision.winner), campaign.artifact)
    targets = open_targets(campaign.state, campaign.target_paths, server=edge_runtime.edge_server)
    contracts = Contracts(edge_runtime.edge_server, targets, campaign.class_references)
    bundle = bundle_winner(
        winner,
        contracts.measured(winner, least_speed=LEAST_SPEED[campaign.profile]),
        sources_from(campaign, store, targets),
        Making(campaign.state.bundles, sign=default_signer(campaign.state.keys)),
        expires_in_days=campaign.bundle_expires_days,
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
            "model_version": winner.entry.version,
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
