"""Pointwise: reading Yes and No from a token's alternatives, and ordering by their odds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milton_assets.tiers.retrieval import Document, Query, RetrievalPlan
from milton_assets.tiers.retrieval.pointwise import (
    BAD_LOGPROBS,
    CONSTANT_LOGPROBS,
    NEITHER_YES_NOR_NO,
    NO_LOGPROBS,
    PairVerdict,
    Unreadable,
    judge,
    order_pool,
    rerank,
    yes_log_odds,
)
from milton_assets.tiers.retrieval.pool import Pool
from milton_assets.vocabulary.chat import CallErrorKind, Completion, ModelCallFailed, TokenLogprob
from milton_assets.vocabulary.shuffles import hash_order
from tests.support.retrieval_models import FunctionModel, documents_of, saying, yes_with


def listed(**probabilities: float) -> list[TokenLogprob]:
    return [TokenLogprob(token, math.log(p)) for token, p in probabilities.items()]


def p_yes(alternatives: list[TokenLogprob]) -> float:
    return 1 / (1 + math.exp(-yes_log_odds(alternatives)))


def test_p_yes_is_the_share_of_yes_among_yes_and_no() -> None:
    assert p_yes(listed(Yes=0.3, No=0.1, Maybe=0.5)) == pytest.approx(0.75)


def test_every_spelling_of_a_word_counts_towards_it() -> None:
    spelled = listed(**{"Yes": 0.2, " yes": 0.1, "▁YES": 0.1, "No": 0.2, "no.": 0.2, "Not": 0.1, "Yesterday": 0.1})
    assert p_yes(spelled) == pytest.approx(0.5)


def test_a_word_that_is_not_listed_has_at_most_the_least_listed_probability() -> None:
    assert p_yes(listed(Yes=0.6, Well=0.1, Hm=0.1)) == pytest.approx(0.6 / 0.7)


def test_a_word_that_is_not_listed_has_at_most_what_the_listed_leave_over() -> None:
    assert p_yes(listed(Yes=0.9, Well=0.08)) == pytest.approx(0.9 / 0.92)


def test_a_word_certain_beyond_what_is_listed_is_still_finite() -> None:
    assert math.isfinite(yes_log_odds(listed(Yes=1.0)))
    assert yes_log_odds(listed(No=1.0)) == -yes_log_odds(listed(Yes=1.0))


@pytest.mark.parametrize(
    ("alternatives", "kind"),
    [
        ([], NO_LOGPROBS),
        (listed(The=0.9, A=0.1), NEITHER_YES_NOR_NO),
        ([TokenLogprob("Yes", math.nan)], BAD_LOGPROBS),
        ([TokenLogprob("Yes", 4.0)], BAD_LOGPROBS),
        ([TokenLogprob("Yes", -math.inf)], BAD_LOGPROBS),
        ([TokenLogprob("Yes", -0.1), TokenLogprob("No", -0.1)], BAD_LOGPROBS),
    ],
)
def test_alternatives_without_a_judgement_are_named_for_what_is_wrong(
    alternatives: list[TokenLogprob], kind: str
) -> None:
    with pytest.raises(Unreadable) as unreadable:
        yes_log_odds(alternatives)
    assert unreadable.value.kind == kind


@settings(deadline=None)
@given(
    st.lists(
        st.builds(TokenLogprob, st.sampled_from(["Yes", "No", " no", "x", ""]), st.floats(max_value=10)), max_size=20
    )
)
def test_any_alternatives_give_finite_odds_or_a_named_failure(alternatives: list[TokenLogprob]) -> None:
    try:
        odds = yes_log_odds(alternatives)
    except Unreadable as unreadable:
        assert unreadable.kind in {NO_LOGPROBS, BAD_LOGPROBS, NEITHER_YES_NOR_NO}
    else:
        assert math.isfinite(odds)


def test_a_pair_is_asked_with_one_token_and_the_alternatives() -> None:
    model = FunctionModel(lambda _: yes_with(0.8))
    verdict = judge(model, "Who sings?", Document("d1", "Birds", "The bird sings."), RetrievalPlan(top_logprobs=7))
    ((messages, sampling, top),) = model.asked
    assert "Question: Who sings?" in messages[-1].content
    assert "Birds The bird sings." in messages[-1].content
    assert (sampling.max_tokens, sampling.temperature, top) == (1, 0.0, 7)
    assert verdict.p_yes == pytest.approx(0.8)


def test_all_pairs_of_a_query_share_everything_before_the_passage() -> None:
    model = FunctionModel(lambda _: yes_with(0.5))
    for text in ("first text", "second text"):
        judge(model, "Who sings?", Document("d", "", text), RetrievalPlan())
    first, second = (messages[-1].content for messages, _, _ in model.asked)
    assert first.split("first text")[0] == second.split("second text")[0]


def test_a_long_document_is_shown_to_its_limit() -> None:
    model = FunctionModel(lambda _: yes_with(0.5))
    judge(model, "q", Document("d", "", "word " * 50 + "end"), RetrievalPlan(max_document_words=10))
    assert model.asked[0][0][-1].content.count("word") == 10
    assert "end" not in model.asked[0][0][-1].content


def test_a_call_that_failed_is_a_verdict_that_says_so() -> None:
    def fail(_: str) -> Completion:
        raise ModelCallFailed(CallErrorKind.TIMEOUT, "too slow")

    verdict = judge(FunctionModel(fail), "q", Document("d", "", "x"), RetrievalPlan())
    assert (verdict.p_yes, verdict.failure) == (None, "timeout")


def test_a_server_without_logprobs_is_a_verdict_that_says_so() -> None:
    verdict = judge(FunctionModel(lambda _: saying("Yes")), "q", Document("d", "", "x"), RetrievalPlan())
    assert verdict.failure == NO_LOGPROBS


def test_any_other_exception_is_a_bug_and_is_not_swallowed() -> None:
    def broken(_: str) -> Completion:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        judge(FunctionModel(broken), "q", Document("d", "", "x"), RetrievalPlan())


def pool_of(*ids: str) -> Pool:
    return Pool(Query("q1", "Which?", {ids[0]: 1}), tuple((one, 1.0) for one in ids), ids)


def test_a_pool_is_ordered_by_odds_and_the_odds_are_kept_as_probabilities() -> None:
    verdicts = [PairVerdict("a", -1.0), PairVerdict("b", 2.0), PairVerdict("c", 0.0)]
    result = order_pool(pool_of("a", "b", "c"), verdicts, seed=0)
    assert result.ids == ("b", "c", "a")
    assert result.ranking[1][1] == 0.5
    assert result.best_p_yes == pytest.approx(1 / (1 + math.exp(-2)))


def test_odds_beyond_what_a_probability_can_hold_still_order() -> None:
    result = order_pool(pool_of("a", "b"), [PairVerdict("a", 400.0), PairVerdict("b", 500.0)], seed=0)
    assert result.ids == ("b", "a")


def test_ties_follow_a_hash_and_neither_ids_nor_the_order_shown() -> None:
    ids = tuple("abcdefgh")
    for order in (ids, ids[::-1]):
        verdicts = [PairVerdict(one, 0.0) for one in order]
        result = order_pool(pool_of("best", *order), [PairVerdict("best", 1.0), *verdicts], seed=0)
        assert result.ids == ("best", *hash_order(ids, 0, "ties", "q1"))


def test_the_same_odds_for_every_document_are_no_order() -> None:
    verdicts = [PairVerdict(one, -2.0) for one in "abc"]
    result = order_pool(pool_of("a", "b", "c"), verdicts, seed=0)
    assert (result.ids, result.unranked) == ((), ("a", "b", "c"))
    assert {failure.kind for failure in result.failures} == {CONSTANT_LOGPROBS}
    unanswerable = Pool(Query("q2", "Which?", {}), (), ("a", "b", "c"))
    assert len(order_pool(unanswerable, verdicts, seed=0).ids) == 3


def test_a_pair_without_a_judgement_is_unranked_and_counted() -> None:
    result = order_pool(pool_of("a", "b"), [PairVerdict("a", None, "timeout"), PairVerdict("b", -3.0)], seed=0)
    assert (result.ids, result.unranked, result.calls) == (("b",), ("a",), 2)
    assert [(failure.kind, failure.about) for failure in result.failures] == [("timeout", "a")]


def test_pools_come_back_in_order_whatever_the_concurrency() -> None:
    corpus = documents_of({f"d{i}": f"text {i}" for i in range(12)})
    found = [
        Pool(Query(f"q{n}", f"number {n}?", {"d0": 1}), (), tuple(f"d{i}" for i in range(n % 5))) for n in range(20)
    ]
    model = FunctionModel(lambda message: yes_with(len(message) % 7 / 10 + 0.1))
    results = list(rerank(model, found, corpus, RetrievalPlan(concurrency=8)))
    alone = list(rerank(model, found, corpus, RetrievalPlan(concurrency=1)))
    assert [result.query_id for result in results] == [pool.query.query_id for pool in found]
    assert results == alone
