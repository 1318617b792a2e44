"""The schedule: measure every candidate again every six hours, through the queue.

What belongs here: when. What does not: what a campaign is. Without a daemon, `systemd/` does the same by a timer.
See https://docs.dagster.io/guides/automate/schedules
"""

from collections.abc import Iterator

from dagster import RunRequest, ScheduleEvaluationContext, SkipReason, schedule

from milton_assets.campaign.one_at_a_time import campaign_holder
from milton_assets.campaign.runs import new_run_id
from milton_assets.jobs import benchmark_model
from milton_assets.partitions import MODEL_VERSIONS
from milton_assets.sensors.registered import benchmark_request
from milton_assets.vocabulary.keys import mint_variants_seed
from resources.campaign import Campaign
from resources.registry_resource import RegistryResource


@schedule(
    job=benchmark_model,
    cron_schedule="0 */6 * * *",
    execution_timezone="UTC",
    description="Measures every candidate again. Off until it is switched on: under Automation in the UI, or by "
    "`dagster schedule start every_six_hours`.",
)
def every_six_hours(
    context: ScheduleEvaluationContext, registry: RegistryResource, campaign: Campaign
) -> Iterator[RunRequest | SkipReason]:
    """A campaign over every candidate."""
    candidates = registry.read().candidates()
    if not candidates:
        yield SkipReason("the registry has no candidates")
        return
    if holder := campaign_holder(context.instance, campaign.state.campaign_lock):
        yield SkipReason(f"a campaign is running already ({holder})")
        return
    campaign_id, seed = new_run_id(context.instance), mint_variants_seed()
    context.instance.add_dynamic_partitions(str(MODEL_VERSIONS.name), [entry.version for entry in candidates])
    for entry in candidates:
        yield benchmark_request(entry, campaign_id, seed, campaign, run_key=f"{campaign_id}:{entry.version}")


SCHEDULES = [every_six_hours]
