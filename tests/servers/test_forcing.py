"""What a model expects at each place of a text, as llama.cpp's server is asked."""

from __future__ import annotations

from typing import Any

import pytest

from milton_assets.vocabulary.chat import ModelCallFailed
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.server import Endpoint
from resources.servers.forcing import LlamaCppForcing, teacher_forcing
from tests.support.forced_model import WORDS, model, pages
from tests.support.scripted_server import Body, scripted_server

TEXT = "the ferry crosses when the bell is rung"
MODEL = model(3)


def test_every_place_is_what_the_model_expects_there() -> None:
    with scripted_server("unused", posts=pages(MODEL)) as server:
        found = LlamaCppForcing(Endpoint(server.base_url, "m")).forced(TEXT, first=2, places=4, top=5)
    assert found == MODEL.forced(TEXT, first=2, places=4, top=5)


def test_each_request_gives_the_tokens_before_and_makes_the_next_one_certain() -> None:
    with scripted_server("unused", posts=pages(MODEL)) as server:
        LlamaCppForcing(Endpoint(server.base_url, "m")).forced(TEXT, first=2, places=3, top=5)
        reading, *asked = server.requests
    tokens = list(MODEL.tokens(TEXT))
    assert reading == {"model": "m", "content": TEXT, "add_special": True, "parse_special": False}
    assert {body["model"] for body in asked} == {"m"}
    assert [body["prompt"] for body in asked] == [tokens[:2], tokens[:3], tokens[:4]]
    assert [body["logit_bias"][0][0] for body in asked] == tokens[2:5]
    assert {(body["n_predict"], body["n_probs"], body["post_sampling_probs"]) for body in asked} == {(1, 5, False)}
    assert [body["cache_prompt"] for body in asked] == [False, True, True]


def test_a_text_may_end_before_its_places_do() -> None:
    with scripted_server("unused", posts=pages(MODEL)) as server:
        forcing = LlamaCppForcing(Endpoint(server.base_url, "m"))
        assert len(forcing.forced(TEXT, first=2, places=99, top=WORDS).places) == 7
        assert forcing.forced("two words", first=5, places=9, top=2).places == ()


@pytest.mark.parametrize("server", ["vllm", "ollama", "scripted"])
def test_servers_that_do_not_tell_are_not_asked(server: str) -> None:
    assert teacher_forcing(Endpoint("http://127.0.0.1:9", "m"), server) is None


def place(**changed: Any) -> dict[str, Any]:
    listed = [{"id": 1, "logprob": -0.1}]
    return {
        "content": "x",
        "completion_probabilities": [{"id": MODEL.tokens(TEXT)[2], "logprob": -1.0, "top_logprobs": listed} | changed],
    }


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ({"content": "x"}, "gave no probabilities"),
        ({"tokens": []}, "gave no probabilities"),
        (place(id=39), "was made to choose token"),
        (place(top_logprobs=[{"id": 1, "logprob": 0.5}]), "logarithms"),
        (place(logprob="likely"), "gave no probabilities"),
    ],
    ids=["none", "empty", "another token", "above 1", "no number"],
)
def test_an_answer_without_them_is_a_failed_call(page: dict[str, Any], says: str) -> None:
    posts = {**pages(MODEL), "/completion": lambda _: Body(page)}
    with (
        scripted_server("unused", posts=posts) as server,
        pytest.raises(ModelCallFailed, match=says),
    ):
        LlamaCppForcing(Endpoint(server.base_url, "m")).forced(TEXT, first=2, places=1, top=1)


def test_a_token_that_is_no_whole_character_is_a_place_of_which_nothing_is_known() -> None:
    whole = pages(MODEL)["/completion"]

    def half_a_character(body: dict[str, Any]) -> Any:
        assert callable(whole)
        return Body({"content": " \ufffd", "tokens_predicted": 1}) if len(body["prompt"]) == 3 else whole(body)

    with scripted_server("unused", posts={**pages(MODEL), "/completion": half_a_character}) as server:
        found = LlamaCppForcing(Endpoint(server.base_url, "m")).forced(TEXT, first=2, places=3, top=5)
    right = MODEL.forced(TEXT, first=2, places=3, top=5)
    assert found.places == (right.places[0], None, right.places[2])


def test_a_probability_of_nothing_is_a_very_small_one() -> None:
    posts = {**pages(MODEL), "/completion": lambda _: Body(place(logprob=-3.4028234663852886e38))}
    with scripted_server("unused", posts=posts) as server:
        found = LlamaCppForcing(Endpoint(server.base_url, "m")).forced(TEXT, first=2, places=1, top=1)
    assert found.places[0].logprob == -1e4


def test_nothing_can_be_asked_of_the_first_token() -> None:
    with pytest.raises(BadInput, match="first 0"):
        LlamaCppForcing(Endpoint("http://127.0.0.1:9", "m")).forced(TEXT, first=0, places=1, top=1)
