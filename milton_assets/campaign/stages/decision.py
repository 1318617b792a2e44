"""The stage that decides and bundles, once for each class that gets a winner of its own.

What belongs here: which decisions are left to take. What does not: deciding (`milton_assets.selection`).
"""

from __future__ import annotations

from dagster import DagsterRunStatus, RunsFilter

from milton_assets.campaign.children import Child, run_child
from milton_assets.campaign.under_way import UnderWay
from milton_assets.jobs import PROMOTE
from milton_assets.partitions import BENCHMARK_RUNS
from milton_assets.vocabulary.errors import MiltonError


def decide(campaign: UnderWay) -> None:
    """Decide and bundle for each class, unless this campaign did so before it was interrupted.

    Raises `MiltonError`.
    """
    for run_id in campaign.decided:
        campaign.say(f"{run_id}: deciding")
        done = RunsFilter(job_name=PROMOTE, tags={"dagster/partition": run_id}, statuses=[DagsterRunStatus.SUCCESS])
        if campaign.instance.get_runs_count(done):
            continue
        if not run_child(campaign, Child(PROMOTE, run_id, BENCHMARK_RUNS)):
            raise MiltonError(
                f"the promote run of {run_id} failed",
                remedy="mend what is said above; the same command then decides on what was measured, and measures "
                "nothing again",
            )
