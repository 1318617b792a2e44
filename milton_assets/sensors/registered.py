"""Benchmarking what is registered: a queued `benchmark_model` run of each new or changed entry, once.

What belongs here: which entries are new, and whose runs were lost with their worker and are asked for again. What does
not: new goldens (`milton_assets.schedules`), and what follows once all are measured (`measured`).
"""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Self

from dagster import (
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)
from pydantic import RootModel

from milton_assets.assets.evidence import CAMPAIGN_TAG, CONDUCTED_TAG, VARIANTS_TAG
from milton_assets.campaign.one_at_a_time import campaign_holder
from milton_assets.campaign.runs import new_run_id
from milton_assets.jobs import (
    benchmark_model,
)
from milton_assets.partitions import MODEL_VERSIONS
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.keys import mint_variants_seed
from milton_assets.vocabulary.registry import RegistryEntry, RegistryMissing
from resources.campaign import Campaign
from resources.dagster_private import was_lost
from resources.evidence_log import logged_content_digests
from resources.registry_resource import RegistryResource

HASH_BUDGET_S = 20.0
"""What a tick may spend on hashing new files; a sensor has 60 s. The next tick goes on from there."""

MAX_REQUESTS = 200
"""How many runs a tick asks for: the daemon makes each before it saves the cursor. The next tick asks for more."""

LOST_FOR = timedelta(minutes=10)
"""How long ago a lost run must have ended before its model is asked for again: Dagster's own retries come first."""

LOST_WITHIN = timedelta(days=2)
LOST_AT_MOST = 6
"""A model whose runs were lost so often within `LOST_WITHIN` may be what kills its workers: a person has to look."""


@sensor(
    job=benchmark_model,
    minimum_interval_seconds=30,
    default_status=DefaultSensorStatus.RUNNING,
    description="Benchmarks every new or changed candidate, once; says which entries are quarantined and why.",
)
def registry_sensor(
    context: SensorEvaluationContext, registry: RegistryResource, campaign: Campaign
) -> SensorResult | SkipReason:
    """Benchmark every new or changed candidate, once; say which entries are quarantined and why.

    What the conductor or a person benchmarked already, as it is registered now, is not new; the event log says so, and
    no evidence is read, which may lie behind a network. New goldens are the schedule's affair.
    """
    try:
        current = registry.read(hash_budget_s=HASH_BUDGET_S)
    except RegistryMissing as missing:
        return SkipReason(str(missing))
    for quarantined in current.quarantined:
        context.log.warning(f"quarantined {quarantined.version}: {quarantined.reason}")
    seen = Seen.from_cursor(context.cursor)
    changed = [entry for entry in current.candidates() if not seen.has(entry)]
    logged = logged_content_digests(context.instance, [entry.version for entry in changed])
    known = {entry.version: entry for entry in current.candidates() if seen.has(entry)}
    lost, hopeless = _lost(context.instance, known.keys(), datetime.now(UTC))
    for version in hopeless:
        context.log.warning(f"{version} was lost with its worker {LOST_AT_MOST} times and is not asked for any more")
    fresh: list[RegistryEntry] = []
    for entry in [*changed, *(known[version] for version in lost)]:
        is_fresh = entry.version in lost or logged.get(entry.version) != entry.content_sha256
        if is_fresh and len(fresh) == MAX_REQUESTS:
            continue
        seen.note(entry)
        if is_fresh:
            fresh.append(entry)
    if not fresh:
        return SensorResult(
            skip_reason=f"no new or changed entry among {len(current.entries)}", cursor=seen.model_dump_json()
        )
    if campaign.dry_run:
        return SkipReason(f"dry run: {', '.join(entry.version for entry in fresh)} would be benchmarked")
    if holder := campaign_holder(context.instance, campaign.state.campaign_lock):
        return SkipReason(f"{len(fresh)} models are asked for when the campaign is over that runs now ({holder})")
    campaign_id, seed = new_run_id(context.instance), mint_variants_seed()
    return SensorResult(
        run_requests=[
            benchmark_request(entry, campaign_id, seed, campaign, run_key=seen.run_key(entry)) for entry in fresh
        ],
        dynamic_partitions_requests=[MODEL_VERSIONS.build_add_request([entry.version for entry in fresh])],
        cursor=seen.model_dump_json(),
    )


class Seen(RootModel[dict[str, tuple[Sha256, int]]]):
    """The registry sensor's cursor: each version's content when it was last looked at, and how often it had changed.

    The count is in the run key, which is for ever: an entry that changes back is another state of the registry.
    """

    @classmethod
    def from_cursor(cls, cursor: str | None) -> Self:
        """What an earlier tick left; nothing when there is none."""
        return cls.model_validate_json(cursor or "{}")

    def has(self, entry: RegistryEntry) -> bool:
        """Whether the entry was looked at as it is now."""
        return self.root.get(entry.version, ("", 0))[0] == entry.content_sha256

    def note(self, entry: RegistryEntry) -> None:
        """Remember the entry as it is now."""
        self.root[entry.version] = (entry.content_sha256, self.root.get(entry.version, ("", 0))[1] + 1)

    def run_key(self, entry: RegistryEntry) -> str:
        """The key of the run that benchmarks this state of the entry."""
        content_sha256, changes = self.root[entry.version]
        return f"{entry.version}:{content_sha256}:{changes}"


def benchmark_request(
    entry: RegistryEntry, campaign_id: str, variants_seed: str, campaign: Campaign, *, run_key: str
) -> RunRequest:
    """A queued `benchmark_model` run of one entry, as part of a campaign whose fresh variants that seed draws."""
    tags = {CAMPAIGN_TAG: campaign_id, VARIANTS_TAG: variants_seed, **campaign.queue_tags(benchmark_model.name)}
    return RunRequest(run_key=run_key, partition_key=entry.version, tags=tags)


def _lost(instance: DagsterInstance, versions: Collection[str], now: datetime) -> tuple[list[str], list[str]]:
    """Of these versions, those whose last run was lost with its worker, and those that were lost too often.

    A run that failed by what it measured is not lost: its model failed, and would again.
    """
    recent = RunsFilter(
        job_name=benchmark_model.name, statuses=[DagsterRunStatus.FAILURE], updated_after=now - LOST_WITHIN
    )
    failed: dict[str, list[DagsterRun]] = {}
    for run in instance.get_runs(recent):
        if was_lost(run) and CONDUCTED_TAG not in run.tags:
            failed.setdefault(run.tags.get("dagster/partition", ""), []).append(run)
    lost: list[str] = []
    hopeless: list[str] = []
    for version in sorted(failed.keys() & set(versions)):
        of_version = RunsFilter(job_name=benchmark_model.name, tags={"dagster/partition": version})
        (last,) = instance.get_run_records(of_version, limit=1)
        ended = datetime.fromtimestamp(last.end_time, UTC) if last.end_time else now
        if not was_lost(last.dagster_run) or CONDUCTED_TAG in last.dagster_run.tags or ended > now - LOST_FOR:
            continue
        (hopeless if len(failed[version]) >= LOST_AT_MOST else lost).append(version)
    return lost, hopeless
