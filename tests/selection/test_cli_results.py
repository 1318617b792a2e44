"""`milton results`: the card, JSON for machines, and the exit codes."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from milton_assets.cli import results
from milton_assets.selection import Candidate, decide, load_policy
from milton_assets.selection.summary import RunSummary, write_summary
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.state import StateDir
from tests.support.selection import RUN_ID, candidate, manifest


@pytest.fixture
def app() -> typer.Typer:
    verbs = typer.Typer()
    verbs.callback()(lambda: None)
    results.register(verbs)
    return verbs


def write(state: StateDir, *candidates: Candidate, **parts: dict[str, str]) -> RunSummary:
    pinned = manifest(candidates)
    decision = decide(run_id=RUN_ID, candidates=candidates, policy=load_policy("seed"), manifest=pinned, incumbent=None)
    summary = RunSummary(run_id=RUN_ID, decision=decision, manifest=pinned, **parts)
    write_summary(state.runs, summary)
    return summary


def test_the_latest_run_is_shown_with_where_things_lie_and_what_to_try(app: typer.Typer, state: StateDir) -> None:
    write(state, candidate("a"), bundle={"path": "/bundles/b1"}, deployment={"id": "d1", "target": "local"})
    shown = CliRunner().invoke(app, ["results"])
    assert shown.exit_code == 0
    for expected in ("PROMOTE a", "Bundle: path /bundles/b1", "id d1", "Next: milton trace d1"):
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
    assert "none was made by this run" in shown.stdout
    assert "nothing was promoted (reject)" in shown.stderr


def test_without_any_run_the_error_says_what_to_do(app: typer.Typer, state: StateDir) -> None:
    shown = CliRunner().invoke(app, ["results"])
    assert isinstance(shown.exception, BadInput)
    assert "make autobench" in str(shown.exception)
