"""The `selection_decision` asset: ranking, verdict, reasons and the evidence manifest, once per benchmark run.

What belongs here: wiring, and the check that stands between a decision and its bundle. What does not: gathering
evidence (`resources.evidence_log`) and deciding (`milton_assets.selection`).
"""

from datetime import UTC, datetime

import pyarrow as pa
from dagster import (
    AllPartitionMapping,
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetExecutionContext,
    AssetIn,
    MetadataValue,
    Output,
    asset,
)

from milton_assets import selection
from milton_assets.assets.evidence import evidence_output, pictures
from milton_assets.assets.goldens import golden_digests
from milton_assets.assets.guards import guarded
from milton_assets.assets.young_features import partition_check
from milton_assets.partitions import BENCHMARK_RUNS
from milton_assets.selection import Candidate, Verdict, card, decide, load_policy, plots
from milton_assets.selection.ranking_table import ranking_table
from milton_assets.selection.summary import RunSummary, read_summary, write_summary
from milton_assets.tiers import BUILT_IN
from milton_assets.tiers.inference.plots import pictures_of
from milton_assets.usecases.aliases import name_challenger
from milton_assets.usecases.incumbent import incumbent_of
from milton_assets.usecases.targets import open_targets
from milton_assets.vocabulary.keys import check_run_id
from milton_assets.vocabulary.tier import TierResult, asset_of
from resources.campaign import Campaign
from resources.edge_server import EdgeServer
from resources.evidence_log import Gathered, check_manifest, gather
from resources.evidence_store import EvidenceFile
from resources.model_server import ModelServerResource
from resources.parquet_io import EvidenceStoreResource
from resources.registry_resource import RegistryResource


@asset(
    partitions_def=BENCHMARK_RUNS,
    ins={
        name: AssetIn(partition_mapping=AllPartitionMapping())
        for name in ("registry_entry", *(asset_of(tier) for tier in BUILT_IN))
    },
    io_manager_key="evidence",
    group_name="promote",
    code_version=selection.code_version(),
    output_required=False,
    kinds={"parquet", "json"},
)
@guarded
def selection_decision(
    context: AssetExecutionContext,
    registry: RegistryResource,
    campaign: Campaign,
    model_server: ModelServerResource,
    evidence_store: EvidenceStoreResource,
    registry_entry: dict[str, EvidenceFile],
    inference_metrics: dict[str, EvidenceFile],
    reasoning_metrics: dict[str, EvidenceFile],
    retrieval_metrics: dict[str, EvidenceFile],
) -> Output[pa.Table]:
    """Which candidate serves on the edge, decided on pinned evidence under a policy; or none, and why."""
    run_id = check_run_id(context.partition_key)
    policy = load_policy(campaign.policy)
    current = registry.read()
    gathered = gather(
        context.instance,
        run_id=run_id,
        created_at=datetime.now(UTC),
        entries=current.candidates(),
        registry_sha256=current.sha256,
        measured_kind=model_server.artefact_kind,
        entry_files=registry_entry,
        tier_files={
            "inference": inference_metrics,
            "reasoning": reasoning_metrics,
            "retrieval": retrieval_metrics,
        },
        goldens=golden_digests(),
        policy_name=policy.name,
        policy_sha256=policy.sha256,
    )
    targets = open_targets(campaign.state, campaign.target_paths, server=EdgeServer)
    decision = decide(
        run_id=run_id,
        candidates=[
            Candidate(
                version=c.entry.version,
                tiers=c.tiers,
                artefact_size_bytes=c.artefact_size_bytes,
                excluded=c.excluded,
            )
            for c in gathered.candidates
        ],
        policy=policy,
        manifest=gathered.manifest,
        incumbent=incumbent_of(targets.named(name) for name in campaign.target_names()),
    )
    notes = campaign.chosen.notes
    summary = RunSummary(run_id=run_id, decision=decision, manifest=gathered.manifest, notes=notes)
    store = evidence_store.store
    decision_uri = store.put("selection_decision", run_id, summary.model_dump_json(indent=2).encode(), suffix=".json")
    write_summary(campaign.state.runs, summary)
    if decision.verdict is Verdict.PROMOTE and decision.winner is not None:
        name_challenger(registry.store(), decision.winner, context.log.warning)
    return evidence_output(
        ranking_table(decision),
        verdict=decision.verdict.value,
        winner=decision.winner or "none",
        reasons=list(decision.reasons),
        decision_card=MetadataValue.md(card.to_markdown(decision)),
        **pictures({"intervals": plots.intervals(decision), "pareto_front": plots.pareto(decision)}),
        **pictures(pictures_of(_measured(gathered))),
        decision_uri=decision_uri,
        evidence_manifest_sha256=gathered.manifest.digest(),
        policy=f"{policy.name} {policy.sha256}",
        notes=list(notes),
        quarantined={q.version: q.reason for q in current.quarantined},
    )


def _measured(gathered: Gathered) -> dict[str, TierResult]:
    return {c.entry.version: c.tiers["inference"] for c in gathered.candidates if "inference" in c.tiers}


@partition_check(selection_decision, BENCHMARK_RUNS, blocking=True)
def evidence_holds(
    context: AssetCheckExecutionContext, campaign: Campaign, evidence_store: EvidenceStoreResource
) -> AssetCheckResult:
    """Every file and event the decision pinned is still as it was. Raises with every difference otherwise."""
    summary = read_summary(campaign.state.runs, context.partition_key)
    check_manifest(context.instance, evidence_store.store, summary.manifest)
    return AssetCheckResult(passed=True, metadata={"pins": len(summary.manifest.pins())})
