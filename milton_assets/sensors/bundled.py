"""What follows once a bundle was made: a deployment to the target of a class, or a rollout to its targets.

What belongs here: which runs a bundle leads to. What does not: a rollout's later turns (`under_way`).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from milton_assets.assets.evidence import CAMPAIGN_TAG
from milton_assets.jobs import (
    DEPLOYMENT_ASSET,
    PROMOTE,
    ROLL_OUT,
    ROLLOUT_ASSET,
    deploy,
    roll_out,
)
from milton_assets.partitions import EDGE_TARGETS, ROLLOUTS
from milton_assets.sensors.ended import ROAD_EVERY_S, asked, ended_since
from milton_assets.vocabulary.keys import campaign_of, rollout_of_run
from resources.campaign import Campaign
from resources.evidence_log import was_bundled


@sensor(
    jobs=[deploy, roll_out],
    minimum_interval_seconds=ROAD_EVERY_S,
    default_status=DefaultSensorStatus.RUNNING,
    description="Takes a new bundle to every target, to several of a class by a rollout; a run that promoted nothing "
    "deploys nothing.",
)
def deploy_when_bundled(context: SensorEvaluationContext, campaign: Campaign) -> SensorResult | SkipReason:
    """Take a new bundle to every target, to several of a class gradually; a run that promoted nothing deploys nothing.

    Whether there is a bundle, the event log says; no store is asked. A rollout's first run plans it, by its class's
    settings; the later ones are `go_on_with_rollouts`' affair.
    """
    if campaign.dry_run:
        return SkipReason("a dry run bundles nothing")
    now, reasons, requests = datetime.now(UTC), list[str](), list[RunRequest]()
    for record in ended_since(context, PROMOTE):
        run_id = record.dagster_run.tags.get("dagster/partition", "")
        if record.dagster_run.status is not DagsterRunStatus.SUCCESS or not was_bundled(context.instance, run_id):
            reasons.append(f"{run_id} promoted nothing")
            continue
        due = list(_deploy_requests(run_id, campaign.classes_of(run_id), campaign))
        requests += [request for request in due if not _was_asked_for(context.instance, request)]
        reasons.append(f"{run_id} is on its way already")
    adding = [
        partitions.build_add_request(keys)
        for partitions, job in ((EDGE_TARGETS, deploy.name), (ROLLOUTS, ROLL_OUT))
        if (keys := [str(request.partition_key) for request in requests if request.job_name == job])
    ]
    return asked(requests, adding, now, "; ".join(reasons) or "no campaign was decided")


def _was_asked_for(instance: DagsterInstance, request: RunRequest) -> bool:
    of_key = RunsFilter(job_name=request.job_name, tags={"dagster/run_key": str(request.run_key)})
    return instance.get_runs_count(of_key) > 0


def _deploy_requests(run_id: str, classes: Mapping[str, Sequence[str]], campaign: Campaign) -> Iterator[RunRequest]:
    for name, targets in classes.items():
        if len(targets) == 1:
            job, key, asset, config = deploy.name, targets[0], DEPLOYMENT_ASSET, {"run_id": run_id}
        else:
            job, key, asset = ROLL_OUT, rollout_of_run(run_id, name), ROLLOUT_ASSET
            config = {"run_id": run_id, "device_class": name}
        yield RunRequest(
            run_key=f"{run_id}:{key}",
            job_name=job,
            partition_key=key,
            tags={CAMPAIGN_TAG: campaign_of(run_id), **campaign.queue_tags(job, key, name)},
            run_config={"ops": {asset: {"config": config}}},
        )
