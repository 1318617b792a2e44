"""What the project takes from `dagster._core`, in one place, because a release of Dagster's may move any of it.

What belongs here: a child run that the UI can find, giving a run the origin that the UI looks for, words and links on a
run's page, an interrupt in words, loading a job with its repository, a source asset as one that has owners, what the
daemon's tags say of a run that failed, and what a launcher is made of. What does not: whatever Dagster exports
publicly, and what the runs do.
The project pins Dagster below 1.14, and `tests/graph/test_ui.py` asks a real webserver.

The UI's timeline and job pages list a run only when it carries a remote job origin and the tag made of it. `dagster job
execute` and `execute_in_process` give neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from dagster import (
    AssetKey,
    AssetsDefinition,
    DagsterEvent,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    JobDefinition,
    MetadataValue,
    SourceAsset,
)
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.definitions.external_asset import create_external_asset_from_source_asset
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.events import EngineEventData, JobCanceledData, RunFailureReason
from dagster._core.events.log import EventLogEntry
from dagster._core.execution.api import execute_run_iterator
from dagster._core.execution.plan.objects import StepFailureData
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext, ResumeRunContext, WorkerStatus
from dagster._core.origin import JobPythonOrigin
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.config import PostgresStorageConfig
from dagster._core.storage.tags import (
    AUTO_RETRY_RUN_ID_TAG,
    MAX_RETRIES_TAG,
    MAX_RUNTIME_SECONDS_TAG,
    REPOSITORY_LABEL_TAG,
    RUN_FAILURE_REASON_TAG,
    WILL_RETRY_TAG,
)
from dagster._grpc.types import ResumeRunArgs
from dagster._serdes import ConfigurableClassData, pack_value
from dagster_shared.error import SerializableErrorInfo
from sqlalchemy.exc import OperationalError

from resources.console_logger import INTERRUPTS

__all__ = [
    "CODE_LOCATION",
    "DATA_VERSION_TAG",
    "NEVER_RETRIED",
    "WITHOUT_LIMIT",
    "CheckRunHealthResult",
    "ConfigurableClassData",
    "LaunchRunContext",
    "OperationalError",
    "PostgresStorageConfig",
    "ResumeRunContext",
    "WorkerStatus",
    "as_asset",
    "ended_run",
    "job_from_module",
    "launch_child",
    "launches_elsewhere",
    "mark_on_page",
    "never_begun",
    "packed_resume_args",
    "postgres_url",
    "retry_is_decided",
    "show_in_ui",
    "start_child",
    "tell_interrupts_in_words",
    "was_lost",
    "will_be_retried",
]

CODE_LOCATION = "milton_assets"
"""The code location's name in workspace.yaml and pyproject.toml, under which the UI looks for runs."""

NEVER_RETRIED = {MAX_RETRIES_TAG: "0"}
"""Tags of a run that the daemon must not start again when it fails, because somebody else sees to it."""

WITHOUT_LIMIT = {MAX_RUNTIME_SECONDS_TAG: "0"}
"""Tags of a run that may take as long as it takes."""

_ITS_OWN_FAULT = {RunFailureReason.STEP_FAILURE.value, RunFailureReason.JOB_INITIALIZATION_FAILURE.value}


def will_be_retried(run: DagsterRun) -> bool:
    """Whether the run failed and the daemon will start it again, and has not done so yet."""
    return (
        run.status is DagsterRunStatus.FAILURE
        and run.tags.get(WILL_RETRY_TAG) == "true"
        and AUTO_RETRY_RUN_ID_TAG not in run.tags
    )


def retry_is_decided(instance: DagsterInstance, run_id: str) -> bool:
    """Whether it is known if the failed run is started again: that is written a moment after the failure itself."""
    run = instance.get_run_by_id(run_id)
    return run is None or _retry_is_decided(instance, run)


def _retry_is_decided(instance: DagsterInstance, run: DagsterRun) -> bool:
    failed = run.status is DagsterRunStatus.FAILURE
    return not (failed and instance.run_retries_enabled) or WILL_RETRY_TAG in run.tags


def packed_resume_args(context: ResumeRunContext, instance: DagsterInstance) -> Any:
    """What a worker is told so that it resumes the run, as a task's argument. Raises `ValueError` without an origin."""
    run = context.dagster_run
    if run.job_code_origin is None:
        raise ValueError(f"the run {run.run_id} was made without the origin of its code")
    args = ResumeRunArgs(
        job_origin=run.job_code_origin,
        run_id=run.run_id,
        instance_ref=instance.get_ref(),
        set_exit_code_on_failure=True,
    )
    return pack_value(args)


def was_lost(run: DagsterRun) -> bool:
    """Whether the run failed by no fault of its own (its worker died, or never took it) and is not started again."""
    return (
        run.status is DagsterRunStatus.FAILURE
        and run.tags.get(RUN_FAILURE_REASON_TAG) not in _ITS_OWN_FAULT
        and not will_be_retried(run)
    )


def job_from_module(module: str, job_name: str) -> ReconstructableJob:
    """That job of the repository that `defs` of the module is, as `dagster job execute` would load it."""
    repository = ReconstructableRepository.for_module(module, "defs", working_directory=str(Path.cwd()))
    return repository.get_reconstructable_job(job_name)


def start_child(
    job: JobDefinition,
    instance: DagsterInstance,
    *,
    parent: str,
    partition: str,
    tags: Mapping[str, str],
    run_config: Mapping[str, Any],
    assets: Sequence[str] = (),
) -> tuple[DagsterRun, Iterator[DagsterEvent]]:
    """Create a run of `job` for one partition, and its events, which run it in this process as they are taken.

    The UI lists it where it lists the run `parent`. `assets` narrows the run to these of the job's; empty takes all of
    them. A failing step is an event, no exception.
    """
    selection = [AssetKey(name) for name in assets]
    child = job.as_ephemeral_job(resource_defs={}, input_values={}, asset_selection=selection)
    placed = job.get_tags_for_partition_key(partition, selected_asset_keys=selection or None)
    run = instance.create_run_for_job(
        child,
        run_config=run_config,
        tags={**job.run_tags, **tags, **placed},
        asset_selection=frozenset(selection) or None,
        remote_job_origin=_beside(instance, parent, job.name),
    )
    return run, execute_run_iterator(InMemoryJob(child), run, instance)


def launches_elsewhere(instance: DagsterInstance) -> bool:
    """Whether the instance's launcher is none of Dagster's own: runs then go to workers, maybe on other hosts."""
    return not type(instance.run_launcher).__module__.startswith("dagster.")


def postgres_url(instance: DagsterInstance) -> str | None:
    """Where the instance keeps its runs, if that is a Postgres that hosts share; else None."""
    return getattr(instance.run_storage, "postgres_url", None)


@runtime_checkable
class _KnowsWhatBegins(Protocol):
    """A launcher that knows which runs its workers will begin."""

    def never_begun(self, starting: Iterable[DagsterRun]) -> Mapping[str, str]:
        """Of these runs those that nobody will begin, and why, by their ids."""
        ...


def never_begun(instance: DagsterInstance, starting: Sequence[DagsterRun]) -> Mapping[str, str]:
    """Of runs that have been starting for minutes those that nobody will begin, as the instance's launcher tells."""
    launcher = instance.run_launcher
    return launcher.never_begun(starting) if isinstance(launcher, _KnowsWhatBegins) else {}


def launch_child(
    job: JobDefinition,
    instance: DagsterInstance,
    *,
    parent: str,
    partition: str,
    tags: Mapping[str, str],
    run_config: Mapping[str, Any],
    assets: Sequence[str] = (),
) -> DagsterRun:
    """Create a run as `start_child` does, of the code that the run `parent` came from, and hand it to the launcher.

    Raises `ValueError` when `parent` was started from a definition in memory, which no worker could load.
    """
    ours = instance.get_run_by_id(parent)
    if ours is None or ours.job_code_origin is None:
        raise ValueError(f"the run {parent} came from no module, so no worker could load its code")
    selection = [AssetKey(name) for name in assets]
    placed = job.get_tags_for_partition_key(partition, selected_asset_keys=selection or None)
    run = instance.create_run_for_job(
        job.get_subset(asset_selection=frozenset(selection)) if selection else job,
        run_config=run_config,
        tags={**job.run_tags, **tags, **placed},
        asset_selection=frozenset(selection) or None,
        remote_job_origin=_beside(instance, parent, job.name),
        job_code_origin=JobPythonOrigin(job.name, ours.job_code_origin.repository_origin),
    )
    # A launcher to workers asks no workspace: they load the code themselves.
    return instance.launch_run(run.run_id, workspace=cast("Any", None))


def ended_run(instance: DagsterInstance, run_id: str) -> DagsterRun | None:
    """The run once it is over, or the one that the daemon started in its place; None while it goes on.

    None, too, when the database went away amid the question: who waits asks again.
    """
    try:
        run = instance.get_run_by_id(run_id)
    except OperationalError as error:
        if not error.connection_invalidated:
            raise
        return None
    if run is None or not run.is_finished or will_be_retried(run) or not _retry_is_decided(instance, run):
        return None
    again = run.tags.get(AUTO_RETRY_RUN_ID_TAG)
    return run if again is None else ended_run(instance, again)


def show_in_ui(instance: DagsterInstance, run_id: str, repository: str) -> None:
    """Give a run that was started without one the origin by which the UI finds it; one that has its own keeps it."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.remote_job_origin is not None:
        return
    origin = _origin(repository, run.job_name)
    instance.add_run_tags(run_id, {REPOSITORY_LABEL_TAG: origin.repository_origin.get_label()})
    tagged = instance.get_run_by_id(run_id)
    if tagged is not None:
        instance.run_storage.replace_job_origin(tagged, origin)


def _beside(instance: DagsterInstance, parent: str, job_name: str) -> RemoteJobOrigin | None:
    """The origin of that job in the code location of the run `parent`, whatever a project calls it."""
    ours = instance.get_run_by_id(parent)
    if ours is None or ours.remote_job_origin is None:
        return None
    return RemoteJobOrigin(ours.remote_job_origin.repository_origin, job_name)


def _origin(repository: str, job_name: str) -> RemoteJobOrigin:
    return RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(CODE_LOCATION), repository), job_name)


def mark_on_page(
    instance: DagsterInstance,
    run_id: str,
    message: str,
    links: Mapping[str, MetadataValue[Any]],
    *,
    step: str | None = None,
    begins: str | None = None,
    ends: str | None = None,
) -> None:
    """Say something on a run's page, with links a person can click; what `begins` and `ends` there is a bar of its own
    in the page's chart, on the line of `step`."""
    run = instance.get_run_by_id(run_id)
    if run is not None:
        data = EngineEventData(dict(links), marker_start=begins, marker_end=ends)
        instance.report_engine_event(message, run, data, step_key=step)


def tell_interrupts_in_words(instance: DagsterInstance) -> None:
    """From here on, have what this instance records of an interrupt hold a sentence and not the stack, which says only
    where the program happened to be."""
    if isinstance(instance.handle_new_event, _InWords):
        return
    instance.handle_new_event = _InWords(instance.handle_new_event)  # type: ignore[method-assign]


class _InWords:
    def __init__(self, record: Callable[..., None]) -> None:
        self._record = record

    def __call__(self, event: EventLogEntry, **how: Any) -> None:
        self._record(_without_stack(event), **how)


def _without_stack(entry: EventLogEntry) -> EventLogEntry:
    event = entry.dagster_event
    told = event.event_specific_data if event is not None else None
    if event is None or not isinstance(told, StepFailureData | JobCanceledData):
        return entry
    if told.error is None or told.error.cls_name not in INTERRUPTS:
        return entry
    said = SerializableErrorInfo("interrupted; what was measured is kept", [], told.error.cls_name)
    return entry._replace(dagster_event=event._replace(event_specific_data=told._replace(error=said)))


def as_asset(source: SourceAsset) -> AssetsDefinition:
    """The same asset as one of the kind that has owners and kinds; it is observed as before."""
    return create_external_asset_from_source_asset(source)
