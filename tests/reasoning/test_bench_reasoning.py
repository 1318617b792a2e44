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

from milton_assets.cli import bench_reasoning
from milton_assets.reasoning import METRICS, load_goldens
from milton_assets.reasoning.judge import JudgeRefused
from milton_assets.vocabulary.errors import BadInput, MiltonError
from tests.support.reasoning_player import Player, a_judge, handler, honest
from tests.support.scripted_server import scripted_server

HONEST = handler(honest(load_goldens().cases))

MILTON = Path(sys.executable).with_name("milton")


def an_app() -> typer.Typer:
    app = typer.Typer()

    @app.callback()
    def root() -> None:
        """Makes `reasoning` a verb of its own."""

    bench_reasoning.register(app)
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
    assert len(payload["samples"]) == 30
    assert "150/150" in err


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
    assert list(payload["provenance"]["goldens"]) == ["mine.jsonl"]


def test_a_missing_dataset_is_a_usage_error() -> None:
    code, _, err = run("--base-url", "http://127.0.0.1:1", "--model", "m", "--dataset", "/nowhere.jsonl")
    assert code == 2
    assert "does not exist" in err


def test_an_address_that_is_none_is_said_to_be_none() -> None:
    with pytest.raises(BadInput, match="is no server address"):
        run("--base-url", "localhost", "--model", "m")


def test_a_server_that_is_not_there_scores_zero_with_errors() -> None:
    code, out, _ = run("--base-url", "http://127.0.0.1:9", "--model", "m", "--limit", "1", "--json")
    first = json.loads(out)["metrics"][0]
    assert code == 0
    assert (first["value"], first["errors"], first["n"]) == (0.0, 6, 6)


def test_a_judge_has_to_prove_itself_first() -> None:
    judge = Player(judge=lambda prompt: '{"verdict": "correct"}')
    with scripted_server(HONEST) as server, scripted_server(handler(judge)) as second:
        judged_by = ["--judge-base-url", second.base_url, "--judge-model", "judge"]
        with pytest.raises(JudgeRefused, match="got a probe wrong"):
            run("--base-url", server.base_url, "--model", "scripted", "--limit", "1", *judged_by)
        assert not server.requests


def test_a_qualified_judge_is_named_in_the_provenance() -> None:
    with scripted_server(HONEST) as server, scripted_server(handler(a_judge())) as second:
        judged_by = ["--judge-base-url", second.base_url, "--judge-model", "judge"]
        code, out, _ = run("--base-url", server.base_url, "--model", "scripted", "--limit", "1", "--json", *judged_by)
    assert code == 0
    assert json.loads(out)["provenance"]["judge"]["kappa"] == 1.0


def test_the_server_under_test_may_not_judge_itself() -> None:
    with scripted_server(HONEST) as server, pytest.raises(JudgeRefused, match="is one of the candidates"):
        run(
            *("--base-url", server.base_url, "--model", "scripted"),
            *("--judge-base-url", server.base_url, "--judge-model", "another-name"),
        )


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
