"""The tiers' assets: one asset and one check a tier, made from its spec.

What belongs here: wiring. What does not: measuring (`milton_assets.tiers`), and what the command line shares
(`milton_assets.usecases.measuring`).
"""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TypedDict

import pyarrow as pa
from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetExecutionContext,
    AssetsDefinition,
    Output,
    asset,
)

from milton_assets.assets.beta_features import partition_check
from milton_assets.assets.evidence import VARIANTS_TAG, progress_of, tier_output
from milton_assets.assets.guards import guarded_by
from milton_assets.assets.links import its_campaign
from milton_assets.assets.measured_entry import name_shown
from milton_assets.partitions import MODEL_VERSIONS, MODELS_ON_CLASSES
from milton_assets.tiers.reasoning.judge import ModelPin
from milton_assets.usecases.beside import incumbent_beside
from milton_assets.usecases.dry_run import WHY
from milton_assets.usecases.evaluations import imported_log, imported_result
from milton_assets.usecases.incumbent import heard_of_last
from milton_assets.usecases.judging import qualified_judge
from milton_assets.usecases.measuring import ERROR_EXAMPLES, SYSTEM_ROLE, measure_tier
from milton_assets.usecases.references import Asking, forcing_of, reference_of
from milton_assets.usecases.shared_history import mirrored_anywhere
from milton_assets.usecases.targets import open_targets
from milton_assets.usecases.weights import bring
from milton_assets.vocabulary.chat import ChatModel
from milton_assets.vocabulary.entry_paths import placed
from milton_assets.vocabulary.entry_table import entry_from_table
from milton_assets.vocabulary.forcing import TeacherForcing
from milton_assets.vocabulary.golden_set import TierGoldens, read_goldens
from milton_assets.vocabulary.keys import mint_variants_seed
from milton_assets.vocabulary.metric import Status
from milton_assets.vocabulary.named_weights import NamedWeights
from milton_assets.vocabulary.registry import Artefact, RegistryEntry
from milton_assets.vocabulary.server import Launcher, RunningServer
from milton_assets.vocabulary.tier import TierResult, asset_on_class
from milton_assets.vocabulary.tier_spec import (
    Conditions,
    Incumbent,
    Measuring,
    Needs,
    NoReference,
    Reference,
    Tiers,
    TierSpec,
    Uses,
)
from resources.answer_cache import CachedChatModel, CacheKey
from resources.campaign import Campaign
from resources.edge_server import EdgeServer
from resources.evaluations.running import EvaluationRunner, kept_in
from resources.evidence_store import EvidenceFile, EvidenceStore
from resources.hardware import fingerprint
from resources.machine_watch import watch_of
from resources.model_server import ModelServerResource
from resources.registry_resource import RegistryResource
from resources.servers.client import OpenAIChatModel
from resources.servers.repeatable import repeatable

MEASURED_ON = "measured_on"
"""Under which a table says which host measured it, and in which pool."""


def tier_asset(spec: TierSpec, tiers: Tiers, pool: str) -> AssetsDefinition:
    """The asset that holds the tier's tables, a partition a model version.

    `tiers` are all that a campaign measures, `pool` has one place, that of this host's accelerator.
    """

    @asset(
        name=spec.asset_name,
        description=spec.about,
        partitions_def=MODEL_VERSIONS,
        deps=[golden.name for golden in spec.goldens],
        io_manager_key="evidence",
        group_name="tiers",
        code_version=spec.code_version(),
        output_required=False,
        kinds={"parquet"},
        pool=pool,
    )
    @guarded_by(lambda: spec.skipped(WHY).metrics)
    def measured(
        context: AssetExecutionContext,
        registry_entry: EvidenceFile,
        model_server: ModelServerResource,
        campaign: Campaign,
        registry: RegistryResource,
    ) -> Output[pa.Table]:
        entry, key = placed(entry_from_table(registry_entry.read()), campaign.state), context.partition_key
        means = _Means(campaign, registry, model_server, registry_entry.store)
        artefact = entry.artefact(model_server.artefact_kind)
        goldens = read_goldens(spec, campaign.goldens.get(spec.name, ()))
        weights = NamedWeights(entry.version, artefact.sha256)
        if spec.from_log and (known := imported_log(means.store, spec.name, weights)):
            result = imported_result(means.store, spec, known)
            return tier_output(
                spec,
                result,
                context.partition_key,
                artefact.sha256,
                imported_of=known.model_told,
                **its_campaign(context),
            )
        brings = partial(bring, registry.store(), entry.version, artefact)
        with model_server.serve(artefact, entry.version, bring=brings) as served:
            plan = spec.plan(
                Conditions(
                    str(campaign.profile),
                    served.endpoint.slots,
                    campaign.slo,
                    campaign.rerank.value,
                    context.run.tags.get(VARIANTS_TAG) or mint_variants_seed(),
                    campaign.reasoning_budget_s,
                )
            )
            asked = _asked(spec, served, entry, goldens, means)
            with _chat_model(spec, served, artefact, goldens, means) as chat_model:
                measuring = Measuring(
                    served,
                    goldens.value,
                    plan,
                    chat_model=chat_model,
                    judge=lambda pairs: qualified_judge(campaign.judge, pairs, means.judged()),
                    embeddings=campaign.embeddings if Uses.EMBEDDINGS in spec.uses else None,
                    on_progress=progress_of(context, spec.name, tuple(tiers), named=name_shown(context, entry)),
                    incumbent=_incumbent(context, spec, served, entry.version, means),
                    runs_evaluations=EvaluationRunner(campaign.cache_dir, kept_in(means.store)),
                    **asked,
                )
                watch = watch_of(served) if campaign.watch_machine else None
                result = measure_tier(spec, goldens, measuring, watch=watch)
            environment = fingerprint(served)
        told = {
            "fingerprint": environment.model_dump(mode="json"),
            MEASURED_ON: {"host": platform.node(), "pool": campaign.accelerator_pool},
        }
        if isinstance(chat_model, CachedChatModel):
            told["answer_cache"] = chat_model.provenance()
        result = replace(result, provenance={**result.provenance, **told})
        server = environment.server.name if environment.server else "unknown"
        return tier_output(spec, result, key, artefact.sha256, server=server, **its_campaign(context))

    return measured


@dataclass(frozen=True)
class _Means:
    """What a campaign measures with on this machine, and the store that it keeps tables in."""

    campaign: Campaign
    registry: RegistryResource
    model_server: ModelServerResource
    store: EvidenceStore

    @property
    def environment(self) -> dict[str, str]:
        """What a launched server is started in."""
        return {**os.environ, **getattr(self.model_server, "env", {})}

    def launcher(self, served: RunningServer) -> Launcher | None:
        """What starts another server like `served`; None where somebody else runs that."""
        return self.model_server.launcher() if served.fingerprint.launched_by_us else None

    def judged(self) -> list[ModelPin]:
        """Every model that a judge must not be."""
        at = getattr(self.model_server, "base_url", None)
        return [
            ModelPin(model=entry.version, base_url=at, artefact_sha256=artefact.sha256)
            for entry in self.registry.read().candidates()
            for artefact in entry.artefacts
        ]


class _Asked(TypedDict, total=False):
    """Whom a tier of probabilities asks; empty for others."""

    forcing: TeacherForcing | None
    reference: Reference | NoReference


def _asked(
    spec: TierSpec,
    served: RunningServer,
    entry: RegistryEntry,
    goldens: TierGoldens,
    means: _Means,
) -> _Asked:
    if spec.needs is not Needs.PROBABILITIES:
        return {}
    asking = Asking(
        served=served,
        launcher=means.launcher(served),
        store=None if goldens.is_private else means.store,
        environment=means.environment,
        recalls=means.campaign.reuse_answers,
    )
    artefact, registry = entry.artefact(means.model_server.artefact_kind), means.registry
    reference = reference_of(entry, artefact, registry.store(), registry.files(), asking)
    return {"forcing": forcing_of(artefact, asking), "reference": reference}


def _incumbent(
    context: AssetExecutionContext,
    spec: TierSpec,
    served: RunningServer,
    version: str,
    means: _Means,
) -> Incumbent | None:
    """What serves where this machine's speeds decide, for a tier of times, unless it is the very model under test.

    No target is asked: what was last heard of them is enough to choose whom to measure beside.
    """
    if spec.needs is not Needs.ENDPOINT:
        return None
    campaign = means.campaign
    targets = open_targets(campaign.state, campaign.target_paths, server=EdgeServer)
    names = [name for name in campaign.target_names() if campaign.class_decided_for(name) is None]
    serving = heard_of_last(names, mirrored_anywhere(means.store, targets))
    if serving is None or serving == version:
        return None
    return incumbent_beside(
        serving,
        means.registry.store(),
        means.model_server.artefact_kind,
        means.launcher(served),
        on_note=context.log.warning,
    )


@contextmanager
def _chat_model(
    spec: TierSpec,
    served: RunningServer,
    artefact: Artefact,
    goldens: TierGoldens,
    means: _Means,
) -> Iterator[ChatModel | None]:
    """The model that the tier asks, if it asks one, with the answers that are kept of the same weights and server.

    The cache keeps answers as they are, so what a private set asks is never answered from it and never kept.
    """
    if spec.needs is not Needs.CHAT:
        yield None
        return
    # What is cached by content may depend on nothing else.
    with OpenAIChatModel(served.endpoint, asking=repeatable(served.fingerprint)) as model:
        reuse = means.campaign.reuse_answers and not goldens.is_private
        key = CacheKey.of(artefact.sha256, served.fingerprint, means.environment) if reuse else None
        yield model if key is None else CachedChatModel(model, means.campaign.state.answers, key)


def _told(result: TierResult) -> dict[str, str | dict[str, str]]:
    """What the check tells beside the figures, where the table states it: how system turns were sent, and what the
    server said at the first error of each kind."""
    stated: dict[str, str | dict[str, str]] = {}
    if (sent := result.provenance.get(SYSTEM_ROLE)) is not None:
        stated[SYSTEM_ROLE] = str(sent)
    if said := result.provenance.get(ERROR_EXAMPLES):
        stated[ERROR_EXAMPLES] = said
    return stated


def tier_check(spec: TierSpec, *, on_class: bool = False) -> AssetChecksDefinition:
    """The check on the tier's table, or on that of a device class: nothing failed, skipped or invalid goes unseen.

    It warns and stops nothing, because a decision must still be able to name the metric that is missing.
    """

    @partition_check(
        asset_on_class(spec.name) if on_class else spec.asset_name,
        MODELS_ON_CLASSES if on_class else MODEL_VERSIONS,
        name=f"{spec.name}_is_complete",
        description="Every metric that was tried has a value that may be relied on, and no attempt failed.",
    )
    def check(context: AssetCheckExecutionContext, table: EvidenceFile) -> AssetCheckResult:
        result = TierResult.from_table(table.read())
        metrics = result.metrics
        wanting = {m.name: m.why for m in metrics if m.status is Status.ERROR or not m.valid}
        skipped = {m.name: m.why for m in metrics if m.status is Status.SKIPPED}
        errors = max((m.errors for m in metrics), default=0)
        return AssetCheckResult(
            passed=not wanting and not errors,
            severity=AssetCheckSeverity.WARN,
            metadata={
                "metrics_wanting": wanting,
                "metrics_skipped": skipped,
                "failed_attempts": errors,
                **_told(result),
            },
        )

    return check
