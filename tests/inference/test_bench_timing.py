"""The timing benchmark itself, with this project's tier alone: it runs, and the medians keep their goals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GOALS_MS = {1: 0.3, 16: 1.0, 64: 3.0}


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
    assert {
        cell["concurrency"]: abs(cell["ttft_ms"]["median"]) < GOALS_MS[cell["concurrency"]] for cell in told["cells"]
    } == {
        1: True,
        16: True,
        64: True,
    }
    assert told["client"]["memory_is_flat"]
    assert told["client"]["memory_chunks"] == 100_000
