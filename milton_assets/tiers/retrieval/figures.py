"""From rankings to figures: the tier's metrics and its row per query.

What belongs here: the metrics' names, their means with intervals, what counts as failed, the sample rows. What does
not: asking a model, and the definitions of the measures (`measures`).

Answerable queries are ranked and measured. Unanswerable ones have no right ranking; they are judged too, and count
in `answerability:AUROC`: the probability that the best P(Yes) in the pool of a question which that pool answers is
above the best P(Yes) in the pool of an unanswerable one. A model that says the same to everything gets .5. A query
whose every call failed counts as the wrong way round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from milton_assets.statistics.bootstrap import intervals_of_means
from milton_assets.statistics.separation import auroc, auroc_interval
from milton_assets.tiers.retrieval import measures
from milton_assets.tiers.retrieval.baselines import Baselines
from milton_assets.tiers.retrieval.documents import Query
from milton_assets.tiers.retrieval.known_answers import FRESH_RATE, PUBLISHED_RATE, VariantAnswers
from milton_assets.tiers.retrieval.measures import UNIT
from milton_assets.tiers.retrieval.plan import Method, RetrievalPlan
from milton_assets.tiers.retrieval.pool import Pool
from milton_assets.tiers.retrieval.reranked import Reranked
from milton_assets.vocabulary.metric import Interval, Metric, Status

Floats = npt.NDArray[np.float64]

BM25 = tuple(f"bm25:{name}" for name in measures.NAMES)
ORACLE = tuple(f"oracle:{name}" for name in measures.NAMES)
GAIN = tuple(f"gain:{name}" for name in measures.NAMES)
RANDOM = f"random:{measures.HEADLINE}"
POOL_RECALL = "pool:recall"
EMBEDDING = f"embedding:{measures.HEADLINE}"
HYBRID = f"hybrid:{measures.HEADLINE}"
AUROC = "answerability:AUROC"
FAILURE_RATE = "call_failure_rate"

ASKED = "asked"
"""The part of the samples that holds the collection's queries; variants are in parts of their own."""
_COLUMNS = (
    "part",
    "query_id",
    "template",
    "query",
    "answerable",
    "ranking",
    "scores",
    "unranked",
    "bm25_ranking",
    "shown",
    "passages",
    "answer",
    "label",
    "right",
    "calls",
    "failures",
)

ABOUT_THE_MODEL = frozenset({*measures.NAMES, *GAIN})
MEANS = (*measures.NAMES, *BM25, *ORACLE, RANDOM, *GAIN, POOL_RECALL, EMBEDDING, HYBRID)
METRICS: tuple[tuple[str, str], ...] = tuple(
    (name, UNIT) for name in (*MEANS, AUROC, FAILURE_RATE, PUBLISHED_RATE, FRESH_RATE)
)
"""Every metric of the tier, with its unit, whatever the plan."""

_HEADLINE = measures.NAMES.index(measures.HEADLINE)
_INTERVAL = "query_bootstrap"
_FAILED_POSITIVE, _FAILED_NEGATIVE = -1.0, 2.0


@dataclass(frozen=True)
class NoBaselines:
    """Why there is no embedding baseline: `skipped` when nobody asked for one, `error` when it failed."""

    status: Status
    why: str


@dataclass(frozen=True)
class Figures:
    """One measurement: the pools, what the model made of each, and the embedding baselines if there are any.

    `failed_trials` are the failures of a model that was found unable to do what the plan asks, and asked no further.
    `variants` are templated queries, on which no other figure rests.
    """

    pools: Sequence[Pool]
    results: Sequence[Reranked]
    baselines: Baselines | NoBaselines
    plan: RetrievalPlan
    failed_trials: Sequence[str] = ()
    variants: VariantAnswers = field(default_factory=VariantAnswers)

    def metrics(self) -> tuple[Metric, ...]:
        """Every metric of `METRICS`, in order."""
        return (*self._means(), self._auroc(), self._failure_rate(), *self.variants.metrics())

    def samples(self) -> pd.DataFrame:
        """A row per query: its ranking with scores, BM25's ranking, what failed, and each measure's value; and one per
        variant, without measures."""
        rows: list[dict[str, Any]] = [
            {
                "part": ASKED,
                "query_id": pool.query.query_id,
                "query": pool.query.text,
                "answerable": pool.query.answerable,
                "ranking": list(result.ids),
                "scores": [score for _, score in result.ranking],
                "unranked": list(result.unranked),
                "bm25_ranking": list(pool.bm25_ranking),
                "shown": list(pool.shown),
                "calls": result.calls,
                "failures": result.told_failures,
            }
            for pool, result in zip(self.pools, self.results, strict=True)
        ]
        results = (*self.results, *self.variants.results)
        frame = pd.DataFrame([*rows, *self.variants.rows()], columns=list(_COLUMNS))
        frame["best_p_yes"] = pd.array([result.best_p_yes for result in results], dtype="Float64")
        measured = (frame["answerable"] & (frame["part"] == ASKED)).to_numpy(dtype=bool)
        for name, column in self._per_query.items():
            values = np.full(len(frame), np.nan)
            values[measured] = column
            frame[name] = pd.array([None if np.isnan(value) else value for value in values], dtype="Float64")
        return frame

    @cached_property
    def calls(self) -> int:
        """How many calls were made."""
        return len(self.failed_trials) + sum(result.calls for result in self.results)

    @cached_property
    def failures(self) -> Counter[str]:
        """How many calls gave no judgement, by kind."""
        return Counter(self.failed_trials) + Counter(f.kind for result in self.results for f in result.failures)

    @cached_property
    def nothing_usable(self) -> str | None:
        """Why no figure about the model exists, when it was found unable or every call failed."""
        failed = self.failures.total()
        if not self.calls or failed < self.calls:
            return None
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.failures.most_common())
        what = f"all {failed} trials of an order" if self.failed_trials else f"all {failed} calls"
        return f"{what} failed: {kinds}"

    @cached_property
    def _nothing_ranked(self) -> str | None:
        """Why there is no figure about the model's order, when it put no answerable query's documents in one."""
        if any(result.ranking or not result.failures for _, result in self._answerable):
            return None
        kinds = Counter(failure.kind for _, result in self._answerable for failure in result.failures)
        told = ", ".join(f"{kind} {number}" for kind, number in kinds.most_common())
        return f"no answerable query was ranked: {told}"

    @cached_property
    def _answerable(self) -> list[tuple[Pool, Reranked]]:
        return [row for row in zip(self.pools, self.results, strict=True) if row[0].query.answerable]

    @cached_property
    def _per_query(self) -> dict[str, Floats]:
        """Each mean's values over the answerable queries, by name; without the baselines that there are not."""
        queries = [pool.query for pool, _ in self._answerable]
        model = measures.per_query(queries, {result.query_id: result.ids for _, result in self._answerable})
        bm25 = measures.per_query(queries, {pool.query.query_id: pool.bm25_ranking for pool, _ in self._answerable})
        best = {pool.query.query_id: measures.oracle_ranking(pool.query, pool.shown) for pool, _ in self._answerable}
        columns = {
            **dict(zip(measures.NAMES, model.T, strict=True)),
            **dict(zip(BM25, bm25.T, strict=True)),
            **dict(zip(ORACLE, measures.per_query(queries, best).T, strict=True)),
            **dict(zip(GAIN, (model - bm25).T, strict=True)),
            RANDOM: np.array([measures.random_ndcg(pool.query, pool.shown) for pool, _ in self._answerable]),
            POOL_RECALL: np.array([measures.pool_recall(pool.query, pool.shown) for pool, _ in self._answerable]),
        }
        if isinstance(self.baselines, Baselines):
            columns[EMBEDDING] = _headline(queries, self.baselines.dense)
            columns[HYBRID] = _headline(queries, self.baselines.hybrid)
        return columns

    def _means(self) -> list[Metric]:
        if not self._answerable:
            why = f"split {self.plan.split!r} has no answerable query among those asked"
            return [Metric.failed(name, UNIT, why) for name in MEANS]
        intervals = intervals_of_means(
            np.column_stack(list(self._per_query.values())),
            resamples=self.plan.resamples,
            seed=self.plan.seed,
            level=self.plan.confidence,
            method=_INTERVAL,
        )
        interval_of = dict(zip(self._per_query, intervals, strict=True))
        return [self._mean(name, interval_of.get(name)) for name in MEANS]

    def _mean(self, name: str, interval: Interval | None) -> Metric:
        count = len(self._answerable)
        if name not in self._per_query:
            assert isinstance(self.baselines, NoBaselines)  # noqa: S101 - only the baselines can be absent
            return Metric(name=name, unit=UNIT, status=self.baselines.status, why=self.baselines.why)
        value = float(self._per_query[name].mean())
        if name not in ABOUT_THE_MODEL:
            return Metric.measured(name, UNIT, value, n=count, interval=interval)
        if why := self.nothing_usable or self._nothing_ranked:
            return Metric.failed(name, UNIT, why, n=count, errors=count)
        broken = sum(bool(result.failures) for _, result in self._answerable)
        return Metric.measured(name, UNIT, value, n=count, errors=broken, interval=interval)

    def _auroc(self) -> Metric:
        if self.plan.method is Method.LISTWISE:
            return Metric.skipped(AUROC, UNIT, "a listwise order holds no probabilities")
        rows = list(zip(self.pools, self.results, strict=True))
        answered = [r for pool, r in self._answerable if measures.pool_recall(pool.query, pool.shown)]
        positive = _best_p_yes(answered, if_failed=_FAILED_POSITIVE)
        unanswerable = [r for pool, r in rows if pool.shown and not pool.query.answerable]
        negative = _best_p_yes(unanswerable, if_failed=_FAILED_NEGATIVE)
        if not len(negative) or not len(positive):
            return Metric.skipped(AUROC, UNIT, "it takes queries that their pool answers and unanswerable ones")
        count = len(positive) + len(negative)
        errors = int((positive == _FAILED_POSITIVE).sum() + (negative == _FAILED_NEGATIVE).sum())
        if self.nothing_usable:
            return Metric.failed(AUROC, UNIT, self.nothing_usable, n=count, errors=errors)
        interval = auroc_interval(
            positive,
            negative,
            resamples=self.plan.resamples,
            seed=self.plan.seed,
            level=self.plan.confidence,
            method=_INTERVAL,
        )
        value = auroc(positive, negative)
        return Metric.measured(AUROC, UNIT, value, n=count, errors=errors, interval=interval)

    def _failure_rate(self) -> Metric:
        if not self.calls:
            return Metric.failed(FAILURE_RATE, UNIT, "every pool is empty, so nothing was asked")
        failed = self.failures.total()
        return Metric.measured(FAILURE_RATE, UNIT, failed / self.calls, n=self.calls, errors=failed)


def _headline(queries: Sequence[Query], rankings: Mapping[str, Sequence[str]]) -> Floats:
    return measures.per_query(queries, rankings)[:, _HEADLINE]


def _best_p_yes(results: Sequence[Reranked], *, if_failed: float) -> Floats:
    return np.array([if_failed if r.best_p_yes is None else r.best_p_yes for r in results], dtype=np.float64)
