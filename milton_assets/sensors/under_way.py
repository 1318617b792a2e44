"""Going on with rollouts: a run for each wave that is open, and for a run that was killed.

What belongs here: when another turn of a rollout can do something. What does not: what a turn does
(`milton_assets.rollout.turns`), and a rollout's first run (`bundled`).
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

from dagster import (
    AssetKey,
    AssetRecordsFilter,
    DagsterInstance,
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

from milton_assets.assets.evidence import CAMPAIGN_TAG, CONDUCTED_TAG
from milton_assets.assets.rollouts import NEXT_TURN
from milton_assets.jobs import (
    ROLL_OUT,
    ROLLOUT_ASSET,
    roll_out,
)
from milton_assets.partitions import ROLLOUTS
from milton_assets.rollout.journal import JOURNAL_FILE, is_held
from milton_assets.rollout.turns import BETWEEN, next_turn
from milton_assets.usecases.rollouts import folder_of, names_of, rollout_of
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.terminal import printable
from resources.campaign import QUEUE_TAG, Campaign


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
