"""The chat client: what it asks, what it reads, and a name for each failure."""

from __future__ import annotations

import pickle
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milton_assets.vocabulary.chat import CallErrorKind, Message, ModelCallFailed, Sampling
from milton_assets.vocabulary.server import Endpoint
from resources.servers.client import OpenAIChatModel
from resources.servers.repeatable import Asking
from tests.support.scripted_server import (
    Body,
    Cut,
    HangUp,
    KeepAlive,
    Raw,
    ScriptedServer,
    Silence,
    Stall,
    Status,
    Stream,
    answer,
    scripted_server,
)

ASK = [Message("system", "Be short."), Message("user", "What is the capital of France?")]


def model_of(server: ScriptedServer, timeout_s: float = 5.0, **options: Any) -> OpenAIChatModel:
    return OpenAIChatModel(Endpoint(server.base_url, "scripted"), timeout_s, **options)


def failure(reply: Any, timeout_s: float = 5.0) -> ModelCallFailed:
    with scripted_server(reply) as server, model_of(server, timeout_s) as model:
        with pytest.raises(ModelCallFailed) as caught:
            model.complete(ASK, Sampling())
        return caught.value


# ------------------------------------------------------------------------------------------------------ asking


def test_the_request_carries_messages_and_sampling() -> None:
    with scripted_server(answer("Paris")) as server, model_of(server) as model:
        model.complete(ASK, Sampling(max_tokens=9, temperature=0.5, seed=3, top_p=0.9))
    (sent,) = server.requests
    assert sent == {
        "model": "scripted",
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "What is the capital of France?"},
        ],
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "stream": False,
    }


def test_a_schema_travels_as_response_format_and_extras_as_they_are() -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}}
    with scripted_server(answer("{}")) as server, model_of(server, asking=Asking({"cache_prompt": False})) as model:
        model.complete(ASK, Sampling(), json_schema=schema)
    assert server.requests[0]["response_format"]["json_schema"]["schema"] == schema
    assert server.requests[0]["cache_prompt"] is False


def test_the_key_is_sent_as_a_bearer_token_and_never_shown() -> None:
    with scripted_server(Status(401, "no")) as server:
        endpoint = Endpoint(server.base_url, "scripted", api_key="sk-secret")
        with OpenAIChatModel(endpoint) as model, pytest.raises(ModelCallFailed) as caught:
            model.complete(ASK, Sampling())
    assert server.exchanges[0].headers["Authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in str(caught.value)


def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with scripted_server("Paris") as server, model_of(server) as model:
        assert model.complete(ASK, Sampling()).text == "Paris"


# ----------------------------------------------------------------------------------------------------- reading


def test_the_answer_has_text_reason_and_counts() -> None:
    with scripted_server(answer("Par", "is", prompt_tokens=11)) as server, model_of(server) as model:
        got = model.complete(ASK, Sampling())
    assert (got.text, got.finish_reason, got.prompt_tokens, got.completion_tokens) == ("Paris", "stop", 11, 2)
    assert got.first_token_alternatives == ()


def test_reasoning_is_no_part_of_the_text_and_missing_usage_is_none() -> None:
    reply = answer("Paris", reasoning=("Let me see",), usage=False)
    with scripted_server(reply) as server, model_of(server) as model:
        got = model.complete(ASK, Sampling())
    assert (got.text, got.completion_tokens) == ("Paris", None)


def test_alternatives_are_those_of_the_first_token_most_likely_first() -> None:
    first = {"token": "No", "top_logprobs": [{"token": "Yes", "logprob": -2.5}, {"token": "No", "logprob": -0.1}]}
    second = {"token": "!", "top_logprobs": [{"token": "!", "logprob": 0.0}]}
    choice = {"message": {"content": "No!"}, "logprobs": {"content": [first, second]}}
    with scripted_server(Body({"choices": [choice]})) as server, model_of(server) as model:
        got = model.complete(ASK, Sampling(), top_logprobs=2)
    assert [(a.token, a.logprob) for a in got.first_token_alternatives] == [("No", -0.1), ("Yes", -2.5)]
    assert (server.requests[0]["logprobs"], server.requests[0]["top_logprobs"]) == (True, 2)


@pytest.mark.parametrize("logprobs", [None, {"content": None}, {"content": []}])
def test_a_server_without_logprobs_gives_no_alternatives(logprobs: Any) -> None:
    choice = {"message": {"content": "No"}, "logprobs": logprobs}
    with scripted_server(Body({"choices": [choice]})) as server, model_of(server) as model:
        assert model.complete(ASK, Sampling(), top_logprobs=2).first_token_alternatives == ()


def test_a_truncated_or_empty_answer_is_returned_as_it_is() -> None:
    replies = [answer("Par", finish_reason="length"), Body({"choices": [{"message": {"content": None}}]})]
    with scripted_server(replies) as server, model_of(server) as model:
        assert model.complete(ASK, Sampling()).finish_reason == "length"
        assert model.complete(ASK, Sampling()).text == ""


@pytest.mark.parametrize(
    "logprobs",
    [[], {"content": [{"token": "a", "top_logprobs": None}]}, {"tokens": ["a"], "top_logprobs": [{"a": -0.1}]}],
    ids=["an empty list", "null alternatives", "the older shape"],
)
def test_logprobs_that_nobody_asked_for_are_not_looked_at(logprobs: Any) -> None:
    choice = {"message": {"content": "Paris"}, "logprobs": logprobs}
    with scripted_server(Body({"choices": [choice]})) as server, model_of(server) as model:
        assert model.complete(ASK, Sampling()).text == "Paris"


def test_null_alternatives_that_were_asked_for_are_none() -> None:
    choice = {"message": {"content": "a"}, "logprobs": {"content": [{"token": "a", "top_logprobs": None}]}}
    with scripted_server(Body({"choices": [choice]})) as server, model_of(server) as model:
        assert model.complete(ASK, Sampling(), top_logprobs=2).first_token_alternatives == ()


def test_a_content_of_parts_is_the_text_of_its_text_parts() -> None:
    parts = [{"type": "text", "text": "Par"}, {"type": "refusal", "refusal": "no"}, {"type": "text", "text": "is"}]
    with scripted_server(Body({"choices": [{"message": {"content": parts}}]})) as server, model_of(server) as model:
        assert model.complete(ASK, Sampling()).text == "Paris"


def test_half_a_character_is_replaced_and_two_halves_are_joined() -> None:
    raw = rb'{"choices": [{"message": {"content": "a\ud83d b\ud83d\ude00"}}]}'
    with scripted_server(Body(raw)) as server, model_of(server) as model:
        assert model.complete(ASK, Sampling()).text == "a\ufffd b\U0001f600"


def test_counts_written_as_whole_floats_are_counts() -> None:
    usage = {"prompt_tokens": 11.0, "completion_tokens": 2.0}
    reply = Body({"choices": [{"message": {"content": "Paris"}}], "usage": usage})
    with scripted_server(reply) as server, model_of(server) as model:
        assert model.complete(ASK, Sampling()).prompt_tokens == 11


# ------------------------------------------------------------------------------------- without a system role

NO_SYSTEM_ROLE = Status(500, "Jinja Exception: System role not supported")


def gemma(body: dict[str, Any]) -> Any:
    """A server whose chat template refuses the system role."""
    return NO_SYSTEM_ROLE if body["messages"][0]["role"] == "system" else answer("Paris")


def test_a_system_turn_that_the_template_refuses_opens_the_first_user_turn() -> None:
    with scripted_server(gemma) as server, model_of(server) as model:
        assert model.system_role == "as it is"
        assert model.complete(ASK, Sampling()).text == "Paris"
        assert model.system_role == "folded into the first user turn"
    assert server.requests[-1]["messages"] == [
        {"role": "user", "content": "Be short.\n\nWhat is the capital of France?"}
    ]


def test_the_refusal_is_asked_for_once_a_server() -> None:
    with scripted_server(gemma) as server, model_of(server) as model:
        for _ in range(3):
            model.complete(ASK, Sampling())
    assert len(server.requests) == 4


def test_another_refusal_is_no_reason_to_fold() -> None:
    with scripted_server(Status(500, "out of memory")) as server, model_of(server) as model:
        with pytest.raises(ModelCallFailed):
            model.complete(ASK, Sampling())
        assert model.system_role == "as it is"
    assert len(server.requests) == 1


def test_a_refusal_of_the_role_without_a_system_turn_stays_a_refusal() -> None:
    with (
        scripted_server(NO_SYSTEM_ROLE) as server,
        model_of(server) as model,
        pytest.raises(ModelCallFailed, match="not supported"),
    ):
        model.complete([Message("user", "Hello?")], Sampling())
    assert len(server.requests) == 1


# --------------------------------------------------------------------------------------------------- failing


@pytest.mark.parametrize("reason", ["abort", "error", "cancelled", "content_filter", "timeout"])
def test_an_answer_that_the_server_broke_off_is_none(reason: str) -> None:
    assert failure(answer("Par", finish_reason=reason)).kind is CallErrorKind.ABORTED


def test_more_tokens_than_were_asked_for_are_malformed() -> None:
    assert failure(answer("Paris", completion_tokens=10_000)).kind is CallErrorKind.MALFORMED


@pytest.mark.parametrize(
    "reply",
    [
        Status(401, "bad key sk-secret"),
        Body("your key sk-secret is no JSON"),
        Body({"error": "sk-secret"}),
        Body({"choices": "sk-secret"}),
    ],
    ids=["refused", "not JSON", "an error at status 200", "malformed"],
)
def test_a_key_that_the_server_echoes_is_redacted(reply: Any) -> None:
    with scripted_server(reply) as server:
        endpoint = Endpoint(server.base_url, "scripted", api_key="sk-secret")
        with OpenAIChatModel(endpoint) as model, pytest.raises(ModelCallFailed) as caught:
            model.complete(ASK, Sampling())
    assert "sk-secret" not in str(caught.value)
    assert "***" in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Status(500, "out of memory"), CallErrorKind.HTTP_STATUS),
        (Status(404), CallErrorKind.HTTP_STATUS),
        (Body({"error": {"message": "out of memory"}}), CallErrorKind.ERROR_IN_STREAM),
        (Body("<html>Bad gateway</html>", content_type="text/html"), CallErrorKind.NOT_JSON),
        (Body(b'{"choices": NaN}'), CallErrorKind.NOT_JSON),
        (Body(b"[" * 100_000), CallErrorKind.NOT_JSON),
        (Body([]), CallErrorKind.MALFORMED),
        (Body({"choices": []}), CallErrorKind.MALFORMED),
        (Body({"choices": [{"message": {"content": 7}}]}), CallErrorKind.MALFORMED),
        (Body({"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": -1}}), CallErrorKind.MALFORMED),
        (Body(b"not gzip", headers={"Content-Encoding": "gzip"}), CallErrorKind.MALFORMED),
        (Stream(Raw(b'{"choices"'), Cut(), content_type="application/json"), CallErrorKind.CUT_SHORT),
        (HangUp(), CallErrorKind.CUT_SHORT),
        (HangUp(reset=True), CallErrorKind.CUT_SHORT),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_each_failure_has_its_kind(reply: Any, kind: CallErrorKind) -> None:
    assert failure(reply).kind is kind


def test_a_failure_keeps_its_kind_across_processes() -> None:
    error = failure(Status(503, "the model is loading"))
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.kind, str(copy)) == (error.kind, str(error))


def test_the_error_quotes_what_the_server_said() -> None:
    error = failure(Status(503, "the model is loading"))
    assert "503" in str(error)
    assert "the model is loading" in str(error)


def asked_again(first: Body) -> float:
    """How long a server is left alone that answers the first request so."""
    replies = iter([first, answer("Paris")])
    with scripted_server(lambda _: next(replies)) as server, model_of(server) as model:
        assert model.complete(ASK, Sampling()).text == "Paris"
    refused, answered = (e for e in server.exchanges if e.path == "/v1/chat/completions")
    return (answered.read_at_ns - refused.read_at_ns) / 1e9


def test_a_server_that_is_loading_its_model_is_waited_for() -> None:
    assert asked_again(Status(503, "Loading model")) >= 0.5


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_is_left_alone_for_as_long_as_it_asks(status: int) -> None:
    assert asked_again(Body({"error": {"message": "later"}}, status, headers={"Retry-After": "1"})) >= 1.0


def test_a_server_that_asks_for_more_patience_than_there_is_gave_no_answer() -> None:
    error = failure(Body({"error": {"message": "slow down"}}, 429, headers={"Retry-After": "3600"}))
    assert error.kind is CallErrorKind.HTTP_STATUS
    assert "429 (Retry-After 3600): " in str(error) and "slow down" in str(error)


def test_a_redirect_is_not_followed_and_says_where_it_leads() -> None:
    error = failure(Body(b"", 301, headers={"Location": "https://elsewhere.example/v1/chat/completions"}))
    assert "301 (it leads to https://elsewhere.example/v1/chat/completions)" in str(error)


@pytest.mark.parametrize("reply", [Silence(), Stream(Raw(b" "), Stall(), content_type="application/json")])
def test_silence_is_a_timeout(reply: Any) -> None:
    started = time.monotonic()
    assert failure(reply, timeout_s=0.2).kind is CallErrorKind.TIMEOUT
    assert time.monotonic() - started < 60


def test_an_answer_that_trickles_for_ever_is_a_timeout() -> None:
    trickle = Stream(*[Raw(b" ", 0.05)] * 2400, content_type="application/json")
    started = time.monotonic()
    assert failure(trickle, timeout_s=0.3).kind is CallErrorKind.TIMEOUT
    assert time.monotonic() - started < 60


def test_an_answer_without_end_is_refused() -> None:
    assert failure(Body(b" " * (65 << 20)), timeout_s=30).kind is CallErrorKind.MALFORMED


def test_nobody_listening_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = Endpoint(f"http://127.0.0.1:{taken.getsockname()[1]}", "scripted")
        with OpenAIChatModel(endpoint) as model, pytest.raises(ModelCallFailed) as caught:
            model.complete(ASK, Sampling())
    assert caught.value.kind is CallErrorKind.REFUSED


# ----------------------------------------------------------------------------------------------- connections


@pytest.mark.parametrize("keep_alive", [KeepAlive.CLOSE_AFTER_ANSWER, KeepAlive.CLOSE_ON_NEXT_REQUEST])
def test_a_connection_closed_between_requests_is_no_error(keep_alive: KeepAlive) -> None:
    with scripted_server("Paris", keep_alive=keep_alive) as server, model_of(server) as model:
        texts = [model.complete(ASK, Sampling()).text for _ in range(6)]
    assert texts == ["Paris"] * 6
    assert len(server.requests) == 6


def test_a_connection_is_reused_while_the_server_keeps_it() -> None:
    with scripted_server("Paris") as server, model_of(server) as model:
        for _ in range(4):
            model.complete(ASK, Sampling())
    assert server.connections == 1


@pytest.mark.parametrize("keep_alive", list(KeepAlive))
def test_threads_may_share_one_model(keep_alive: KeepAlive) -> None:
    def echo(body: dict[str, Any]) -> Any:
        return answer(body["messages"][-1]["content"], first_delay_s=0.005)

    with scripted_server(echo, keep_alive=keep_alive) as server, model_of(server) as model:

        def ask(text: str) -> str:
            return model.complete([Message("user", text)], Sampling()).text

        asked = [str(n) for n in range(80)]
        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(ask, asked)) == asked


def test_requests_of_several_threads_are_under_way_together() -> None:
    together = threading.Barrier(8, timeout=60)

    def wait_for_the_others(_: dict[str, Any]) -> Any:
        together.wait()
        return answer("ok")

    with scripted_server(wait_for_the_others) as server, model_of(server) as model, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: model.complete(ASK, Sampling()).text, range(8))) == ["ok"] * 8


# ---------------------------------------------------------------------------------------- embeddings and props


def test_embeddings_come_in_the_order_of_the_texts() -> None:
    def reversed_order(body: dict[str, Any]) -> Body:
        data = [{"index": i, "embedding": [float(len(text)), 0.5]} for i, text in enumerate(body["input"])]
        return Body({"data": data[::-1]})

    with scripted_server(posts={"/v1/embeddings": reversed_order}) as server, model_of(server) as model:
        assert model.embeddings(["a", "bcd"]) == [[1.0, 0.5], [3.0, 0.5]]
        assert model.embeddings([]) == []


@pytest.mark.parametrize(
    "data",
    [
        [{"index": 0, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}],
        [{"index": 0, "embedding": []}, {"index": 1, "embedding": []}],
    ],
    ids=["one is missing", "wrong index", "differing lengths", "empty"],
)
def test_embeddings_that_do_not_match_the_texts_are_malformed(data: Any) -> None:
    with (
        scripted_server(posts={"/v1/embeddings": Body({"data": data})}) as server,
        model_of(server) as model,
        pytest.raises(ModelCallFailed) as caught,
    ):
        model.embeddings(["a", "b"])
    assert caught.value.kind is CallErrorKind.MALFORMED


# -------------------------------------------------------------------------------------------------- hostile

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "usage", "logprobs", "error", "top_logprobs", "token"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


def test_any_answer_is_a_completion_or_a_named_failure() -> None:
    replies: list[Any] = []
    with scripted_server(lambda _: replies[-1]) as server, model_of(server) as model:

        @settings(max_examples=150, deadline=None)
        @given(JSON | st.binary(max_size=200))
        def check(reply: Any) -> None:
            replies.append(Body(reply))
            try:
                got = model.complete(ASK, Sampling(), top_logprobs=2)
            except ModelCallFailed as error:
                assert error.kind in {
                    CallErrorKind.NOT_JSON,
                    CallErrorKind.MALFORMED,
                    CallErrorKind.ERROR_IN_STREAM,
                }
            else:
                assert isinstance(got.text, str)

        check()
