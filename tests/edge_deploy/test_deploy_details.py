"""Small things that a deployment stands on: ids, the lock's words, notes, dry runs beside others."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from milton_assets.edge.deployment import (
    DiskFailed,
    EdgeTarget,
    HealthWindow,
    Outcome,
    ProbeReport,
    TargetBusy,
    deploy,
    recover_target,
)
from milton_assets.edge.deployment.ids import check_deployment_id, mint
from milton_assets.edge.deployment.lock import Holder, locked
from milton_assets.edge.deployment.report import history
from milton_assets.edge.disk_errors import explained
from milton_assets.edge.manifest import HealthContract
from milton_assets.vocabulary.errors import BadInput
from tests.support.crashing import When, clock, do_deploy, healthy, killed_at
from tests.support.edge_bundles import make_bundle
from tests.support.whole import check_whole

AT = datetime(2026, 1, 11, 14, 25, 1, 7999, tzinfo=UTC)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundles", "v1")


def test_an_id_names_its_millisecond_in_utc() -> None:
    assert mint(AT).startswith("deploy_20260111_142501_007_")
    assert check_deployment_id(mint(AT))


def test_ten_thousand_ids_of_one_millisecond_differ() -> None:
    assert len({mint(AT) for _ in range(10_000)}) == 10_000


class AllBut:
    """Every id but one is taken."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __contains__(self, candidate: object) -> bool:
        self.asked.append(str(candidate))
        return len(self.asked) < 4


def test_an_id_that_is_taken_is_passed_over() -> None:
    taken = AllBut()
    assert mint(AT, taken) == taken.asked[3]


def test_a_time_without_a_zone_makes_no_id() -> None:
    with pytest.raises(BadInput, match="no zone"):
        mint(AT.replace(tzinfo=None))


@pytest.mark.parametrize("text", ["", "deploy_1", "deploy_20260111_142501_007_GGGGGG", "../x"])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="not a deployment id"):
        check_deployment_id(text)


def test_a_lock_whose_holder_cannot_be_read_is_a_lock_all_the_same(bundle: Path, target: EdgeTarget) -> None:
    deploy(bundle, target, load_test=None, actor="ada", now=clock)
    with locked(target.path, Holder.me("grace", clock())):
        (target.path / "lock").write_text("{")
        with pytest.raises(TargetBusy, match="which has not said who it is"):
            deploy(bundle, target, load_test=None, actor="ada", now=clock)


def test_a_lock_that_is_a_link_is_not_followed(bundle: Path, target: EdgeTarget, tmp_path: Path) -> None:
    deploy(bundle, target, load_test=None, actor="ada", now=clock)
    (target.path / "lock").unlink()
    (tmp_path / "precious").write_text("years of work")
    (target.path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(DiskFailed):
        deploy(bundle, target, load_test=None, actor="ada", now=clock)
    assert (tmp_path / "precious").read_text() == "years of work"


def test_a_dry_run_beside_another_deployer_says_so(bundle: Path, target: EdgeTarget) -> None:
    deploy(bundle, target, load_test=None, actor="ada", now=clock)
    with locked(target.path, Holder.me("grace", clock())):
        would = deploy(bundle, target, load_test=None, actor="ada", now=clock, dry_run=True)
    assert would.notes == ("another deployer holds the target now",)


def test_a_dry_run_after_a_crash_says_what_would_be_settled_first(bundle: Path, target: EdgeTarget) -> None:
    deploy(bundle, target, load_test=None, actor="ada", now=clock)
    newer = make_bundle(bundle.parent, "v2", counter=2)
    assert killed_at(30, When.BEFORE, do_deploy, newer, target)
    (note,) = deploy(bundle, target, load_test=None, actor="ada", now=clock, dry_run=True).notes
    assert "would be settled first" in note


def test_the_next_deployment_notes_what_it_settled(bundle: Path, target: EdgeTarget) -> None:
    deploy(bundle, target, load_test=None, actor="ada", now=clock)
    newer = make_bundle(bundle.parent, "v2", counter=2)
    assert killed_at(30, When.BEFORE, do_deploy, newer, target)
    done = deploy(newer, target, load_test=None, actor="ada", now=clock)
    assert any("was cut off while" in note for note in done.notes)
    assert any("removed what was staged" in note for note in done.notes)


def test_a_torn_journal_is_noted_and_mended(bundle: Path, target: EdgeTarget) -> None:
    deploy(bundle, target, load_test=healthy, actor="ada", now=clock)
    with (target.path / "journal.jsonl").open("ab") as stream:
        stream.write(b'{"seq": 9')
    assert "the journal's last 9 bytes were torn" in recover_target(target, actor="ada", now=clock)[0]
    deploy(bundle, target, load_test=healthy, actor="ada", now=clock)
    assert recover_target(target, actor="ada", now=clock) == ()


def test_a_fault_of_a_probe_is_recorded_and_not_hidden(bundle: Path, target: EdgeTarget) -> None:
    def faulty(artefact: Path, model: str, contract: HealthContract) -> ProbeReport:
        raise ZeroDivisionError("a fault of the probe")

    for guards in ({"load_test": faulty}, {"load_test": None, "health": HealthWindow(faulty, detached=False)}):
        with pytest.raises(ZeroDivisionError):
            deploy(bundle, target, actor="ada", now=clock, **guards)
        assert "ZeroDivisionError: a fault of the probe" in str(history(target)[-1].reason)
    assert [d.outcome for d in history(target)] == [Outcome.FAILED, Outcome.ROLLED_BACK]


def test_an_error_without_a_meaning_is_told_in_the_systems_words() -> None:
    told = explained(OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/x"))
    assert "Too many open files (/x)" in str(told)
    assert "check the folder" in str(told)


def test_a_half_set_up_folder_becomes_a_target(bundle: Path, target: EdgeTarget) -> None:
    for name in ("releases", "staging"):
        (target.path / name).mkdir(parents=True)
    (target.path / "lock").touch()
    (target.path / "journal.jsonl").touch()
    deploy(bundle, target, load_test=healthy, actor="ada", now=clock)
    check_whole(target, {history(target)[0].release})
