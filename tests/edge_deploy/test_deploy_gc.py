"""What is not in service can be freed; what is, never."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from milton_assets.edge.deployment import (
    DeploymentFailed,
    EdgeTarget,
    collect_garbage,
    deploy,
    recover_target,
    rollback,
    status,
)
from milton_assets.vocabulary.errors import BadInput
from tests.support.crashing import clock, healthy
from tests.support.edge_bundles import make_bundle, read_manifest
from tests.support.whole import check_whole


@pytest.fixture
def digests(tmp_path: Path, target: EdgeTarget) -> list[str]:
    """Three releases deployed one after the other; the last without a proof."""
    found = []
    for number in (1, 2, 3):
        bundle = make_bundle(tmp_path / "bundles", f"v{number}", counter=number)
        deploy(bundle, target, load_test=healthy if number < 3 else None, actor="ada", now=clock)
        found.append(read_manifest(bundle).release_digest)
    return found


def present(target: EdgeTarget) -> set[str]:
    return {path.name for path in (target.path / "releases").iterdir()}


def test_all_but_the_active_and_the_last_known_good_release_is_freed(digests: list[str], target: EdgeTarget) -> None:
    done = collect_garbage(target, actor="ada", now=clock)
    assert done.freed == (digests[0],)
    assert set(done.kept) == present(target) == {digests[1], digests[2]}
    assert done.freed_bytes > 14_000
    assert check_whole(target, {digests[2]})


def test_releases_to_roll_back_to_can_be_kept(tmp_path: Path, digests: list[str], target: EdgeTarget) -> None:
    bundle = make_bundle(tmp_path / "bundles", "v4", counter=4)
    deploy(bundle, target, load_test=healthy, actor="ada", now=clock)
    assert set(collect_garbage(target, actor="ada", now=clock, keep=1).freed) == {digests[0], digests[1]}
    assert rollback(target, actor="ada", now=clock).release == digests[2]


def test_a_release_that_was_freed_is_not_rolled_back_to(tmp_path: Path, target: EdgeTarget) -> None:
    for number in (1, 2):
        bundle = make_bundle(tmp_path / "bundles", f"v{number}", counter=number)
        deploy(bundle, target, load_test=healthy, actor="ada", now=clock)
    collect_garbage(target, actor="ada", now=clock)
    with pytest.raises(DeploymentFailed, match="no release before"):
        rollback(target, actor="ada", now=clock)


def test_a_dry_run_frees_nothing(digests: list[str], target: EdgeTarget) -> None:
    done = collect_garbage(target, actor="ada", now=clock, dry_run=True)
    assert (done.freed, done.dry_run) == ((digests[0],), True)
    assert present(target) == set(digests)


def test_what_is_no_release_is_left_and_named(digests: list[str], target: EdgeTarget) -> None:
    (target.path / "releases" / "notes.txt").write_text("mine")
    assert collect_garbage(target, actor="ada", now=clock).foreign == ("notes.txt",)
    assert (target.path / "releases" / "notes.txt").read_text() == "mine"


def test_a_link_in_a_release_is_removed_and_not_followed(
    tmp_path: Path, digests: list[str], target: EdgeTarget
) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("years of work")
    (target.path / "releases" / digests[0] / "away").symlink_to(tmp_path / "precious")
    collect_garbage(target, actor="ada", now=clock)
    assert (tmp_path / "precious" / "file").read_text() == "years of work"


def test_a_release_removed_by_hand_is_noted_by_recovery(digests: list[str], target: EdgeTarget) -> None:
    shutil.rmtree(target.path / "releases" / digests[0])
    (sentence,) = recover_target(target, actor="ada", now=clock)
    assert "noted as collected" in sentence
    assert status(target).previous.model_version == "v2"
    assert recover_target(target, actor="ada", now=clock) == ()


def test_nothing_to_free_is_no_record(tmp_path: Path, target: EdgeTarget) -> None:
    deploy(make_bundle(tmp_path / "bundles", "v1"), target, load_test=healthy, actor="ada", now=clock)
    before = (target.path / "journal.jsonl").read_bytes()
    assert collect_garbage(target, actor="ada", now=clock).freed == ()
    assert (target.path / "journal.jsonl").read_bytes() == before


def test_the_journal_tells_who_freed_what(digests: list[str], target: EdgeTarget) -> None:
    collect_garbage(target, actor="grace", now=clock)
    last = json.loads((target.path / "journal.jsonl").read_text().splitlines()[-1])["record"]
    assert (last["kind"], last["actor"], last["releases"]) == ("collected", "grace", [digests[0]])


def test_keeping_fewer_than_none_is_refused(target: EdgeTarget) -> None:
    with pytest.raises(BadInput, match="-1"):
        collect_garbage(target, actor="ada", now=clock, keep=-1)
    with pytest.raises(BadInput, match="nothing was ever deployed"):
        collect_garbage(target, actor="ada", now=clock)
