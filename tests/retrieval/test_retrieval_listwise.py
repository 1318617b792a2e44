"""Listwise: windows from back to front, and an answer that is an order or a failure."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milton_assets.tiers.retrieval import Method, Query, RetrievalPlan
from milton_assets.tiers.retrieval.listwise import (
    EMPTY,
    MISSING_ID,
    NOT_AN_ORDER,
    REPEATED_ID,
    TRUNCATED,
    UNKNOWN_ID,
    BadOrder,
    read_order,
    rerank,
    rerank_pool,
    windows,
)
from milton_assets.tiers.retrieval.pool import Pool
from milton_assets.vocabulary.chat import CallErrorKind, Completion, ModelCallFailed
from tests.support.retrieval_models import FunctionModel, documents_of, saying

CORPUS = documents_of({f"d{i}": f"worth {i}" for i in range(25)})
PLAN = RetrievalPlan(method=Method.LISTWISE, window=10, step=5)


def pool_of(count: int) -> Pool:
    ids = tuple(f"d{i}" for i in range(count))
    return Pool(Query("q1", "Which is worth most?", {"d0": 1}), tuple((one, 1.0) for one in ids), ids)


def by_worth(message: str) -> Completion:
    """An able model: orders what it is shown by the number in the text."""
    shown = [(int(number), int(worth)) for number, worth in re.findall(r"\[(\d+)\] worth (\d+)", message)]
    return saying(" > ".join(f"[{number}]" for number, _ in sorted(shown, key=lambda pair: -pair[1])))


@settings(deadline=None)
@given(count=st.integers(0, 60), window=st.integers(2, 20), step=st.integers(1, 19))
def test_windows_overlap_from_back_to_front_and_cover_everything(count: int, window: int, step: int) -> None:
    step = min(step, window - 1)
    spans = windows(count, window, step)
    assert {place for start, end in spans for place in range(start, end)} == set(range(count))
    assert all(end - start <= window for start, end in spans)
    assert all(later[1] - earlier[0] > 0 for earlier, later in pairwise(spans))
    if spans:
        assert spans[0][1] == count
        assert spans[-1][0] == 0


def test_twenty_passages_take_three_windows_of_ten() -> None:
    assert windows(20, 10, 5) == ((10, 20), (5, 15), (0, 10))


def test_the_best_passage_rises_from_the_back_to_the_front() -> None:
    result = rerank_pool(FunctionModel(by_worth), pool_of(25), CORPUS, PLAN)
    assert result.ids[:5] == ("d24", "d23", "d22", "d21", "d20")
    assert result.failures == ()


def test_a_pool_that_fits_one_window_is_fully_ordered_by_one_call() -> None:
    result = rerank_pool(FunctionModel(by_worth), pool_of(7), CORPUS, PLAN)
    assert result.ids == tuple(f"d{i}" for i in range(6, -1, -1))
    assert result.calls == 1


def test_an_empty_pool_asks_nothing() -> None:
    model = FunctionModel(by_worth)
    (result,) = rerank(model, [Pool(Query("q1", "x", {"d0": 1}), (), ())], CORPUS, PLAN)
    assert (result.ids, result.calls, model.asked) == ((), 0, [])


@pytest.mark.parametrize("text", ["[2] > [1] > [3]", " [2]>[1]>[3]\n", "[2], [1], [3].", "[2] [1] [3]"])
def test_an_order_may_be_spaced_as_it_likes(text: str) -> None:
    assert read_order(text, 3) == (2, 1, 3)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", EMPTY),
        ("  \n", EMPTY),
        ("Sure! [1] > [2] > [3]", NOT_AN_ORDER),
        ("[1] > [2] > [3] because", NOT_AN_ORDER),
        ("1 > 2 > 3", NOT_AN_ORDER),
        ("[1] > [2] > [4]", UNKNOWN_ID),
        ("[0] > [1] > [2]", UNKNOWN_ID),
        ("[1] > [1] > [1]", REPEATED_ID),
        ("[1] > [2] > [3] > [1]", REPEATED_ID),
        ("[3] > [1]", MISSING_ID),
        ("[1234567] > [1] > [2]", NOT_AN_ORDER),
    ],
)
def test_an_answer_that_is_no_order_of_the_window_is_named(text: str, kind: str) -> None:
    with pytest.raises(BadOrder) as bad:
        read_order(text, 3)
    assert bad.value.kind == kind


@settings(deadline=None)
@given(text=st.text(max_size=60), count=st.integers(1, 8))
def test_any_text_is_an_exact_order_or_a_named_failure(text: str, count: int) -> None:
    try:
        order = read_order(text, count)
    except BadOrder:
        return
    assert sorted(order) == list(range(1, count + 1))


def failing(times: int, then: Callable[[str], Completion], failure: Completion | ModelCallFailed) -> FunctionModel:
    left = [times]

    def ask(message: str) -> Completion:
        if left[0] > 0:
            left[0] -= 1
            if isinstance(failure, ModelCallFailed):
                raise failure
            return failure
        return then(message)

    return FunctionModel(ask)


def test_a_failed_window_leaves_its_passages_as_they_stood_and_is_counted() -> None:
    result = rerank_pool(failing(1, by_worth, saying("[1]")), pool_of(20), CORPUS, PLAN)
    assert [failure.kind for failure in result.failures] == [MISSING_ID]
    assert result.failures[0].about == ",".join(f"d{i}" for i in range(10, 20))
    assert result.ids[0] == "d14"
    assert len(result.ids) == 20


def test_an_order_cut_off_at_the_token_limit_is_truncated() -> None:
    result = rerank_pool(failing(1, by_worth, saying("[1] > [2]", "length")), pool_of(5), CORPUS, PLAN)
    assert [failure.kind for failure in result.failures] == [TRUNCATED]


def test_a_call_that_failed_is_counted_by_its_kind() -> None:
    refused = ModelCallFailed(CallErrorKind.REFUSED, "nobody there")
    result = rerank_pool(failing(1, by_worth, refused), pool_of(20), CORPUS, PLAN)
    assert [failure.kind for failure in result.failures] == ["refused"]


def test_a_query_whose_windows_all_failed_has_no_ranking() -> None:
    result = rerank_pool(FunctionModel(lambda _: saying("I cannot")), pool_of(20), CORPUS, PLAN)
    assert result.ids == ()
    assert sorted(result.unranked) == sorted(pool_of(20).shown)
    assert len(result.failures) == result.calls == 3


def test_the_room_for_an_answer_grows_with_the_window() -> None:
    model = FunctionModel(by_worth)
    rerank_pool(model, pool_of(4), CORPUS, PLAN)
    rerank_pool(model, pool_of(9), CORPUS, PLAN)
    small, large = (sampling.max_tokens for _, sampling, _ in model.asked)
    assert small < large
