"""A campaign on one attached server that has all its candidates and loads the one that it is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from milton_assets.definitions import build_defs
from milton_assets.vocabulary.tier import TierResult
from resources.evidence_store import EvidenceStore
from tests.support.scripted_server import scripted_server
from tests.support.workplace import competent, failure_of, workplace

pytestmark = pytest.mark.slow
VERSIONS = ("v1", "v2")


def test_candidates_are_measured_one_after_the_other_each_by_its_name(tmp_path):
    think = competent()
    loaded: list[str] = []

    def reply(body: dict[str, Any]) -> Any:
        if loaded[-1:] != [body["model"]]:
            loaded.append(body["model"])
        return "Hello." if body["messages"][-1]["content"] == "Hello" else think(body)

    with workplace(tmp_path) as wp:
        files = {version: wp.register(version, think, seed=seed) for seed, version in enumerate(VERSIONS)}
        pages: dict[str, Any] = {f"/upstream/{name}/props": {"model_path": str(file)} for name, file in files.items()}
        pages["/v1/models"] = {"data": [{"id": name, "owned_by": "llama-swap"} for name in VERSIONS]}
        with scripted_server(reply, pages=pages) as server:
            environment = {
                "MILTON_STATE_DIR": str(wp.state.root),
                "MILTON_PROFILE": "smoke",
                "MILTON_WATCH_MACHINE": "0",
                "MILTON_SERVER": server.base_url,
            }
            on = replace(
                wp,
                defs=build_defs(environment=environment, overrides={"edge_runtime": wp.defs.resources["edge_runtime"]}),
            )
            for version in VERSIONS:
                result = on.run("benchmark_model", version)
                assert result.success, failure_of(result)
        assert loaded == list(VERSIONS)
        for version, file in files.items():
            evidence = EvidenceStore(wp.state.benchmarks).latest("inference_metrics", version)
            told = TierResult.from_table(evidence.read()).provenance["fingerprint"]["server"]
            assert (told["name"], told["model_path"], told["identity"]) == ("llama-swap", str(file), "path")
