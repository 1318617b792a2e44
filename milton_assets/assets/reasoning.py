"""The `reasoning_metrics` asset: a row per case with every step's text.

What belongs here: wiring. What does not: Chain-of-Verification and scoring (`milton_assets.tiers.reasoning`).
"""

import pyarrow as pa
from dagster import AssetExecutionContext, Output, asset

from milton_assets.assets.evidence import ask_tier
from milton_assets.assets.guards import guarded
from milton_assets.partitions import MODEL_VERSIONS
from milton_assets.settings import Profile
from milton_assets.tiers import reasoning
from milton_assets.tiers.reasoning import ReasoningPlan, load_goldens, measure_reasoning
from milton_assets.tiers.reasoning.judge import ModelPin
from milton_assets.usecases.judging import qualified_judge
from milton_assets.vocabulary.chat import ChatModel
from milton_assets.vocabulary.progress import OnProgress
from milton_assets.vocabulary.tier import TierResult
from resources.campaign import Campaign
from resources.evidence_store import EvidenceFile
from resources.model_server import ModelServerResource
from resources.registry_resource import RegistryResource


@asset(
    partitions_def=MODEL_VERSIONS,
    deps=["reasoning_cases", "reasoning_judge_pairs", "reasoning_dataset"],
    io_manager_key="evidence",
    group_name="benchmark",
    code_version=reasoning.code_version(),
    output_required=False,
    kinds={"parquet"},
    pool="accelerator",
)
@guarded
def reasoning_metrics(
    context: AssetExecutionContext,
    registry_entry: EvidenceFile,
    model_server: ModelServerResource,
    campaign: Campaign,
    registry: RegistryResource,
) -> Output[pa.Table]:
    """How often the model ends with the right answer after verifying its own draft."""
    plan = ReasoningPlan.smoke() if campaign.profile is Profile.SMOKE else ReasoningPlan()

    candidates = [
        ModelPin(model=entry.version, base_url=getattr(model_server, "base_url", None), artefact_sha256=artefact.sha256)
        for entry in registry.read().candidates()
        for artefact in entry.artefacts
    ]

    def ask(model: ChatModel, slots: int, on_progress: OnProgress) -> TierResult:
        at_once = plan.model_copy(update={"concurrency": slots})
        goldens = load_goldens()
        with qualified_judge(campaign.judge, goldens.judge_pairs, candidates) as judge:
            return measure_reasoning(model, goldens, at_once, judge=judge, on_progress=on_progress)

    return ask_tier(context, "reasoning", registry_entry, model_server, campaign, ask)
