"""The `deployment` asset: the active release of one edge target and its history entry.

What belongs here: wiring. What does not: how a target is changed (`milton_assets.fleet`).
"""

import getpass
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetCheckSeverity,
    AssetDep,
    AssetExecutionContext,
    Config,
    LastPartitionMapping,
    MetadataValue,
    Output,
    asset,
)
from pydantic import Field

from milton_assets.assets.beta_features import partition_check, versioned_output
from milton_assets.assets.bundles import edge_bundle
from milton_assets.assets.guards import guarded
from milton_assets.assets.links import its_campaign, page_of
from milton_assets.assets.pages import kept_page, told_elsewhere
from milton_assets.edge.deployment import Deployment
from milton_assets.edge.deployment.choosing import choose_bundle
from milton_assets.fleet.target import DeployRequest
from milton_assets.partitions import EDGE_TARGETS
from milton_assets.selection.summary import DeploymentRecord, add_deployments, read_summary
from milton_assets.settings import Profile
from milton_assets.usecases.aliases import name_champion
from milton_assets.usecases.shared_bundles import bring
from milton_assets.usecases.shared_history import handing_on
from milton_assets.usecases.targets import open_targets
from milton_assets.vocabulary import markdown
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.keys import class_of
from resources.campaign import Campaign
from resources.evidence_log import BUNDLE_ASSET, check_manifest
from resources.model_server import EdgeServerResource
from resources.parquet_io import EvidenceStoreResource
from resources.progress import terminal_listener
from resources.registry_resource import RegistryResource


class Window(NamedTuple):
    """How long a release is watched: `rounds` probes, `interval_s` seconds apart."""

    rounds: int
    interval_s: float


WINDOWS = {Profile.FULL: Window(3, 5.0), Profile.SMOKE: Window(2, 1.0)}
"""The health window unless a deployment configures another one; a first look does not wait for long."""


class DeploymentConfig(Config):
    """Which run's bundle to deploy, and how long to watch it."""

    run_id: str = Field(default="", description="A benchmark run; empty takes the newest bundle for the class.")
    health_rounds: int | None = Field(
        default=None, ge=1, description="Probes once it is current; by default 3, or 2 with the smoke profile."
    )
    health_interval_s: float | None = Field(
        default=None, ge=0, description="Seconds between two of these; by default 5, or 1 with the smoke profile."
    )

    def window(self, profile: Profile) -> Window:
        """The health window, with what is not configured as the profile has it."""
        usual = WINDOWS[profile]
        rounds = usual.rounds if self.health_rounds is None else self.health_rounds
        return Window(rounds, usual.interval_s if self.health_interval_s is None else self.health_interval_s)


@asset(
    partitions_def=EDGE_TARGETS,
    deps=[AssetDep(edge_bundle, partition_mapping=LastPartitionMapping())],
    group_name="deployment",
    code_version="1",
    output_required=False,
    kinds={"file"},
)
@guarded
def deployment(
    context: AssetExecutionContext,
    config: DeploymentConfig,
    campaign: Campaign,
    registry: RegistryResource,
    evidence_store: EvidenceStoreResource,
    edge_runtime: EdgeServerResource,
) -> Output[dict[str, str]]:
    """Take a run's bundle to the target: verified, load tested, then active at once; or not at all."""
    target = context.partition_key
    store, state = evidence_store.store, campaign.state
    bring(store, state.bundles, run_id=config.run_id or None, device_class=campaign.class_decided_for(target))
    choice = choose_bundle(
        state.bundles,
        kind=campaign.artifact,
        run_id=config.run_id or None,
        device_class=campaign.class_decided_for(target),
    )
    for sentence in choice.unreadable:
        context.log.warning(f"passed over {sentence}")
    summary = read_summary(store.runs, choice.manifest.run_id)
    check_manifest(context.instance, store, summary.manifest)
    targets = open_targets(state, campaign.target_paths, server=edge_runtime.edge_server)
    window = config.window(campaign.profile)
    request = DeployRequest(actor=getpass.getuser(), health_rounds=window.rounds, health_interval_s=window.interval_s)
    with handing_on(store, targets, target):
        done = targets.named(target).deploy(choice.path, request, on_progress=terminal_listener())
    told = {"id": done.id, "target": done.target, "path": done.target_path, "release": str(done.release)}
    record = DeploymentRecord.model_validate({**told, "path": state.tell(Path(done.target_path))})
    add_deployments(store.runs, summary.run_id, [record])
    kept_page(context, campaign, store, targets, summary.run_id)
    links = told_elsewhere(context, campaign, store, targets, summary.run_id)
    name_champion(registry.store(), str(done.model_version), context.log.warning, class_of(summary.run_id))
    return versioned_output(
        told,
        str(done.release),
        {
            "serves": _since(done),
            "why": MetadataValue.md(markdown.items(summary.decision.reasons)),
            "model_version": str(done.model_version),
            "target": done.target,
            "decision": page_of("selection_decision", summary.run_id),
            "bundle": page_of(BUNDLE_ASSET, summary.run_id),
            **its_campaign(context),
            "deployment": done.id,
            "release": short(str(done.release)),
            "run_id": summary.run_id,
            "path": MetadataValue.path(done.target_path),
            **links,
            **({"notes": list(done.notes)} if done.notes else {}),
        },
    )


def _since(done: Deployment) -> str:
    """What somebody asks who opens the page: which model, where, since when."""
    since = f" since {done.finished_at:%Y-%m-%d %H:%M} UTC" if done.finished_at else ""
    return f"{done.model_version} on {done.target}{since}"


def problems_check(problems: Sequence[str], **metadata: str) -> AssetCheckResult:
    """A check that fails while a target has a problem, and names them."""
    return AssetCheckResult(
        passed=not problems, severity=AssetCheckSeverity.ERROR, metadata={**metadata, "problems": list(problems)}
    )


@partition_check(deployment, EDGE_TARGETS)
def serves_and_is_well(
    context: AssetCheckExecutionContext, campaign: Campaign, edge_runtime: EdgeServerResource
) -> AssetCheckResult:
    """The target serves what its journal says, and the last probe of it was well."""
    targets = open_targets(campaign.state, campaign.target_paths, server=edge_runtime.edge_server)
    health = targets.named(context.partition_key).health()
    return problems_check(
        [*health.problems, *([] if health.model_version else ["it serves nothing"])],
        serves=health.model_version or "nothing",
        since=f"{health.since:%Y-%m-%d %H:%M} UTC" if health.since else "unknown",
    )
