"""What many conversations begin with is read once, and the order in which they are asked changes no answer.

The server here keeps the last prompt as llama.cpp does, character by character, and remembers of each in which piece it
was read: its answers tell these pieces, so they change as soon as a kept character was read in another piece.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milton_assets.vocabulary.chat import Message, ModelCallFailed, Sampling
from milton_assets.vocabulary.server import Endpoint
from resources.servers.client import OpenAIChatModel
from resources.servers.openings import FILLER
from resources.servers.repeatable import Asking
from tests.support.scripted_server import Reply, ScriptedServer, Status, answer, scripted_server

EXAMPLES = (
    Message("system", "Say whether the draft agrees with the fact."),
    Message("user", "Draft: a whale is a fish. Fact: whales breathe air, and they suckle their young."),
    Message("assistant", "INCONSISTENT"),
    Message("user", "Draft: a bat is a mammal. Fact: bats are the only mammals that fly."),
    Message("assistant", "CONSISTENT"),
)
OTHERS = (Message("system", "Plan."), Message("user", "Draft: a bat is a bird."), Message("assistant", "Has it wings?"))
TEXTS = ("Draft: ice is hot.", "Draft: ice floats.", "Draft: salt is sweet. Fact: it is not.", "", "A", "Draft: ice")
OURS = Asking({"cache_prompt": False}, {"cache_prompt": True})


def conversation(text: str, opening: Sequence[Message] = EXAMPLES) -> tuple[Message, ...]:
    return (*opening, Message("user", text))


@dataclass
class Keeping:
    """A server of one slot. `counts` is whether it tells what it had kept; `keeps` cuts what it can go on from."""

    counts: bool = True
    keeps: Callable[[int], int] = lambda shared: shared
    kept: list[tuple[str, tuple[int, int]]] = field(default_factory=list)
    read: int = 0

    def __call__(self, body: dict[str, Any]) -> Reply:
        prompt = "".join(f"<{turn['role']}>{turn['content']}</>" for turn in body["messages"]) + "<assistant>"
        shared = 0
        if body["cache_prompt"]:
            pairs = zip(self.kept, prompt[:-1], strict=False)
            shared = self.keeps(next((n for n, (old, new) in enumerate(pairs) if old[0] != new), len(prompt) - 1))
            shared = min(shared, len(self.kept))
        self.kept = self.kept[:shared] + [(character, (shared, len(prompt))) for character in prompt[shared:]]
        self.read += len(prompt) - shared
        told = hashlib.sha256(repr(self.kept).encode()).hexdigest()
        return answer(told, prompt_tokens=len(prompt), cached_tokens=shared if self.counts else None)


@contextmanager
def asked(server: Callable[[dict[str, Any]], Reply]) -> Iterator[tuple[ScriptedServer, Callable[..., str]]]:
    with scripted_server(server) as at, OpenAIChatModel(Endpoint(at.base_url, "scripted"), 5, asking=OURS) as model:
        yield at, lambda messages: model.complete(messages, Sampling(max_tokens=4)).text


@settings(max_examples=40, deadline=None)
@given(
    st.permutations(
        [
            *(conversation(text) for text in TEXTS),
            *(conversation(text, OTHERS) for text in TEXTS[:3]),
            (Message("user", "Who are you?"),),
        ]
    )
)
def test_the_order_changes_no_answer(order: Sequence[tuple[Message, ...]]) -> None:
    with asked(Keeping()) as (_, ask):
        found = {messages: ask(messages) for messages in order}
    with asked(Keeping()) as (_, ask):
        assert found == {messages: ask(messages) for messages in sorted(order, key=repr)}


def test_the_opening_is_read_once() -> None:
    with asked(server := Keeping()) as (_, ask):
        for text in TEXTS:
            ask(conversation(text))
        first = server.read
        for text in TEXTS:
            ask(conversation(text + " Fact: so it is."))
    opening = sum(len(turn.content) for turn in EXAMPLES)
    assert server.read - first < len(TEXTS) * opening


def test_an_instruction_alone_is_not_worth_a_request() -> None:
    with asked(Keeping()) as (at, ask):
        ask((Message("system", "Be short."), Message("user", "Who?")))
    assert [request["cache_prompt"] for request in at.requests] == [False]


@pytest.mark.parametrize(
    "server",
    [Keeping(counts=False), Keeping(keeps=lambda shared: 0), Keeping(keeps=lambda shared: shared // 64 * 64)],
    ids=["does not count", "keeps nothing", "keeps whole blocks"],
)
def test_the_order_changes_no_answer_of_a_server_that_keeps_otherwise(server: Keeping) -> None:
    with asked(server) as (_, ask):
        found = {text: ask(conversation(text)) for text in TEXTS}
    with asked(replace(server, kept=[], read=0)) as (_, ask):
        assert found == {text: ask(conversation(text)) for text in reversed(TEXTS)}


def test_a_server_that_keeps_nothing_is_asked_from_nothing_from_then_on() -> None:
    with asked(Keeping(keeps=lambda shared: 0)) as (at, ask):
        ask(conversation(TEXTS[0]))
        before = len(at.requests)
        ask(conversation(TEXTS[1]))
    assert [request["cache_prompt"] for request in at.requests[before:]] == [False]


def test_what_somebody_else_asked_meanwhile_changes_no_answer() -> None:
    server = Keeping()
    with asked(server) as (_, ask):
        before = [ask(conversation(text)) for text in TEXTS]
        server.kept = [(character, (0, 1)) for character in "somebody else's prompt"]
        assert [ask(conversation(text)) for text in TEXTS] == before


def test_a_conversation_that_begins_as_the_filler_is_answered_from_nothing() -> None:
    with asked(Keeping()) as (at, ask):
        ask(conversation(f"{FILLER} and more"))
    assert [request["cache_prompt"] for request in at.requests] == [False]


def test_a_refusal_of_the_opening_is_the_calls_own_failure() -> None:
    with asked(lambda body: Status(400, "too long")) as (_, ask), pytest.raises(ModelCallFailed, match="too long"):
        ask(conversation(TEXTS[0]))
