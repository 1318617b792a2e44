"""The `rollout` asset: a release taken to several devices of one class, one run a wave and never a run a device.

What belongs here: wiring, and what a wave leaves behind: the deployments in the run's summary, the rollout's page, the
champion. What does not: what a rollout does (`milton_assets.rollout`) and putting one together
(`milton_assets.usecases.rollouts`), which the command line shares.

A run takes the wave that is open as far as it comes, and ends; the sensor `go_on_with_rollouts` asks for the next one.
Its state is the rollout's own journal, so a run that is killed at any point is followed by another.
"""

import getpass
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetCheckSeverity,
    AssetDep,
    AssetExecutionContext,
    AssetMaterialization,
    Config,
    LastPartitionMapping,
    MetadataValue,
    Output,
    asset,
)
from pydantic import Field

from milton_assets.assets.beta_features import partition_check, versioned_output
from milton_assets.assets.bundles import edge_bundle
from milton_assets.assets.deployments import WINDOWS, deployment
from milton_assets.assets.guards import guarded
from milton_assets.assets.links import page_of
from milton_assets.assets.pages import kept_page, told_elsewhere
from milton_assets.edge.deployment.choosing import choose_bundle
from milton_assets.fleet.targets import Targets
from milton_assets.partitions import EDGE_TARGETS, ROLLOUTS
from milton_assets.rollout.events import Event
from milton_assets.rollout.planning import what_it_takes
from milton_assets.rollout.states import Phase, Rollout, Stage
from milton_assets.rollout.turns import next_turn
from milton_assets.selection.summary import DeploymentRecord, add_deployments, read_summary, run_ids
from milton_assets.usecases.rollout_report import keep_rollout_page
from milton_assets.usecases.rollouts import (
    Reach,
    folder_of,
    let_go_first,
    names_of,
    plan_rollout,
    rollout_of,
    take_turn,
    wanted_of,
)
from milton_assets.usecases.shared_bundles import bring
from milton_assets.usecases.shared_history import hand_on_history
from milton_assets.usecases.targets import open_targets
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import class_of
from resources.campaign import Campaign
from resources.evidence_log import BUNDLE_ASSET, check_manifest
from resources.evidence_store import EvidenceStore
from resources.model_server import EdgeServerResource
from resources.parquet_io import EvidenceStoreResource
from resources.registry_resource import RegistryResource

NEXT_TURN = "next_turn_at"
"""In what a turn says of itself: from when on another can do something, in ISO 8601, empty where none can by itself.
The sensor goes by it where the journal lies on another host than the daemon."""
_TOLD = frozenset({"started", "joined", "wave_opened", "paused", "resumed", "stopped", "aborted", "finished"})
"""The events that a run's log tells; each device's are in the rollout's journal, and on its page."""


class RolloutConfig(Config):
    """Which run's bundle is taken to the targets of which class, where the rollout is not planned yet."""

    run_id: str = Field(default="", description="A benchmark run; empty goes on with a rollout that is planned.")
    device_class: str = Field(default="", description="The device class whose targets get that run's bundle.")


@asset(
    partitions_def=ROLLOUTS,
    deps=[AssetDep(edge_bundle, partition_mapping=LastPartitionMapping())],
    group_name="rollout",
    code_version="1",
    output_required=False,
    kinds={"file"},
)
@guarded
def rollout(
    context: AssetExecutionContext,
    config: RolloutConfig,
    campaign: Campaign,
    registry: RegistryResource,
    evidence_store: EvidenceStoreResource,
    edge_runtime: EdgeServerResource,
) -> Output[dict[str, str]]:
    """Take the rollout through the wave that is open: planned by its class's settings, stopped by evidence."""
    name = context.partition_key

    def targets() -> Targets:
        named, classes = campaign.target_paths, campaign.target_classes
        return open_targets(campaign.state, named, server=edge_runtime.edge_server, classes=classes)

    def hand_on(changed: Targets, names: Sequence[str]) -> None:
        for target in names:
            hand_on_history(evidence_store.store, changed, target)

    reach = Reach(campaign.state, targets, lambda: campaign.target_paths, registry.store, hand_on)
    if name not in names_of(campaign.state):
        _plan(context, config, campaign, reach, evidence_store)

    def tell(event: Event, state: Rollout) -> None:
        if event.kind in _TOLD:
            context.log.info(f"{event.kind.replace('_', ' ')}: {getattr(event, 'reason', state.stage)}")

    state = take_turn(reach, name, actor=getpass.getuser(), heard=tell)
    _keep_deployments(context, campaign, evidence_store.store, state, reach.targets())
    page = keep_rollout_page(campaign.state, name, now=datetime.now(UTC))
    if state.plan.run_id in run_ids(evidence_store.store.runs):
        kept_page(context, campaign, evidence_store.store, reach.targets(), state.plan.run_id)
        told_elsewhere(context, campaign, evidence_store.store, reach.targets(), state.plan.run_id)
    ended = datetime.now(UTC)
    due = next_turn(state, ended, ended)
    return versioned_output(
        {"rollout": name, "stage": state.stage.value, "release": state.plan.release},
        state.plan.release,
        {
            "stage": state.stage.value,
            "why": state.why or "nothing stops it",
            "wave": f"{state.wave + 1} of {len(state.plan.waves)}",
            "stood": state.well,
            "failed": state.failed,
            "not begun yet": state.undecided,
            "exposed": f"{len(state.exposed())} of at most {state.exposure_bound}",
            NEXT_TURN: due.isoformat() if due else "",
            "page": MetadataValue.path(page),
            "decision": page_of("selection_decision", state.plan.run_id),
            "bundle": page_of(BUNDLE_ASSET, state.plan.run_id),
            "model_version": state.plan.model_version,
            "run_id": state.plan.run_id,
            "path": MetadataValue.path(folder_of(campaign.state, name)),
        },
    )


def _plan(
    context: AssetExecutionContext,
    config: RolloutConfig,
    campaign: Campaign,
    reach: Reach,
    evidence_store: EvidenceStoreResource,
) -> None:
    """Plan the rollout as the settings of its class have it."""
    name = context.partition_key
    names = campaign.classes_of(config.run_id).get(config.device_class, []) if config.run_id else []
    if not names:
        raise BadInput(
            f"there is no rollout {name}, and the run's configuration names no run and class to plan one for",
            expected="a rollout that was planned, or run_id and device_class of targets that get that run's winner",
            remedy=f"`milton rollout plan {name}` plans one",
        )
    store, device_class = evidence_store.store, class_of(config.run_id)
    bring(store, campaign.state.bundles, run_id=config.run_id, device_class=device_class)
    choice = choose_bundle(
        campaign.state.bundles, kind=campaign.artifact, run_id=config.run_id, device_class=device_class
    )
    check_manifest(context.instance, store, read_summary(store.runs, config.run_id).manifest)
    window = WINDOWS[campaign.profile]
    wanted = wanted_of(
        campaign.rollout_to(config.device_class),
        names,
        config.device_class,
        health_rounds=window.rounds,
        health_interval_s=window.interval_s,
    )
    plan = plan_rollout(reach, name, choice.path, wanted, actor=getpass.getuser())
    for sentence in what_it_takes(plan):
        context.log.info(sentence)
    for other in let_go_first(reach, name):
        context.log.info(f"paused {other}, which takes an older release to the same devices")


def _keep_deployments(
    context: AssetExecutionContext, campaign: Campaign, store: EvidenceStore, state: Rollout, targets: Targets
) -> None:
    """Note every device that stood in the run's summary and at its deployment's partition, each once."""
    run_id, runs = state.plan.run_id, store.runs
    if run_id not in run_ids(runs):
        return
    noted = {done.id for done in read_summary(runs, run_id).deployments}
    records = []
    for device in state.each():
        if device.phase is not Phase.STOOD or device.deployment is None or device.deployment in noted:
            continue
        told = next((one for one in targets.mirrored(device.name) if one.id == device.deployment), None)
        place = campaign.state.tell(Path(told.target_path)) if told else targets.named(device.name).url
        records.append(
            DeploymentRecord(id=device.deployment, target=device.name, path=place, release=state.plan.release)
        )
    add_deployments(runs, run_id, records)
    context.instance.add_dynamic_partitions(str(EDGE_TARGETS.name), [record.target for record in records])
    for record in records:
        context.log_event(
            AssetMaterialization(
                deployment.key,
                partition=record.target,
                description=f"by the rollout {state.plan.rollout}",
                metadata={
                    "model_version": state.plan.model_version,
                    "deployment": record.id,
                    "release": record.release,
                    "run_id": run_id,
                    "rollout": page_of("rollout", state.plan.rollout),
                },
            )
        )


@partition_check(rollout, ROLLOUTS)
def nobody_has_to_decide(context: AssetCheckExecutionContext, campaign: Campaign) -> AssetCheckResult:
    """The evidence did not stop the rollout, no wave waits for a person, and it was not taken back."""
    state = rollout_of(campaign.state, context.partition_key)
    failed = [f"{device.name}: {device.reason}" for device in state.each() if device.phase is Phase.FAILED]
    return AssetCheckResult(
        passed=state.stage in {Stage.RUNNING, Stage.DONE},
        severity=AssetCheckSeverity.ERROR,
        metadata={"stage": state.stage.value, "why": state.why, "failed": failed[:20]},
    )
