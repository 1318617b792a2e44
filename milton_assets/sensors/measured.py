"""What follows once a campaign's models are measured: reference devices, the decisions, anchors.

What belongs here: when a campaign lacks nothing any more, and what it is decided on again for. What does not: deciding,
and what a decision leads to (`bundled`).
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from dagster import (
    AssetKey,
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    MultiPartitionKey,
    RunRecord,
    RunRequest,
    RunsFilter,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)

from milton_assets.assets.evidence import AGAIN_TAG, ANCHOR_TAG, CAMPAIGN_TAG
from milton_assets.campaign.runs import UNFINISHED, new_run_id
from milton_assets.jobs import (
    PROMOTE,
    benchmark_model,
    benchmark_on_class,
    promote,
)
from milton_assets.partitions import BENCHMARK_RUNS, DEVICE_CLASSES, MODEL_VERSIONS
from milton_assets.sensors.ended import ROAD_EVERY_S, asked, end_never_begun, ended_since
from milton_assets.vocabulary.keys import class_of
from milton_assets.vocabulary.named_weights import NamedWeights
from milton_assets.vocabulary.tier import asset_of
from resources.campaign import Campaign
from resources.dagster_private import retry_is_decided, will_be_retried
from resources.evidence_log import REGISTRY_ENTRY_ASSET, due_after

RETRY_DECIDED_WITHIN = timedelta(seconds=60)
"""Until then after its failure it may be unknown whether a run is started again."""


def _unfinished(instance: DagsterInstance, campaign_id: str, now: datetime) -> int:
    """How many models of the campaign are still to be measured; those whose failed run is started again among them."""
    of_campaign = {CAMPAIGN_TAG: campaign_id}
    count = 0
    for job in (benchmark_model, benchmark_on_class):
        count += instance.get_runs_count(RunsFilter(job_name=job.name, tags=of_campaign, statuses=UNFINISHED))
        failed = RunsFilter(job_name=job.name, tags=of_campaign, statuses=[DagsterRunStatus.FAILURE])
        for record in instance.get_run_records(failed):
            run, ended = record.dagster_run, datetime.fromtimestamp(record.end_time or now.timestamp(), UTC)
            unknown = not retry_is_decided(instance, run.run_id) and now - ended < RETRY_DECIDED_WITHIN
            count += unknown or will_be_retried(run)
    return count


def _undecided(
    instance: DagsterInstance, campaign: Campaign, campaign_id: str, measured: Sequence[RunRecord]
) -> list[RunRequest]:
    """The decisions that are due once the runs `measured` are over.

    Those of the campaign, if it has none; and, if all had begun before one of those runs had measured its model,
    decisions under an id of their own.
    """
    runs, queue = campaign.runs_of(campaign_id), campaign.queue_tags(PROMOTE)
    begun = [instance.get_run_records(RunsFilter(job_name=PROMOTE, tags={"dagster/partition": key})) for key in runs]
    left = [run_id for run_id, records in zip(runs, begun, strict=True) if not records]
    if left:
        return [
            RunRequest(
                run_key=run_id, job_name=PROMOTE, partition_key=run_id, tags={CAMPAIGN_TAG: campaign_id, **queue}
            )
            for run_id in left
        ]
    succeeded = [record for record in measured if record.dagster_run.status is DagsterRunStatus.SUCCESS]
    ended = max((record.end_time or 0.0 for record in succeeded), default=0.0)
    decisions = [record for records in begun for record in records]
    decisions += instance.get_run_records(RunsFilter(job_name=PROMOTE, tags={AGAIN_TAG: campaign_id}))
    if any(decision.start_time is None or decision.start_time >= ended for decision in decisions):
        return []
    again = new_run_id(instance)
    return [
        RunRequest(
            run_key=f"{campaign_id}:again:{len(decisions)}:{class_of(run_id) or ''}",
            job_name=PROMOTE,
            partition_key=run_id,
            tags={CAMPAIGN_TAG: again, AGAIN_TAG: campaign_id, **queue},
        )
        for run_id in campaign.runs_of(again)
    ]


def _class_requests(instance: DagsterInstance, campaign: Campaign, campaign_id: str) -> list[RunRequest]:
    """Runs on reference devices that the campaign still lacks: every model that was measured here, on every class."""
    if not campaign.class_references:
        return []
    of_campaign = {CAMPAIGN_TAG: campaign_id}
    measured = instance.get_runs(
        RunsFilter(job_name=benchmark_model.name, tags=of_campaign, statuses=[DagsterRunStatus.SUCCESS])
    )
    versions = {run.tags["dagster/partition"]: run.tags.get(ANCHOR_TAG) for run in measured}
    begun = {
        tuple(run.tags.get(f"dagster/partition/{name}") for name in ("device_class", "model_version"))
        for run in instance.get_runs(RunsFilter(job_name=benchmark_on_class.name, tags=of_campaign))
    }
    return [
        RunRequest(
            run_key=f"{campaign_id}:{name}:{version}",
            job_name=benchmark_on_class.name,
            partition_key=MultiPartitionKey({"device_class": name, "model_version": version}),
            tags=of_campaign
            | ({ANCHOR_TAG: anchor} if anchor is not None else {})
            | campaign.queue_tags(benchmark_on_class.name, name),
        )
        for name in campaign.class_references
        for version, anchor in sorted(versions.items())
        if (name, version) not in begun
    ]


def _anchor_requests(instance: DagsterInstance, campaign: Campaign, campaign_id: str) -> list[RunRequest]:
    """Runs that measure again the anchors which the campaign's decisions lacked figures of; once they have, it is
    decided again, as after any model that was measured late.

    One that the campaign measured, or tried to, is left to the next.
    """
    of_campaign = {CAMPAIGN_TAG: campaign_id}
    measured = instance.get_runs(RunsFilter(job_name=benchmark_model.name, tags=of_campaign))
    tried = {run.tags.get(ANCHOR_TAG) for run in measured}
    due: dict[str, list[str]] = {}
    for run_id in campaign.runs_of(campaign_id):
        for tag, tiers in due_after(instance, run_id).items():
            due.setdefault(tag, []).extend(tiers)
    return [
        RunRequest(
            run_key=f"{campaign_id}:{NamedWeights.of(tag).anchor_key}",
            job_name=benchmark_model.name,
            partition_key=NamedWeights.of(tag).anchor_key,
            asset_selection=[AssetKey(name) for name in (REGISTRY_ENTRY_ASSET, *map(asset_of, dict.fromkeys(tiers)))],
            tags=of_campaign | {ANCHOR_TAG: tag} | campaign.queue_tags(benchmark_model.name),
        )
        for tag, tiers in due.items()
        if tag not in tried
    ]


@sensor(
    jobs=[promote, benchmark_on_class, benchmark_model],
    minimum_interval_seconds=ROAD_EVERY_S,
    default_status=DefaultSensorStatus.RUNNING,
    description="Once no run of a campaign is left to measure a model: requests those on reference devices, then the "
    "decisions. Ends runs that no worker will ever begin.",
)
def promote_when_measured(context: SensorEvaluationContext, campaign: Campaign) -> SensorResult:
    """Decide each campaign once no run of it is left, failed ones included: one bad model fails alone."""
    now, requests, reasons = datetime.now(UTC), list[RunRequest](), list[str]()
    end_never_begun(context.instance, now)
    classes = False
    for campaign_id, measured in _campaigns_measured(context).items():
        if unfinished := _unfinished(context.instance, campaign_id, now):
            reasons.append(f"{campaign_id} still has {unfinished} models to measure")
        elif lacking := _class_requests(context.instance, campaign, campaign_id):
            requests += lacking
            classes = True
        elif due := _undecided(context.instance, campaign, campaign_id, measured):
            requests += due
        elif anchors := _anchor_requests(context.instance, campaign, campaign_id):
            requests += anchors
        else:
            reasons.append(f"{campaign_id} was decided already")
    keys = [str(request.partition_key) for request in requests if request.job_name == PROMOTE]
    adding = [BENCHMARK_RUNS.build_add_request(keys)] if keys else []
    anchors_asked = [str(request.partition_key) for request in requests if ANCHOR_TAG in request.tags]
    adding += [MODEL_VERSIONS.build_add_request(anchors_asked)] if anchors_asked else []
    adding += [DEVICE_CLASSES.build_add_request(list(campaign.class_references))] if classes else []
    return asked(requests, adding, now, "; ".join(reasons) or "no campaign's model was measured")


def _campaigns_measured(context: SensorEvaluationContext) -> dict[str, list[RunRecord]]:
    """By campaign, its measuring runs that ended since the last tick."""
    found: dict[str, list[RunRecord]] = {}
    for job in (benchmark_model, benchmark_on_class):
        for record in ended_since(context, job.name):
            if campaign_id := record.dagster_run.tags.get(CAMPAIGN_TAG):
                found.setdefault(campaign_id, []).append(record)
    return found
