"""A prompt's text and its version change together: what a version says is pinned here."""

from __future__ import annotations

from collections.abc import Sequence

from milton_assets.tiers.reasoning import prompts as reasoning
from milton_assets.tiers.retrieval import prompts as retrieval
from milton_assets.vocabulary.chat import Message
from milton_assets.vocabulary.digest import sha256_json

PINNED = {
    ("reasoning", "1"): "6ee10cc211e667c500ce06e5cdc9588d9ce76b31f56986a4d33eea1264f61f09",
    ("retrieval", "1"): "2901c3f21bdaaa0d4cdd9c10be3e45b0ed85251e4d9387c7c88ff339c25410b0",
}
"""For changed prompts raise PROMPTS_VERSION and pin the new pair; a pair that figures were published with stays."""


def digest(*conversations: Sequence[Message]) -> str:
    return sha256_json([[[message.role, message.content] for message in one] for one in conversations])


def test_the_reasoning_prompts_are_those_of_their_version() -> None:
    said = digest(
        reasoning.answer("Q?"),
        *(reasoning.plan("Q?", "D", questions) for questions in (1, 2, 3)),
        reasoning.cross_check("Q?", "D", "C?", "A"),
        reasoning.revise("Q?", "D", [("C?", "A", "inconsistent"), ("E?", "B", "consistent")]),
        reasoning.judge("Q?", "G", "A"),
    )
    assert said == PINNED["reasoning", reasoning.PROMPTS_VERSION]


def test_the_retrieval_prompts_are_those_of_their_version() -> None:
    said = digest(
        retrieval.pointwise("Q?", "P"),
        retrieval.listwise("Q?", ["P", "S"]),
    )
    assert said == PINNED["retrieval", retrieval.PROMPTS_VERSION]
