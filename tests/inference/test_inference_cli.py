"""`milton bench inference`, as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.scripted_server import HangUp, Status, answer, scripted_server

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


def test_no_key_of_another_service_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "OPENAI_API_KEY",
        "OPENAI_ADMIN_KEY",
        "ANTHROPIC_API_KEY",
        "HF_TOKEN",
        "VLLM_API_KEY",
        "LLAMA_API_KEY",
    ):
        monkeypatch.setenv(name, "sk-anothers")
    with scripted_server(GOOD) as server:
        bench(server.base_url, "--requests", "2", "--json")
        monkeypatch.setenv("MILTON_API_KEY", "sk-ours")
        unnamed = len(server.exchanges)
        bench(server.base_url, "--requests", "2", "--json")
    keys = [exchange.headers.get("Authorization") for exchange in server.exchanges]
    assert unnamed > 0
    assert (set(keys[:unnamed]), set(keys[unnamed:])) == ({None}, {"Bearer sk-ours"})
    assert not any("sk-anothers" in str(exchange) for exchange in server.exchanges)


def test_what_the_server_said_at_an_error_is_shown_to_people_and_machines() -> None:
    with scripted_server(Status(400, "the prompt has 9 tokens too many")) as server:
        shown = bench(server.base_url, "--requests", "2")
        told = json.loads(bench(server.base_url, "--requests", "2", "--json").stdout)
    assert "http_status: status 400" in shown.stdout
    assert "the prompt has 9 tokens too many" in shown.stdout
    assert "the prompt has 9 tokens too many" in told["error_examples"]["http_status"]


def test_an_open_load_is_measured_from_the_scheduled_instant() -> None:
    with scripted_server(GOOD) as server:
        run = bench(server.base_url, "--requests", "10", "--rate", "50", "--arrivals", "constant", "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["load"] == {"kind": "open", "rate_per_s": 50.0, "arrivals": "constant"}


def test_exactly_as_many_requests_are_made_as_were_asked_for_whatever_the_budget() -> None:
    with scripted_server(answer("a", "b", first_delay_s=0.05)) as server:
        run = bench(server.base_url, "--requests", "8", "--budget", "0.1", "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["requests"] == 8


def test_several_servers_are_measured_in_turn_and_each_has_its_usual_answer(answered: dict[str, Any]) -> None:
    with scripted_server(GOOD, models=["m=1"]) as one, scripted_server(GOOD) as two:
        first, second = f"scripted at {two.base_url}", f"m=1 at {one.base_url}"
        run = bench(two.base_url, "--against", f"m=1={one.base_url}", "--requests", "4", "--json")
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)["servers"]
    assert list(told) == [first, second]
    for answer_of_one in told.values():
        assert set(answer_of_one) == set(answered)
        assert answer_of_one["requests"] == 4
    assert len(one.requests) == len(two.requests) == 6
    assert {body["model"] for body in one.requests} == {"m=1"}


def test_several_servers_are_set_side_by_side_with_their_ratio() -> None:
    slow = answer("one ", "two ", "three", first_delay_s=0.3, delay_s=0.002)
    with scripted_server(GOOD) as one, scripted_server(slow) as two:
        run = bench(one.base_url, "--against", two.base_url, "--requests", "8")
    assert run.returncode == 0, run.stderr
    assert "2 / 1" in run.stdout
    assert f"2: scripted at {two.base_url}" in run.stdout
    assert "apart" in run.stdout.partition("ttft_ms.median")[2].partition("ttfv_ms.median")[0]


def test_one_of_several_servers_that_answers_nothing_is_a_no() -> None:
    with scripted_server(GOOD) as one, scripted_server(HangUp()) as two:
        run = bench(one.base_url, "--against", two.base_url, "--requests", "3", "--json")
    assert run.returncode == 1
    assert [told["success_rate"] for told in json.loads(run.stdout)["servers"].values()] == [1.0, 0.0]


def test_people_get_a_table_and_progress_on_standard_error() -> None:
    with scripted_server(GOOD) as server:
        run = bench(server.base_url, "--requests", "4")
    assert run.returncode == 0, run.stderr
    assert "ttft" in run.stdout
    assert "output_tokens_per_s" in run.stdout
    assert "4 requests, cold cache; errors: none" in run.stdout
    assert "tokens counted by: usage (the server does not offer its tokenizer)" in run.stdout
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
        ["--sweep", "--against", "http://127.0.0.1:9"],
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
    arguments = ("--capacity", "--slo", "ttft_ms=9000,e2e_ms=0.001", "--rate", "100", "--picture", str(picture))
    with scripted_server(GOOD) as server:
        run = bench(server.base_url, *arguments, "--json")
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["capacity_per_s"]["low"] == 0
    assert told["stop_reason"]
    assert picture.read_bytes().startswith(b"\x89PNG")
