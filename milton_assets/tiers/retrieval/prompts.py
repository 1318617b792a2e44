"""Every prompt of the retrieval tier, and their version.

What belongs here: the wording, and nothing that is not wording. What does not: sending or parsing.

The question comes before the passage, so that a model reads the passage knowing what is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from milton_assets.vocabulary.chat import Message

PROMPTS_VERSION = "1"

POINTWISE_TASK = "You decide whether a passage answers a question. Reply with one word, Yes or No."
POINTWISE_PAIR = "Question: {question}\n\nPassage: {passage}\n\nDoes the passage answer the question? Yes or No?"

LISTWISE_TASK = (
    "You put passages in order by how well they answer a question, the best first. Reply with the passages' "
    "numbers only, every number exactly once, in the form [2] > [3] > [1]."
)
LISTWISE_PASSAGE = "[{number}] {passage}"
LISTWISE_WINDOW = (
    "Question: {question}\n\n{passages}\n\nOrder all {count} passages by how well they answer the question: {question}"
)


def pointwise(question: str, passage: str) -> tuple[Message, ...]:
    """The conversation that asks about one pair."""
    return (
        Message("system", POINTWISE_TASK),
        Message("user", POINTWISE_PAIR.format(question=question, passage=passage)),
    )


def listwise(question: str, passages: Sequence[str]) -> tuple[Message, ...]:
    """The conversation that asks for an order of `passages`, numbered from 1."""
    numbered = "\n\n".join(LISTWISE_PASSAGE.format(number=n, passage=p) for n, p in enumerate(passages, start=1))
    asked = LISTWISE_WINDOW.format(question=question, passages=numbered, count=len(passages))
    return Message("system", LISTWISE_TASK), Message("user", asked)


def passage_of(text: str, max_words: int) -> str:
    """The first `max_words` words of `text`, one space apart."""
    return " ".join(text.split()[:max_words])
