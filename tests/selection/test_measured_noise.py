"""Measuring the noise between campaigns from evidence that lies in a store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
