"""Models that answer the reasoning tier's prompts as a test says, in process or behind the scripted server.

What belongs here: recognising which step a prompt is of, and players of the steps. What does not: assertions.

    model = Player(answer=lambda question: "Paris")
    with scripted_server(handler(model)) as server: ...
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from milton_assets.tiers.reasoning.cases import GoldenCase
from milton_assets.tiers.reasoning.goldens import load_goldens
from milton_assets.tiers.reasoning.matching import match
from milton_assets.vocabulary.chat import Completion, Message, ModelCallFailed, Sampling
from tests.support.scripted_server import Answer, answer

_FIELD = re.compile(r"^(Question|Draft|Fact(?: \([a-z ]+\))?): (.*)$", re.MULTILINE)
_STEPS = {
    "Answer in one": "answer",
    "Write ": "plan",
    "Compare the draft": "cross_check",
    "Correct the draft": "revise",
    "Question: ": "judge",
}


@dataclass(frozen=True)
class Prompt:
    """A prompt, taken apart: its step, and the fields it holds."""

    step: str
    text: str
    fields: Mapping[str, str]

    @property
    def question(self) -> str:
        return self.fields["Question"]

    @property
    def draft(self) -> str:
        return self.fields["Draft"]

    @property
    def fact(self) -> str:
        return next(value for name, value in self.fields.items() if name.startswith("Fact"))


def read_prompt(messages: Sequence[Message]) -> Prompt:
    """Which step the last message is of. Raises `AssertionError` for a prompt the tier does not send."""
    text = messages[-1].content
    step = next((step for opening, step in _STEPS.items() if text.startswith(opening)), None)
    assert step is not None, text
    return Prompt(step, text, dict(_FIELD.findall(text)))


Play = Callable[[Prompt], str]


@dataclass
class Player:
    """A model in process. Each step has its function; `seen` keeps every prompt in order of arrival."""

    answer: Play = lambda prompt: "I cannot say."
    plan: Play = lambda prompt: "What is known of this matter?"
    cross_check: Play = lambda prompt: "CONSISTENT"
    revise: Play = lambda prompt: prompt.draft
    judge: Play = lambda prompt: '{"verdict": "incorrect"}'
    finish_reason: str = "stop"
    elapsed_s: float | None = None
    seen: list[tuple[Prompt, Sampling]] = field(default_factory=list)

    def complete(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        top_logprobs: int = 0,
        json_schema: Mapping[str, Any] | None = None,
    ) -> Completion:
        prompt = read_prompt(messages)
        self.seen.append((prompt, sampling))
        text = getattr(self, prompt.step)(prompt)
        return Completion(text, self.finish_reason, len(prompt.text) // 4, len(text) // 4, (), self.elapsed_s)


def handler(player: Player) -> Callable[[dict[str, Any]], Answer]:
    """The player as a script for `scripted_server`."""

    def reply(body: dict[str, Any]) -> Answer:
        messages = [Message(m["role"], m["content"]) for m in body["messages"]]
        completion = player.complete(messages, Sampling(body.get("max_tokens", 16)))
        return answer(completion.text, finish_reason=completion.finish_reason, delay_s=0.0)

    return reply


def failing_at(step: str, error: ModelCallFailed, player: Player) -> Player:
    """The player, with every call of one step failing."""

    def fail(_: Prompt) -> str:
        raise error

    setattr(player, step, fail)
    return player


def honest(cases: Sequence[GoldenCase], *, wrong_every: int = 3) -> Player:
    """A model that drafts a wrong answer to every `wrong_every`-th case, and finds and mends it when it verifies.

    Of other questions it knows nothing, and finds nothing wrong with that.
    """
    by_question = {case.question: case for case in cases}
    mistaken = {case.question for case in list(cases)[::wrong_every]}
    ask_again = "Thinking again: "

    def answering(prompt: Prompt) -> str:
        asked = prompt.question
        if asked.startswith(ask_again):
            original = next((q for q in by_question if asked == f"{ask_again}{q.rstrip('?.')}?"), None)
            return "Nothing is known of it." if original is None else by_question[original].answer.shown()
        if asked not in by_question:
            return "Nothing is known of it."
        case = by_question[asked]
        return case.wrong[0] if asked in mistaken else case.answer.shown()

    def checking(prompt: Prompt) -> str:
        case = by_question.get(prompt.question)
        right = case is None or match(prompt.draft, case.answer, question=case.question, rivals=case.wrong).right
        return "CONSISTENT" if right else "INCONSISTENT"

    return Player(
        answer=answering,
        plan=lambda prompt: f"{ask_again}{prompt.question.rstrip('?.')}?",
        cross_check=checking,
        revise=lambda prompt: by_question[prompt.question].answer.shown(),
    )


def a_judge(mistaken_every: int = 0) -> Player:
    """A judge that knows the labels, and contradicts every n-th of them."""
    pairs = load_goldens().judge_pairs
    right = {(pair.question, pair.answer): pair.right for pair in pairs}
    wrong = {(pair.question, pair.answer) for pair in pairs[::mistaken_every]} if mistaken_every else set()

    def judging(prompt: Prompt) -> str:
        given = prompt.text.partition("<<<")[2].removesuffix(">>>")
        key = (prompt.question, given)
        correct = given == "It is blue." if key not in right else right[key] != (key in wrong)
        return '{"verdict": "correct"}' if correct else '{"verdict": "incorrect"}'

    return Player(judge=judging)
