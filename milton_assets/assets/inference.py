"""The `inference_metrics` asset: a row per measured request, a summary row per metric.

What belongs here: wiring. What does not: streaming and statistics (`milton_assets.tiers.inference`).
"""

from dataclasses import replace

import pyarrow as pa
from dagster import AssetExecutionContext, Output, asset

from milton_assets.assets.evidence import measure_tier
from milton_assets.assets.guards import guarded
from milton_assets.partitions import MODEL_VERSIONS
from milton_assets.settings import Profile
from milton_assets.tiers import inference
from milton_assets.tiers.inference import InferencePlan
from milton_assets.tiers.inference.load_curve import levels_up_to, measure_with_sweep
from milton_assets.tiers.inference.plots import pictures_of
from milton_assets.vocabulary.tier import TierResult
from resources.campaign import Campaign
from resources.evidence_store import EvidenceFile
from resources.model_server import ModelServerResource


@asset(
    partitions_def=MODEL_VERSIONS,
    deps=["inference_prompts"],
    io_manager_key="evidence",
    group_name="benchmark",
    code_version=inference.code_version(),
    output_required=False,
    kinds={"parquet"},
    pool="accelerator",
)
@guarded
def inference_metrics(
    context: AssetExecutionContext,
    registry_entry: EvidenceFile,
    model_server: ModelServerResource,
    campaign: Campaign,
) -> Output[pa.Table]:
    """How fast the model answers: TTFT, time per output token, end-to-end latency, output tokens/s; and under load."""
    how = InferencePlan.smoke() if campaign.profile is Profile.SMOKE else InferencePlan()
    plan = how.model_copy(update={"slo": campaign.slo})
    return measure_tier(
        context,
        "inference",
        registry_entry,
        model_server,
        campaign,
        lambda served, _, on_progress: _on_goldens(
            measure_with_sweep(
                served.endpoint, plan, levels=levels_up_to(served.endpoint.slots), on_progress=on_progress
            )
        ),
        draw=lambda result: pictures_of({context.partition_key: result}),
    )


def _on_goldens(result: TierResult) -> TierResult:
    return replace(result, provenance={**result.provenance, "goldens": inference.load_goldens().digests})
