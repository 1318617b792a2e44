"""`milton bench inference`, as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.scripted_server import HangUp, answer, scripted_server

GOOD = answer("one ", "two ", "three", first_delay_s=0.005, delay_s=0.002)
PROGRAM = "from milton_assets.cli.app import main; main()"


def milton(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, "bench", "inference", *arguments], capture_output=True, text=True, timeout=120
    )


def bench(base_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return milton("--base-url", base_url, "--model", "scripted", "--max-tokens", "8", *arguments)


@pytest.fixture(scope="module")
def answered() -> dict[str, Any]:
    with scripted_server(GOOD) as server:
        run = bench(server.base_url, "--requests", "12", "--concurrency", "2", "--slo", "ttft_ms=1000", "--json")
        assert run.returncode == 0, run.stderr
        assert len(server.requests) == 14
        return dict(json.loads(run.stdout))


def test_the_json_has_what_it_promises(answered: dict[str, Any]) -> None:
    assert answered["requests"] == 12
    assert answered["errors"] == {}
    assert answered["definitions_version"]
    assert answered["output_tokens_per_s"] > 0
    assert answered["success_rate"] == 1.0
    assert answered["slo_share"] == 1.0
    assert isinstance(answered["valid"], bool)
    assert bool(answered["invalid_because"]) is not answered["valid"]
    assert answered["fingerprint"]["host"]["logical_cores"] >= 1


@pytest.mark.parametrize("name", ["ttft_ms", "ttfv_ms", "tpot_ms", "itl_ms", "e2e_ms"])
def test_each_distribution_has_its_statistics_and_an_interval(answered: dict[str, Any], name: str) -> None:
    assert set(answered[name]) == {"mean", "median", "std", "p95", "p99", "ci95"}
    low, high = answered[name]["ci95"]
    assert low <= answered[name]["median"] <= high


def test_errors_are_counted_by_kind_and_no_success_at_all_exits_1() -> None:
    with scripted_server(HangUp()) as server:
        run = bench(server.base_url, "--requests", "3", "--json")
    assert run.returncode == 1
    told = json.loads(run.stdout)
    assert told["errors"] == {"cut_short": 3}
    assert told["ttft_ms"]["median"] is None


def test_an_open_load_is_measured_from_the_scheduled_instant() -> None:
    with scripted_server(GOOD) as server:
        run = bench(server.base_url, "--requests", "10", "--rate", "50", "--arrivals", "constant", "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["load"] == {"kind": "open", "rate_per_s": 50.0, "arrivals": "constant"}


def test_people_get_a_table_and_progress_on_standard_error() -> None:
    with scripted_server(GOOD) as server:
        run = bench(server.base_url, "--requests", "4")
    assert run.returncode == 0, run.stderr
    assert "ttft" in run.stdout
    assert "output_tokens_per_s" in run.stdout
    assert "4 requests, cold cache; errors: none" in run.stdout
    assert "inference" in run.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--slo", "ttft_ms"],
        ["--slo", "taste=3"],
        ["--rate", "-1"],
        ["--concurrency", "0"],
        ["--arrivals", "x", "--rate", "1"],
        ["--picture", "latency.gif"],
        ["--capacity"],
        ["--capacity", "--sweep", "--slo", "ttft_ms=1"],
    ],
)
def test_arguments_that_make_no_sense_exit_2(arguments: list[str]) -> None:
    run = bench("http://127.0.0.1:9", *arguments)
    assert run.returncode == 2, run.stderr


def test_a_server_that_serves_another_model_is_refused() -> None:
    with scripted_server(GOOD, models=["other"]) as server:
        run = bench(server.base_url, "--requests", "4")
    assert run.returncode == 1
    assert "other" in run.stderr
    assert not server.requests


def test_a_sweep_reports_every_load_and_draws_it(tmp_path: Path) -> None:
    picture = tmp_path / "sweep.svg"
    with scripted_server(GOOD) as server:
        run = bench(server.base_url, "--requests", "4", "--sweep", "--json", "--picture", str(picture))
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["loads"][0]["load"] == {"kind": "closed", "concurrency": 1}
    assert told["loads"][0]["output_tokens_per_s"]["value"] > 0
    assert told["stop_reason"]
    assert picture.read_bytes().startswith(b"<?xml")


def test_the_capacity_under_an_objective_is_an_interval(tmp_path: Path) -> None:
    picture = tmp_path / "latency.png"
    arguments = ("--requests", "80", "--capacity", "--slo", "e2e_ms=0.001", "--rate", "400", "--picture", str(picture))
    with scripted_server(GOOD) as server:
        run = bench(server.base_url, *arguments, "--json")
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["capacity_per_s"]["low"] == 0
    assert told["stop_reason"]
    assert picture.read_bytes().startswith(b"\x89PNG")
