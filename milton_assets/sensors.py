"""The sensors: the daemon's way along the same road, where nothing nests and everything goes through the queue.

What belongs here: what to request when. What does not: the runs themselves. A registry sensor turns new and changed
entries into partitions and queued `benchmark_model` runs, each once and while nobody conducts a campaign, and asks
again for those whose run was lost with its worker; others request `promote` when a campaign's last tier is in, and
`deploy` or `roll_out` when a bundle was made; one more goes on with rollouts, a run a wave.
A run that will be started again is not over, and a model that was measured after its campaign was decided gets a
decision of its own: what was decided is never changed.

No sensor is told of single events: each looks at what there is, and remembers from when on it has to look. Dagster's
run-status sensors pass over an event for ever when their function raises, and what raises may be no more than a
database that is being restarted.
See https://docs.dagster.io/guides/automate/sensors
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Self

from dagster import (
    AssetKey,
    AssetRecordsFilter,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    DefaultSensorStatus,
    MultiPartitionKey,
    RunRecord,
    RunRequest,
    RunsFilter,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)
from pydantic import RootModel

from milton_assets.assets.evidence import AGAIN_TAG, ANCHOR_TAG, CAMPAIGN_TAG, CONDUCTED_TAG, VARIANTS_TAG
from milton_assets.assets.rollouts import NEXT_TURN
from milton_assets.campaign.one_at_a_time import campaign_holder
from milton_assets.campaign.runs import ENDED, UNFINISHED, new_run_id
from milton_assets.jobs import (
    DEPLOYMENT_ASSET,
    PROMOTE,
    ROLL_OUT,
    ROLLOUT_ASSET,
    benchmark_model,
    benchmark_on_class,
    deploy,
    look_after,
    promote,
    roll_out,
)
from milton_assets.partitions import BENCHMARK_RUNS, DEVICE_CLASSES, EDGE_TARGETS, MODEL_VERSIONS, ROLLOUTS
from milton_assets.rollout.journal import JOURNAL_FILE, is_held
from milton_assets.rollout.turns import BETWEEN, next_turn
from milton_assets.usecases.rollouts import folder_of, names_of, rollout_of
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.keys import campaign_of, class_of, mint_variants_seed, rollout_of_run
from milton_assets.vocabulary.named_weights import NamedWeights
from milton_assets.vocabulary.registry import RegistryEntry, RegistryMissing
from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.terminal import printable
from milton_assets.vocabulary.tier import asset_of
from resources.campaign import QUEUE_TAG, Campaign
from resources.dagster_private import never_begun, retry_is_decided, was_lost, will_be_retried
from resources.evidence_log import REGISTRY_ENTRY_ASSET, due_after, logged_content_digests, was_bundled
from resources.registry_resource import RegistryResource

HASH_BUDGET_S = 20.0
"""What a tick may spend on hashing new files; a sensor has 60 s. The next tick goes on from there."""

MAX_REQUESTS = 200
"""How many runs a tick asks for: the daemon makes each before it saves the cursor. The next tick asks for more."""

ROAD_EVERY_S = 10
"""How often it is looked whether a decision or a deployment is due."""

OVERLAP = timedelta(minutes=10)
"""How far back a tick looks beyond the last one: hosts' clocks differ, and what waited then may be due now."""

RETRY_DECIDED_WITHIN = timedelta(seconds=60)
"""Until then after its failure it may be unknown whether a run is started again."""

BEGUN_WITHIN = timedelta(minutes=2)
"""A run that is starting for longer waits for a worker, or was lost on its way to one."""

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


def _unfinished(instance: DagsterInstance, campaign_id: str, now: datetime) -> int:
    """How many models of the campaign are still to be measured; those whose failed run is started again among them."""
    of_campaign = {CAMPAIGN_TAG: campaign_id}
    count = 0
    for job in (benchmark_model, benchmark_on_class):
        count += instance.get_runs_count(RunsFilter(job_name=job.name, tags=of_campaign, statuses=UNFINISHED))
        failed = RunsFilter(job_name=job.name, tags=of_campaign, statuses=[DagsterRunStatus.FAILURE])
        for record in instance.get_run_records(failed):
            run, ended = record.dagster_run, datetime.fromtimestamp(record.end_time or now.timestamp(), UTC)
            unknown = not retry_is_decided(instance, run.run_id) and now - ended < RETRY_DECIDED_WITHIN
            count += unknown or will_be_retried(run)
    return count


def _undecided(
    instance: DagsterInstance, campaign: Campaign, campaign_id: str, measured: Sequence[RunRecord]
) -> list[RunRequest]:
    """The decisions that are due once the runs `measured` are over.

    Those of the campaign, if it has none; and, if all had begun before one of those runs had measured its model,
    decisions under an id of their own.
    """
    runs, queue = campaign.runs_of(campaign_id), campaign.queue_tags(PROMOTE)
    begun = [instance.get_run_records(RunsFilter(job_name=PROMOTE, tags={"dagster/partition": key})) for key in runs]
    left = [run_id for run_id, records in zip(runs, begun, strict=True) if not records]
    if left:
        return [
            RunRequest(
                run_key=run_id, job_name=PROMOTE, partition_key=run_id, tags={CAMPAIGN_TAG: campaign_id, **queue}
            )
            for run_id in left
        ]
    succeeded = [record for record in measured if record.dagster_run.status is DagsterRunStatus.SUCCESS]
    ended = max((record.end_time or 0.0 for record in succeeded), default=0.0)
    decisions = [record for records in begun for record in records]
    decisions += instance.get_run_records(RunsFilter(job_name=PROMOTE, tags={AGAIN_TAG: campaign_id}))
    if any(decision.start_time is None or decision.start_time >= ended for decision in decisions):
        return []
    again = new_run_id(instance)
    return [
        RunRequest(
            run_key=f"{campaign_id}:again:{len(decisions)}:{class_of(run_id) or ''}",
            job_name=PROMOTE,
            partition_key=run_id,
            tags={CAMPAIGN_TAG: again, AGAIN_TAG: campaign_id, **queue},
        )
        for run_id in campaign.runs_of(again)
    ]


def _class_requests(instance: DagsterInstance, campaign: Campaign, campaign_id: str) -> list[RunRequest]:
    """Runs on reference devices that the campaign still lacks: every model that was measured here, on every class."""
    if not campaign.class_references:
        return []
    of_campaign = {CAMPAIGN_TAG: campaign_id}
    measured = instance.get_runs(
        RunsFilter(job_name=benchmark_model.name, tags=of_campaign, statuses=[DagsterRunStatus.SUCCESS])
    )
    versions = {run.tags["dagster/partition"]: run.tags.get(ANCHOR_TAG) for run in measured}
    begun = {
        tuple(run.tags.get(f"dagster/partition/{name}") for name in ("device_class", "model_version"))
        for run in instance.get_runs(RunsFilter(job_name=benchmark_on_class.name, tags=of_campaign))
    }
    return [
        RunRequest(
            run_key=f"{campaign_id}:{name}:{version}",
            job_name=benchmark_on_class.name,
            partition_key=MultiPartitionKey({"device_class": name, "model_version": version}),
            tags=of_campaign
            | ({ANCHOR_TAG: anchor} if anchor is not None else {})
            | campaign.queue_tags(benchmark_on_class.name, name),
        )
        for name in campaign.class_references
        for version, anchor in sorted(versions.items())
        if (name, version) not in begun
    ]


def _anchor_requests(instance: DagsterInstance, campaign: Campaign, campaign_id: str) -> list[RunRequest]:
    """Runs that measure again the anchors which the campaign's decisions lacked figures of; once they have, it is
    decided again, as after any model that was measured late.

    One that the campaign measured, or tried to, is left to the next.
    """
    of_campaign = {CAMPAIGN_TAG: campaign_id}
    measured = instance.get_runs(RunsFilter(job_name=benchmark_model.name, tags=of_campaign))
    tried = {run.tags.get(ANCHOR_TAG) for run in measured}
    due: dict[str, list[str]] = {}
    for run_id in campaign.runs_of(campaign_id):
        for tag, tiers in due_after(instance, run_id).items():
            due.setdefault(tag, []).extend(tiers)
    return [
        RunRequest(
            run_key=f"{campaign_id}:{NamedWeights.of(tag).anchor_key}",
            job_name=benchmark_model.name,
            partition_key=NamedWeights.of(tag).anchor_key,
            asset_selection=[AssetKey(name) for name in (REGISTRY_ENTRY_ASSET, *map(asset_of, dict.fromkeys(tiers)))],
            tags=of_campaign | {ANCHOR_TAG: tag} | campaign.queue_tags(benchmark_model.name),
        )
        for tag, tiers in due.items()
        if tag not in tried
    ]


@sensor(
    jobs=[promote, benchmark_on_class, benchmark_model],
    minimum_interval_seconds=ROAD_EVERY_S,
    default_status=DefaultSensorStatus.RUNNING,
    description="Once no run of a campaign is left to measure a model: requests those on reference devices, then the "
    "decisions. Ends runs that no worker will ever begin.",
)
def promote_when_measured(context: SensorEvaluationContext, campaign: Campaign) -> SensorResult:
    """Decide each campaign once no run of it is left, failed ones included: one bad model fails alone."""
    now, requests, reasons = datetime.now(UTC), list[RunRequest](), list[str]()
    end_never_begun(context.instance, now)
    classes = False
    for campaign_id, measured in _campaigns_measured(context).items():
        if unfinished := _unfinished(context.instance, campaign_id, now):
            reasons.append(f"{campaign_id} still has {unfinished} models to measure")
        elif lacking := _class_requests(context.instance, campaign, campaign_id):
            requests += lacking
            classes = True
        elif due := _undecided(context.instance, campaign, campaign_id, measured):
            requests += due
        elif anchors := _anchor_requests(context.instance, campaign, campaign_id):
            requests += anchors
        else:
            reasons.append(f"{campaign_id} was decided already")
    keys = [str(request.partition_key) for request in requests if request.job_name == PROMOTE]
    adding = [BENCHMARK_RUNS.build_add_request(keys)] if keys else []
    anchors_asked = [str(request.partition_key) for request in requests if ANCHOR_TAG in request.tags]
    adding += [MODEL_VERSIONS.build_add_request(anchors_asked)] if anchors_asked else []
    adding += [DEVICE_CLASSES.build_add_request(list(campaign.class_references))] if classes else []
    return _asked(requests, adding, now, "; ".join(reasons) or "no campaign's model was measured")


def _asked(requests: list[RunRequest], adding: Sequence[Any], now: datetime, otherwise: str) -> SensorResult:
    """These requests, or why there are none; the next tick looks from `now` on."""
    if not requests:
        return SensorResult(skip_reason=otherwise, cursor=now.isoformat())
    return SensorResult(run_requests=requests, dynamic_partitions_requests=adding, cursor=now.isoformat())


def _ended_since(context: SensorEvaluationContext, job_name: str) -> list[RunRecord]:
    """The runs of that job that ended since the last tick; not those of a conductor, who sees to them."""
    since = datetime.fromisoformat(context.cursor) if context.cursor else datetime.now(UTC)
    ended = RunsFilter(job_name=job_name, statuses=ENDED, updated_after=since - OVERLAP)
    records = context.instance.get_run_records(ended, ascending=True)
    return [record for record in records if CONDUCTED_TAG not in record.dagster_run.tags]


def _campaigns_measured(context: SensorEvaluationContext) -> dict[str, list[RunRecord]]:
    """By campaign, its measuring runs that ended since the last tick."""
    found: dict[str, list[RunRecord]] = {}
    for job in (benchmark_model, benchmark_on_class):
        for record in _ended_since(context, job.name):
            if campaign_id := record.dagster_run.tags.get(CAMPAIGN_TAG):
                found.setdefault(campaign_id, []).append(record)
    return found


def end_never_begun(instance: DagsterInstance, now: datetime) -> None:
    """End runs that have been starting for minutes and that nobody will begin, so that they are started again."""
    starting = instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTING], updated_before=now - BEGUN_WITHIN))
    for run_id, why in never_begun(instance, starting).items():
        run = instance.get_run_by_id(run_id)
        if run is not None and run.status is DagsterRunStatus.STARTING:
            instance.report_run_failed(run, why)


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
    for record in _ended_since(context, PROMOTE):
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
    return _asked(requests, adding, now, "; ".join(reasons) or "no campaign was decided")


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


@sensor(
    job=roll_out,
    minimum_interval_seconds=30,
    default_status=DefaultSensorStatus.RUNNING,
    description="Asks for the run of a rollout's next wave once it is open, and of one whose run was killed.",
)
def go_on_with_rollouts(context: SensorEvaluationContext, campaign: Campaign) -> SensorResult | SkipReason:
    """Go on with every rollout of the graph's (a partition of `rollout`) on which something can be done.

    Each is left alone while a process runs it, while a run of it is under way or its campaign's conductor is, and for
    ten minutes after a run of it failed.
    """
    if campaign.dry_run:
        return SkipReason("a dry run deploys nothing")
    over = Over.from_cursor(context.cursor)
    planned = set(names_of(campaign.state))
    requests: list[RunRequest] = []
    for name in context.instance.get_dynamic_partitions(str(ROLLOUTS.name)):
        try:
            requests += _next_turn_of(context.instance, campaign.state, name, over, is_planned=name in planned)
        except MiltonError as error:  # one that is damaged, or a partition by a name that is none, keeps no other
            context.log.warning(f"the rollout {printable(name)} is passed over: {error}")
    if not requests:
        return SensorResult(skip_reason="nothing can be done on a rollout now", cursor=over.model_dump_json())
    return SensorResult(run_requests=requests, cursor=over.model_dump_json())


def _next_turn_of(
    instance: DagsterInstance, state_dir: StateDir, name: str, over: "Over", *, is_planned: bool
) -> Iterator[RunRequest]:
    """The request for the rollout's next run, if one can do something now."""
    folder, now = folder_of(state_dir, name), datetime.now(UTC)
    if over.has(folder) or is_held(folder) or (last := _last_turn(instance, name)) is None:
        return
    if is_planned:
        state = rollout_of(state_dir, name)
        due, events, config = next_turn(state, last.ended_at, now), state.events, None
        if due is None:
            over.note(folder)
    else:
        # Its journal lies on the host whose worker runs it, or its first run died before it planned; that knew of what.
        # One that was only named by hand has had neither.
        events, config = 0, last.run_config
        due = _due_as_told(instance, name, otherwise=now if config else None)
    if due is not None and max(due, last.may_follow_at) <= now:
        key = f"{name}:{events}:{last.run_id}"
        yield RunRequest(run_key=key, partition_key=name, run_config=config, tags=last.tags)


def _due_as_told(instance: DagsterInstance, name: str, *, otherwise: datetime | None) -> datetime | None:
    """When the rollout's last turn that came to its end said that another can do something; `otherwise` before it."""
    wanted = AssetRecordsFilter(asset_key=AssetKey(ROLLOUT_ASSET), asset_partitions=[name])
    for record in instance.fetch_materializations(wanted, limit=1).records:
        if record.asset_materialization is not None:
            told = str(record.asset_materialization.metadata[NEXT_TURN].value)
            return datetime.fromisoformat(told) if told else None
    return otherwise


class Over(RootModel[dict[str, int]]):
    """The cursor of `go_on_with_rollouts`: the length of each journal after which nothing was left to do without a
    person, so that it is read again only once it has grown."""

    @classmethod
    def from_cursor(cls, cursor: str | None) -> Self:
        """What an earlier tick left; nothing when there is none."""
        return cls.model_validate_json(cursor or "{}")

    def has(self, folder: Path) -> bool:
        """Whether nothing was left to do, and the journal is as it was then."""
        return folder.name in self.root and self.root[folder.name] == _length(folder)

    def note(self, folder: Path) -> None:
        """Remember that nothing is left to do."""
        self.root[folder.name] = _length(folder)


def _length(folder: Path) -> int:
    return (folder / JOURNAL_FILE).stat().st_size


class _Turn(NamedTuple):
    """A rollout's last run: when it ended, None for no run, from when on another may follow it, and what that run was
    told: its ops' configuration, and the tags of its campaign and its queue."""

    run_id: str = ""
    ended_at: datetime | None = None
    may_follow_at: datetime = datetime.fromtimestamp(0, UTC)
    run_config: Mapping[str, Any] | None = None
    tags: Mapping[str, str] | None = None


def _last_turn(instance: DagsterInstance, name: str) -> _Turn | None:
    """The rollout's last run; None while one is under way, or whoever conducts them is."""
    records = instance.get_run_records(RunsFilter(job_name=ROLL_OUT, tags={"dagster/partition": name}), limit=1)
    if not records:
        return _Turn()
    run = records[0].dagster_run
    conductor = instance.get_run_by_id(run.tags.get(CONDUCTED_TAG, ""))
    if not run.is_finished or (conductor is not None and not conductor.is_finished):
        return None
    ended = datetime.fromtimestamp(records[0].end_time or records[0].update_timestamp.timestamp(), UTC)
    return _Turn(
        run.run_id,
        ended,
        ended if run.status is DagsterRunStatus.SUCCESS else ended + BETWEEN,
        {"ops": run.run_config["ops"]} if run.run_config.get("ops") else None,
        {tag: run.tags[tag] for tag in (CAMPAIGN_TAG, QUEUE_TAG) if tag in run.tags},
    )


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


SENSORS = [
    registry_sensor,
    promote_when_measured,
    deploy_when_bundled,
    go_on_with_rollouts,
    look_after_devices,
]
"""Every sensor; they run wherever a daemon runs."""
