"""A run's summary: written whole, read back, and refused when it does not hold together."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from pydantic import ValidationError

from milton_assets.selection.decide import decide
from milton_assets.selection.policy_file import load_policy
from milton_assets.selection.summary import (
    BundleRecord,
    DeploymentRecord,
    RunSummary,
    add_deployments,
    read_summary,
    run_ids,
    write_summary,
)
from milton_assets.vocabulary.errors import BadInput
from tests.support.selection import RUN_ID, candidate, manifest
from tests.support.tiers import TIERS

BUNDLE = BundleRecord(path="bundles/b", name="b", release_digest="b" * 64)


def summary(run_id: str = RUN_ID) -> RunSummary:
    candidates = [candidate("a"), candidate("b", 10)]
    pinned = manifest(candidates, run_id=run_id)
    decision = decide(
        run_id=run_id, candidates=candidates, policy=load_policy("seed"), manifest=pinned, incumbent=None, tiers=TIERS
    )
    return RunSummary(run_id=run_id, decision=decision, manifest=pinned, bundle=BUNDLE)


def test_a_summary_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = write_summary(tmp_path / "runs", summary())
    assert path == tmp_path / "runs" / f"{RUN_ID}.json"
    assert read_summary(tmp_path / "runs", RUN_ID) == summary()


def _deployed(runs: Path, target: str) -> None:
    for number in range(10):
        add_deployments(runs, RUN_ID, [DeploymentRecord(id=str(number), target=target, path="t", release="a" * 64)])


def test_deployments_that_end_at_once_are_all_kept(tmp_path: Path) -> None:
    write_summary(tmp_path, summary())
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_deployed, args=(tmp_path, target)) for target in ("kitchen", "attic")]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    kept = read_summary(tmp_path).deployments
    for target in ("kitchen", "attic"):
        assert [one.id for one in kept if one.target == target] == [str(number) for number in range(10)]
    assert run_ids(tmp_path) == (RUN_ID,)


def test_without_a_run_the_latest_is_read(tmp_path: Path) -> None:
    for run_id in ("benchmark_20260301_000000", "benchmark_20260111_235959", RUN_ID):
        write_summary(tmp_path, summary(run_id))
    (tmp_path / "notes.json").write_text("{}")
    assert run_ids(tmp_path) == (RUN_ID, "benchmark_20260111_235959", "benchmark_20260301_000000")
    assert read_summary(tmp_path).run_id == "benchmark_20260301_000000"


def test_before_the_first_run_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="milton autobench"):
        read_summary(tmp_path / "runs")


def test_an_unknown_run_lists_those_there_are(tmp_path: Path) -> None:
    write_summary(tmp_path, summary())
    with pytest.raises(BadInput, match=RUN_ID):
        read_summary(tmp_path, "benchmark_20260111_000000")


def test_a_run_id_from_outside_never_leaves_the_folder(tmp_path: Path) -> None:
    write_summary(tmp_path, summary())
    with pytest.raises(BadInput, match="not a benchmark run id"):
        read_summary(tmp_path, "../secrets")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"run_id": "x"}', "\x00"])
def test_a_damaged_summary_is_a_clear_error(tmp_path: Path, content: str) -> None:
    (tmp_path / f"{RUN_ID}.json").write_text(content)
    with pytest.raises(BadInput, match="no valid summary"):
        read_summary(tmp_path)


def test_a_manifest_that_is_not_the_decisions_is_refused(tmp_path: Path) -> None:
    path = write_summary(tmp_path, summary())
    text = path.read_text()
    assert '"storage_id": 1' in text
    path.write_text(text.replace('"storage_id": 1', '"storage_id": 2', 1))
    with pytest.raises(BadInput, match="the decision rests on manifest"):
        read_summary(tmp_path)


def test_parts_of_two_runs_make_no_summary() -> None:
    one, other = summary(), summary("benchmark_20260301_000000")
    with pytest.raises(ValidationError, match="the decision is that of benchmark_20260301_000000"):
        RunSummary(run_id=RUN_ID, decision=other.decision, manifest=one.manifest)


def test_a_summary_of_another_format_version_is_refused(tmp_path: Path) -> None:
    path = write_summary(tmp_path, summary())
    path.write_text(path.read_text().replace('"format_version": 3', '"format_version": 2'))
    with pytest.raises(BadInput, match="the summary has version 2, this release reads version 3"):
        read_summary(tmp_path)
