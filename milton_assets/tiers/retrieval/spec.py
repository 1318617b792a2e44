"""The retrieval tier's description of itself.

What belongs here: `SPEC`, and joining collections. What does not: measuring and the definitions of the figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace

from milton_assets.tiers.retrieval import report
from milton_assets.tiers.retrieval.documents import Document, Query
from milton_assets.tiers.retrieval.figures import ABOUT_THE_MODEL, ASKED, AUROC, FAILURE_RATE, MEANS, METRICS
from milton_assets.tiers.retrieval.goldens import SHIPPED, RetrievalGoldens, load_goldens
from milton_assets.tiers.retrieval.known_answers import (
    FRESH,
    FRESH_RATE,
    PUBLISHED,
    PUBLISHED_RATE,
    UNANSWERED,
    asked_variants,
    passages_of,
)
from milton_assets.tiers.retrieval.measures import HEADLINE
from milton_assets.tiers.retrieval.plan import Method, RetrievalPlan
from milton_assets.tiers.retrieval.pool import subset
from milton_assets.tiers.retrieval.tier import code_version, measure_retrieval
from milton_assets.vocabulary.metric import Direction
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import (
    VARIANTS_SEED,
    CaseColumns,
    Conditions,
    GoldenFile,
    Measuring,
    MetricSpec,
    Needs,
    PlanOption,
    TierSpec,
    Uses,
    VariantColumns,
)


def _metric(name: str, unit: str) -> MetricSpec:
    """Means have a column of their own name; a query without a value there has no relevant document and is no case."""
    if name == FRESH_RATE:
        return MetricSpec(name, unit, Direction.HIGHER, CaseColumns("query_id", "right", missing=0.0, part=FRESH))
    about_the_model = {*ABOUT_THE_MODEL, AUROC, PUBLISHED_RATE}
    better = Direction.LOWER if name == FAILURE_RATE else Direction.HIGHER if name in about_the_model else None
    return MetricSpec(name, unit, better, CaseColumns("query_id", name, part=ASKED) if name in MEANS else None)


def plan(conditions: Conditions) -> RetrievalPlan:
    """The plan of a campaign; as many calls under way as the server has slots. Smoke has no room for variants."""
    smoke = conditions.profile == "smoke"
    return (RetrievalPlan.smoke() if smoke else RetrievalPlan()).model_copy(
        update={
            "method": Method(conditions.rerank),
            "concurrency": conditions.slots,
            "variants_seed": None if smoke else conditions.variants_seed,
        }
    )


def effort(plan: RetrievalPlan, goldens: RetrievalGoldens) -> float:
    """How many documents are shown, those of templated queries among them."""
    queries = subset(goldens.queries(plan.split), plan.max_queries, plan.seed)
    return len(queries) * plan.pool_size + len(passages_of(asked_variants(goldens.templates, plan)))


def measure(measuring: Measuring) -> TierResult:
    """Rerank the collection's pools, beside the embedding baselines if the campaign names a server of them."""
    server = measuring.embeddings
    with server.client() if server else nullcontext() as embedder:
        result = measure_retrieval(
            measuring.chat, measuring.goldens, measuring.plan, on_progress=measuring.on_progress, embedder=embedder
        )
    told = {"model": server.model, "base_url": server.base_url} if server else None
    return replace(result, provenance={**result.provenance, "embedding": told})


def join(sets: Mapping[str, RetrievalGoldens]) -> RetrievalGoldens:
    """One collection of all: every query is asked of all documents. Ids begin with their set's name.

    Splits of one name are joined. Judgements stay as they are, so a document of another set counts as not judged.
    """
    corpus: dict[str, Document] = {}
    splits: dict[str, tuple[Query, ...]] = {}
    for name, one in sets.items():
        corpus |= {f"{name}.{key}": replace(doc, doc_id=f"{name}.{key}") for key, doc in one.corpus.items()}
        for split, queries in one.splits.items():
            renamed = tuple(
                Query(f"{name}.{q.query_id}", q.text, {f"{name}.{key}": grade for key, grade in q.grades.items()})
                for q in queries
            )
            splits[split] = (*splits.get(split, ()), *renamed)
    digests = {f"{name}/{file}": sha256 for name, one in sets.items() for file, sha256 in one.digests.items()}
    templates = {f"{name}.{key}": template for name, one in sets.items() for key, template in one.templates.items()}
    return RetrievalGoldens(
        name="+".join(one.name for one in sets.values()),
        version="+".join(one.version for one in sets.values()),
        corpus=corpus,
        splits=splits,
        digests=digests,
        templates=templates,
    )


def _texts(goldens: RetrievalGoldens) -> Iterator[str]:
    for document in goldens.corpus.values():
        yield from (document.title, document.text)
    for queries in goldens.splits.values():
        yield from (query.text for query in queries)
    for template in goldens.templates.values():
        yield from template.texts()


SPEC = TierSpec(
    name="retrieval",
    about="How well the model reranks a fixed BM25 pool, beside BM25 alone and the pool's ceiling.",
    metrics=tuple(_metric(name, unit) for name, unit in METRICS),
    headline=HEADLINE,
    needs=Needs.CHAT,
    plan=plan,
    measure=measure,
    code_version=code_version,
    effort=effort,
    read_goldens=load_goldens,
    join_goldens=join,
    shipped=SHIPPED,
    goldens=(
        GoldenFile("retrieval_corpus", "corpus.jsonl", "The documents that are ranked."),
        GoldenFile("retrieval_queries", "queries.jsonl", "The queries."),
        GoldenFile("retrieval_qrels", "qrels/test.tsv", "Which document answers which query, and how well."),
        GoldenFile(
            "retrieval_qrels_dev",
            "qrels/dev.tsv",
            "The same for the queries that prompts are tried on; no figure rests on it.",
            scored=False,
        ),
        GoldenFile("retrieval_variants", "variants.jsonl", "Templates of queries that are drawn anew each time."),
        GoldenFile(
            "retrieval_published",
            "published.jsonl",
            "What the templates draw by the public seed, as a text to read; no figure rests on it.",
            scored=False,
        ),
        GoldenFile("retrieval_dataset", "dataset.json", "Name and version of the collection.", scored=False),
    ),
    uses=frozenset({Uses.EMBEDDINGS}),
    baselines={"bm25": "BM25 alone", "oracle": "the best possible order of the same documents"},
    options=(
        PlanOption("split", "split", str, "Which qrels/SPLIT.tsv to use."),
        PlanOption("method", "method", str, "pointwise (logprobs of Yes and No) or listwise (windows put in order)."),
        PlanOption("pool-size", "pool_size", int, "How many documents BM25 fetches a query."),
        PlanOption("limit", "max_queries", int, "Take a fixed subset of this many queries."),
        VARIANTS_SEED,
    ),
    variants=VariantColumns(
        "part", PUBLISHED, FRESH, "template", "right", "label", UNANSWERED, only_where_planned=True
    ),
    charts=report.charts,
    sheets=report.sheets,
    open_columns=frozenset({"part", "query_id", "template", "label"}),
    texts=_texts,
)
