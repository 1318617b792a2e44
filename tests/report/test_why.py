"""`milton why`, `milton results --list` and `milton trace` without an id: the short answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from milton_assets.selection.summary import read_summary, write_summary
from milton_assets.vocabulary.ledger import Anchor, AnchorTable
from milton_assets.vocabulary.state import StateDir
from tests.support.edge_bundles import make_bundle
from tests.support.reported import case, decided, model
from tests.support.selection import RUN_ID
from tests.support.shell import milton, told
from tests.support.targets import let_serve, targets_of

EARLIER = "benchmark_20260110_000000"


@pytest.fixture
def twice(state: StateDir) -> StateDir:
    """`v1` was chosen and deployed, then `v2`, which stood beside it."""
    local = targets_of(state).named("local")
    let_serve(local, make_bundle(state.bundles, "v1", run_id=EARLIER))
    let_serve(local, make_bundle(state.bundles, "v2", counter=2, run_id=RUN_ID), actor="bea")
    decided(state, [model("v1", [case("c1", right=True)], cove=1.0, ndcg=0.9)], run_id=EARLIER)
    decided(
        state,
        [
            model("v1", [case("c1", right=False)], cove=0.1, latency=(30.0, 29.0, 31.0)),
            model("v2", [case("c1", right=True)], cove=1.0, latency=(10.0, 9.0, 11.0)),
        ],
    )
    return state


def test_why_answers_in_ten_lines(twice: StateDir) -> None:
    lines = milton("why", "local").stdout.splitlines()
    assert len(lines) == 10
    assert "serves v2 since" in lines[0] and "bea" in lines[1]
    assert f"{RUN_ID} under smoke v3: promote" in lines[2]
    assert lines[4].split() == ["before", "it", "v1"]
    assert "10.0 ms [9.00–11.0], before 30.0 ms [29.0–31.0]" in lines[5]
    assert lines[9].split(maxsplit=1) == ["health", "never probed"]


def test_why_names_the_best_that_was_deployed_where_it_is_neither_what_serves_nor_what_did(twice: StateDir) -> None:
    summary = read_summary(twice.runs, RUN_ID)
    table = AnchorTable(how="0" * 64, here="0" * 64, run_id=EARLIER, uri="t.parquet", sha256="1" * 64)
    anchors = tuple(
        Anchor(tier=tier, metric=metric, version=version, artefact_sha256="2" * 64, tables=(table,))
        for tier, metric, version in (("reasoning", "cove_pass_rate", "v0"), ("retrieval", "nDCG@10", "v2"))
    )
    ledger = summary.decision.ledger.model_copy(update={"anchors": anchors})
    decision = summary.decision.model_copy(update={"ledger": ledger})
    write_summary(twice.runs, summary.model_copy(update={"decision": decision}))
    assert told("why")["held_to"] == [f"v0, the best deployed on cove_pass_rate, as {EARLIER} measured it"]


def test_why_says_when_the_deciding_run_is_not_here(twice: StateDir) -> None:
    (twice.runs / f"{RUN_ID}.json").unlink()
    why = told("why")
    assert (why["model_version"], why["verdict"], why["figures"]) == ("v2", None, [])
    assert f"there is no run {RUN_ID}" in why["not_known"][0]


def test_the_model_before_is_read_from_the_run_that_chose_it_when_it_did_not_stand_again(twice: StateDir) -> None:
    alone = decided(twice, [model("v2", [case("c1", right=True)], cove=1.0)])
    write_summary(twice.runs, alone)
    figures = {one["label"]: one for one in told("why")["figures"]}
    assert figures["retrieval"]["before"]["value"] == 0.9


def test_why_of_a_target_that_was_never_deployed_to_says_so(state: StateDir) -> None:
    done = milton("why", "attic")
    assert done.returncode == 1 and "nothing was ever deployed" in done.stderr


def test_results_lists_the_runs(twice: StateDir) -> None:
    (twice.runs / "benchmark_20260109_000000.json").write_text('{"format_version": 2}')
    lines = milton("results", "--list").stdout.splitlines()
    assert "cannot be read" in lines[0] and "version 2, this release reads version 3" in lines[0]
    assert lines[1:] == [f"{EARLIER}  promote v1, 1 candidate", f"{RUN_ID}  promote v2, 2 candidates"]


def test_results_lists_a_leading_incumbent_as_kept(state: StateDir) -> None:
    decided(state, [model("v1", [case("c1", right=True)], cove=1.0)], incumbent="v1")
    assert milton("results", "--list").stdout == f"{RUN_ID}  keep v1, 1 candidate\n"


def test_trace_takes_the_newest_deployment_that_stands(twice: StateDir) -> None:
    newest = told("history", "--target", "local")[-1]["id"]
    shown = milton("trace", COLUMNS="60").stdout
    assert f"deployment      {newest}" in shown
    (release,) = [line for line in shown.splitlines() if line.startswith("✓ release")]
    assert Path(release.split()[-1]).is_dir(), "a path with a digest is to be copied whole"


def test_trace_before_any_deployment_says_what_to_do(state: StateDir) -> None:
    done = milton("trace")
    assert done.returncode == 1 and "`milton deploy` takes a bundle to a target" in done.stderr
