"""The `device_health` asset: what an edge target says of itself while it serves, and the check that calls a person.

What belongs here: wiring. What does not: what health is (`milton_assets.fleet.target`), and what a device watches
(`milton_assets.edge.serving`).
"""

from datetime import timedelta

import pyarrow as pa
from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetExecutionContext,
    FreshnessPolicy,
    Output,
    asset,
)

from milton_assets.assets.beta_features import partition_check
from milton_assets.assets.deployments import deployment, problems_check
from milton_assets.assets.evidence import evidence_output
from milton_assets.assets.guards import guarded
from milton_assets.fleet.target import Health
from milton_assets.partitions import EDGE_TARGETS
from milton_assets.usecases.targets import open_targets
from milton_assets.vocabulary.columns import described
from resources.campaign import Campaign
from resources.evidence_store import EvidenceFile
from resources.model_server import EdgeServerResource

_COLUMNS = pa.schema(
    [
        described("at", pa.timestamp("us", tz="UTC"), "when it was written on the device"),
        described("kind", pa.string(), "what kind of line it is"),
        described("said", pa.string(), "the line in words"),
        described("release", pa.string(), "the release that served then"),
        described("needs_person", pa.bool_(), "whether somebody has to look"),
        described("figures", pa.string(), "the figures of that line, as JSON"),
    ]
)
_PROBLEM = "problem"

HEARD_WITHIN = FreshnessPolicy.time_window(fail_window=timedelta(days=1), warn_window=timedelta(hours=1))
"""How old the newest answer of any device may be before Dagster says that nobody looks; asked every ten minutes. Of one
device that is silent among others tells the run that could not ask it."""


@asset(
    partitions_def=EDGE_TARGETS,
    deps=[deployment],
    io_manager_key="evidence",
    group_name="field",
    freshness_policy=HEARD_WITHIN,
    code_version="1",
    output_required=False,
    kinds={"parquet"},
)
@guarded
def device_health(
    context: AssetExecutionContext, campaign: Campaign, edge_runtime: EdgeServerResource
) -> Output[pa.Table]:
    """What the target tells: a row an event of its journal, and a row for each problem that it has now."""
    targets = open_targets(campaign.state, campaign.target_paths, server=edge_runtime.edge_server)
    health = targets.named(context.partition_key).health()
    return evidence_output(
        table_of(health),
        serves=health.model_version or "nothing",
        well={True: "well", False: "not well", None: "never probed"}[health.well],
        problems=list(health.problems),
    )


def table_of(health: Health) -> pa.Table:
    """Events and problems as rows; a problem has no time, since it is there now."""
    rows = [
        {
            "at": event.at,
            "kind": str(event.kind),
            "said": event.said,
            "release": event.release,
            "needs_person": event.needs_person,
            "figures": event.model_dump_json(include={"figures"}),
        }
        for event in health.events
    ]
    rows += [
        {"at": None, "kind": _PROBLEM, "said": said, "release": health.release, "needs_person": True, "figures": None}
        for said in health.problems
    ]
    return pa.Table.from_pylist(rows, schema=_COLUMNS)


@partition_check(device_health, EDGE_TARGETS)
def nothing_needs_a_person(context: AssetCheckExecutionContext, device_health: EvidenceFile) -> AssetCheckResult:
    """The target has no problem that it cannot help itself."""
    problems = [row["said"] for row in device_health.read().to_pylist() if row["kind"] == _PROBLEM]
    return problems_check(problems)
