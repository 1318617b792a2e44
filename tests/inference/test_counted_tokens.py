"""Tokens/s rests on the tokens that the served model's tokenizer finds in the text; `usage` is held against them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from milton_assets.tiers.inference import InferencePlan, Prompt, measure_inference
from milton_assets.vocabulary.chat import CallErrorKind, ModelCallFailed
from milton_assets.vocabulary.server import CountTokens, Endpoint
from milton_assets.vocabulary.tier import TierResult
from tests.support.scripted_server import answer, scripted_server

PLAN = InferencePlan(
    prompts=(Prompt(id="p", kind="code", text="one two three four five six seven eight nine ten"),),
    requests_per_round=4,
    warm_up_requests=1,
    min_rounds=2,
    max_rounds=2,
    max_tokens=64,
    calibrate=False,
)
WORDS = ("one ", "two ", "three ", "four")


def by_words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def refusing(_: Sequence[str]) -> list[int]:
    raise ModelCallFailed(CallErrorKind.HTTP_STATUS, "404")


def measured(count_tokens: CountTokens | None, **reply: Any) -> TierResult:
    with scripted_server(answer(*WORDS, **{"delay_s": 0.005, "prompt_tokens": 20, **reply})) as server:
        return measure_inference(Endpoint(server.base_url, "m", count_tokens=count_tokens), PLAN)


def test_figures_rest_on_the_tokens_in_the_text_and_a_false_usage_is_named() -> None:
    result = measured(by_words, completion_tokens=12)
    rows = result.samples[result.samples.phase == "measured"]
    assert set(rows.output_tokens) == {4}
    assert set(rows.told_tokens) == {12}
    assert (rows.request_output_tokens_per_s * rows.e2e_ms / 1e3).round(6).eq(4).all()
    for name in ("output_tokens_per_s", "tpot_ms.median"):
        figure = result.metric(name)
        assert not figure.valid
        assert "the server told 96 tokens, its tokenizer finds 32 in the text" in (figure.why or "")


def test_a_usage_that_counts_an_end_of_turn_too_is_believed() -> None:
    result = measured(by_words, completion_tokens=5)
    assert "told" not in (result.metric("output_tokens_per_s").why or "")
    assert result.provenance["tokens_counted_by"]["because"] is None


@pytest.mark.parametrize(
    ("count", "because"), [(None, "does not offer its tokenizer"), (refusing, "counting failed")], ids=["none", "fails"]
)
def test_where_nothing_can_count_the_usage_is_taken_and_that_is_said(count: CountTokens | None, because: str) -> None:
    result = measured(count, completion_tokens=5)
    assert set(result.samples.output_tokens) == {5}
    assert result.provenance["tokens_counted_by"]["what"] == "usage"
    assert because in result.provenance["tokens_counted_by"]["because"]


def test_a_prompt_that_was_read_in_part_makes_what_depends_on_it_invalid() -> None:
    result = measured(by_words, completion_tokens=4, prompt_tokens=3)
    assert "the server read less than their text: 3 tokens of 10" in (result.metric("ttft_ms.median").why or "")
    assert "read less" not in (measured(by_words, completion_tokens=4).metric("ttft_ms.median").why or "")
