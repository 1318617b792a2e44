"""The timing benchmark itself, with this project's tier alone: it runs and says what it found. Goals are its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_tier_is_measured_against_the_truth_at_every_concurrency(tmp_path: Path) -> None:
    out = tmp_path / "timing.json"
    run = subprocess.run(
        [sys.executable, "benches/timing/bench_timing.py", "--quick", "--only", "milton", "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert run.returncode in {0, 1}, run.stderr
    told = json.loads(out.read_text())
    assert bool(told["missed_goals"]) is (run.returncode == 1)
    assert [cell["concurrency"] for cell in told["cells"]] == [1, 16, 64]
    for cell in told["cells"]:
        for figure in ("ttft_ms", "e2e_ms", "tpot_percent"):
            assert set(cell[figure]) >= {"median", "p99"}
    assert told["many_streams"]["concurrency"] == 128
    assert told["client"]["by_processes"]["1"]["chunks_per_s"] == told["client"]["chunks_per_s"]
    assert told["client"]["memory_is_flat"]
    assert told["client"]["memory_chunks"] == 100_000
