"""The retrieval tier: how well a model reranks a fixed BM25 pool, beside what BM25, chance and an oracle earn.

What belongs here: putting the steps together into a `TierResult`. What does not: any step.

Answerable queries are ranked and measured. Unanswerable ones have no right ranking; they are judged too, and count
in `answerability:AUROC`: the probability that the best P(Yes) in the pool of a question which that pool answers is
above the best P(Yes) in the pool of an unanswerable one. A model that says the same to everything gets .5. A query
whose every call failed counts as the wrong way round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import version

import numpy as np
import pandas as pd

from milton_assets.retrieval import bootstrap, listwise, measures, pointwise
from milton_assets.retrieval.goldens import RetrievalGoldens
from milton_assets.retrieval.plan import Method, RetrievalPlan
from milton_assets.retrieval.pool import Pool, pools, pools_digest, subset
from milton_assets.retrieval.prompts import wording
from milton_assets.retrieval.reranked import Reranked
from milton_assets.vocabulary.chat import ChatModel
from milton_assets.vocabulary.digest import sha256_json
from milton_assets.vocabulary.metric import Interval, Metric
from milton_assets.vocabulary.progress import OnProgress, Progress, silent
from milton_assets.vocabulary.tier import Tier, TierResult

DEFINITIONS_VERSION = "1"
UNIT = "ratio"

BM25 = f"bm25:{measures.HEADLINE}"
ORACLE = f"oracle:{measures.HEADLINE}"
RANDOM = f"random:{measures.HEADLINE}"
GAIN = f"gain:{measures.HEADLINE}"
POOL_RECALL = "pool:recall"
AUROC = "answerability:AUROC"
FAILURE_RATE = "call_failure_rate"

METRICS: tuple[tuple[str, str], ...] = tuple(
    (name, UNIT) for name in (*measures.NAMES, BM25, ORACLE, RANDOM, GAIN, POOL_RECALL, AUROC, FAILURE_RATE)
)
"""Every metric of the tier, with its unit, whatever the plan."""

_RERANK = {Method.POINTWISE: pointwise.rerank, Method.LISTWISE: listwise.rerank}


def code_version() -> str:
    """Digest of all that changes the figures but plan and goldens: definitions, prompts, BM25 and the measures."""
    libraries = {name: version(name) for name in ("bm25s", "ir-measures", "pytrec-eval-terrier")}
    return sha256_json({"definitions": DEFINITIONS_VERSION, "prompts": wording(), "libraries": libraries})


def measure_retrieval(
    model: ChatModel,
    goldens: RetrievalGoldens,
    plan: RetrievalPlan,
    *,
    on_progress: OnProgress = silent,
) -> TierResult:
    """Have `model` rerank the pool of every query of `plan.split` and score the rankings.

    Failed calls stay in every denominator: the documents they were about count as not found. When every call failed,
    the model's metrics have status `error` and say with what. Raises `BadInput` when the split does not exist.
    """
    queries = subset(goldens.queries(plan.split), plan.max_queries, plan.seed)
    found = pools(goldens.corpus, queries, size=plan.pool_size, seed=plan.seed)
    results = _watched(_RERANK[plan.method](model, found, goldens.corpus, plan), found, on_progress)
    scored = _Scored(found, results, plan)
    return TierResult(Tier.RETRIEVAL, scored.metrics(), scored.samples(), _provenance(goldens, plan, found, results))


def _watched(results: Iterable[Reranked], found: Sequence[Pool], on_progress: OnProgress) -> tuple[Reranked, ...]:
    done = []
    for pool, result in zip(found, results, strict=True):
        done.append(result)
        on_progress(Progress(Tier.RETRIEVAL.value, len(done), len(found), f"query {pool.query.query_id}"))
    return tuple(done)


class _Scored:
    """Per-query values of one measurement, from which metrics and sample rows are made."""

    def __init__(self, found: Sequence[Pool], results: Sequence[Reranked], plan: RetrievalPlan) -> None:
        self.plan = plan
        self.rows = list(zip(found, results, strict=True))
        ranked = [(pool, result) for pool, result in self.rows if pool.query.answerable]
        queries = [pool.query for pool, _ in ranked]
        self.answerable = [query.query_id for query in queries]
        self.broken = sum(bool(result.failures) for _, result in ranked)
        model = measures.per_query(queries, {result.query_id: result.ids for _, result in ranked})
        headline = measures.NAMES.index(measures.HEADLINE)
        bm25, oracle = (
            measures.per_query(queries, rankings)[:, headline]
            for rankings in (
                {pool.query.query_id: pool.bm25_ranking for pool, _ in ranked},
                {pool.query.query_id: measures.oracle_ranking(pool.query, pool.shown) for pool, _ in ranked},
            )
        )
        chance = [measures.random_ndcg(pool.query, pool.shown) for pool, _ in ranked]
        recall = [measures.pool_recall(pool.query, pool.shown) for pool, _ in ranked]
        self.columns = (*measures.NAMES, BM25, ORACLE, RANDOM, GAIN, POOL_RECALL)
        self.values = np.column_stack([model, bm25, oracle, chance, model[:, headline] - bm25, recall])
        self.calls = sum(result.calls for _, result in self.rows)
        self.failures = Counter(failure.kind for _, result in self.rows for failure in result.failures)

    def metrics(self) -> tuple[Metric, ...]:
        """Every metric of `METRICS`, in order."""
        return (*self._means(), self._auroc(), self._failure_rate())

    def samples(self) -> pd.DataFrame:
        """A row per query: its ranking with scores, BM25's ranking, what failed, and each measure's value."""
        row_of = {query_id: index for index, query_id in enumerate(self.answerable)}
        frame = pd.DataFrame(
            {
                "query_id": [pool.query.query_id for pool, _ in self.rows],
                "query": [pool.query.text for pool, _ in self.rows],
                "answerable": [pool.query.answerable for pool, _ in self.rows],
                "ranking": [list(result.ids) for _, result in self.rows],
                "scores": [[score for _, score in result.ranking] for _, result in self.rows],
                "unranked": [list(result.unranked) for _, result in self.rows],
                "bm25_ranking": [list(pool.bm25_ranking) for pool, _ in self.rows],
                "shown": [list(pool.shown) for pool, _ in self.rows],
                "calls": [result.calls for _, result in self.rows],
                "failures": [[f"{f.kind}: {f.about}" for f in result.failures] for _, result in self.rows],
                "best_p_yes": pd.array([result.best_p_yes for _, result in self.rows], dtype="Float64"),
            }
        )
        for index, name in enumerate(self.columns):
            values = [
                self.values[row_of[pool.query.query_id], index] if pool.query.query_id in row_of else None
                for pool, _ in self.rows
            ]
            frame[name] = pd.array(values, dtype="Float64")
        return frame

    @property
    def nothing_usable(self) -> str | None:
        """Why no figure about the model exists, when every call failed."""
        failed = sum(self.failures.values())
        if failed < self.calls or not self.calls:
            return None
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.failures.most_common())
        return f"all {failed} calls failed: {kinds}"

    def _means(self) -> list[Metric]:
        count = len(self.answerable)
        if not count:
            why = f"split {self.plan.split!r} has no answerable query among those asked"
            return [Metric.failed(name, UNIT, why) for name in self.columns]
        intervals = bootstrap.intervals_of_means(
            self.values, resamples=self.plan.resamples, seed=self.plan.seed, level=self.plan.confidence
        )
        return [
            self._mean(name, float(self.values[:, index].mean()), intervals[index])
            for index, name in enumerate(self.columns)
        ]

    def _mean(self, name: str, value: float, interval: Interval | None) -> Metric:
        count = len(self.answerable)
        if name not in measures.NAMES and name != GAIN:
            return Metric.measured(name, UNIT, value, n=count, interval=interval)
        if self.nothing_usable:
            return Metric.failed(name, UNIT, self.nothing_usable, n=count, errors=count)
        return Metric.measured(name, UNIT, value, n=count, errors=self.broken, interval=interval)

    def _auroc(self) -> Metric:
        if self.plan.method is Method.LISTWISE:
            return Metric.skipped(AUROC, UNIT, "a listwise order holds no probabilities")
        positive = _best_p_yes(
            [r for pool, r in self.rows if pool.query.answerable and measures.pool_recall(pool.query, pool.shown)],
            if_failed=-1.0,
        )
        negative = _best_p_yes([r for pool, r in self.rows if pool.shown and not pool.query.answerable], if_failed=2.0)
        if not len(negative) or not len(positive):
            return Metric.skipped(AUROC, UNIT, "it takes answerable and unanswerable queries")
        count = len(positive) + len(negative)
        errors = int((positive < 0).sum() + (negative > 1).sum())
        if self.nothing_usable:
            return Metric.failed(AUROC, UNIT, self.nothing_usable, n=count, errors=errors)
        interval = bootstrap.auroc_interval(
            positive, negative, resamples=self.plan.resamples, seed=self.plan.seed, level=self.plan.confidence
        )
        value = bootstrap.auroc(positive, negative)
        return Metric.measured(AUROC, UNIT, value, n=count, errors=errors, interval=interval)

    def _failure_rate(self) -> Metric:
        failed = sum(self.failures.values())
        if not self.calls:
            return Metric.failed(FAILURE_RATE, UNIT, "every pool is empty, so nothing was asked")
        return Metric.measured(FAILURE_RATE, UNIT, failed / self.calls, n=self.calls, errors=failed)


def _best_p_yes(results: Sequence[Reranked], *, if_failed: float) -> np.ndarray:
    return np.array([if_failed if r.best_p_yes is None else r.best_p_yes for r in results], dtype=np.float64)


def _provenance(
    goldens: RetrievalGoldens, plan: RetrievalPlan, found: Sequence[Pool], results: Sequence[Reranked]
) -> dict[str, object]:
    failures = Counter(failure.kind for result in results for failure in result.failures)
    return {
        "code_version": code_version(),
        "definitions_version": DEFINITIONS_VERSION,
        "dataset": goldens.name,
        "dataset_version": goldens.version,
        "goldens": dict(goldens.digests),
        "plan": plan.model_dump(mode="json"),
        "pools_sha256": pools_digest(found),
        "queries": [pool.query.query_id for pool in found],
        "calls": sum(result.calls for result in results),
        "failures": dict(sorted(failures.items())),
    }
