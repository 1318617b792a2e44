"""Whether a model knows the published answers: templated queries, published and fresh, and what it made of each.

What belongs here: which variants a plan asks, what counts as right, the two rates, the rows. What does not: drawing
variants (`variants`), asking (`pointwise`, `listwise`), and the test (`statistics.variants`).

A variant is right when the passage that answers is ranked first. Whoever says the same of every passage, or something
that is no judgement, has given an answer, and a wrong one: a key that is silent on what it does not know would else not
be compared. Only where a call itself failed is there none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from milton_assets.statistics.shares import wilson
from milton_assets.statistics.variants import told
from milton_assets.tiers.retrieval.documents import Document
from milton_assets.tiers.retrieval.measures import UNIT
from milton_assets.tiers.retrieval.plan import RetrievalPlan
from milton_assets.tiers.retrieval.pool import Pool
from milton_assets.tiers.retrieval.reranked import Reranked
from milton_assets.tiers.retrieval.variants import Template, Variant
from milton_assets.vocabulary.chat import CallErrorKind
from milton_assets.vocabulary.metric import Metric

PUBLISHED = "published"
FRESH = "fresh"
PUBLISHED_RATE = "variants_rate.published"
FRESH_RATE = "variants_rate.fresh"

_CALL_FAILED = frozenset(kind.value for kind in CallErrorKind)


class Label(StrEnum):
    """What a model made of a variant."""

    FIRST = "first"
    NOT_FIRST = "not_first"
    NOT_RANKED = "not_ranked"
    FAILED = "failed"


UNANSWERED = frozenset({Label.FAILED.value})


class Asked(NamedTuple):
    """A variant that is asked: `part` is `PUBLISHED` or `FRESH`."""

    part: str
    variant: Variant

    @property
    def pool(self) -> Pool:
        """Its passages as a pool that BM25 has no order of."""
        return Pool(self.variant.query, bm25=(), shown=tuple(one.doc_id for one in self.variant.passages))


def asked_variants(templates: Mapping[str, Template], plan: RetrievalPlan) -> tuple[Asked, ...]:
    """The published variant of each template and then its fresh ones; none without a seed."""
    if plan.variants_seed is None:
        return ()
    return tuple(
        asked
        for name, one in templates.items()
        for asked in (
            Asked(PUBLISHED, one.published(name)),
            *(Asked(FRESH, fresh) for fresh in one.fresh(plan.variants_seed, plan.fresh_per_template, name)),
        )
    )


def why_none(templates: Mapping[str, Template]) -> str:
    """Why a plan that asks no variants of those templates asks none."""
    if not templates:
        return "the set has no templates"
    return "no seed was given to draw fresh variants by (the smoke plan asks none)"


def passages_of(asked: Iterable[Asked]) -> dict[str, Document]:
    """Every passage of those variants, by its id."""
    return {passage.doc_id: passage for one in asked for passage in one.variant.passages}


@dataclass(frozen=True)
class VariantAnswers:
    """What a model made of each variant; `skipped` is why there is none, where there is none."""

    asked: Sequence[Asked] = ()
    results: Sequence[Reranked] = ()
    skipped: str = "no variant was asked"

    def metrics(self) -> tuple[Metric, ...]:
        """The share that is right, of published and of fresh variants, and whether it knows more of the former."""
        rates = [self._rate(PUBLISHED_RATE, PUBLISHED), self._rate(FRESH_RATE, FRESH)]
        published = {one.template: label for part, one, label in self._labelled() if part == PUBLISHED}
        fresh: dict[str, list[Label]] = {}
        for part, one, label in self._labelled():
            if part == FRESH:
                fresh.setdefault(one.template, []).append(label)
        answered = [
            (published[template] is Label.FIRST, others.count(Label.FIRST), len(others))
            for template, others in fresh.items()
            if not UNANSWERED & {published[template], *others}
        ]
        if not answered:
            return tuple(rates)
        right, fresh_right, counts = zip(*answered, strict=True)
        why = told(right, fresh_right, counts)
        return tuple(rate.model_copy(update={"why": why}) for rate in rates)

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row a variant, with the columns of a query's row and its own."""
        for (part, one), result, label in zip(self.asked, self.results, self._labels(), strict=True):
            yield {
                "part": part,
                "query_id": one.query.query_id,
                "template": one.template,
                "query": one.query.text,
                "answerable": True,
                "ranking": list(result.ids),
                "scores": [score for _, score in result.ranking],
                "unranked": list(result.unranked),
                "bm25_ranking": [],
                "shown": [passage.doc_id for passage in one.passages],
                "passages": [passage.text for passage in one.passages],
                "answer": one.answer,
                "label": label.value,
                "right": label is Label.FIRST,
                "calls": result.calls,
                "failures": result.told_failures,
            }

    def _rate(self, name: str, of: str) -> Metric:
        labels = [label for part, _, label in self._labelled() if part == of]
        if not labels:
            return Metric.skipped(name, UNIT, self.skipped)
        right, errors, count = labels.count(Label.FIRST), labels.count(Label.FAILED), len(labels)
        if errors == count:
            return Metric.failed(name, UNIT, f"calls failed on each of {count} variants", n=count, errors=errors)
        return Metric.measured(name, UNIT, right / count, n=count, errors=errors, interval=wilson(right, count))

    def _labelled(self) -> Iterator[tuple[str, Variant, Label]]:
        return ((part, one, label) for (part, one), label in zip(self.asked, self._labels(), strict=True))

    def _labels(self) -> list[Label]:
        return [_label(one.variant, result) for one, result in zip(self.asked, self.results, strict=True)]


def _label(variant: Variant, result: Reranked) -> Label:
    if any(failure.kind in _CALL_FAILED for failure in result.failures):
        return Label.FAILED
    if not result.ranking:
        return Label.NOT_RANKED
    return Label.FIRST if result.ids[0] == variant.answer else Label.NOT_FIRST
