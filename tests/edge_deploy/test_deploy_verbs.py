"""Deploying, going back, and the history of both."""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from milton_assets.edge.deployment import (
    ClockSetBack,
    Deployment,
    DeploymentFailed,
    EdgeTarget,
    HealthWindow,
    JournalDamaged,
    Memory,
    NotATarget,
    NotEnoughMemory,
    NothingBefore,
    Operation,
    Outcome,
    ProbeFailed,
    ProbeReport,
    ReleaseDamaged,
    TargetBusy,
    deploy,
    recover_target,
    rollback,
    status,
)
from milton_assets.edge.deployment.admission import Trial
from milton_assets.edge.deployment.fileops import FileOps
from milton_assets.edge.deployment.lock import Holder, locked
from milton_assets.edge.deployment.report import history
from milton_assets.edge.manifest import HealthContract
from milton_assets.edge.release.disk import Fd
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.inventory import Runtime
from milton_assets.vocabulary.progress import Progress
from tests.support.crashing import ailing, clock, healthy
from tests.support.edge_bundles import make_bundle, read_manifest, write_manifest


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundles", "v1")


@pytest.fixture
def b(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundles", "v2", counter=2)


def digest(bundle: Path) -> str:
    return read_manifest(bundle).release_digest


def serving(target: EdgeTarget) -> str | None:
    current = target.path / "current"
    return current.readlink().name if current.is_symlink() else None


def put(bundle: Path, target: EdgeTarget, **options: Any) -> Deployment:
    return deploy(bundle, target, **{"load_test": healthy, "actor": "ada", "now": clock} | options)


def snapshot(folder: Path) -> dict[str, tuple[int, bytes | str]]:
    """Every entry below the folder: its mode, and its bytes or the text of its link."""

    def contents(path: Path) -> bytes | str:
        if path.is_symlink():
            return str(path.readlink())
        return path.read_bytes() if path.is_file() else b""

    return {str(p.relative_to(folder)): (p.lstat().st_mode, contents(p)) for p in sorted(folder.rglob("*"))}


def test_a_deployed_release_is_the_bundle_byte_for_byte(a: Path, target: EdgeTarget) -> None:
    done = put(a, target)
    assert done.outcome is Outcome.COMMITTED
    assert done.release_path == target.path / "releases" / digest(a)
    assert snapshot(target.path / "current") == snapshot(a)


def test_a_deployment_says_who_when_from_what_to_what_and_why(a: Path, b: Path, target: EdgeTarget) -> None:
    put(a, target)
    before = clock()
    done = put(b, target, actor="grace")
    assert (done.actor, done.from_release, done.release, done.now_serving) == ("grace", digest(a), digest(b), digest(b))
    assert before <= done.started_at <= done.finished_at <= clock()
    manifest = read_manifest(b)
    assert (done.model_version, done.run_id, done.bundle) == ("v2", manifest.run_id, manifest.name)
    assert (done.decision_sha256, done.evidence_sha256) == (manifest.decision_sha256, manifest.evidence_sha256)


def test_ids_differ_even_within_a_millisecond(a: Path, target: EdgeTarget) -> None:
    frozen = datetime(2026, 1, 11, 14, 25, tzinfo=UTC)
    ids = [put(a, target, now=lambda: frozen).id for _ in range(5)]
    assert len(set(ids)) == 5
    assert all(one.startswith("deploy_20260111_142500_000_") for one in ids)


def test_only_a_proved_release_is_known_good(a: Path, b: Path, target: EdgeTarget) -> None:
    put(a, target)
    put(b, target, load_test=None)
    seen = status(target)
    assert (seen.active.model_version, seen.known_good.model_version) == ("v2", "v1")
    assert (target.path / "last-known-good").readlink().name == digest(a)


def test_rollback_goes_to_the_release_before(a: Path, b: Path, target: EdgeTarget) -> None:
    put(a, target)
    put(b, target)
    done = rollback(target, actor="ada", now=clock)
    assert (done.operation, done.outcome, done.release) == (Operation.ROLLBACK, Outcome.COMMITTED, digest(a))
    assert serving(target) == digest(a)


def test_a_rollback_with_nothing_before_fails_and_is_in_the_history(a: Path, target: EdgeTarget) -> None:
    put(a, target)
    with pytest.raises(DeploymentFailed, match="no release before") as raised:
        rollback(target, actor="ada", now=clock)
    assert isinstance(raised.value.__cause__, NothingBefore)
    assert history(target)[-1] == raised.value.deployment
    assert raised.value.deployment.outcome is Outcome.FAILED


def test_a_rollback_to_a_damaged_release_is_refused(a: Path, b: Path, target: EdgeTarget) -> None:
    put(a, target)
    put(b, target)
    (target.path / "releases" / digest(a) / "model" / "weights.gguf").write_bytes(b"x")
    with pytest.raises(DeploymentFailed, match="is truncated: it has 1 bytes"):
        rollback(target, actor="ada", now=clock)
    assert serving(target) == digest(b)


def test_a_rollback_to_a_release_whose_manifest_was_exchanged_is_refused(a: Path, b: Path, target: EdgeTarget) -> None:
    put(a, target)
    put(b, target)
    installed = target.path / "releases" / digest(a)
    write_manifest(installed, read_manifest(installed).model_copy(update={"counter": 99}))
    with pytest.raises(DeploymentFailed, match="another manifest"):
        rollback(target, actor="ada", now=clock)


def test_a_release_that_fails_its_load_test_never_becomes_current(a: Path, b: Path, target: EdgeTarget) -> None:
    put(a, target)
    with pytest.raises(DeploymentFailed, match="the load test failed: it only says baa") as raised:
        put(b, target, load_test=ailing)
    assert isinstance(raised.value.__cause__, ProbeFailed)
    assert serving(target) == digest(a)
    assert list((target.path / "staging").iterdir()) == []
    assert not (target.path / "releases" / digest(b)).exists()


class Sickening:
    """A probe that is content so many times, and then no more. Remembers which files it was shown."""

    def __init__(self, content: int) -> None:
        self.content = content
        self.shown: list[Path] = []

    def __call__(self, artefact: Path, model: str, contract: HealthContract) -> ProbeReport:
        self.shown.append(artefact.resolve())
        return (healthy if len(self.shown) <= self.content else ailing)(artefact, model, contract)


def test_a_release_that_sickens_in_its_health_window_is_rolled_back(a: Path, b: Path, target: EdgeTarget) -> None:
    put(a, target)
    probe = Sickening(content=1)
    with pytest.raises(DeploymentFailed, match="was rolled back: health check 2 of 3 failed") as raised:
        put(b, target, health=HealthWindow(probe, rounds=3, interval_s=0, detached=False))
    assert probe.shown[0] == (target.path / "releases" / digest(b) / "model" / "weights.gguf").resolve()
    entry = raised.value.deployment
    assert (entry.outcome, entry.now_serving, len(entry.health)) == (Outcome.ROLLED_BACK, digest(a), 1)
    assert serving(target) == digest(a)
    assert status(target).active.model_version == "v1"


def test_a_sick_release_goes_back_to_the_last_known_good_not_to_an_unproved_one(
    a: Path, b: Path, tmp_path: Path, target: EdgeTarget
) -> None:
    put(a, target)
    put(b, target, load_test=None)
    c = make_bundle(tmp_path / "bundles", "v3", counter=3)
    with pytest.raises(DeploymentFailed):
        put(c, target, load_test=None, health=HealthWindow(ailing, rounds=1, detached=False))
    assert serving(target) == digest(a)


def test_the_first_release_when_sick_leaves_nothing_in_service(a: Path, target: EdgeTarget) -> None:
    with pytest.raises(DeploymentFailed, match="rolled back"):
        put(a, target, health=HealthWindow(ailing, rounds=1, detached=False))
    assert serving(target) is None
    assert status(target).active is None


def test_a_crash_goes_back_to_what_was_in_service_even_if_unproved(a: Path, b: Path, target: EdgeTarget) -> None:
    put(a, target, load_test=None)

    def interrupted(artefact: Path, model: str, contract: HealthContract) -> ProbeReport:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        put(b, target, load_test=None, health=HealthWindow(interrupted, detached=False))
    assert serving(target) == digest(a)
    assert history(target)[-1].outcome is Outcome.INTERRUPTED


def test_ctrl_c_while_staging_leaves_nothing_behind(a: Path, b: Path, target: EdgeTarget) -> None:
    put(a, target)

    def interrupt(step: Progress) -> None:
        if step.stage == "copy":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        put(b, target, on_progress=interrupt)
    assert list((target.path / "staging").iterdir()) == []
    assert (serving(target), history(target)[-1].outcome) == (digest(a), Outcome.INTERRUPTED)


def test_a_failing_listener_or_history_never_undoes_a_deployment(a: Path, target: EdgeTarget) -> None:
    def broken(step: Progress) -> None:
        raise BrokenPipeError("nobody reads")

    target.history_file.parent.write_text("a file where the history's folder should be")
    done = put(a, target, on_progress=broken)
    assert done.outcome is Outcome.COMMITTED
    assert any("nobody reads" in note for note in done.notes)
    assert any("could not be mirrored" in note for note in done.notes)


def test_the_same_release_again_is_not_copied_again(a: Path, target: EdgeTarget) -> None:
    put(a, target)
    before = (target.path / "current" / "model" / "weights.gguf").stat().st_ino
    done = put(a, target)
    assert done.outcome is Outcome.COMMITTED
    assert (target.path / "current" / "model" / "weights.gguf").stat().st_ino == before
    assert len(list((target.path / "releases").iterdir())) == 1


def test_deploying_a_damaged_release_again_makes_it_whole(a: Path, target: EdgeTarget) -> None:
    put(a, target)
    (target.path / "current" / "model" / "weights.gguf").write_bytes(b"damaged")
    done = put(a, target)
    assert any("what is installed is replaced" in note for note in done.notes)
    assert snapshot(target.path / "current") == snapshot(a)
    assert list((target.path / "staging").iterdir()) == []


def test_the_same_files_under_another_manifest_are_refused_and_what_is_in_service_stays(
    a: Path, b: Path, target: EdgeTarget
) -> None:
    put(a, target)
    before = snapshot(target.path / "releases")
    write_manifest(a, read_manifest(a).model_copy(update={"counter": 5}))
    for options in ({}, {"dry_run": True}):
        with pytest.raises(MiltonError, match="already, under the manifest of"):
            put(a, target, **options)
    assert snapshot(target.path / "releases") == before
    put(b, target)
    assert rollback(target, actor="ada", now=clock).release == digest(a)


def test_a_dry_run_checks_everything_and_changes_nothing(a: Path, b: Path, target: EdgeTarget) -> None:
    put(a, target)
    before = snapshot(target.path)
    probe = Sickening(content=1)
    would = put(b, target, dry_run=True, load_test=probe)
    assert (would.outcome, would.release, would.from_release) == (Outcome.WOULD_COMMIT, digest(b), digest(a))
    assert probe.shown == [b / "model" / "weights.gguf"]
    assert snapshot(target.path) == before


def test_a_dry_run_on_a_new_target_does_not_make_it(a: Path, target: EdgeTarget) -> None:
    assert put(a, target, dry_run=True).outcome is Outcome.WOULD_COMMIT
    assert not target.path.exists()


def test_a_dry_run_finds_what_a_deployment_would(a: Path, target: EdgeTarget) -> None:
    (a / "model" / "weights.gguf").write_bytes(b"damaged")
    with pytest.raises(ReleaseDamaged, match=r"model/weights.gguf: is truncated: it has 7 bytes"):
        put(a, target, dry_run=True)
    with pytest.raises(ProbeFailed):
        put(make_bundle(a.parent, "v9"), target, dry_run=True, load_test=ailing)


def test_a_dry_rollback_says_where_it_would_go(a: Path, b: Path, target: EdgeTarget) -> None:
    put(a, target)
    put(b, target)
    before = snapshot(target.path)
    would = rollback(target, actor="ada", now=clock, dry_run=True, load_test=healthy)
    assert (would.operation, would.release) == (Operation.ROLLBACK, digest(a))
    assert snapshot(target.path) == before


def test_a_dry_rollback_with_nowhere_to_go_says_so(a: Path, target: EdgeTarget) -> None:
    with pytest.raises(BadInput, match="nothing was ever deployed"):
        rollback(target, actor="ada", now=clock, dry_run=True)
    put(a, target)
    with pytest.raises(NothingBefore):
        rollback(target, actor="ada", now=clock, dry_run=True)


def test_the_history_keeps_every_attempt_and_is_mirrored(a: Path, b: Path, target: EdgeTarget) -> None:
    put(a, target)
    with pytest.raises(DeploymentFailed):
        put(b, target, load_test=ailing)
    put(b, target)
    rollback(target, actor="ada", now=clock)
    found = history(target)
    assert [d.outcome for d in found] == [Outcome.COMMITTED, Outcome.FAILED, Outcome.COMMITTED, Outcome.COMMITTED]
    mirrored = target.history_file.read_text().splitlines()
    assert mirrored == [d.model_dump_json() for d in found]


def test_a_failed_attempt_says_what_it_was_for_as_far_as_it_knew(a: Path, target: EdgeTarget) -> None:
    (a / "manifest.json").write_bytes(b"{}")
    with pytest.raises(DeploymentFailed, match="schema_version"):
        put(a, target)
    (entry,) = history(target)
    assert (entry.bundle_path, entry.release, entry.outcome) == (str(a), None, Outcome.FAILED)


class DeployingMeanwhile(FileOps):
    """Someone deploys just after the journal was read for the last time."""

    def __init__(self, bundle: Path, target: EdgeTarget) -> None:
        self._meanwhile = (bundle, target)
        self._reads_left = 1

    def close(self, handle: Fd) -> None:
        was = Path(f"/proc/self/fd/{handle}").readlink().name
        super().close(handle)
        self._reads_left -= was == "journal.jsonl"
        if was == "journal.jsonl" and self._reads_left == 0:
            put(*self._meanwhile)


def test_whoever_reads_while_another_deploys_does_not_cry_tampering(a: Path, b: Path, target: EdgeTarget) -> None:
    put(a, target)
    assert len(history(target, ops=DeployingMeanwhile(b, target))) == 1
    assert len(history(target)) == 2


def test_a_journal_whose_end_was_cut_off_is_betrayed_by_its_mirror(a: Path, b: Path, target: EdgeTarget) -> None:
    put(a, target)
    put(b, target)
    journal = target.path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[: len(lines) // 2]))
    for act in (lambda: history(target), lambda: status(target), lambda: put(b, target)):
        with pytest.raises(JournalDamaged, match="contradicts the deployment"):
            act()


def test_a_mirror_that_is_no_history_is_reported_and_stops_nothing(a: Path, b: Path, target: EdgeTarget) -> None:
    put(a, target)
    target.history_file.write_text("{}\n")
    with pytest.raises(BadInput, match=r"line 1 of .* is no deployment"):
        history(target)
    done = put(b, target)
    assert done.outcome is Outcome.COMMITTED
    assert any("mirror could not be read" in note for note in done.notes)


def test_a_fresh_target_under_an_old_name_keeps_the_old_history(a: Path, target: EdgeTarget) -> None:
    put(a, target)
    target.path.rename(target.path.with_name("away"))
    put(a, target)
    assert len(target.history_file.read_text().splitlines()) == 2
    assert len(history(target)) == 1


def test_two_deployers_at_once_the_second_is_told_who_holds_the_target(a: Path, target: EdgeTarget) -> None:
    put(a, target)
    with (
        locked(target.path, Holder.me("grace", clock())),
        pytest.raises(TargetBusy, match=rf"held by grace \(process {os.getpid()} on "),
    ):
        put(a, target)


def test_a_deployer_can_wait_for_the_other(a: Path, b: Path, target: EdgeTarget) -> None:
    put(a, target)
    held = threading.Event()

    def hold() -> None:
        with locked(target.path, Holder.me("grace", clock())):
            held.set()
            time.sleep(0.6)

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    assert put(b, target, wait_s=30).outcome is Outcome.COMMITTED
    other.join()


def test_two_deployers_that_both_wait_come_one_after_the_other(a: Path, target: EdgeTarget) -> None:
    done = []
    as_new = make_bundle(a.parent, "v3", counter=read_manifest(a).counter)
    threads = [
        threading.Thread(target=lambda bundle=bundle: done.append(put(bundle, target, wait_s=60)))
        for bundle in (a, as_new)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {d.outcome for d in done} == {Outcome.COMMITTED}
    first, second = history(target)
    assert (first.from_release, second.from_release) == (None, first.release)


def test_a_clock_set_back_is_refused_before_an_attempt_begins(a: Path, b: Path, target: EdgeTarget) -> None:
    put(a, target)
    yesterday = clock() - timedelta(days=1)
    with pytest.raises(ClockSetBack, match="--accept-clock"):
        put(b, target, now=lambda: yesterday)
    assert len(history(target)) == 1
    assert put(b, target, now=lambda: yesterday, accept_clock=True).outcome is Outcome.COMMITTED


def test_a_clock_set_back_does_not_stop_a_rollback(a: Path, b: Path, target: EdgeTarget) -> None:
    put(a, target)
    put(b, target)
    yesterday = clock() - timedelta(days=1)
    assert rollback(target, actor="ada", now=lambda: yesterday).release == digest(a)


def test_a_device_without_the_memory_is_told_before_anything_is_copied(tmp_path: Path, target: EdgeTarget) -> None:
    big = make_bundle(tmp_path / "bundles", "v1", ram_bytes=8 << 30)
    with pytest.raises(DeploymentFailed, match=r"4,096 MiB of memory available, the release needs 8,192 MiB") as raised:
        put(big, target, memory=Memory(total_bytes=16 << 30, available_bytes=4 << 30))
    assert isinstance(raised.value.__cause__, NotEnoughMemory)
    assert put(big, target, memory=Memory(16 << 30, 4 << 30), load_test=None).outcome is Outcome.COMMITTED


@pytest.mark.parametrize("dry_run", [True, False], ids=["dry run", "deployment"])
def test_a_model_server_that_is_too_old_is_told_before_anything_is_copied(
    tmp_path: Path, target: EdgeTarget, dry_run: bool
) -> None:
    newer = make_bundle(tmp_path / "bundles", "v1", least_llama_build=11434)
    old = Runtime(name="llama.cpp", build="version: 11433 (0a1b2c3)")
    said = r"llama.cpp of build 11434 or later, and the device has build 11433 \(version: 11433"
    with pytest.raises(MiltonError, match=said):
        put(newer, target, runtime=old, dry_run=dry_run)
    assert not (target.path / "releases").exists() or not list((target.path / "releases").iterdir())
    for well in ("b11434-0a1b2c3", "xllamacpp 2026.10.11500", "b0-unknown"):
        assert put(newer, target, runtime=Runtime(name="llama.cpp", build=well), dry_run=True).reason


def test_a_policy_can_refuse_and_is_asked_about_what_was_written(a: Path, b: Path, target: EdgeTarget) -> None:
    asked: list[tuple[Path, int]] = []

    def admit(release: Path, *, now: datetime, highest_counter: int, trial: Trial) -> None:
        asked.append((release, highest_counter))
        if "staging" in release.parts:
            raise BadInput("its signature is foreign")

    put(a, target)
    with pytest.raises(DeploymentFailed, match="its signature is foreign"):
        put(b, target, admit=admit)
    assert [path.is_relative_to(target.path) for path, _ in asked] == [False, True]
    assert [counter for _, counter in asked] == [1, 1]
    assert serving(target) == digest(a)


@pytest.mark.parametrize("content", ["file", "target link"])
def test_a_folder_in_use_for_something_else_is_not_taken_over(a: Path, target: EdgeTarget, content: str) -> None:
    target.path.mkdir()
    if content == "file":
        (target.path / "thesis.tex").write_text("years of work")
    else:
        (target.path / "current").symlink_to("/")
    before = snapshot(target.path)
    with pytest.raises(NotATarget, match=r"thesis.tex|no journal"):
        put(a, target)
    with pytest.raises(NotATarget):
        put(a, target, dry_run=True)
    assert snapshot(target.path) == before


def test_a_target_path_that_is_a_file_is_refused(a: Path, target: EdgeTarget) -> None:
    target.path.write_text("x")
    with pytest.raises(NotATarget, match="no folder"):
        put(a, target)
    with pytest.raises(NotATarget, match="no folder"):
        status(target)


def test_an_empty_folder_becomes_a_target(a: Path, target: EdgeTarget) -> None:
    target.path.mkdir()
    assert put(a, target).outcome is Outcome.COMMITTED


def test_links_changed_by_hand_are_reported_and_settled(a: Path, b: Path, target: EdgeTarget) -> None:
    put(a, target)
    put(b, target)
    current = target.path / "current"
    current.unlink()
    current.symlink_to("/etc")
    (target.path / "last-known-good").unlink()
    first, second = status(target).problems
    assert "leads to '/etc'" in first
    assert "last-known-good points to nothing" in second
    assert len(recover_target(target, actor="ada", now=clock)) == 2
    assert serving(target) == digest(b)
    assert status(target).problems == ()


def test_a_release_that_vanished_is_reported(a: Path, target: EdgeTarget) -> None:
    put(a, target)
    (target.path / "releases" / digest(a)).rename(target.path / "releases" / ("f" * 64))
    assert any("which is not there" in problem for problem in status(target).problems)


def test_a_target_that_was_never_deployed_to_has_no_history_and_no_status(target: EdgeTarget) -> None:
    assert history(target) == ()
    with pytest.raises(BadInput, match="nothing was ever deployed"):
        status(target)
    with pytest.raises(BadInput, match="nothing was ever deployed"):
        recover_target(target, actor="ada", now=clock)
