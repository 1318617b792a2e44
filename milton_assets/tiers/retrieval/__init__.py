"""The retrieval tier: a model under test reranks a fixed BM25 pool of graded documents.

    goldens = load_goldens()
    result = measure_retrieval(model, goldens, RetrievalPlan())

What belongs here: the tier's public names. What does not: anything that speaks HTTP or knows Dagster; `model` is any
`milton_assets.vocabulary.chat.ChatModel`.
"""

from milton_assets.tiers.retrieval.documents import Document, Query
from milton_assets.tiers.retrieval.goldens import RetrievalGoldens, load_goldens
from milton_assets.tiers.retrieval.plan import Method, RetrievalPlan
from milton_assets.tiers.retrieval.tier import METRICS, code_version, measure_retrieval

__all__ = [
    "METRICS",
    "Document",
    "Method",
    "Query",
    "RetrievalGoldens",
    "RetrievalPlan",
    "code_version",
    "load_goldens",
    "measure_retrieval",
]
