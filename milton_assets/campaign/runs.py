"""The runs of Dagster's that a campaign is made of: which are unfinished, its id, and those that a killed one left.

What belongs here: asking the instance for runs of campaigns, minting the id of a new one, and ending what nobody leads
any more. What does not: starting and following runs (`milton_assets.campaign.children`), and waiting until those of
others are over (`milton_assets.campaign.one_at_a_time`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from milton_assets.assets.evidence import CAMPAIGN_TAG, CONDUCTED_TAG
from milton_assets.jobs import BENCHMARK_MODEL, BENCHMARK_ON_CLASS
from milton_assets.partitions import BENCHMARK_RUNS
from milton_assets.vocabulary.keys import campaign_of, mint_run_id
from resources.dagster_private import launches_elsewhere

ENDED = [DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED]
UNFINISHED = [status for status in DagsterRunStatus if status not in ENDED]


def new_run_id(instance: DagsterInstance) -> str:
    """A run id that nobody has, neither as a partition nor as a campaign that is still being measured."""
    taken = {campaign_of(run_id) for run_id in instance.get_dynamic_partitions(str(BENCHMARK_RUNS.name))}
    taken |= {run.tags.get(CAMPAIGN_TAG, "") for run in instance.get_runs(RunsFilter(statuses=UNFINISHED))}
    return mint_run_id(datetime.now(UTC), taken)


def measuring_for_the_daemon(instance: DagsterInstance) -> list[DagsterRun]:
    """The unfinished runs that a sensor or a schedule asked for, so that they measure a model."""
    found: list[DagsterRun] = []
    for job_name in (BENCHMARK_MODEL, BENCHMARK_ON_CLASS):
        found += instance.get_runs(RunsFilter(job_name=job_name, statuses=UNFINISHED))
    return [run for run in found if CAMPAIGN_TAG in run.tags and CONDUCTED_TAG not in run.tags]


def others_that_led(instance: DagsterInstance, ours: str) -> list[str]:
    """The conductors that led a campaign, on whatever host, and did not come to an end."""
    led = instance.get_runs(RunsFilter(job_name="autobench", statuses=UNFINISHED))
    return [run.run_id for run in led if CAMPAIGN_TAG in run.tags and run.run_id != ours]


def end_what_was_killed(instance: DagsterInstance, conductors: Sequence[str]) -> None:
    """End the runs of killed conductors and free the pool.

    The lock says that their process is gone, and with it every run that was in it; those on workers are cancelled.
    """
    led = [run for run in (instance.get_run_by_id(conductor) for conductor in conductors) if run is not None]
    for conductor in conductors:
        led += instance.get_runs(RunsFilter(tags={CONDUCTED_TAG: conductor}, statuses=UNFINISHED))
    for run in led:
        campaign = run.tags.get(CAMPAIGN_TAG, "its campaign")
        if not run.is_finished and launches_elsewhere(instance) and run.run_id not in conductors:
            cancel(instance, run, f"{campaign} was killed in the middle")
        elif not run.is_finished:
            instance.report_run_failed(run, message=f"its process is gone; {campaign} was killed in the middle")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def cancel(instance: DagsterInstance, run: DagsterRun, why: str) -> None:
    """Cancel a run that a launcher has."""
    instance.report_run_canceling(run, message=why)
    instance.run_launcher.terminate(run.run_id)
