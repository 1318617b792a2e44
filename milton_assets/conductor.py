"""The conductor: `dagster job execute -j autobench`, the whole road in one run that needs no arguments.

What belongs here: the order of the child runs and what is said on the terminal. What does not: what the children do.
One bad model fails alone: its child run fails, the others go on, and the decision names it with the reason.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from dagster import (
    Config,
    DagsterEvent,
    DagsterExecutionInterruptedError,
    DynamicPartitionsDefinition,
    Failure,
    JobDefinition,
    OpExecutionContext,
    in_process_executor,
    job,
    op,
)
from pydantic import Field

from milton_assets.assets.evidence import CAMPAIGN_TAG, CANDIDATE_TAG
from milton_assets.assets.goldens import observe_goldens
from milton_assets.console import quiet
from milton_assets.jobs import BENCHMARK_MODEL, DEPLOY, PROMOTE
from milton_assets.partitions import BENCHMARK_RUNS, EDGE_TARGETS, MODEL_VERSIONS
from milton_assets.selection.outcome import print_outcome
from milton_assets.selection.summary import read_summary
from milton_assets.settings import LogLevel
from milton_assets.tiers.discovery import installed_tiers
from milton_assets.usecases.dry_run import print_dry_run
from milton_assets.usecases.settings_check import check_campaign
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.keys import mint_run_id
from milton_assets.vocabulary.locks import acquire
from milton_assets.vocabulary.registry import Registry, RegistryEntry
from milton_assets.vocabulary.terminal import console
from resources.campaign import Campaign
from resources.model_server import EdgeServerResource, ModelServerResource
from resources.progress import Meter, forget, meter
from resources.registry_resource import RegistryResource

CONDUCTED_TAG = "milton/conducted"
"""Marks the conductor's child runs, which the sensors must leave alone."""


class AutobenchConfig(Config):
    """What a campaign may be told at launch."""

    dry_run: bool = Field(
        default=False, description="Validate the registry and show what would be measured; measure nothing."
    )


@op
def conduct(
    context: OpExecutionContext,
    config: AutobenchConfig,
    registry: RegistryResource,
    campaign: Campaign,
    model_server: ModelServerResource,
    edge_runtime: EdgeServerResource,
) -> None:
    """Read the registry, benchmark every candidate, decide, bundle, deploy, and say what came of it."""
    with only_campaign(campaign.state.root / "campaign.lock"):
        tiers = installed_tiers()
        current = registry.read()
        versions = [entry.version for entry in candidates_of(current, campaign)]
        run_id = mint_run_id(datetime.now(UTC), set(context.instance.get_dynamic_partitions(_name(BENCHMARK_RUNS))))
        if config.dry_run or campaign.dry_run:
            print_dry_run(run_id, current, campaign, tiers, console())
            return
        check_campaign(campaign, model_server.launcher, edge_runtime.edge_server)
        observe_goldens(context.instance, tiers, campaign.goldens)
        _add(context, MODEL_VERSIONS, versions)
        _add(context, BENCHMARK_RUNS, [run_id])
        shown = meter(run_id, tuple(tiers), len(versions))
        shown.say(
            f"{run_id}: {len(versions)} candidates × {len(tiers)} tiers, profile {campaign.profile}, "
            f"policy {campaign.policy}, served by {model_server.describe()}"
        )
        for note in campaign.chosen.notes:
            shown.say(f"{run_id}: {note}")
        if campaign.reuse_answers and campaign.state.answers.is_dir():
            shown.say(f"{run_id}: what unchanged models answered before is reused; timing is always measured anew")
        try:
            _benchmark(context, shown, run_id, campaign, versions)
            _decide_and_deploy(context, shown, run_id, campaign)
        finally:
            forget(run_id)


def autobench_job(level: LogLevel) -> JobDefinition:
    """The conductor's job; Dagster itself says on the terminal what `level` lets it."""

    @job(
        executor_def=in_process_executor,
        config=quiet(level),
        description="The whole road: benchmark every candidate, decide, bundle, deploy.",
    )
    def autobench() -> None:
        conduct()

    return autobench


def candidates_of(current: Registry, campaign: Campaign) -> tuple[RegistryEntry, ...]:
    """The registry's candidates. Raises `BadInput` with the next steps when there are none."""
    if found := current.candidates():
        return found
    quarantined = "; ".join(f"{q.version}: {q.reason}" for q in current.quarantined)
    raise BadInput(
        f"{campaign.state.registry} has no candidates" + (f" (quarantined: {quarantined})" if quarantined else ""),
        expected="at least one valid entry with status candidate",
        remedy="`milton registry add` registers a model, `milton demo` puts small real ones into an empty registry",
    )


@contextmanager
def only_campaign(lock: Path) -> Iterator[None]:
    """Hold the campaign lock: two campaigns at once would measure each other. Raises `MiltonError` when it is held."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+") as handle:
        if not acquire(handle.fileno(), wait_s=0):
            handle.seek(0)
            raise MiltonError(
                f"another campaign is running here (process {handle.read().strip() or 'unknown'})",
                expected="one campaign at a time: two would measure each other",
                remedy="wait for it to end, or stop that process",
            )
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield


def _benchmark(context: OpExecutionContext, shown: Meter, run_id: str, campaign: Campaign, versions: list[str]) -> None:
    for number, version in enumerate(versions, 1):
        place = f"{number}/{len(versions)}"
        result = _child(context, campaign, BENCHMARK_MODEL, version, {CAMPAIGN_TAG: run_id, CANDIDATE_TAG: place})
        if not result:
            shown.say(f"model {place} {version}: failed; the others go on")


def _decide_and_deploy(context: OpExecutionContext, shown: Meter, run_id: str, campaign: Campaign) -> None:
    shown.say(f"{run_id}: deciding")
    decided = _child(context, campaign, PROMOTE, run_id, {CAMPAIGN_TAG: run_id})
    if not decided:
        raise Failure(f"the promote run of {run_id} failed; its error stands above and in the UI")
    failed = []
    if read_summary(campaign.state.runs, run_id).bundle:
        for target in campaign.target_names():
            _add(context, EDGE_TARGETS, [target])
            shown.say(f"{run_id}: deploying to {target}")
            config = {"ops": {"deployment": {"config": {"run_id": run_id}}}}
            if not _child(context, campaign, DEPLOY, target, {CAMPAIGN_TAG: run_id}, config):
                failed.append(target)
    print_outcome(read_summary(campaign.state.runs, run_id), campaign.state.runs, console(), installed_tiers())
    if failed:
        raise Failure(f"deployment failed on {', '.join(failed)}; nothing there was changed, see the errors above")


def _child(
    context: OpExecutionContext,
    campaign: Campaign,
    job_name: str,
    partition: str,
    tags: dict[str, str],
    config: Mapping[str, object] | None = None,
) -> bool:
    """Run one job for one partition in this process; whether it succeeded. An interrupt stops the conductor too."""
    result = context.repository_def.get_job(job_name).execute_in_process(
        instance=context.instance,
        partition_key=partition,
        tags={CONDUCTED_TAG: context.run.run_id, **tags},
        run_config=quiet(campaign.log_level, {**(config or {}), "resources": campaign.pinned()}),
        raise_on_error=False,
    )
    if any(_interrupted(event) for event in result.all_events):
        raise DagsterExecutionInterruptedError
    return result.success


def _interrupted(event: DagsterEvent) -> bool:
    """Whether a step ended because somebody asked for the end, and not because of its model."""
    error = event.step_failure_data.error if event.is_step_failure else None
    while error:
        if error.cls_name in {DagsterExecutionInterruptedError.__name__, KeyboardInterrupt.__name__}:
            return True
        error = error.cause or error.context
    return False


def _add(context: OpExecutionContext, partitions: DynamicPartitionsDefinition, keys: list[str]) -> None:
    context.instance.add_dynamic_partitions(_name(partitions), keys)


def _name(partitions: DynamicPartitionsDefinition) -> str:
    assert partitions.name is not None  # noqa: S101 - all three are named
    return partitions.name
