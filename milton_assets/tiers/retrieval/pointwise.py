"""Pointwise reranking: P(Yes) / (P(Yes) + P(No)) of the first token, a document at a time.

What belongs here: asking about pairs, reading the two probabilities, ordering by them. What does not: HTTP.

The method is that of monoT5 and its relatives (Nogueira et al. 2020, arXiv 2003.06713): a yes/no question per pair,
one token generated, and the log-odds of the two words as the score. All listed spellings of a word (case, leading
space) count towards it. A word that is not among the listed alternatives is given the most it can have: no more than
the least likely listed one, and no more than what the listed ones leave over. Where neither word is listed the pair
has no judgement, which is a failure of the model and labelled. So is a number that is no logprob (NaN, infinite, above
0, or a list that sums to more than 1), and a query to whose every document the model said the very same: whatever
order those were put in would be ours, not the model's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from milton_assets.tiers.retrieval.concurrency import map_in_order
from milton_assets.tiers.retrieval.documents import Document
from milton_assets.tiers.retrieval.plan import RetrievalPlan
from milton_assets.tiers.retrieval.pool import Pool
from milton_assets.tiers.retrieval.prompts import passage_of, pointwise
from milton_assets.tiers.retrieval.reranked import Failure, Reranked
from milton_assets.vocabulary.chat import ChatModel, ModelCallFailed, Sampling, TokenLogprob
from milton_assets.vocabulary.shuffles import ranked

NO_LOGPROBS = "no_logprobs"
BAD_LOGPROBS = "bad_logprobs"
CONSTANT_LOGPROBS = "constant_logprobs"
NEITHER_YES_NOR_NO = "neither_yes_nor_no"
THINKS_FIRST = "thinks_first"

_LOGPROB_SLACK = 1e-3
_SUM_SLACK = 1e-2
"""Servers round; and they may list one text twice, for two tokens."""
_SAME_ODDS = 1e-9
_SMALLEST = 1e-300
_WORD_EDGES = " \t\n\r▁ĠĊ\"'*.,:!"


@dataclass(frozen=True)
class PairVerdict:
    """A model's word on one pair: the log-odds of Yes against No, or why there are none."""

    doc_id: str
    log_odds: float | None
    failure: str | None = None

    @property
    def p_yes(self) -> float | None:
        """P(Yes) / (P(Yes) + P(No))."""
        return None if self.log_odds is None else _logistic(self.log_odds)


def rerank(
    model: ChatModel, pools: Sequence[Pool], corpus: Mapping[str, Document], plan: RetrievalPlan
) -> Iterator[Reranked]:
    """Rerank every pool, in order. One call a pair, `plan.concurrency` at a time."""

    def judge_pair(pair: tuple[Pool, str]) -> PairVerdict:
        pool, doc_id = pair
        return judge(model, pool.query.text, corpus[doc_id], plan)

    pairs = ((pool, doc_id) for pool in pools for doc_id in pool.shown)
    verdicts = map_in_order(judge_pair, pairs, plan.concurrency)
    for pool in pools:
        yield order_pool(pool, tuple(islice(verdicts, len(pool.shown))), plan.seed)


def judge(model: ChatModel, question: str, document: Document, plan: RetrievalPlan) -> PairVerdict:
    """Ask about one pair. A failed call or an unreadable answer is a verdict with its `failure`."""
    messages = pointwise(question, passage_of(document.full_text, plan.max_document_words))
    try:
        answer = model.complete(messages, Sampling(max_tokens=1, seed=plan.seed), top_logprobs=plan.top_logprobs)
    except ModelCallFailed as failed:
        return PairVerdict(document.doc_id, None, failed.kind.value)
    try:
        return PairVerdict(document.doc_id, yes_log_odds(answer.first_token_alternatives))
    except Unreadable as unreadable:
        return PairVerdict(document.doc_id, None, unreadable.kind)


class Unreadable(ValueError):
    """The listed alternatives hold no judgement; `kind` says why."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def yes_log_odds(alternatives: Sequence[TokenLogprob]) -> float:
    """ln P(Yes) − ln P(No) from a token's listed alternatives. Raises `Unreadable`."""
    if not alternatives:
        raise Unreadable(NO_LOGPROBS)
    if not all(math.isfinite(one.logprob) and one.logprob <= _LOGPROB_SLACK for one in alternatives):
        raise Unreadable(BAD_LOGPROBS)
    mass = {"yes": 0.0, "no": 0.0}
    named = False
    listed = [min(1.0, math.exp(one.logprob)) for one in alternatives]
    if math.fsum(listed) > 1 + _SUM_SLACK:
        raise Unreadable(BAD_LOGPROBS)
    for one, probability in zip(alternatives, listed, strict=True):
        if (word := one.token.strip(_WORD_EDGES).casefold()) in mass:
            mass[word] += probability
            named = True
    if not named and max(alternatives, key=lambda one: one.logprob).token.strip().startswith("<th"):
        # One token is asked for: a model that opens a <think> block has judged nothing yet.
        raise Unreadable(THINKS_FIRST)
    if not named:
        raise Unreadable(NEITHER_YES_NOR_NO)
    most_unlisted = min(*listed, max(0.0, 1.0 - sum(listed)))
    yes, no = (max(probability or most_unlisted, _SMALLEST) for probability in mass.values())
    return math.log(yes) - math.log(no)


def order_pool(pool: Pool, verdicts: Sequence[PairVerdict], seed: int) -> Reranked:
    """Order a pool by log-odds, equal ones by hash; pairs without a judgement stay unranked.

    A model that said the same of every document has ranked none of them. That is no failure of a query which no
    document answers: to say No to each is right, and how sure it was still counts.
    """
    scored = [(v.doc_id, v.log_odds) for v in verdicts if v.log_odds is not None]
    best_p_yes = max((_logistic(odds) for _, odds in scored), default=None)
    constant = len(scored) > 1 and math.isclose(*_ends(odds for _, odds in scored), rel_tol=0, abs_tol=_SAME_ODDS)
    if constant and pool.query.answerable:
        verdicts = [v if v.failure else PairVerdict(v.doc_id, None, CONSTANT_LOGPROBS) for v in verdicts]
        scored = []
    best = ranked(scored, seed, "ties", pool.query.query_id)
    return Reranked(
        query_id=pool.query.query_id,
        ranking=tuple((doc_id, _logistic(odds)) for doc_id, odds in best),
        unranked=tuple(v.doc_id for v in verdicts if v.log_odds is None),
        failures=tuple(Failure(v.failure, v.doc_id) for v in verdicts if v.failure is not None),
        calls=len(verdicts),
        best_p_yes=best_p_yes,
    )


def _ends(values: Iterable[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return ordered[0], ordered[-1]


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
