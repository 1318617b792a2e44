"""OpenLineage: what ran and what was made, told to a catalogue that other teams look at.

What belongs here: a finished run as OpenLineage events, and the sensors that send them. What does not: the graph.

Sensors, and not a part of the event log's storage: a campaign must not wait for a catalogue while it measures. A run is
told once it has ended, its start with it; while the catalogue does not answer, the sensor stays at that run and tries
again, so none is left out. A partition is a data set of its own (`reasoning_metrics/v3`), since another model's figures
are other data. See https://openlineage.io and the ADR 196.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from dagster import (
    AssetMaterialization,
    DagsterEventType,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunStatusSensorContext,
    SensorDefinition,
    run_status_sensor,
)

from milton_assets import __version__
from milton_assets.vocabulary.errors import BadInput
from resources.api_keys import key_if_set

if TYPE_CHECKING:
    from openlineage.client import OpenLineageClient
    from openlineage.client.event_v2 import RunEvent

NAMESPACE = "milton"
KEY_VARIABLE = "OPENLINEAGE_API_KEY"
PRODUCER = f"urn:milton-autobench:{__version__}"
TIMEOUT_S = 10.0
INTERVAL_S = 30
_ENDS = {DagsterRunStatus.SUCCESS: "COMPLETE", DagsterRunStatus.FAILURE: "FAIL", DagsterRunStatus.CANCELED: "ABORT"}


@dataclass(frozen=True)
class Made:
    """A data set that a run wrote, the version of its data where Dagster has one, and what it was made from."""

    asset: str
    partition: str | None
    made_at: datetime
    data_version: str | None
    inputs: tuple[str, ...]

    @property
    def name(self) -> str:
        """The data set's name: the asset's, and the partition's where it has one."""
        return dataset_name(self.asset, self.partition)


@dataclass(frozen=True)
class EndedRun:
    """A Dagster run that has ended."""

    job: str
    run_id: UUID
    started_at: datetime
    ended_at: datetime
    end: str
    made: tuple[Made, ...]


def dataset_name(asset: str, partition: str | None) -> str:
    """What a data set is called."""
    return asset if partition is None else f"{asset}/{partition}"


def lineage_sensors(url: str) -> list[SensorDefinition]:
    """A sensor for each way in which a run ends; they send to the OpenLineage server at `url`.

    An API key, where one is needed, is read from `OPENLINEAGE_API_KEY`. Raises `BadInput` when the extra is missing.
    """
    client = _client(url)

    def sensor_of(status: DagsterRunStatus) -> SensorDefinition:
        @run_status_sensor(
            run_status=status,
            name=f"openlineage_{status.value.lower()}",
            description=f"Tells the OpenLineage server of `openlineage_url` of runs that end in {status.value}.",
            minimum_interval_seconds=INTERVAL_S,
            default_status=DefaultSensorStatus.RUNNING,
            monitor_all_code_locations=False,
        )
        def tell(context: RunStatusSensorContext) -> None:
            for event in events_of(ended_run(context)):
                client.emit(event)

        return tell

    return [sensor_of(status) for status in _ENDS]


def ended_run(context: RunStatusSensorContext) -> EndedRun:
    """What Dagster's event log says of the run that the sensor saw end."""
    run = context.dagster_run
    record = context.instance.get_run_record_by_id(run.run_id)
    if record is None:
        raise BadInput(f"the run {run.run_id} is not in the event log", expected="a run that has just ended")
    ended_at = record.end_time or record.update_timestamp.timestamp()
    entries = context.instance.all_logs(run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION)
    made = tuple(
        _made(context, entry.asset_materialization, entry.timestamp) for entry in entries if entry.asset_materialization
    )
    return EndedRun(
        run.job_name,
        UUID(run.run_id),
        _time(record.start_time or ended_at),
        _time(ended_at),
        _ENDS[run.status],
        made,
    )


def events_of(run: EndedRun) -> Iterator[RunEvent]:
    """The run's start, a child run for each data set that it made, and the run's end, in this order."""
    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunState
    from openlineage.client.facet_v2 import dataset_version_dataset

    yield _event(run.job, run.run_id, run.started_at, RunState.START)
    for made in run.made:
        versions: dict[str, Any] = {}
        if made.data_version is not None:
            versions["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(made.data_version)
        child = uuid5(run.run_id, made.name)
        told: dict[str, Any] = {
            "inputs": [InputDataset(NAMESPACE, name) for name in made.inputs],
            "outputs": [OutputDataset(NAMESPACE, made.name, facets=versions)],
            "parent": run,
        }
        yield _event(made.asset, child, run.started_at, RunState.START, **told)
        yield _event(made.asset, child, made.made_at, RunState.COMPLETE, **told)
    yield _event(run.job, run.run_id, run.ended_at, RunState[run.end])


def _event(
    job: str,
    run_id: UUID,
    at: datetime,
    state: Any,
    *,
    inputs: Sequence[Any] = (),
    outputs: Sequence[Any] = (),
    parent: EndedRun | None = None,
) -> RunEvent:
    from openlineage.client.event_v2 import Job, Run, RunEvent
    from openlineage.client.facet_v2 import parent_run

    facets: Mapping[str, Any] = {}
    if parent is not None:
        above = parent_run.ParentRunFacet(
            run=parent_run.Run(str(parent.run_id)), job=parent_run.Job(NAMESPACE, parent.job)
        )
        facets = {"parent": above}
    return RunEvent(
        eventTime=at.isoformat(),
        producer=PRODUCER,
        run=Run(str(run_id), dict(facets)),
        job=Job(NAMESPACE, job),
        eventType=state,
        inputs=list(inputs),
        outputs=list(outputs),
    )


def _made(context: RunStatusSensorContext, made: AssetMaterialization, timestamp: float) -> Made:
    """The inputs are the asset's: those in the same partitions are this partition's, the others told as a whole."""
    graph = context.repository_def.asset_graph if context.repository_def else None
    inputs: list[str] = []
    if graph is not None and graph.has(made.asset_key):
        node = graph.get(made.asset_key)
        for key in sorted(node.parent_keys, key=lambda parent: parent.to_user_string()):
            alike = graph.get(key).partitions_def == node.partitions_def
            inputs.append(dataset_name(key.to_user_string(), made.partition if alike else None))
    return Made(
        made.asset_key.to_user_string(),
        made.partition,
        _time(timestamp),
        (made.tags or {}).get("dagster/data_version"),
        tuple(inputs),
    )


def _time(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)


def _client(url: str) -> OpenLineageClient:
    try:
        from openlineage.client import OpenLineageClient
        from openlineage.client.transport.http import ApiKeyTokenProvider, HttpConfig, HttpTransport, TokenProvider
    except ImportError as error:
        raise BadInput(
            f"openlineage_url is {url}, and {error.name} is not installed",
            expected="the extra `openlineage`",
            remedy="pip install 'milton-autobench[openlineage]', or leave the setting out",
        ) from error
    key = key_if_set(KEY_VARIABLE)
    auth = ApiKeyTokenProvider({"apiKey": key}) if key else TokenProvider({})
    return OpenLineageClient(transport=HttpTransport(HttpConfig(url=url, timeout=TIMEOUT_S, auth=auth)))
