"""The judge and the embedding baseline of a campaign: named by the environment, used by the tiers, and recorded."""

from __future__ import annotations

from typing import Any

import pytest

from milton_assets.settings import load_settings
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.tier import TierResult, asset_of
from resources.campaign import Campaign
from resources.evidence_store import EvidenceStore
from tests.support.reasoning_player import a_judge, handler
from tests.support.scripted_server import Body, Reply, scripted_server
from tests.support.workplace import clueless, competent, failure_of, workplace


def embed(body: dict[str, Any]) -> Reply:
    return Body({"data": [{"index": i, "embedding": [1.0, float(len(t))]} for i, t in enumerate(body["input"])]})


@pytest.mark.slow
def test_the_judge_and_the_embedding_model_are_used_and_recorded_with_their_servers(tmp_path, monkeypatch):
    monkeypatch.setenv("THE_JUDGES_KEY", "theirs")
    with (
        scripted_server(handler(a_judge()), models=["judge"], posts={"/v1/embeddings": embed}) as side,
        workplace(
            tmp_path,
            settings={
                "MILTON_JUDGE_URL": side.base_url,
                "MILTON_JUDGE_MODEL": "judge",
                "MILTON_JUDGE_KEY_ENV": "THE_JUDGES_KEY",
                "MILTON_EMBEDDINGS_URL": side.base_url,
                "MILTON_EMBEDDINGS_MODEL": "vectors",
                "MILTON_RERANK": "listwise",
            },
        ) as wp,
    ):
        wp.register("good", competent())
        result = wp.run("benchmark_model", "good")
        assert result.success, failure_of(result)
        store = EvidenceStore(wp.state.benchmarks)
        reasoning, retrieval = (
            TierResult.from_table(store.latest(asset_of(tier), "good").read()) for tier in ("reasoning", "retrieval")
        )
        keys = {e.headers.get("Authorization") for e in side.exchanges if e.path == "/v1/chat/completions"}
    judge = reasoning.provenance["judge"]
    assert (judge["pin"]["model"], judge["pin"]["base_url"], judge["kappa"]) == ("judge", side.base_url, 1.0)
    assert "build" in judge["pin"]["server"]
    assert keys == {"Bearer theirs"}
    assert retrieval.provenance["embedding"] == {"model": "vectors", "base_url": side.base_url}
    assert retrieval.metric("embedding:nDCG@10").value is not None
    assert retrieval.provenance["plan"]["method"] == "listwise"
    assert "trials of an order failed" in (retrieval.metric("nDCG@10").why or "")


@pytest.mark.slow
def test_a_candidate_may_not_judge(tmp_path):
    with scripted_server(handler(a_judge()), models=["v2"]) as side:
        settings = {"MILTON_JUDGE_URL": side.base_url, "MILTON_JUDGE_MODEL": "v2"}
        with workplace(tmp_path, settings=settings) as wp:
            wp.register("v1", clueless())
            wp.register("v2", clueless(), seed=1)
            assert "the judge v2 is one of the candidates" in failure_of(wp.run("benchmark_model", "v1"))


@pytest.mark.parametrize("which", ["JUDGE", "EMBEDDINGS"])
def test_half_a_side_model_is_refused_where_it_enters(tmp_path, which):
    with pytest.raises(BadInput, match=f"MILTON_{which}_MODEL"):
        load_settings({"MILTON_STATE_DIR": str(tmp_path), f"MILTON_{which}_URL": "http://127.0.0.1:1"})


def test_an_unknown_way_to_rerank_is_refused(tmp_path):
    with pytest.raises(BadInput, match="MILTON_RERANK"):
        load_settings({"MILTON_STATE_DIR": str(tmp_path), "MILTON_RERANK": "guess"})


def test_a_key_that_is_not_there_is_missed_before_anything_is_asked(tmp_path):
    campaign = Campaign(
        state_root=str(tmp_path), judge_url="http://h:1", judge_model="j", judge_key_env="NO_SUCH_VARIABLE"
    )
    with pytest.raises(BadInput, match="NO_SUCH_VARIABLE is empty"):
        _ = campaign.judge
