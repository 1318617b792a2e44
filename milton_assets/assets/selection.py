"""The `selection_decision` asset: ranking, verdict, reasons and the evidence manifest, once per benchmark run.

What belongs here: wiring, and the check that stands between a decision and its bundle. What does not: gathering
evidence (`resources.gathering`) and deciding (`milton_assets.selection`).
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from dagster import (
    AllPartitionMapping,
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetDep,
    AssetExecutionContext,
    AssetIn,
    AssetsDefinition,
    MetadataValue,
    Output,
    RunsFilter,
    asset,
)

from milton_assets.assets.beta_features import partition_check
from milton_assets.assets.evidence import AGAIN_TAG, ANCHOR_TAG, CAMPAIGN_TAG, evidence_output, pictures
from milton_assets.assets.guards import guarded
from milton_assets.assets.links import its_campaign, page_of
from milton_assets.assets.pages import kept_page, told_elsewhere
from milton_assets.partitions import BENCHMARK_RUNS
from milton_assets.selection import card, plots
from milton_assets.selection.decide import decide
from milton_assets.selection.decision import Verdict
from milton_assets.selection.policy_file import check_metrics, load_policy
from milton_assets.selection.ranking_table import ranking_table
from milton_assets.selection.replay import read_anchored
from milton_assets.selection.summary import RunSummary, read_summary, write_summary
from milton_assets.selection.version import code_version
from milton_assets.usecases.aliases import name_challenger
from milton_assets.usecases.anchors import Candidacy, anchors_due
from milton_assets.usecases.field_evidence import field_evidence
from milton_assets.usecases.incumbent import incumbent_of
from milton_assets.usecases.past_ledger import check_ledger, ledger_before
from milton_assets.usecases.pictures import tier_pictures
from milton_assets.usecases.shared_history import mirrored_anywhere
from milton_assets.usecases.targets import open_targets
from milton_assets.vocabulary import markdown
from milton_assets.vocabulary.evidence import AnchorEvidence, EvidenceManifest
from milton_assets.vocabulary.golden_set import golden_digests, read_all_goldens
from milton_assets.vocabulary.keys import campaign_of, check_run_id, class_of, key_on_class
from milton_assets.vocabulary.registry import Registry
from milton_assets.vocabulary.tier import asset_on_class
from milton_assets.vocabulary.tier_spec import Needs, Tiers
from resources.campaign import Campaign
from resources.edge_server import EdgeServer
from resources.evidence_log import (
    ANCHORS_DUE,
    BENCHMARK_JOB,
    BUNDLE_ASSET,
    check_manifest,
)
from resources.evidence_store import EvidenceFile, EvidenceStore
from resources.gathering import LatestFiles, gather, gather_anchor
from resources.golden_copies import keep_goldens
from resources.model_server import ModelServerResource
from resources.parquet_io import EvidenceStoreResource
from resources.registry_resource import RegistryResource


def decision_asset(tiers: Tiers) -> AssetsDefinition:
    """The asset that decides on what `tiers` measured."""

    @asset(
        partitions_def=BENCHMARK_RUNS,
        deps=[
            # Read by pointer, for the one class that is decided for.
            AssetDep(asset_on_class(spec.name), partition_mapping=AllPartitionMapping())
            for spec in tiers.values()
            if spec.per_class
        ],
        ins={
            # `**measured` has no annotation of its own per tier to tell the IO manager of a fan-in.
            name: AssetIn(partition_mapping=AllPartitionMapping(), dagster_type=dict[str, EvidenceFile])
            for name in ("registry_entry", *(spec.asset_name for spec in tiers.values()))
        },
        io_manager_key="evidence",
        group_name="decision",
        code_version=code_version(),
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
        **measured: dict[str, EvidenceFile],
    ) -> Output[pa.Table]:
        """Which candidate serves on the edge, decided on pinned evidence under a policy; or none, and why."""
        run_id = check_run_id(context.partition_key)
        policy = check_metrics(load_policy(campaign.policy), tiers)
        current = registry.read()
        goldens = read_all_goldens(tiers, campaign.goldens)
        store = evidence_store.store
        keep_goldens(store, goldens.values())
        targets = open_targets(campaign.state, campaign.target_paths, server=EdgeServer)
        incumbent = incumbent_of(
            (targets.named(name) for name in campaign.targets_of(run_id)),
            mirrored=mirrored_anywhere(store, targets),
            on_note=context.log.warning,
        )
        device_class = class_of(run_id)
        files = _latest_files(store, tiers, current, device_class, registry_entry, measured)
        campaigns = {campaign_of(run_id), context.run.tags.get(AGAIN_TAG, run_id)}
        stands = Candidacy.of(current, model_server.artefact_kind, let_go=campaign.anchors_let_go)
        anchors = [
            gather_anchor(
                context.instance,
                store,
                weights=one.weights,
                tiers=one.tiers,
                classes=files.classes,
                campaigns=campaigns,
            )
            for one in anchors_due(run_id, store, policy.incumbent, incumbent, stands, tiers)
        ]
        timed_by = next((name for name, spec in tiers.items() if spec.needs is Needs.ENDPOINT), None)
        gathered = gather(context.instance, current, model_server.artefact_kind, files, timed_by=timed_by)
        manifest = EvidenceManifest(
            run_id=run_id,
            created_at=datetime.now(UTC),
            policy_name=policy.name,
            policy_sha256=policy.sha256,
            registry_sha256=current.sha256,
            goldens=golden_digests(goldens),
            fingerprints=gathered.fingerprints,
            candidates=gathered.evidence,
            tiers=tuple(tiers),
            private_goldens=tuple(sorted(name for one in goldens.values() for name in one.private)),
            ledger=ledger_before(store.runs, run_id),
            field=field_evidence(campaign.state, store.runs, incumbent),
            allowed_templates=tuple(sorted(set(campaign.allowed_templates))),
            allowed_contaminated=tuple(sorted(set(campaign.allowed_contaminated))),
            anchors=tuple(anchors),
            anchors_let_go=tuple(sorted(set(campaign.anchors_let_go))),
        )
        decision = decide(
            run_id=run_id,
            candidates=gathered.candidates,
            policy=policy,
            manifest=manifest,
            incumbent=incumbent,
            tiers=tiers,
            anchored=read_anchored(store.read_bytes, manifest),
        )
        notes = campaign.chosen.notes
        summary = RunSummary(run_id=run_id, decision=decision, manifest=manifest, notes=notes)
        document = summary.model_dump_json(indent=2).encode()
        decision_uri = store.put("selection_decision", run_id, document, suffix=".json")
        write_summary(store.runs, summary)
        page = kept_page(context, campaign, store, targets, run_id)
        links = told_elsewhere(context, campaign, store, targets, run_id)
        if decision.verdict is Verdict.PROMOTE and decision.winner is not None:
            name_challenger(registry.store(), decision.winner, context.log.warning, device_class)
        return evidence_output(
            ranking_table(decision),
            verdict=decision.verdict.value,
            winner=decision.winner or "none",
            reasons=MetadataValue.md(markdown.items(decision.reasons)),
            decision_card=MetadataValue.md(card.to_markdown(decision, tiers)),
            **pictures({"intervals": plots.intervals(decision), "pareto_front": plots.pareto(decision)}),
            **pictures(tier_pictures(tiers, {c.version: c.tiers for c in gathered.candidates})),
            **({"bundle": page_of(BUNDLE_ASSET, run_id)} if decision.verdict is Verdict.PROMOTE else {}),
            **its_campaign(context),
            page=MetadataValue.path(str(page)) if page else "none",
            **links,
            decision_uri=decision_uri,
            evidence_manifest_sha256=manifest.digest(),
            policy=f"{policy.name} {policy.sha256}",
            **({"notes": list(notes)} if notes else {}),
            **_still_due(context, manifest.anchors, campaigns),
            **({"quarantined": {q.version: q.reason for q in current.quarantined}} if current.quarantined else {}),
        )

    return selection_decision


def _still_due(
    context: AssetExecutionContext, anchors: Sequence[AnchorEvidence], campaigns: Collection[str]
) -> dict[str, MetadataValue[Any]]:
    """The anchors that nobody tried to measure again in this campaign: the daemon does so after a decision, and then
    decides again."""
    lacking = {str(one.weights): one for one in anchors if one.missing is not None}
    tried = {
        run.tags.get(ANCHOR_TAG)
        for campaign_id in campaigns
        for run in context.instance.get_runs(RunsFilter(job_name=BENCHMARK_JOB, tags={CAMPAIGN_TAG: campaign_id}))
    }
    due = {tag: list(one.tiers) for tag, one in lacking.items() if tag not in tried}
    return {ANCHORS_DUE: MetadataValue.json(due)} if due else {}


def _latest_files(
    store: EvidenceStore,
    tiers: Tiers,
    current: Registry,
    device_class: str | None,
    entries: dict[str, EvidenceFile],
    measured: dict[str, dict[str, EvidenceFile]],
) -> LatestFiles:
    """What is decided on: `measured` on this machine by asset, or of a tier per class on its reference device."""
    files = {name: measured[spec.asset_name] for name, spec in tiers.items()}
    if device_class is None:
        return LatestFiles(entries, files, {})
    classes = {name: device_class for name, spec in tiers.items() if spec.per_class}
    versions = [entry.version for entry in current.candidates()]
    for tier in classes:
        found = {one: store.latest(asset_on_class(tier), key_on_class(device_class, one)) for one in versions}
        files[tier] = {version: file for version, file in found.items() if file is not None}
    return LatestFiles(entries, files, classes)


@partition_check("selection_decision", BENCHMARK_RUNS, blocking=True)
def evidence_holds(
    context: AssetCheckExecutionContext, campaign: Campaign, evidence_store: EvidenceStoreResource
) -> AssetCheckResult:
    """Every file and event the decision pinned is still as it was. Raises with every difference otherwise."""
    store = evidence_store.store
    summary = read_summary(store.runs, context.partition_key)
    check_manifest(context.instance, evidence_store.store, summary.manifest)
    check_ledger(store.runs, summary.manifest)
    return AssetCheckResult(passed=True, metadata={"pins": len(summary.manifest.pins())})
