"""Listwise reranking: windows of passages, each put in order by the model, from the pool's end to its front.

What belongs here: the sliding windows, and reading an order. What does not: HTTP.

The method is RankGPT's (Sun et al. 2023, arXiv 2304.09542): a window of `plan.window` passages slides by `plan.step`
from the back of the list to its front, so a good passage can rise all the way. RankGPT repairs a bad answer (drops
what is repeated, appends what is missing in the order given); here it is the model's failure: a window counts only
when its answer names every number exactly once and says nothing else. A failed window leaves its passages as they
stood, and a query whose windows all failed has no ranking at all. A model that cannot give an order of three passages
is not asked further: it has no listwise figures, rather than bad ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from milton_assets.tiers.retrieval.concurrency import map_in_order
from milton_assets.tiers.retrieval.documents import Document
from milton_assets.tiers.retrieval.plan import RetrievalPlan
from milton_assets.tiers.retrieval.pool import Pool
from milton_assets.tiers.retrieval.prompts import listwise, passage_of
from milton_assets.tiers.retrieval.reranked import Failure, Reranked
from milton_assets.vocabulary.chat import ChatModel, Completion, ModelCallFailed, Sampling
from milton_assets.vocabulary.thinking import without_thinking

EMPTY = "empty"
TRUNCATED = "truncated"
NOT_AN_ORDER = "not_an_order"
UNKNOWN_ID = "unknown_id"
REPEATED_ID = "repeated_id"
MISSING_ID = "missing_id"

_ORDER = re.compile(r"\[\d{1,6}\](?:\s*[>,]?\s*\[\d{1,6}\])*\.?")
_NUMBER = re.compile(r"\d+")
_TOKENS_PER_PASSAGE = 8
_SPARE_TOKENS = 16


class BadOrder(ValueError):
    """An answer that is no order of the window; `kind` says why."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def rerank(
    model: ChatModel, pools: Sequence[Pool], corpus: Mapping[str, Document], plan: RetrievalPlan
) -> Iterator[Reranked]:
    """Rerank every pool, in order: a query's windows one after another, `plan.concurrency` queries at a time."""
    return map_in_order(lambda pool: rerank_pool(model, pool, corpus, plan), pools, plan.concurrency)


def rerank_pool(model: ChatModel, pool: Pool, corpus: Mapping[str, Document], plan: RetrievalPlan) -> Reranked:
    """Slide the window over one pool, starting from the shuffled order."""
    order = list(pool.shown)
    failures = []
    spans = windows(len(order), plan.window, plan.step)
    for start, end in spans:
        shown = order[start:end]
        try:
            order[start:end] = _ask(model, pool.query.text, shown, corpus, plan)
        except BadOrder as bad:
            failures.append(Failure(bad.kind, ",".join(shown)))
        except ModelCallFailed as failed:
            failures.append(Failure(failed.kind.value, ",".join(shown)))
    judged = len(failures) < len(spans)
    return Reranked(
        query_id=pool.query.query_id,
        ranking=tuple((doc_id, 1 / place) for place, doc_id in enumerate(order, start=1)) if judged else (),
        unranked=() if judged else pool.shown,
        failures=tuple(failures),
        calls=len(spans),
    )


_TRIAL_QUESTION = "What burns in the lamp?"
_TRIAL_PASSAGES = ("The lamp is green.", "The lamp burns oil.", "The table has four legs.")


def failed_trials(model: ChatModel, plan: RetrievalPlan) -> tuple[str, ...]:
    """How each trial failed when the model can put no three passages in order; nothing when it can.

    It is asked with the passages in each rotation, and one order is enough, right or wrong: the trial tells a model
    that knows the form and judges badly, which is measured, from one that does not know the form, of which listwise
    says nothing.
    """
    failures = []
    for first in range(len(_TRIAL_PASSAGES)):
        passages = [*_TRIAL_PASSAGES[first:], *_TRIAL_PASSAGES[:first]]
        try:
            read_answer(
                model.complete(listwise(_TRIAL_QUESTION, passages), _budget(len(passages), plan)), len(passages)
            )
        except BadOrder as bad:
            failures.append(bad.kind)
        except ModelCallFailed as failed:
            failures.append(failed.kind.value)
        else:
            return ()
    return tuple(failures)


def windows(count: int, window: int, step: int) -> tuple[tuple[int, int], ...]:
    """The `(start, end)` spans over `count` passages, the last ones first; together they cover everything."""
    if count == 0:
        return ()
    ends = range(count, 0, -step)
    spans = [(max(0, end - window), end) for end in ends]
    first = next(index for index, (start, _) in enumerate(spans) if start == 0)
    return tuple(spans[: first + 1])


def read_answer(answer: Completion, count: int) -> tuple[int, ...]:
    """`read_order` of an answer that was not cut off. Raises `BadOrder`."""
    if answer.finish_reason == "length":
        raise BadOrder(TRUNCATED)
    return read_order(without_thinking(answer.text).answer, count)


def read_order(text: str, count: int) -> tuple[int, ...]:
    """The passage numbers, best first. Raises `BadOrder` unless `text` is an order of exactly 1 to `count`."""
    answer = text.strip()
    if not answer:
        raise BadOrder(EMPTY)
    if not _ORDER.fullmatch(answer):
        raise BadOrder(NOT_AN_ORDER)
    numbers = tuple(int(number) for number in _NUMBER.findall(answer))
    if any(not 1 <= number <= count for number in numbers):
        raise BadOrder(UNKNOWN_ID)
    if len(set(numbers)) < len(numbers):
        raise BadOrder(REPEATED_ID)
    if len(numbers) < count:
        raise BadOrder(MISSING_ID)
    return numbers


def _ask(
    model: ChatModel, question: str, shown: Sequence[str], corpus: Mapping[str, Document], plan: RetrievalPlan
) -> list[str]:
    passages = [passage_of(corpus[doc_id].full_text, plan.max_document_words) for doc_id in shown]
    answer = model.complete(listwise(question, passages), _budget(len(shown), plan))
    return [shown[number - 1] for number in read_answer(answer, len(shown))]


def _budget(passages: int, plan: RetrievalPlan) -> Sampling:
    return Sampling(max_tokens=passages * _TOKENS_PER_PASSAGE + _SPARE_TOKENS, seed=plan.seed)
