"""Models that cheat, served over a real socket: each ends at the bottom, or has no figure at all."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import pytest

from milton_assets.tiers.retrieval import Method, RetrievalPlan, load_goldens, measure_retrieval
from milton_assets.tiers.retrieval.listwise import NOT_AN_ORDER, REPEATED_ID, TRUNCATED, UNKNOWN_ID
from milton_assets.tiers.retrieval.pointwise import (
    BAD_LOGPROBS,
    CONSTANT_LOGPROBS,
    NEITHER_YES_NOR_NO,
    NO_LOGPROBS,
)
from milton_assets.vocabulary.metric import Status
from milton_assets.vocabulary.server import Endpoint
from milton_assets.vocabulary.tier import TierResult
from resources.servers.client import OpenAIChatModel
from tests.support.retrieval_models import knowing
from tests.support.scripted_server import Answer, Body, Reply, answer, scripted_server
from tests.support.scripted_server import Status as HttpStatus

GOLDENS = load_goldens()
POINTWISE = RetrievalPlan(max_queries=40, pool_size=10, concurrency=4, resamples=200)
LISTWISE = POINTWISE.model_copy(update={"method": Method.LISTWISE})
NEAR_CHANCE = 0.08

Script = Callable[[dict[str, Any]], Reply | str]


def user_message(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


def first_token(**probabilities: float) -> Answer:
    logprobs = {token: math.log(p) for token, p in probabilities.items()}
    return answer(next(iter(probabilities)), top_logprobs=logprobs, finish_reason="length")


def measured(script: Reply | str | Script, plan: RetrievalPlan) -> TierResult:
    with scripted_server(script) as server, OpenAIChatModel(Endpoint(server.base_url, "scripted")) as model:
        return measure_retrieval(model, GOLDENS, plan)


def figure(result: TierResult, name: str) -> float:
    value = result.metric(name).value
    assert value is not None
    return value


def assert_no_better_than_chance(result: TierResult) -> None:
    assert figure(result, "nDCG@10") <= figure(result, "random:nDCG@10") + NEAR_CHANCE
    assert figure(result, "nDCG@10") < figure(result, "bm25:nDCG@10")
    assert figure(result, "gain:nDCG@10") < 0


def assert_refused(result: TierResult, kind: str) -> None:
    headline = result.metric("nDCG@10")
    assert headline.status is Status.ERROR
    assert kind in (headline.why or "")
    assert figure(result, "call_failure_rate") == 1.0


def test_an_honest_and_able_model_ends_at_the_top_over_the_same_socket() -> None:
    grade = knowing(GOLDENS)

    def honest(body: dict[str, Any]) -> Answer:
        share = grade(user_message(body))
        return first_token(Yes=0.1 + 0.8 * share, No=0.9 - 0.8 * share)

    result = measured(honest, POINTWISE)
    assert figure(result, "nDCG@10") == pytest.approx(figure(result, "oracle:nDCG@10"))
    assert figure(result, "answerability:AUROC") == 1.0


@pytest.mark.parametrize(
    "constant",
    [
        pytest.param({"Yes": 0.99, "No": 0.01}, id="always-yes"),
        pytest.param({"No": 0.99, "Yes": 0.01}, id="always-no"),
        pytest.param({"Yes": 0.5, "No": 0.5}, id="always-half"),
    ],
)
def test_saying_the_very_same_of_every_document_is_no_rank(constant: dict[str, float]) -> None:
    result = measured(first_token(**constant), POINTWISE)
    headline = result.metric("nDCG@10")
    assert (headline.status, headline.errors) == (Status.ERROR, headline.n)
    assert CONSTANT_LOGPROBS in (headline.why or "")
    assert figure(result, "answerability:AUROC") == 0.5


def test_one_query_that_is_told_the_same_throughout_fails_alone() -> None:
    grade = knowing(GOLDENS)
    same = next(query for query in GOLDENS.queries("test") if query.answerable)

    def constant_for_one(body: dict[str, Any]) -> Answer:
        message = user_message(body)
        share = 0.1 + 0.8 * grade(message) + len(message) * 1e-6
        if f"Question: {same.text}\n" in message:
            share = 0.5
        return first_token(Yes=share, No=1 - share)

    result = measured(constant_for_one, RetrievalPlan(pool_size=10, concurrency=4, resamples=200))
    rows = result.samples.set_index("query_id")
    assert list(rows.loc[same.query_id, "ranking"]) == []
    assert {failure.partition(":")[0] for failure in rows.loc[same.query_id, "failures"]} == {CONSTANT_LOGPROBS}
    assert rows.loc[same.query_id, "nDCG@10"] == 0.0
    assert result.metric("nDCG@10").errors == 1
    assert figure(result, "nDCG@10") > figure(result, "bm25:nDCG@10")


@pytest.mark.parametrize(
    ("number", "kind"),
    [("NaN", "not_json"), ("-Infinity", "not_json"), ("Infinity", "not_json"), ("-1e999", "malformed")],
)
def test_a_logprob_that_is_no_number_is_an_error_of_that_call(number: str, kind: str) -> None:
    listed = f'{{"token": "Yes", "top_logprobs": [{{"token": "Yes", "logprob": {number}}}]}}'
    choice = '{"message": {"content": "Yes"}, "finish_reason": "length", "logprobs": {"content": [%s]}}' % listed  # noqa: UP031
    body = '{"choices": [%s], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}' % choice  # noqa: UP031
    assert_refused(measured(Body(body.encode()), POINTWISE), kind)


def test_logprobs_that_are_all_zero_are_no_probabilities() -> None:
    certain = answer("Yes", top_logprobs={"Yes": 0.0, "No": 0.0, "Maybe": 0.0}, finish_reason="length")
    assert_refused(measured(certain, POINTWISE), BAD_LOGPROBS)


def test_echoing_the_question_instead_of_judging_has_no_figure() -> None:
    def echo(body: dict[str, Any]) -> Answer:
        words = user_message(body).split()
        return first_token(**{words[0]: 0.7, words[1]: 0.3})

    assert_refused(measured(echo, POINTWISE), NEITHER_YES_NOR_NO)


def test_leaking_the_prompt_pointwise_has_no_figure() -> None:
    leak = answer("You", top_logprobs={"You": -0.01, "The": -5.0}, finish_reason="length")
    assert_refused(measured(leak, POINTWISE), NEITHER_YES_NOR_NO)


def test_empty_answers_have_no_figure() -> None:
    assert_refused(measured(answer(""), POINTWISE), NO_LOGPROBS)


def test_a_yes_without_logprobs_has_no_figure() -> None:
    assert_refused(measured("Yes", POINTWISE), NO_LOGPROBS)


def test_rambling_to_the_limit_pointwise_has_no_figure() -> None:
    ramble = answer("Well", top_logprobs={"Well": -0.1, "So": -2.5}, finish_reason="length")
    assert_refused(measured(ramble, POINTWISE), NEITHER_YES_NOR_NO)


def test_refusing_every_call_has_no_figure() -> None:
    assert_refused(measured(HttpStatus(500), POINTWISE), "http_status")


def test_refusing_the_hard_calls_costs_more_than_answering_them_badly() -> None:
    grade = knowing(GOLDENS)

    def dodging(body: dict[str, Any]) -> Reply:
        message = user_message(body)
        yes = 0.5 + len(message) * 1e-6
        return HttpStatus(500) if grade(message) else first_token(Yes=yes, No=1 - yes)

    result = measured(dodging, POINTWISE)
    assert figure(result, "nDCG@10") == 0.0
    assert figure(result, "call_failure_rate") > 0


def numbers_shown(body: dict[str, Any]) -> list[int]:
    return [int(number) for number in re.findall(r"^\[(\d+)\] ", user_message(body), flags=re.MULTILINE)]


def order(numbers: list[int]) -> str:
    return " > ".join(f"[{number}]" for number in numbers)


def test_an_honest_and_able_listwise_model_ends_at_the_top() -> None:
    passages = {" ".join(doc.full_text.split()): doc.doc_id for doc in GOLDENS.corpus.values()}

    def honest(body: dict[str, Any]) -> str:
        message = user_message(body)
        query = next((query for query in GOLDENS.queries("test") if f"Question: {query.text}\n" in message), None)
        if query is None:
            return order(numbers_shown(body))
        shown = re.findall(r"^\[(\d+)\] (.*)$", message, flags=re.MULTILINE)
        grades = {int(number): query.grades.get(passages[text], 0) for number, text in shown}
        return order(sorted(grades, key=lambda number: -grades[number]))

    result = measured(honest, LISTWISE)
    assert figure(result, "nDCG@10") == pytest.approx(figure(result, "oracle:nDCG@10"))


def test_echoing_the_input_order_earns_what_a_shuffle_earns() -> None:
    result = measured(lambda body: order(numbers_shown(body)), LISTWISE)
    assert figure(result, "call_failure_rate") == 0.0
    assert_no_better_than_chance(result)


def test_reversing_the_input_order_earns_what_a_shuffle_earns() -> None:
    assert_no_better_than_chance(measured(lambda body: order(numbers_shown(body)[::-1]), LISTWISE))


def test_ids_that_do_not_exist_have_no_figure() -> None:
    result = measured(lambda body: order([number + 100 for number in numbers_shown(body)]), LISTWISE)
    assert_refused(result, UNKNOWN_ID)


def test_repeating_one_id_has_no_figure() -> None:
    assert_refused(measured(lambda body: order([1] * len(numbers_shown(body))), LISTWISE), REPEATED_ID)


def test_leaking_the_prompt_listwise_has_no_figure() -> None:
    result = measured(lambda body: "\n".join(str(message["content"]) for message in body["messages"]), LISTWISE)
    assert_refused(result, NOT_AN_ORDER)


def test_an_empty_order_has_no_figure() -> None:
    assert_refused(measured(answer(""), LISTWISE), "empty")


def test_always_yes_listwise_has_no_figure() -> None:
    assert_refused(measured("Yes", LISTWISE), NOT_AN_ORDER)


def test_rambling_to_the_limit_listwise_has_no_figure() -> None:
    assert_refused(measured(answer("Let me think. " * 50, finish_reason="length"), LISTWISE), TRUNCATED)


def test_a_model_that_knows_no_order_is_tried_three_times_and_asked_no_further() -> None:
    with scripted_server("Yes") as server:
        with OpenAIChatModel(Endpoint(server.base_url, "scripted")) as model:
            result = measure_retrieval(model, GOLDENS, LISTWISE)
        assert len(server.requests) == 3
    headline = result.metric("nDCG@10")
    assert headline.status is Status.ERROR
    assert headline.why == "all 3 trials of an order failed: not_an_order 3"
    assert figure(result, "bm25:nDCG@10") > 0


def test_giving_up_after_the_first_window_keeps_its_failures_in_view() -> None:
    asked = [0]

    def lazy(body: dict[str, Any]) -> str:
        asked[0] += 1
        return order(numbers_shown(body)) if asked[0] <= 2 else ""

    result = measured(lazy, LISTWISE.model_copy(update={"concurrency": 1}))
    headline = result.metric("nDCG@10")
    assert headline.errors >= headline.n - 1
    assert figure(result, "nDCG@10") < 0.05


def test_knowing_the_ids_is_no_help_because_no_id_is_ever_sent() -> None:
    with scripted_server(first_token(Yes=0.5, No=0.5)) as server:
        with OpenAIChatModel(Endpoint(server.base_url, "scripted")) as model:
            measure_retrieval(model, GOLDENS, POINTWISE.model_copy(update={"max_queries": 5}))
        sent = json.dumps(server.requests)
    assert not re.search(r"\b[dq]\d{3}\b", sent)
