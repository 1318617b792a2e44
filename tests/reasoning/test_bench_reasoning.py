"""`milton bench reasoning`, as a command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from milton_assets.cli import bench
from milton_assets.tiers.reasoning import METRICS, load_goldens
from milton_assets.tiers.reasoning.judge import JudgeRefused
from milton_assets.vocabulary.errors import BadInput, MiltonError, ServerFailed
from tests.support.calculating import calculating
from tests.support.reasoning_player import Player, a_judge, handler, honest
from tests.support.scripted_server import Status, scripted_server
from tests.support.tiers import TIERS

HONEST = handler(calculating(load_goldens(), honest(load_goldens().cases)))

MILTON = Path(sys.executable).with_name("milton")


def an_app() -> typer.Typer:
    app = typer.Typer()

    @app.callback()
    def root() -> None:
        """Makes `reasoning` a verb of its own."""

    app.command("reasoning")(bench.verb_of(TIERS["reasoning"]))
    return app


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(an_app(), ["reasoning", *arguments])
    if isinstance(result.exception, MiltonError):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_json_holds_every_metric_and_a_row_per_case() -> None:
    with scripted_server(HONEST) as server:
        code, out, err = run("--base-url", server.base_url, "--model", "scripted", "--smoke", "--json")
    payload = json.loads(out)
    assert code == 0
    assert [m["name"] for m in payload["metrics"]] == [name for name, _ in METRICS]
    assert len([row for row in payload["samples"] if row["part"] == "cove"]) == 30
    assert "204/204" in err


def test_the_table_shows_values_intervals_and_statuses() -> None:
    with scripted_server(HONEST) as server:
        code, out, _ = run("--base-url", server.base_url, "--model", "scripted", "--limit", "1", "--concurrency", "4")
    assert code == 0
    assert re.search(r"cove_pass_rate.*\b1\b.*\[0\.\d\d, 1\.00\].*\b6\b", out)
    assert re.search(r"accuracy.other.*skipped", out)
    assert "accuracy.other: the set has no case of this kind" in out


def test_a_dataset_of_ones_own_is_asked_instead(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"question": "What barks?", "answers": ["a dog", "dogs"]}\n')
    with scripted_server("A dog.") as server:
        code, out, _ = run("--base-url", server.base_url, "--model", "scripted", "--dataset", str(file), "--json")
    payload = json.loads(out)
    assert code == 0
    assert payload["metrics"][0]["value"] == 1.0
    assert list(payload["provenance"]["goldens"]) == ["mine/mine.jsonl"]


def test_a_missing_dataset_is_a_usage_error() -> None:
    code, _, err = run("--base-url", "http://127.0.0.1:1", "--model", "m", "--dataset", "/nowhere.jsonl")
    assert code == 2
    assert "does not exist" in err


def test_an_address_that_is_none_is_said_to_be_none() -> None:
    with pytest.raises(BadInput, match="is no server address"):
        run("--base-url", "localhost", "--model", "m")


def test_a_server_that_is_not_there_is_said_to_be_not_there() -> None:
    with pytest.raises(ServerFailed, match=r"127\.0\.0\.1:9"):
        run("--base-url", "http://127.0.0.1:9", "--model", "m")


def test_a_server_that_fails_every_call_gives_no_figure_and_exits_1() -> None:
    with scripted_server(Status(500)) as server:
        code, out, _ = run("--base-url", server.base_url, "--model", "scripted", "--limit", "1", "--json")
    first = json.loads(out)["metrics"][0]
    assert code == 1
    assert (first["status"], first["value"], first["errors"], first["n"]) == ("error", None, 6, 6)
    assert "http_status" in first["why"]


def test_as_many_cases_are_asked_at_once_as_the_server_has_slots_and_the_server_is_described() -> None:
    listed = {"object": "list", "data": [{"id": "scripted", "object": "model", "owned_by": "llamacpp"}]}
    with scripted_server(HONEST, pages={"/v1/models": listed, "/props": {"total_slots": 3}}) as server:
        code, out, _ = run("--base-url", server.base_url, "--model", "scripted", "--limit", "1", "--json")
    payload = json.loads(out)
    assert code == 0
    assert payload["provenance"]["plan"]["concurrency"] == payload["server"]["slots"] == 3
    assert payload["server"]["name"] == "llama.cpp"
    assert all(request["cache_prompt"] is False for request in server.requests)


def test_a_judge_has_to_prove_itself_first() -> None:
    judge = Player(judge=lambda prompt: '{"verdict": "correct"}')
    with scripted_server(HONEST) as server, scripted_server(handler(judge), models=["judge"]) as second:
        judged_by = ["--judge-base-url", second.base_url, "--judge-model", "judge"]
        with pytest.raises(JudgeRefused, match="got a probe wrong"):
            run("--base-url", server.base_url, "--model", "scripted", "--limit", "1", *judged_by)
        assert not server.requests


def test_a_qualified_judge_is_named_in_the_provenance() -> None:
    with scripted_server(HONEST) as server, scripted_server(handler(a_judge()), models=["judge"]) as second:
        judged_by = ["--judge-base-url", second.base_url, "--judge-model", "judge"]
        code, out, _ = run("--base-url", server.base_url, "--model", "scripted", "--limit", "1", "--json", *judged_by)
    assert code == 0
    assert json.loads(out)["provenance"]["judge"]["kappa"] == 1.0


def test_the_server_under_test_may_not_judge_itself() -> None:
    names = ("scripted", "another-name")
    with scripted_server(HONEST, models=names) as server, pytest.raises(JudgeRefused, match="is one of the candidates"):
        run(
            *("--base-url", server.base_url, "--model", "scripted"),
            *("--judge-base-url", server.base_url.replace("127.0.0.1", "localhost"), "--judge-model", "another-name"),
        )


def test_the_key_of_the_model_is_not_sent_to_the_judge() -> None:
    with scripted_server(HONEST) as server, scripted_server(handler(a_judge()), models=["judge"]) as second:
        judged_by = ["--judge-base-url", second.base_url, "--judge-model", "judge"]
        asked = ["--base-url", server.base_url, "--model", "scripted", "--limit", "1", "--api-key", "secret"]
        run(*asked, *judged_by)
        run(*asked, *judged_by, "--judge-api-key", "theirs")
    assert {exchange.headers.get("Authorization") for exchange in server.exchanges} == {"Bearer secret"}
    assert {exchange.headers.get("Authorization") for exchange in second.exchanges} == {None, "Bearer theirs"}


def test_half_a_judge_is_a_usage_error() -> None:
    code, _, err = run("--base-url", "http://127.0.0.1:1", "--model", "m", "--judge-model", "j")
    assert code == 2
    assert "go together" in err


@pytest.mark.slow
def test_the_installed_command_runs_it(tmp_path: Path) -> None:
    with scripted_server(HONEST) as server:
        done = subprocess.run(
            [
                MILTON,
                "bench",
                "reasoning",
                "--base-url",
                server.base_url,
                "--model",
                "scripted",
                "--limit",
                "1",
                "--json",
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=tmp_path,
        )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tier"] == "reasoning"
