"""Runs that ended, and those that nobody will begin: what the sensors of the road look at, from the last tick on.

What belongs here: how far back a tick looks, and how it says what it found. What does not: what follows from it
(`measured`, `bundled`).
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    RunRecord,
    RunRequest,
    RunsFilter,
    SensorEvaluationContext,
    SensorResult,
)

from milton_assets.assets.evidence import CONDUCTED_TAG
from milton_assets.campaign.runs import ENDED
from resources.dagster_private import never_begun

ROAD_EVERY_S = 10
"""How often it is looked whether a decision or a deployment is due."""

OVERLAP = timedelta(minutes=10)
"""How far back a tick looks beyond the last one: hosts' clocks differ, and what waited then may be due now."""

BEGUN_WITHIN = timedelta(minutes=2)
"""A run that is starting for longer waits for a worker, or was lost on its way to one."""


def ended_since(context: SensorEvaluationContext, job_name: str) -> list[RunRecord]:
    """The runs of that job that ended since the last tick; not those of a conductor, who sees to them."""
    since = datetime.fromisoformat(context.cursor) if context.cursor else datetime.now(UTC)
    ended = RunsFilter(job_name=job_name, statuses=ENDED, updated_after=since - OVERLAP)
    records = context.instance.get_run_records(ended, ascending=True)
    return [record for record in records if CONDUCTED_TAG not in record.dagster_run.tags]


def asked(requests: list[RunRequest], adding: Sequence[Any], now: datetime, otherwise: str) -> SensorResult:
    """These requests, or why there are none; the next tick looks from `now` on."""
    if not requests:
        return SensorResult(skip_reason=otherwise, cursor=now.isoformat())
    return SensorResult(run_requests=requests, dynamic_partitions_requests=adding, cursor=now.isoformat())


def end_never_begun(instance: DagsterInstance, now: datetime) -> None:
    """End runs that have been starting for minutes and that nobody will begin, so that they are started again."""
    starting = instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTING], updated_before=now - BEGUN_WITHIN))
    for run_id, why in never_begun(instance, starting).items():
        run = instance.get_run_by_id(run_id)
        if run is not None and run.status is DagsterRunStatus.STARTING:
            instance.report_run_failed(run, why)
