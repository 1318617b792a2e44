"""The conductor: `milton autobench`, or `dagster job execute -j autobench`, the whole road in one run.

What belongs here: the story of a campaign: how it begins, or goes on where it was interrupted, the order of its stages,
and how it ends. What does not: the stages, their child runs and what is said (`milton_assets.campaign`), what the
children do, and what a campaign's measurements depend on (`milton_assets.usecases.resuming`). One bad model fails
alone: its child run fails, the others go on, and the decision names it with the reason. Where the instance launches
runs on workers, the children go there, all candidates at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from dagster import (
    AssetKey,
    DagsterExecutionInterruptedError,
    JobDefinition,
    OpExecutionContext,
    in_process_executor,
    job,
    op,
)

from milton_assets.assets.evidence import CAMPAIGN_TAG
from milton_assets.assets.goldens import observe_goldens
from milton_assets.campaign.choice import AutobenchConfig, chosen_candidates, chosen_tiers
from milton_assets.campaign.one_at_a_time import after_the_daemons_campaign, only_campaign, only_campaign_of_all_hosts
from milton_assets.campaign.runs import end_what_was_killed, new_run_id, others_that_led
from milton_assets.campaign.stages.anchors import measure_anchors
from milton_assets.campaign.stages.candidates import measure_candidates
from milton_assets.campaign.stages.decision import decide
from milton_assets.campaign.stages.deployment import deploy
from milton_assets.campaign.stages.on_classes import measure_on_classes
from milton_assets.campaign.telling import say_interrupted, say_what_begins, say_what_came_of_it
from milton_assets.campaign.under_way import NotDone, UnderWay
from milton_assets.settings import LogLevel
from milton_assets.tiers.discovery import installed_tiers
from milton_assets.usecases.anchors import Candidacy, may_be_due
from milton_assets.usecases.dry_run import print_dry_run
from milton_assets.usecases.resuming import conditions_of, why_not_resumed
from milton_assets.usecases.settings_check import check_campaign
from milton_assets.vocabulary.campaign import Conditions, UnfinishedCampaign
from milton_assets.vocabulary.golden_set import golden_digests, read_all_goldens
from milton_assets.vocabulary.keys import mint_variants_seed
from milton_assets.vocabulary.registry import Registry
from milton_assets.vocabulary.terminal import console, tell
from milton_assets.vocabulary.tier import asset_of
from resources.campaign import Campaign
from resources.console_logger import logged_at
from resources.dagster_private import (
    NEVER_RETRIED,
    WITHOUT_LIMIT,
    OperationalError,
    launches_elsewhere,
    postgres_url,
    show_in_ui,
    tell_interrupts_in_words,
)
from resources.durations import Durations
from resources.model_server import EdgeServerResource, ModelServerResource
from resources.object_store_patience import wait_for_the_object_store
from resources.parquet_io import EvidenceStoreResource
from resources.progress import Meter, forget, meter
from resources.registry_resource import RegistryResource


@op(description="Benchmark every candidate, decide, bundle and deploy; go on with a campaign that was interrupted.")
def conduct(
    context: OpExecutionContext,
    config: AutobenchConfig,
    registry: RegistryResource,
    campaign: Campaign,
    model_server: ModelServerResource,
    evidence_store: EvidenceStoreResource,
    edge_runtime: EdgeServerResource,
) -> None:
    """Read the registry, benchmark every candidate, decide, bundle, deploy, and say what came of it."""
    settings = config.over(campaign, context.instance)
    state = settings.state
    wait_for_the_object_store()
    show_in_ui(context.instance, context.run_id, context.repository_def.name)
    shared = only_campaign_of_all_hosts(context.instance, wait=config.wait)
    with _cancelled_when_interrupted(context), only_campaign(state.campaign_lock, wait=config.wait), shared:
        after_the_daemons_campaign(context.instance, wait=config.wait)
        current = registry.read()
        chosen = chosen_candidates(current, registry.store().uri, config.only)
        tiers = chosen_tiers(config.tiers)
        if config.dry_run or settings.dry_run:
            _rehearse(context, settings, current, model_server, evidence_store)
            return
        check_campaign(settings, model_server.launcher, edge_runtime.edge_server)
        goldens = read_all_goldens(installed_tiers(), settings.goldens)
        conditions = conditions_of(
            chosen,
            {tier: _code_version(context, tier) for tier in tiers},
            golden_digests(goldens),
            settings,
            model_server,
        )
        left = UnfinishedCampaign.read(state.unfinished_campaign)
        why_not = why_not_resumed(left, conditions, datetime.now(UTC), wanted=config.resume)
        if left is not None:
            end_what_was_killed(context.instance, left.conductors)
        if postgres_url(context.instance):
            end_what_was_killed(context.instance, others_that_led(context.instance, context.run_id))
        record = _begun(context, conditions) if left is None or why_not else left.led_by(context.run_id)
        record.write(state.unfinished_campaign)
        context.instance.add_run_tags(context.run_id, {CAMPAIGN_TAG: record.run_id})
        under_way = UnderWay(
            context,
            settings,
            evidence_store.store,
            record,
            _meter_of(record, settings),
            registry,
            model_server.artefact_kind,
        )
        try:
            say_what_begins(under_way, left, why_not, goldens, model_server)
            observe_goldens(context.instance, installed_tiers(), goldens)
            failed = _lead(under_way)
            state.unfinished_campaign.unlink(missing_ok=True)
            say_what_came_of_it(under_way, failed)
        except DagsterExecutionInterruptedError:
            say_interrupted(under_way)
            raise
        finally:
            forget(record.run_id)


def autobench_job(level: LogLevel) -> JobDefinition:
    """The conductor's job; Dagster itself says on the terminal what `level` lets it."""

    @job(
        executor_def=in_process_executor,
        # What the launchpad opens with: everything that may be told, as it is when nobody says anything.
        config={**logged_at(level), "ops": {"conduct": {"config": AutobenchConfig().model_dump()}}},
        run_tags={**NEVER_RETRIED, **WITHOUT_LIMIT},
        description="The whole road: benchmark every candidate, decide, bundle, deploy.",
    )
    def autobench() -> None:
        conduct()

    return autobench


def _lead(campaign: UnderWay) -> list[NotDone]:
    """The whole campaign: benchmark, decide, deploy; what failed, or waits for a person.

    Where workers run the children, a database that goes away amid a question ends no campaign: what is done is kept,
    and what is under way is followed.
    """
    while True:
        try:
            measure_candidates(campaign)
            measure_on_classes(campaign)
            measure_anchors(campaign)
            decide(campaign)
            return deploy(campaign)
        except OperationalError as error:
            if not (launches_elsewhere(campaign.instance) and error.connection_invalidated):
                raise
            campaign.say("the database went away amid a question; going on with what it kept")


def _begun(context: OpExecutionContext, conditions: Conditions) -> UnfinishedCampaign:
    """A new campaign under these conditions."""
    return UnfinishedCampaign(
        run_id=new_run_id(context.instance),
        began_at=datetime.now(UTC),
        conditions=conditions,
        variants_seed=mint_variants_seed(),
        conductors=(context.run_id,),
    )


def _meter_of(record: UnfinishedCampaign, settings: Campaign) -> Meter:
    """The campaign's meter, which its child runs in this process find by its id."""
    candidates = tuple(record.conditions.candidates)
    return meter(
        record.run_id,
        tuple(installed_tiers()),
        len(candidates),
        order=candidates,
        remembered=Durations.read(settings.state.durations, settings.profile.value),
    )


def _rehearse(
    context: OpExecutionContext,
    settings: Campaign,
    current: Registry,
    model_server: ModelServerResource,
    evidence_store: EvidenceStoreResource,
) -> None:
    """Print what a campaign would measure now."""
    run_id = new_run_id(context.instance)
    stands = Candidacy.of(current, model_server.artefact_kind, let_go=settings.anchors_let_go)
    anchors = may_be_due(settings.runs_of(run_id), evidence_store.store, stands)
    print_dry_run(run_id, current, settings, installed_tiers(), console(), anchors)


def _code_version(context: OpExecutionContext, tier: str) -> str:
    key = AssetKey(asset_of(tier))
    return str(context.repository_def.assets_defs_by_key[key].code_versions_by_key[key])


@contextmanager
def _cancelled_when_interrupted(context: OpExecutionContext) -> Iterator[None]:
    """An interrupt ends the run as cancelled: for Dagster it would be a failure. Neither its page nor a child's has the
    stack of it."""
    tell_interrupts_in_words(context.instance)
    try:
        yield
    except DagsterExecutionInterruptedError:
        run = context.instance.get_run_by_id(context.run_id)
        if run is None or CAMPAIGN_TAG not in run.tags:
            tell("interrupted; nothing was measured")
        context.instance.report_run_canceling(context.run, message="interrupted (Ctrl-C)")
        raise
