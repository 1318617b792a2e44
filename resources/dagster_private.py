"""What the project takes from `dagster._core`, in one place, because a release of Dagster's may move any of it.

What belongs here: a child run that the UI can find, giving a run the origin that the UI looks for, words and links on a
run's page, loading a job with its repository, and a source asset as one that has owners. What does not: whatever
Dagster exports publicly, and what the runs do. The project pins Dagster below 1.14, and `tests/graph/test_ui.py` asks a
real webserver.

The UI's timeline and job pages list a run only when it carries a remote job origin and the tag made of it. `dagster job
execute` and `execute_in_process` give neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dagster import (
    AssetKey,
    AssetsDefinition,
    DagsterEvent,
    DagsterInstance,
    DagsterRun,
    JobDefinition,
    MetadataValue,
    SourceAsset,
)
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.definitions.external_asset import create_external_asset_from_source_asset
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository
from dagster._core.events import EngineEventData
from dagster._core.execution.api import execute_run_iterator
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.tags import REPOSITORY_LABEL_TAG

__all__ = [
    "CODE_LOCATION",
    "DATA_VERSION_TAG",
    "as_asset",
    "job_from_module",
    "mark_on_page",
    "show_in_ui",
    "start_child",
]

CODE_LOCATION = "milton_assets"
"""The code location's name in workspace.yaml and pyproject.toml, under which the UI looks for runs."""


def job_from_module(module: str, job_name: str) -> ReconstructableJob:
    """That job of the repository that `defs` of the module is, as `dagster job execute` would load it."""
    repository = ReconstructableRepository.for_module(module, "defs", working_directory=str(Path.cwd()))
    return repository.get_reconstructable_job(job_name)


def start_child(
    job: JobDefinition,
    instance: DagsterInstance,
    *,
    repository: str,
    partition: str,
    tags: Mapping[str, str],
    run_config: Mapping[str, Any],
    assets: Sequence[str] = (),
) -> tuple[DagsterRun, Iterator[DagsterEvent]]:
    """Create a run of `job` for one partition, and its events, which run it in this process as they are taken.

    `assets` narrows the run to these of the job's; empty takes all of them. A failing step is an event, no exception.
    """
    selection = [AssetKey(name) for name in assets]
    child = job.as_ephemeral_job(resource_defs={}, input_values={}, asset_selection=selection)
    placed = job.get_tags_for_partition_key(partition, selected_asset_keys=selection or None)
    run = instance.create_run_for_job(
        child,
        run_config=run_config,
        tags={**job.run_tags, **tags, **placed},
        asset_selection=frozenset(selection) or None,
        remote_job_origin=_origin(repository, job.name),
    )
    return run, execute_run_iterator(InMemoryJob(child), run, instance)


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


def as_asset(source: SourceAsset) -> AssetsDefinition:
    """The same asset as one of the kind that has owners and kinds; it is observed as before."""
    return create_external_asset_from_source_asset(source)
