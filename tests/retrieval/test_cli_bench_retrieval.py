"""`milton bench retrieval` as a user meets it: a subprocess against a server on a socket."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.retrieval_models import write_beir
from tests.support.scripted_server import Body, Reply, Status, answer, scripted_server

EXIT_NO = 1
EXIT_USAGE = 2


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_beir(
        tmp_path / "lamps",
        {"d1": "The lamp burns oil.", "d2": "The lamp is green.", "d3": "Oil floats."},
        {"q1": "What does the lamp burn?", "q2": "Which colour has the lamp?", "q3": "Who made the lamp?"},
        {"test": {"q1": {"d1": 3, "d2": 0}, "q2": {"d2": 3}, "q3": {"d1": 0, "d2": 0}}},
    )


def yes_to_oil(body: dict[str, Any]) -> Reply:
    question, _, passage = str(body["messages"][-1]["content"]).partition("Passage:")
    share = 0.9 if ("burn" in question) == ("oil" in passage) else 0.2
    return answer("Yes", top_logprobs={"Yes": math.log(share), "No": math.log(1 - share)}, finish_reason="length")


def milton(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = "from milton_assets.cli.app import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, "bench", "retrieval", *arguments], capture_output=True, text=True, timeout=120
    )


def test_json_holds_metrics_queries_and_provenance(dataset: Path) -> None:
    with scripted_server(yes_to_oil) as server:
        done = milton("--base-url", server.base_url, "--model", "scripted", "--dataset", str(dataset), "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    figures = {metric["name"]: metric["value"] for metric in said["metrics"]}
    assert figures["nDCG@10"] == 1.0
    assert figures["call_failure_rate"] == 0.0
    assert [row["query_id"] for row in said["samples"]] == ["q1", "q2", "q3"]
    assert said["samples"][0]["ranking"][0] == "d1"
    assert said["samples"][2]["nDCG@10"] is None
    assert said["provenance"]["dataset"] == "lamps"
    assert said["provenance"]["plan"]["concurrency"] == 1


def test_people_get_a_table_and_progress_on_the_other_stream(dataset: Path) -> None:
    with scripted_server(yes_to_oil) as server:
        done = milton("--base-url", server.base_url, "--model", "scripted", "--dataset", str(dataset))
    assert "nDCG@10" in done.stdout
    assert "bm25:nDCG@10" in done.stdout
    assert "retrieval 3/3" in done.stderr


def test_what_the_server_said_at_an_error_is_shown_to_people_and_machines(dataset: Path) -> None:
    with scripted_server(Status(400, "logprobs are switched off")) as server:
        where = ("--base-url", server.base_url, "--model", "scripted", "--dataset", str(dataset))
        shown, told = milton(*where), json.loads(milton(*where, "--json").stdout)
    assert "answered 400" in shown.stdout
    assert "logprobs are switched off" in shown.stdout
    assert "logprobs are switched off" in told["provenance"]["error_examples"]["http_status"]
    assert not told["provenance"]["error_examples"]["http_status"].startswith("http_status")


def test_the_options_reach_the_plan(dataset: Path) -> None:
    options = ("--limit", "2", "--concurrency", "2", "--pool-size", "1", "--json")
    with scripted_server(yes_to_oil) as server:
        done = milton("--base-url", server.base_url, "--model", "scripted", "--dataset", str(dataset), *options)
        calls = len(server.requests)
    plan = json.loads(done.stdout)["provenance"]["plan"]
    assert (plan["max_queries"], plan["concurrency"], plan["pool_size"]) == (2, 2, 1)
    assert calls == 2


def test_an_embedding_model_adds_its_baselines(dataset: Path) -> None:
    def embed(body: dict[str, Any]) -> Reply:
        vectors = [[1.0, float("oil" in text)] for text in body["input"]]
        return Body({"data": [{"index": i, "embedding": vector} for i, vector in enumerate(vectors)]})

    with scripted_server(yes_to_oil) as server, scripted_server(posts={"/v1/embeddings": embed}) as embedding:
        options = ("--embedding-model", "e", "--embedding-url", embedding.base_url, "--json")
        done = milton("--base-url", server.base_url, "--model", "scripted", "--dataset", str(dataset), *options)
    statuses = {metric["name"]: metric["status"] for metric in json.loads(done.stdout)["metrics"]}
    assert statuses["embedding:nDCG@10"] == statuses["hybrid:nDCG@10"] == "ok"


def test_the_key_of_the_model_is_not_sent_to_the_embedding_server(dataset: Path) -> None:
    def embed(body: dict[str, Any]) -> Reply:
        return Body({"data": [{"index": i, "embedding": [1.0, 0.5]} for i in range(len(body["input"]))]})

    with scripted_server(yes_to_oil) as server, scripted_server(posts={"/v1/embeddings": embed}) as embedding:
        options = ("--embedding-model", "e", "--embedding-url", embedding.base_url, "--api-key", "secret")
        asked = ("--base-url", server.base_url, "--model", "scripted", "--dataset", str(dataset), *options)
        assert milton(*asked).returncode == 0
        assert milton(*asked, "--embedding-api-key", "theirs").returncode == 0
    assert {exchange.headers.get("Authorization") for exchange in server.exchanges} == {"Bearer secret"}
    assert {exchange.headers.get("Authorization") for exchange in embedding.exchanges} == {None, "Bearer theirs"}


def test_an_embedding_server_without_a_model_is_a_usage_error() -> None:
    done = milton("--base-url", "http://127.0.0.1:9", "--model", "m", "--embedding-url", "http://127.0.0.1:9")
    assert done.returncode == EXIT_USAGE
    assert "--embedding-model" in done.stderr


def test_the_shipped_collection_is_the_default() -> None:
    with scripted_server(answer("Yes", top_logprobs={"Yes": -0.1, "No": -3.0})) as server:
        done = milton("--base-url", server.base_url, "--model", "scripted", "--limit", "2", "--json")
    assert json.loads(done.stdout)["provenance"]["dataset"] == "halvane-reach"


def test_a_model_without_a_single_judgement_exits_1_and_says_why(dataset: Path) -> None:
    with scripted_server("Yes") as server:
        done = milton("--base-url", server.base_url, "--model", "scripted", "--dataset", str(dataset))
    assert done.returncode == EXIT_NO
    assert "no_logprobs" in done.stdout


def test_a_server_that_is_not_there_is_one_clear_line() -> None:
    done = milton("--base-url", "http://127.0.0.1:9", "--model", "m")
    assert done.returncode == EXIT_NO
    assert done.stderr.startswith("milton: ")
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_no_data_set_is_one_clear_line(tmp_path: Path) -> None:
    with scripted_server() as server:
        done = milton("--base-url", server.base_url, "--model", "scripted", "--dataset", str(tmp_path))
    assert done.returncode == EXIT_NO
    assert "corpus.jsonl is missing" in done.stderr


def test_an_unknown_method_is_a_usage_error() -> None:
    done = milton("--base-url", "http://127.0.0.1:9", "--model", "m", "--method", "guess")
    assert done.returncode == EXIT_USAGE
    assert "pointwise" in done.stderr


def test_help_shows_an_example() -> None:
    assert "Example: milton bench retrieval" in " ".join(milton("--help").stdout.split())
