"""The asset jobs: one per partition definition, and one that only looks.

What belongs here: the asset jobs. What does not: what the assets do, and the job that chains these (`conductor`).
Dagster lets no asset job mix partition definitions, hence five; looking after devices changes nothing on them.
See https://docs.dagster.io/guides/build/jobs
"""

from __future__ import annotations

from dagster import AssetSelection, define_asset_job, in_process_executor

BENCHMARK_MODEL = "benchmark_model"
BENCHMARK_ON_CLASS = "benchmark_on_class"
PROMOTE = "promote"
DEPLOY = "deploy"

ROLL_OUT = "roll_out"

DEPLOYMENT_ASSET = "deployment"
"""The asset of the `deploy` job, whose configuration names the benchmark run."""
ROLLOUT_ASSET = "rollout"
"""The asset of the `roll_out` job, whose configuration names the benchmark run."""

benchmark_model = define_asset_job(
    BENCHMARK_MODEL,
    selection=AssetSelection.groups("entry", "tiers"),
    executor_def=in_process_executor,
    description="Validate one model version's registry entry and measure it by every tier that is installed.",
)

benchmark_on_class = define_asset_job(
    BENCHMARK_ON_CLASS,
    selection=AssetSelection.groups("tiers_on_class"),
    executor_def=in_process_executor,
    description="Measure one model version's speed on the reference device of one class.",
)

promote = define_asset_job(
    PROMOTE,
    selection=AssetSelection.groups("decision", "bundle"),
    executor_def=in_process_executor,
    description="Decide on the evidence of one benchmark run, and bundle the winner.",
)

deploy = define_asset_job(
    DEPLOY,
    selection=AssetSelection.groups("deployment"),
    executor_def=in_process_executor,
    description="Take the newest bundle to one edge target.",
)

roll_out = define_asset_job(
    ROLL_OUT,
    selection=AssetSelection.groups("rollout"),
    executor_def=in_process_executor,
    description="Take a rollout through the wave that is open, whatever number of devices that is.",
)

look_after = define_asset_job(
    "look_after",
    selection=AssetSelection.groups("field"),
    executor_def=in_process_executor,
    description="Ask one edge target what it is and how it does.",
)
