"""`milton results` and `milton decide`: what they print for people and machines, and their exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from milton_assets.cli import results
from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decide import decide
from milton_assets.selection.decision import Decision
from milton_assets.selection.policy_file import load_policy
from milton_assets.selection.summary import BundleRecord, DeploymentRecord, RunSummary, write_summary
from milton_assets.vocabulary.errors import BadInput, EvidenceMismatch
from milton_assets.vocabulary.state import StateDir
from tests.support.selection import RUN_ID, candidate, manifest, store
from tests.support.tiers import BUILT_IN, TIERS


@pytest.fixture
def app() -> typer.Typer:
    verbs = typer.Typer()
    verbs.callback()(lambda: None)
    results.register(verbs)
    return verbs


def write(state: StateDir, *candidates: Candidate, **parts: Any) -> RunSummary:
    pinned = manifest(candidates, sha256_of=store(state.benchmarks, candidates))
    decision = decide(
        run_id=RUN_ID, candidates=candidates, policy=load_policy("seed"), manifest=pinned, incumbent=None, tiers=TIERS
    )
    summary = RunSummary(run_id=RUN_ID, decision=decision, manifest=pinned, **parts)
    write_summary(state.runs, summary)
    return summary


def test_the_latest_run_is_shown_with_where_things_lie_and_what_to_try(app: typer.Typer, state: StateDir) -> None:
    write(
        state,
        candidate("a"),
        bundle=BundleRecord(path="/bundles/b1", name="b1", release_digest="a" * 64),
        deployments=[DeploymentRecord(id="d1", target="local", path="/edge", release="a" * 64)],
    )
    shown = CliRunner().invoke(app, ["results"])
    assert shown.exit_code == 0
    for expected in ("PROMOTE a", "/bundles/b1", "d1 on local: /edge", "milton trace d1"):
        assert expected in shown.stdout


def test_json_is_the_summary_and_nothing_else(app: typer.Typer, state: StateDir) -> None:
    summary = write(state, candidate("a"))
    shown = CliRunner().invoke(app, ["results", RUN_ID, "--json"])
    assert RunSummary.model_validate(json.loads(shown.stdout)) == summary


def test_a_run_that_promoted_nothing_exits_one_and_still_shows_its_card(app: typer.Typer, state: StateDir) -> None:
    write(state, candidate("a", cove=0.1))
    shown = CliRunner().invoke(app, ["results"])
    assert shown.exit_code == 1
    assert "REJECT" in shown.stdout
    assert "nothing was promoted (reject)" in shown.stderr


def test_pictures_are_written_where_asked(app: typer.Typer, state: StateDir, tmp_path: Path) -> None:
    write(state, candidate("a"))
    shown = CliRunner().invoke(app, ["results", "--pictures", str(tmp_path / "pictures"), "--json"])
    assert shown.exit_code == 0
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == ["intervals.png", "pareto.png"]
    assert json.loads(shown.stdout)["run_id"] == RUN_ID


def test_without_any_run_the_error_says_what_to_do(app: typer.Typer, state: StateDir) -> None:
    shown = CliRunner().invoke(app, ["results"])
    assert isinstance(shown.exception, BadInput)
    assert "milton autobench" in str(shown.exception)


def test_deciding_again_repeats_the_recorded_decision_byte_for_byte(app: typer.Typer, state: StateDir) -> None:
    summary = write(state, candidate("a", (20.0, 19.0, 21.0)), candidate("b", (30.0, 29.0, 31.0)))
    shown = CliRunner().invoke(app, ["decide", "--run", RUN_ID, "--policy", "seed", "--json"])
    assert shown.exit_code == 0
    assert shown.stdout == summary.decision.to_json() + "\n"
    assert "byte for byte" in shown.stderr


def test_without_a_policy_the_runs_own_is_taken(app: typer.Typer, state: StateDir) -> None:
    write(state, candidate("a"))
    shown = CliRunner().invoke(app, ["decide", "--run", RUN_ID])
    assert "byte for byte" in shown.stderr
    assert "PROMOTE a" in shown.stdout


def test_a_policy_from_a_file_gives_a_what_if_and_writes_nothing(
    app: typer.Typer, state: StateDir, tmp_path: Path
) -> None:
    write(state, candidate("a", cove=0.95))
    before = sorted(state.root.rglob("*"))
    strict = tmp_path / "harder.yaml"
    policy = load_policy("seed").model_dump(mode="json")
    policy["gates"][0]["threshold"] = 0.99
    strict.write_text(json.dumps(policy))
    shown = CliRunner().invoke(app, ["decide", "--run", RUN_ID, "--policy", str(strict)])
    assert shown.exit_code == 1
    assert "recorded is promote a, this is reject" in shown.stderr
    assert "REJECT" in shown.stdout
    assert sorted(state.root.rglob("*")) == before


def test_a_summary_that_was_edited_does_not_repeat(app: typer.Typer, state: StateDir) -> None:
    summary = write(state, candidate("a"))
    path = state.runs / f"{RUN_ID}.json"
    path.write_text(path.read_text().replace("only eligible candidate", "very best candidate"))
    assert "very best" in path.read_text()
    shown = CliRunner().invoke(app, ["decide", "--run", RUN_ID])
    assert isinstance(shown.exception, EvidenceMismatch)
    assert summary.decision.digest() in str(shown.exception)


def test_evidence_that_was_touched_is_named(app: typer.Typer, state: StateDir) -> None:
    write(state, candidate("a"))
    (state.benchmarks / "inference" / "a.parquet").write_bytes(b"")
    shown = CliRunner().invoke(app, ["decide", "--run", RUN_ID])
    assert isinstance(shown.exception, EvidenceMismatch)
    assert "inference/a.parquet was changed: it is" in str(shown.exception)


def test_deciding_again_reads_the_evidence_where_the_environment_says_it_lies(state: StateDir, tmp_path: Path) -> None:
    summary = write(state, candidate("a"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for folder in BUILT_IN:
        (state.benchmarks / folder).rename(elsewhere / folder)
    command = [sys.executable, "-c", "from milton_assets.cli.app import main; main()", "decide", "--run", RUN_ID]
    lost = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert (lost.returncode, "inference/a.parquet is missing" in lost.stderr) == (1, True)
    state.runs.rename(elsewhere / "runs")
    env = {**os.environ, "MILTON_EVIDENCE_URL": elsewhere.as_uri()}
    found = subprocess.run([*command, "--json"], capture_output=True, text=True, env=env, check=False)
    assert (found.returncode, found.stdout) == (0, summary.decision.to_json() + "\n")


def test_the_command_itself_repeats_a_decision_and_reports_errors_in_a_line(state: StateDir) -> None:
    summary = write(state, candidate("a"))

    def milton(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from milton_assets.cli.app import main; main()", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)

    again = milton("decide", "--run", RUN_ID, "--json")
    assert (again.returncode, again.stdout) == (0, summary.decision.to_json() + "\n")
    assert Decision.from_json(again.stdout) == summary.decision
    unknown = milton("results", "benchmark_20200101_000000")
    assert unknown.returncode == 1
    assert unknown.stderr.startswith("milton: there is no run benchmark_20200101_000000")
    assert "Traceback" not in unknown.stderr
    assert milton("decide").returncode == 2
