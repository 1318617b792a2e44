"""The tier against real weights behind a real llama.cpp server."""

from __future__ import annotations

from pathlib import Path

import pytest

from milton_assets.tiers.retrieval import RetrievalPlan, load_goldens, measure_retrieval
from milton_assets.vocabulary.metric import Status
from resources.servers.client import OpenAIChatModel
from resources.servers.llama_cpp import LlamaCppLauncher
from resources.servers.repeatable import repeatable


@pytest.mark.slow
@pytest.mark.real_model
def test_a_real_small_model_judges_every_pair_and_alike_twice(small_gguf: Path) -> None:
    plan = RetrievalPlan(max_queries=3, pool_size=4)
    goldens = load_goldens()
    with (
        LlamaCppLauncher().serve(small_gguf, "small") as served,
        OpenAIChatModel(served.endpoint, asking=repeatable(served.fingerprint)) as model,
    ):
        first, second = (measure_retrieval(model, goldens, plan) for _ in range(2))
    assert first.metric("nDCG@10").status is Status.OK
    assert first.metric("call_failure_rate").value == 0.0
    scores = [score for row in first.samples["scores"] for score in row]
    assert len(set(scores)) > len(scores) / 2
    assert first.samples["scores"].tolist() == second.samples["scores"].tolist()
    assert first.samples["ranking"].tolist() == second.samples["ranking"].tolist()
