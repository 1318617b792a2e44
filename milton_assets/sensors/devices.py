"""Looking after devices: a run that asks each of them how it does.

What belongs here: how often. What does not: what they are asked (`milton_assets.assets.health`).
"""

import time

from dagster import (
    DefaultSensorStatus,
    RunRequest,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from milton_assets.jobs import (
    look_after,
)
from milton_assets.partitions import EDGE_TARGETS
from resources.campaign import Campaign


@sensor(
    job=look_after,
    minimum_interval_seconds=600,
    default_status=DefaultSensorStatus.STOPPED,
    description="Asks every target how it does; the check on `device_health` says who needs a person.",
)
def look_after_devices(context: SensorEvaluationContext, campaign: Campaign) -> SensorResult | SkipReason:
    """Ask every target how it does. The runs reach the network; this only asks for them, once in ten minutes."""
    targets = campaign.target_names()
    if campaign.dry_run:
        return SkipReason("a dry run asks nobody")
    tick = f"{int(time.time() // 600)}"
    return SensorResult(
        run_requests=[
            RunRequest(
                run_key=f"health:{target}:{tick}",
                partition_key=target,
                tags=campaign.queue_tags(look_after.name, target),
            )
            for target in targets
        ],
        dynamic_partitions_requests=[EDGE_TARGETS.build_add_request(targets)],
    )
