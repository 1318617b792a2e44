"""A campaign's child runs: one job for one partition each, in this process or, where there are some, on workers.

    done = run_child(campaign, Child(PROMOTE, run_id, BENCHMARK_RUNS))      # whether it succeeded

What belongs here: starting, handing over and following child runs, so that the campaign's page leads to them and theirs
to the campaign. What does not: which runs a campaign wants, and when (`milton_assets.campaign.stages`), and runs that
are none of this campaign's (`milton_assets.campaign.runs`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dagster import (
    DagsterExecutionInterruptedError,
    DagsterRunStatus,
    DynamicPartitionsDefinition,
    JobDefinition,
    MetadataValue,
    MultiPartitionKey,
    MultiPartitionsDefinition,
    RunsFilter,
)

from milton_assets.assets.evidence import CAMPAIGN_TAG, CONDUCTED_TAG
from milton_assets.assets.links import page_of, runs_of_campaign
from milton_assets.campaign.runs import UNFINISHED, cancel
from milton_assets.campaign.under_way import UnderWay
from milton_assets.jobs import (
    BENCHMARK_MODEL,
    BENCHMARK_ON_CLASS,
    DEPLOY,
    DEPLOYMENT_ASSET,
    PROMOTE,
    ROLL_OUT,
    ROLLOUT_ASSET,
)
from milton_assets.partitions import keys_added
from milton_assets.vocabulary.tier import asset_on_class
from resources.console_logger import logged_at, was_interrupted
from resources.dagster_private import (
    NEVER_RETRIED,
    ended_run,
    launch_child,
    launches_elsewhere,
    mark_on_page,
    start_child,
)
from resources.evidence_log import DECISION_ASSET, REGISTRY_ENTRY_ASSET

_POLL_S = 0.5

_ABOUT = {
    BENCHMARK_MODEL: REGISTRY_ENTRY_ASSET,
    BENCHMARK_ON_CLASS: asset_on_class("inference"),
    PROMOTE: DECISION_ASSET,
    DEPLOY: DEPLOYMENT_ASSET,
    ROLL_OUT: ROLLOUT_ASSET,
}
"""The asset that a child of that job is about, to whose page the campaign's leads."""


@dataclass(frozen=True)
class Child:
    """A run that a campaign wants: one job for one partition. `assets` narrows it to these of the job's."""

    job_name: str
    partition: str
    partitions: DynamicPartitionsDefinition | MultiPartitionsDefinition
    tags: Mapping[str, str] = field(default_factory=dict)
    ops: Mapping[str, Any] = field(default_factory=dict)
    assets: Sequence[str] = ()

    @property
    def name(self) -> str:
        """What it is called on the campaign's page."""
        return f"{self.job_name} of {self.partition}"


def run_child(campaign: UnderWay, wanted: Child) -> bool:
    """Run it to its end; whether it succeeded. An interrupt stops the conductor too.

    It runs in this process, or where the instance launches runs on workers, on one of them.
    The partition is added now and no sooner: one that never ran would stand as missing in the UI for ever.
    """
    if launches_elsewhere(campaign.instance):
        return followed(campaign, wanted, launched(campaign, wanted))
    job = _job_of(campaign, wanted)
    given: Mapping[str, Any] = campaign.context.run.run_config
    resources = {key: config for key, config in given.get("resources", {}).items() if key in job.resource_defs}
    config = {
        **logged_at(campaign.settings.log_level),
        "resources": {**resources, **campaign.settings.pinned()},
        "ops": dict(wanted.ops),
    }
    run, events = start_child(
        job,
        campaign.instance,
        parent=campaign.context.run_id,
        partition=wanted.partition,
        tags={**_of_campaign(campaign), **NEVER_RETRIED, **wanted.tags},
        run_config=config,
        assets=wanted.assets,
    )
    _begins(campaign, wanted, run.run_id)
    succeeded = False
    for event in events:
        succeeded = succeeded or event.is_job_success
        if was_interrupted(event):
            # Otherwise Dagster would call it a failure, and show the stack of the interrupt.
            campaign.instance.report_run_canceling(run, message="interrupted together with its campaign")
            list(events)
            raise DagsterExecutionInterruptedError
    _ends(campaign, wanted, run.run_id, succeeded=succeeded)
    return succeeded


def launched(campaign: UnderWay, wanted: Child) -> str:
    """Hand it to the instance's launcher, unless this conductor has done so and it is under way; the run's id.

    Its resources are those of the worker's settings: paths of this host are no paths there.
    """
    job_name, partition = wanted.job_name, wanted.partition
    ours = {CONDUCTED_TAG: campaign.context.run_id, "dagster/partition": str(partition)}
    for run in campaign.instance.get_runs(RunsFilter(job_name=job_name, tags=ours), limit=1):
        if ended_run(campaign.instance, run.run_id) is None:
            return run.run_id
    places = partition.keys_by_dimension.values() if isinstance(partition, MultiPartitionKey) else [partition]
    queue = campaign.settings.queue_tags(job_name, *places)
    run = launch_child(
        _job_of(campaign, wanted),
        campaign.instance,
        parent=campaign.context.run_id,
        partition=partition,
        tags={**_of_campaign(campaign), **queue, **wanted.tags},
        run_config={**logged_at(campaign.settings.log_level), "ops": dict(wanted.ops)},
        assets=wanted.assets,
    )
    _begins(campaign, wanted, run.run_id)
    campaign.say(f"{wanted.name}: handed to {' '.join(queue.values()) or 'the workers'}")
    return run.run_id


def followed(campaign: UnderWay, wanted: Child, run_id: str) -> bool:
    """Wait until that run, or the one that the daemon started in its place, is over; whether it succeeded.

    An interrupt cancels it, and all others that this conductor handed over.
    """
    try:
        while (ended := ended_run(campaign.instance, run_id)) is None:
            time.sleep(_POLL_S)
    except DagsterExecutionInterruptedError:
        ours = RunsFilter(tags={CONDUCTED_TAG: campaign.context.run_id}, statuses=UNFINISHED)
        for run in campaign.instance.get_runs(ours):
            cancel(campaign.instance, run, "interrupted together with its campaign")
        raise
    succeeded = ended.status is DagsterRunStatus.SUCCESS
    _ends(campaign, wanted, ended.run_id, succeeded=succeeded)
    return succeeded


def wait_for_accelerator(campaign: UnderWay) -> None:
    """Wait, and say so, while other runs hold every place of the pool: inside a child the wait would be silent."""
    said = False
    while True:
        info = campaign.instance.event_log_storage.get_concurrency_info(campaign.settings.accelerator_pool)
        if not info.claimed_slots or len(info.claimed_slots) < (info.limit or info.slot_count):
            return
        if not said:
            holders = ", ".join(sorted(slot.run_id for slot in info.claimed_slots))
            campaign.say(f"waiting for the accelerator, which Dagster run {holders} holds; Ctrl-C stops the waiting")
            said = True
        time.sleep(_POLL_S)


def _of_campaign(campaign: UnderWay) -> dict[str, str]:
    return {CONDUCTED_TAG: campaign.context.run_id, CAMPAIGN_TAG: campaign.run_id}


def _job_of(campaign: UnderWay, wanted: Child) -> JobDefinition:
    """Its job, for whose run the partition is there now."""
    job = campaign.context.repository_def.get_job(wanted.job_name)
    for name, key in keys_added(wanted.partitions, wanted.partition):
        campaign.instance.add_dynamic_partitions(name, [key])
    return job


def _begins(campaign: UnderWay, wanted: Child, run_id: str) -> None:
    """Have the campaign's page say how far it is and lead to the child, and the child's lead to the campaign."""
    done, of = campaign.measurements()
    said = f"{wanted.name} begins; {done} of {of} measurements are done"
    _mark(campaign, wanted, run_id, said, begins=wanted.name)
    _lead_back(campaign, run_id)


def _ends(campaign: UnderWay, wanted: Child, run_id: str, *, succeeded: bool) -> None:
    """Have the campaign's page say how the run ended, and the run's lead to the campaign once more."""
    said = f"{wanted.name} {'succeeded' if succeeded else 'failed'}"
    _mark(campaign, wanted, run_id, said, ends=wanted.name)
    _lead_back(campaign, run_id)


def _mark(campaign: UnderWay, wanted: Child, run_id: str, said: str, **bar: str) -> None:
    """A line on the campaign's page, where each child is a bar of its own in the chart."""
    links = {
        "run": MetadataValue.dagster_run(run_id),
        "its asset": page_of(_ABOUT[wanted.job_name], wanted.partition),
    }
    context = campaign.context
    mark_on_page(campaign.instance, context.run_id, said, links, step=context.op.name, **bar)


def _lead_back(campaign: UnderWay, run_id: str) -> None:
    """Have the child's page lead to the campaign: as the first line for who watches it, as the last for who comes
    later, since a page opens at its end."""
    links = {
        "campaign": MetadataValue.dagster_run(campaign.context.run_id),
        "its runs": runs_of_campaign(campaign.run_id),
    }
    mark_on_page(campaign.instance, run_id, f"part of the campaign {campaign.run_id}", links)
