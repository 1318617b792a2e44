"""The `retrieval_metrics` asset: a row per query with its ranking.

What belongs here: wiring. What does not: the candidate pool, reranking and IR measures
(`milton_assets.tiers.retrieval`).
"""

from contextlib import nullcontext
from dataclasses import replace

import pyarrow as pa
from dagster import AssetExecutionContext, Output, asset

from milton_assets.assets.evidence import ask_tier
from milton_assets.assets.guards import guarded
from milton_assets.partitions import MODEL_VERSIONS
from milton_assets.settings import Profile
from milton_assets.tiers import retrieval
from milton_assets.tiers.retrieval import Method, RetrievalPlan, load_goldens, measure_retrieval
from milton_assets.vocabulary.chat import ChatModel
from milton_assets.vocabulary.progress import OnProgress
from milton_assets.vocabulary.tier import TierResult
from resources.campaign import Campaign
from resources.evidence_store import EvidenceFile
from resources.model_server import ModelServerResource


@asset(
    partitions_def=MODEL_VERSIONS,
    deps=["retrieval_corpus", "retrieval_queries", "retrieval_qrels", "retrieval_dataset"],
    io_manager_key="evidence",
    group_name="benchmark",
    code_version=retrieval.code_version(),
    output_required=False,
    kinds={"parquet"},
    pool="accelerator",
)
@guarded
def retrieval_metrics(
    context: AssetExecutionContext,
    registry_entry: EvidenceFile,
    model_server: ModelServerResource,
    campaign: Campaign,
) -> Output[pa.Table]:
    """How well the model reranks a fixed BM25 pool, beside BM25 alone and the pool's ceiling."""
    thorough = RetrievalPlan.smoke() if campaign.profile is Profile.SMOKE else RetrievalPlan()
    plan = thorough.model_copy(update={"method": Method(campaign.rerank.value)})

    def ask(model: ChatModel, slots: int, on_progress: OnProgress) -> TierResult:
        at_once = plan.model_copy(update={"concurrency": slots})
        side = campaign.embeddings
        with side.client() if side else nullcontext() as embedder:
            result = measure_retrieval(model, load_goldens(), at_once, on_progress=on_progress, embedder=embedder)
        embedding = {"model": side.model, "base_url": side.base_url} if side else None
        return replace(result, provenance={**result.provenance, "embedding": embedding})

    return ask_tier(context, "retrieval", registry_entry, model_server, campaign, ask)
