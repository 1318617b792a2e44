"""The retrieval tier: how well a model reranks a fixed BM25 pool, beside what BM25, chance and an oracle earn.

What belongs here: putting the steps together into a `TierResult`, and saying with what it was measured. What does not:
any step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from milton_assets.tiers.retrieval import listwise, pointwise
from milton_assets.tiers.retrieval.baselines import Baselines, baselines
from milton_assets.tiers.retrieval.documents import Document, Query
from milton_assets.tiers.retrieval.figures import METRICS, Figures, NoBaselines
from milton_assets.tiers.retrieval.goldens import RetrievalGoldens
from milton_assets.tiers.retrieval.known_answers import VariantAnswers, asked_variants, passages_of, why_none
from milton_assets.tiers.retrieval.plan import Method, RetrievalPlan
from milton_assets.tiers.retrieval.pool import Pool, pools, pools_digest, subset
from milton_assets.tiers.retrieval.prompts import PROMPTS_VERSION
from milton_assets.tiers.retrieval.reranked import Reranked
from milton_assets.vocabulary.chat import ChatModel, ModelCallFailed
from milton_assets.vocabulary.code_version import code_version as version_of_code
from milton_assets.vocabulary.metric import Status
from milton_assets.vocabulary.progress import OnProgress, Progress, silent
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import Embeds

__all__ = ["METRICS", "code_version", "measure_retrieval"]

_LIBRARIES = ("numpy", "bm25s", "ir-measures", "pytrec-eval-terrier")

_RERANK = {Method.POINTWISE: pointwise.rerank, Method.LISTWISE: listwise.rerank}


def code_version() -> str:
    """Digest of all that changes the figures but plan and goldens: the code that measures, BM25 and the measures."""
    return version_of_code(__name__, libraries=_LIBRARIES)


def measure_retrieval(
    model: ChatModel,
    goldens: RetrievalGoldens,
    plan: RetrievalPlan,
    *,
    on_progress: OnProgress = silent,
    embedder: Embeds | None = None,
) -> TierResult:
    """Have `model` rerank the pool of every query of `plan.split` and score the rankings.

    Failed calls stay in every denominator: the documents they were about count as not found. When every call failed, or
    the model cannot do what `plan.method` asks of it, its metrics have status `error` and say with what. With an
    `embedder`, dense retrieval and its fusion with BM25 are measured beside the model. With a `plan.variants_seed`,
    templated queries are asked after the others, published and fresh. Raises `BadInput` when the split does not exist.
    """
    queries = subset(goldens.queries(plan.split), plan.max_queries, plan.seed)
    found = pools(goldens.corpus, queries, size=plan.pool_size, seed=plan.seed)
    beside = _baselines(embedder, goldens.corpus, queries, plan)
    failed = listwise.failed_trials(model, plan) if plan.method is Method.LISTWISE else ()
    reranked = map(_not_asked, found) if failed else _RERANK[plan.method](model, found, goldens.corpus, plan)
    asked = () if failed else asked_variants(goldens.templates, plan)
    variants = tuple(one.pool for one in asked)
    reasked = _RERANK[plan.method](model, variants, passages_of(asked), plan)
    results = _watched(chain(reranked, reasked), (*found, *variants), on_progress)
    why = "the model can give no order" if failed else why_none(goldens.templates)
    known = VariantAnswers(asked, results[len(found) :], why)
    figures = Figures(found, results[: len(found)], beside, plan, failed, known)
    return TierResult("retrieval", figures.metrics(), figures.samples(), _provenance(goldens, figures))


def _baselines(
    embedder: Embeds | None, corpus: Mapping[str, Document], queries: Sequence[Query], plan: RetrievalPlan
) -> Baselines | NoBaselines:
    if embedder is None:
        return NoBaselines(Status.SKIPPED, "no embedding server was named")
    try:
        return baselines(embedder, corpus, queries, max_words=plan.max_document_words, seed=plan.seed)
    except ModelCallFailed as failed:
        return NoBaselines(Status.ERROR, failed.problem)


def _not_asked(pool: Pool) -> Reranked:
    return Reranked(pool.query.query_id, ranking=(), unranked=pool.shown, failures=(), calls=0)


def _watched(results: Iterable[Reranked], found: Sequence[Pool], on_progress: OnProgress) -> tuple[Reranked, ...]:
    done = []
    for pool, result in zip(found, results, strict=True):
        done.append(result)
        on_progress(Progress("retrieval", len(done), len(found), f"query {pool.query.query_id}"))
    return tuple(done)


def _provenance(goldens: RetrievalGoldens, figures: Figures) -> dict[str, object]:
    return {
        "code_version": code_version(),
        "prompts_version": PROMPTS_VERSION,
        "dataset": goldens.name,
        "dataset_version": goldens.version,
        "goldens": dict(goldens.digests),
        "plan": figures.plan.model_dump(mode="json"),
        "pools_sha256": pools_digest(figures.pools),
        "queries": [pool.query.query_id for pool in figures.pools],
        "calls": figures.calls,
        "failures": dict(sorted(figures.failures.items())),
        "variants_calls": sum(result.calls for result in figures.variants.results),
    }
