"""The GPU checks' script where there is no GPU: what can be had small is measured, the rest says why it was not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("gpu-check")
    only = [word for name in ("environment", "memory", "energy", "client", "campaign") for word in ("--only", name)]
    ran = subprocess.run(
        [sys.executable, "benches/gpu/check.py", "--small", "--out", folder / "out.json", *only],
        cwd=ROOT,
        env=os.environ | {"LD_LIBRARY_PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return dict(json.loads((folder / "out.json").read_text()))


def check(report: dict[str, Any], name: str) -> dict[str, Any]:
    return next(dict(one) for one in report["checks"] if one["name"] == name)


def test_the_client_is_held_against_the_truth_without_a_gpu(report: dict[str, Any]) -> None:
    client = check(report, "client")
    assert client["status"] == "ok"
    assert client["found"]["calibration"]["concurrency"] == client["found"]["streams"] == 16
    assert client["found"]["client"]["processes"] == 1
    assert client["found"]["ttft_off_ms"]["median"] <= client["found"]["ttft_off_ms"]["p99"]


def test_what_wants_a_model_says_that_none_was_brought(report: dict[str, Any]) -> None:
    energy = check(report, "energy")
    assert (energy["status"], "--models" in energy["why"]) == ("skipped", True)


@pytest.mark.parametrize("name", ["environment", "memory", "campaign"])
def test_what_wants_a_gpu_says_that_there_is_none(report: dict[str, Any], name: str) -> None:
    if report["machine"]["gpus"]:
        pytest.skip("this machine has a GPU")
    assert check(report, name)["status"] == "skipped"
    assert check(report, name)["why"].startswith("NVML: ")


def test_what_was_skipped_is_counted_and_is_not_ok(report: dict[str, Any]) -> None:
    assert report["counts"]["failed"] == 0
    assert report["counts"]["ok"] == sum(one["status"] == "ok" for one in report["checks"])
    assert report["counts"]["skipped"] >= 1
