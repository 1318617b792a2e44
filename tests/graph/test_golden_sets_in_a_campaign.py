"""A campaign on several golden sets of one's own: joined, copied by digest, and traced against the copies later."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from milton_assets.edge.bundle.keys import init_keys
from milton_assets.selection.summary import read_summary
from milton_assets.usecases.trace import Records, trace
from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.golden_set import golden_digests, read_all_goldens, read_goldens
from resources.evidence_store import EvidenceStore
from resources.registries import open_registry
from tests.support.targets import targets_of
from tests.support.tiers import TIERS
from tests.support.workplace import competent, failure_of, workplace

RUN = "benchmark_20260101_000000"
ASKED = {"What barks?": "a dog", "What purrs?": "a cat", "What neighs?": "a horse", "What bleats?": "a sheep"}


@dataclass(frozen=True)
class Own:
    path: Path
    private: bool = False


def questions(path: Path, asked: dict[str, str]) -> Path:
    path.write_text("".join(json.dumps({"question": q, "answers": [a]}) + "\n" for q, a in asked.items()))
    return path


@pytest.mark.slow
def test_two_sets_are_measured_as_one_and_an_old_decision_is_traced_against_their_copies(tmp_path: Path) -> None:
    pairs = list(ASKED.items())
    sets = [questions(tmp_path / "pets.jsonl", dict(pairs[:2])), questions(tmp_path / "farm.jsonl", dict(pairs[2:]))]
    state = tmp_path / "state"
    state.mkdir()
    (state / "milton.yaml").write_text(yaml.safe_dump({"goldens": {"reasoning": [str(path) for path in sets]}}))
    joined = read_goldens(TIERS["reasoning"], [Own(path) for path in sets])
    with workplace(tmp_path) as wp:
        init_keys(wp.state.keys)
        wp.register("good", competent(joined.value))
        for job, partition in (("benchmark_model", "good"), ("promote", RUN), ("deploy", "local")):
            result = wp.run(job, partition)
            assert result.success, failure_of(result)
        asked = json.dumps(wp.server.requests)
        assert all(question in asked for question in ASKED)
        pinned = read_summary(wp.state.runs, RUN).manifest.goldens
        for path in sets:
            assert pinned[f"reasoning/{path.stem}/{path.name}"] == sha256_file(path)
            assert (wp.state.benchmarks / "goldens" / sha256_file(path)).read_bytes() == path.read_bytes()
        questions(sets[0], {"What hisses?": "a snake"})
        local = targets_of(wp.state).named("local")
        (deployment,) = local.history()

        def todays() -> dict[str, str]:
            return golden_digests(read_all_goldens(TIERS, {"reasoning": [Own(path) for path in sets]}))

        store, registry = EvidenceStore(wp.state.benchmarks), open_registry(None, wp.state)
        records = Records(wp.state, store, wp.instance, todays, {deployment.id: deployment}, registry)
        chain = trace(deployment, local, records)
    assert chain.holds, chain.to_json()
    assert "reasoning/pets/pets.jsonl" in json.dumps(chain.to_json())
