"""Measuring the noise between campaigns from evidence that lies in a store."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.tier import TierResult
from resources.evidence_store import EvidenceStore

BENCH = Path(__file__).resolve().parents[2] / "benches" / "selection" / "measured_noise.py"


def measure(store: EvidenceStore, version: str, weights: str, ttft_ms: float, rate: float, load: int = 1) -> None:
    metrics = (
        Metric.measured("ttft_ms.median", "ms", ttft_ms, n=40),
        Metric.measured("output_tokens_per_s", "tokens/s", rate, n=40),
    )
    result = TierResult("inference", metrics, provenance={"load": {"concurrency": load}})
    store.write("inference_metrics", version, result.to_table(version, weights * 64), "run")


def asked(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCH), "--evidence", str(root)], capture_output=True, text=True, check=False
    )


def test_the_noise_is_that_of_the_same_weights_measured_in_the_same_way(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path)
    for version, factor in (("a", 1.0), ("a", 1.1), ("again", 1.21)):
        measure(store, version, "1", 100 * factor, 50)
    measure(store, "other", "2", 500, 5)
    measure(store, "a", "1", 900, 9, load=8)
    found = asked(tmp_path)
    # The logarithms are 0.0953 apart, so that is their standard deviation.
    assert "ttft_ms.median: noise 0.0953 (95 % sure to be below 0.42" in found.stdout
    assert "from 3 campaigns in 1 groups" in found.stdout
    assert "output_tokens_per_s: noise 0.0000" in found.stdout
    assert found.returncode == 0


def test_without_a_second_campaign_nothing_is_known(tmp_path: Path) -> None:
    measure(EvidenceStore(tmp_path), "a", "1", 100, 50)
    found = asked(tmp_path)
    assert found.returncode == 1
    assert "no weights were measured twice" in found.stdout


def ranked_and_asked(
    store: EvidenceStore, version: str, weights: str, ndcg: Sequence[float], right: Sequence[bool]
) -> None:
    queries = pd.DataFrame({"query_id": [f"q{n}" for n in range(len(ndcg))], "nDCG@10": ndcg})
    cases = pd.DataFrame({"part": "cove", "case_id": [f"c{n}" for n in range(len(right))], "final_right": right})
    for tier, samples in (("retrieval", queries), ("reasoning", cases)):
        result = TierResult(tier, (), samples, {"plan": {"seed": 0}})
        store.write(f"{tier}_metrics", version, result.to_table(version, weights * 64), "run")


def test_what_the_simulation_assumes_stands_beside_what_was_measured(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path)
    ranked_and_asked(store, "a", "1", [0.2, 0.4, 0.6, 0.8], [True, True, False, False])
    ranked_and_asked(store, "b", "2", [0.4, 0.2, 0.8, 0.6], [True, False, False, True])
    found = asked(tmp_path).stdout
    # The differences are .2 four times, half of them the other way.
    assert "nDCG@10 of two models on a query differs by: 0.23 to 0.23 (1 pairs); 0.19" in found
    assert "two models that pass 0.50 and 0.50 of 4 cases differ on 0.50 of them; 0.25" in found
