"""The reasoning tier on the real llama.cpp server and the real small model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from milton_assets.tiers.reasoning import ReasoningPlan, load_goldens, measure_reasoning
from milton_assets.tiers.reasoning.judge import JudgeRefused, ModelPin, qualify
from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.server import RunningServer
from resources.answer_cache import CachedChatModel, CacheKey
from resources.servers.client import OpenAIChatModel
from resources.servers.llama_cpp import LlamaCppLauncher
from tests.support.reasoning_player import Player, Prompt

pytestmark = [pytest.mark.slow, pytest.mark.real_model]

PLAN = ReasoningPlan.smoke().model_copy(update={"cases_per_kind": 1, "concurrency": 2, "answer_tokens": 24})


@pytest.fixture(scope="module")
def served(small_gguf: Path) -> Iterator[RunningServer]:
    # One thread leaves a core to whatever else runs; the figures asserted here do not depend on speed.
    with LlamaCppLauncher(slots=2, context_tokens=1024, threads=1).serve(small_gguf, "v1") as found:
        yield found


def never(prompt: Prompt) -> str:
    raise AssertionError(f"asked again: {prompt.text}")


def test_every_case_is_answered_and_the_second_evaluation_costs_nothing(
    served: RunningServer, small_gguf: Path, tmp_path: Path
) -> None:
    key = CacheKey.of(sha256_file(small_gguf), served.fingerprint)
    assert key is not None
    with OpenAIChatModel(served.endpoint, 120) as model:
        first = measure_reasoning(CachedChatModel(model, tmp_path, key), load_goldens(), PLAN)
    silent_model = Player(answer=never, plan=never, cross_check=never, revise=never)
    second = measure_reasoning(CachedChatModel(silent_model, tmp_path, key), load_goldens(), PLAN)
    passed = first.metric("cove_pass_rate")
    assert (passed.n, passed.errors, passed.valid) == (6, 0, True)
    assert set(first.samples.error_kind.dropna()) == set()
    assert all(first.samples.completion_tokens > 0)
    assert second.metrics == first.metrics
    assert list(second.samples.final) == list(first.samples.final)


def test_so_small_a_model_is_refused_as_a_judge(served: RunningServer) -> None:
    with OpenAIChatModel(served.endpoint, 120) as model, pytest.raises(JudgeRefused):
        qualify(model, ModelPin(model="v1"), load_goldens().judge_pairs, [ModelPin(model="v2")])
