"""What a model thinks aloud, apart from what it answers."""

from __future__ import annotations

import pytest

from milton_assets.tiers.retrieval.listwise import read_answer
from milton_assets.tiers.retrieval.pointwise import THINKS_FIRST, Unreadable, yes_log_odds
from milton_assets.vocabulary.chat import Completion, TokenLogprob
from milton_assets.vocabulary.thinking import Spoken, thinking_tokens, without_thinking


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("Paris.", "", "Paris."),
        ("<think>Nice?</think>Paris.", "Nice?", "Paris."),
        ("\n<think>\nNice?\n</think>\n\nParis.", "\nNice?\n", "Paris."),
        ("Nice?</think>Paris.", "Nice?", "Paris."),
        ("<thinking>Nice?</thinking>Paris.", "Nice?", "Paris."),
        ("<think>Nice? Or", "Nice? Or", ""),
        ("Write <think> before and </think> after.", "", "Write <think> before and </think> after."),
        ("<think></think>Paris.", "", "Paris."),
        ("", "", ""),
    ],
)
def test_a_block_that_opens_the_text_is_cut(text: str, thought: str, answer: str) -> None:
    assert without_thinking(text) == Spoken(thought, answer)


@pytest.mark.parametrize(
    ("tokens", "spoken", "expected"),
    [(100, Spoken("x" * 75, "y" * 25), 75), (None, Spoken("x", ""), None), (0, Spoken("", ""), 0)],
)
def test_tokens_are_shared_out_by_characters(tokens: int | None, spoken: Spoken, expected: int | None) -> None:
    assert thinking_tokens(tokens, spoken) == expected


def test_an_order_is_read_after_the_thought() -> None:
    assert read_answer(Completion("<think>[3] or [1]?</think>[2] > [1] > [3]", "stop", 1, 9), 3) == (2, 1, 3)


def test_a_first_token_that_opens_a_thought_is_named() -> None:
    with pytest.raises(Unreadable) as raised:
        yes_log_odds([TokenLogprob("<think>", -0.01), TokenLogprob("Hm", -5.0)])
    assert raised.value.kind == THINKS_FIRST
