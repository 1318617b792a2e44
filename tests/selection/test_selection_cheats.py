"""Models that cheat, measured by the quality tiers and decided on beside an honest, modest and slow model.

Each cheat is given excellent speed. Under absolute anchors it must be refused, or come last.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decide import decide
from milton_assets.selection.decision import Decision, Standing, Verdict
from milton_assets.selection.policy_file import load_policy
from milton_assets.tiers import reasoning, retrieval
from milton_assets.tiers.reasoning import ReasoningPlan, measure_reasoning
from milton_assets.tiers.retrieval import Method, RetrievalPlan, measure_retrieval
from milton_assets.vocabulary.chat import ChatModel, Completion, Message, Sampling
from milton_assets.vocabulary.tier import TierResult
from tests.support.reasoning_player import Player, Prompt, honest
from tests.support.retrieval_models import FunctionModel, knowing, yes_with
from tests.support.selection import RUN_ID, manifest, metric
from tests.support.tiers import TIERS

CASES, COLLECTION = reasoning.load_goldens(), retrieval.load_goldens()
THINKING = ReasoningPlan(questions=1, seeded_per_kind=0)
POINTWISE = RetrievalPlan(resamples=200)
LISTWISE = POINTWISE.model_copy(update={"method": Method.LISTWISE})
POLICY = load_policy("anchored")


@dataclass
class Cheat:
    """How a model behaves in the two tiers, and how its rankings are asked for."""

    thinks: ChatModel
    ranks: ChatModel
    plan: RetrievalPlan = field(default=POINTWISE)


@dataclass
class Saying:
    """A model that answers every prompt with a function of its last message."""

    text: Callable[[str], str]
    finish_reason: str = "stop"

    def complete(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        *,
        top_logprobs: int = 0,
        json_schema: Mapping[str, Any] | None = None,
    ) -> Completion:
        return Completion(self.text(messages[-1].content), self.finish_reason, 50, 5)


def constant(text: str, finish_reason: str = "stop") -> Cheat:
    return of_text(lambda message: text, finish_reason=finish_reason)


def of_text(text: Callable[[str], str], plan: RetrievalPlan = POINTWISE, finish_reason: str = "stop") -> Cheat:
    model = Saying(text, finish_reason)
    return Cheat(model, model, plan)


def numbers(message: str) -> list[int]:
    return [int(number) for number in re.findall(r"^\[(\d+)\] ", message, flags=re.MULTILINE)] or [1, 2, 3]


def order(found: Sequence[int]) -> str:
    return " > ".join(f"[{number}]" for number in found)


def always(verdict: str) -> Player:
    return Player(cross_check=lambda prompt: verdict)


def dawdling() -> Player:
    """Knows every answer, and takes its time only where verification is not timed as speed."""
    player = honest(CASES.cases, wrong_every=10_000)
    asked = {case.question for case in CASES.cases}

    def complete(messages: Sequence[Message], sampling: Sampling, **options: Any) -> Completion:
        done = Player.complete(player, messages, sampling, **options)
        baseline = any(messages[-1].content.endswith(f"Question: {question}") for question in asked)
        return Completion(done.text, "stop", 9, 9, (), 0.01 if baseline else 10.0)

    player.complete = complete  # type: ignore[method-assign]
    return player


def question_in(message: str) -> str:
    found = re.search(r"^Question: (.*)$", message, flags=re.MULTILINE)
    return found.group(1) if found else message


CHEATS: dict[str, Callable[[], Cheat]] = {
    "always-yes": lambda: Cheat(Saying(lambda _: "Yes."), FunctionModel(lambda _: yes_with(0.99))),
    "always-no": lambda: Cheat(Saying(lambda _: "No."), FunctionModel(lambda _: yes_with(0.01))),
    "flags-everything": lambda: Cheat(always("INCONSISTENT"), FunctionModel(lambda _: yes_with(0.5))),
    "flags-nothing": lambda: Cheat(always("CONSISTENT"), FunctionModel(lambda _: yes_with(0.5))),
    "echoes-the-order": lambda: of_text(lambda message: order(numbers(message)), LISTWISE),
    "echoes-the-question": lambda: of_text(question_in),
    "unknown-ids": lambda: of_text(lambda message: order([n + 100 for n in numbers(message)]), LISTWISE),
    "repeats-one-id": lambda: of_text(lambda message: order([1] * len(numbers(message))), LISTWISE),
    "empty": lambda: constant(""),
    "rambles": lambda: constant("Let me think about that. " * 20, "length"),
    "leaks-the-prompt": lambda: of_text(lambda message: message),
    "slow-to-verify": lambda: Cheat(dawdling(), FunctionModel(judging(COLLECTION))),
}


def judging(goldens: retrieval.RetrievalGoldens, *, doubt: float = 0.0) -> Callable[[str], Completion]:
    """Knows the judgements; with `doubt`, misjudges that share of the pairs, the same ones every time."""
    grade = knowing(goldens)

    def judge(message: str) -> Completion:
        share = grade(message)
        mistaken = sum(message.encode()) % 100 < 100 * doubt
        return yes_with(0.1 + 0.8 * (1 - share if mistaken else share))

    return judge


def candidate(version: str, cheat: Cheat, *, ttft_ms: float, tokens_per_s: float) -> Candidate:
    speed = TierResult(
        "inference",
        (
            metric("ttft_ms.median", "ms", (ttft_ms, ttft_ms * 0.98, ttft_ms * 1.02)),
            metric("output_tokens_per_s", "tokens/s", (tokens_per_s, tokens_per_s * 0.98, tokens_per_s * 1.02)),
        ),
    )
    thought = measure_reasoning(cheat.thinks, CASES, THINKING)
    ranked = measure_retrieval(cheat.ranks, COLLECTION, cheat.plan)
    return Candidate(version, {"inference": speed, "reasoning": thought, "retrieval": ranked}, 1000)


@functools.cache
def modest() -> Candidate:
    """Right in 19 of 20 cases and now and then wrong about a passage, on slow hardware."""
    player = honest(CASES.cases, wrong_every=20)
    beyond_it = {case.question: case.wrong[0] for case in CASES.cases[::20]}
    mended = player.revise

    def revise(prompt: Prompt) -> str:
        return beyond_it.get(prompt.question) or mended(prompt)

    player.revise = revise
    cheat = Cheat(player, FunctionModel(judging(COLLECTION, doubt=0.04)))
    return candidate("modest", cheat, ttft_ms=900, tokens_per_s=9)


def decided(*candidates: Candidate) -> Decision:
    return decide(
        run_id=RUN_ID,
        candidates=candidates,
        policy=POLICY,
        manifest=manifest(candidates, POLICY),
        incumbent=None,
        tiers=TIERS,
    )


def test_the_modest_model_is_modest_and_stands_alone() -> None:
    one = modest()
    passed, ranked = one.tiers["reasoning"].metric("cove_pass_rate"), one.tiers["retrieval"].metric("nDCG@10")
    assert passed.value is not None and 0.9 <= passed.value < 1
    assert ranked.value is not None and 0.5 <= ranked.value < 0.68
    assert (decided(one).verdict, decided(one).winner) == (Verdict.PROMOTE, "modest")


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_is_refused_or_comes_last_however_fast_it_is(name: str) -> None:
    cheat = candidate("cheat", CHEATS[name](), ttft_ms=1, tokens_per_s=10_000)
    decision = decided(cheat, modest())
    report = decision.candidate("cheat")
    assert decision.winner == "modest"
    assert report.standing is not Standing.ELIGIBLE or report.rank == len(decision.eligible)
    assert report.why


def test_a_model_that_is_slow_where_nobody_times_it_is_refused_although_it_knows_everything() -> None:
    cheat = candidate("cheat", CHEATS["slow-to-verify"](), ttft_ms=1, tokens_per_s=10_000)
    assert cheat.tiers["reasoning"].metric("cove_pass_rate").value == 1.0
    report = decided(cheat, modest()).candidate("cheat")
    assert report.standing is Standing.NO_EVIDENCE
    assert "times slower than answering" in report.why
