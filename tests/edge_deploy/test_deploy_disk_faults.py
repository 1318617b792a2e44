"""A disk that is full, read-only or failing at any step: refused with its own message, and nothing is broken."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from milton_assets.edge.deployment import (
    DeploymentFailed,
    DiskFailed,
    EdgeTarget,
    NotEnoughRoom,
    Outcome,
    collect_garbage,
    deploy,
    recover_target,
    rollback,
    status,
)
from milton_assets.edge.deployment.fileops import FileOps
from milton_assets.edge.deployment.report import history
from milton_assets.edge.release.disk import Fd
from milton_assets.vocabulary.errors import MiltonError
from tests.support.crashing import CountingOps, FailingOps, Verb, clock, do_deploy, do_rollback, healthy
from tests.support.edge_bundles import gguf_around, make_bundle, read_manifest, write_manifest
from tests.support.file_limits import file_size_limit

MESSAGES = {
    errno.ENOSPC: "the disk is full",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the disk failed to read or write",
}


class Place:
    """Two bundles and a target that serves the first."""

    def __init__(self, folder: Path) -> None:
        self.a = make_bundle(folder / "bundles", "v1")
        self.b = make_bundle(folder / "bundles", "v2", counter=2)
        self.digests = {read_manifest(bundle).release_digest for bundle in (self.a, self.b)}
        self._folder = folder
        self._template = folder / "template"
        self._copies = 0
        deploy(self.a, EdgeTarget("edge", self._template), load_test=healthy, actor="setup", now=clock)

    def target(self, *, after_b: bool = False) -> EdgeTarget:
        self._copies += 1
        path = self._folder / f"target{self._copies}"
        shutil.copytree(self._template, path, symlinks=True)
        target = EdgeTarget("edge", path)
        if after_b:
            deploy(self.b, target, load_test=healthy, actor="setup", now=clock)
        return target


def whole(target: EdgeTarget) -> str:
    """The release that is served, after checking each of its bytes."""
    digest = (target.path / "current").readlink().name
    manifest = read_manifest(target.path / "current")
    assert manifest.release_digest == digest
    for entry in manifest.files:
        assert (target.path / "current" / entry.path).stat().st_size == entry.size_bytes
    return digest


@pytest.mark.parametrize("code", sorted(MESSAGES), ids=errno.errorcode.get)
@pytest.mark.parametrize("verb", [do_deploy, do_rollback], ids=["deploy", "rollback"])
@pytest.mark.parametrize("stays", [False, True], ids=["once", "from then on"])
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_disk_that_fails_at_any_step_leaves_a_whole_release(
    quick_folder: Path, verb: Verb, code: int, stays: bool
) -> None:
    place = Place(quick_folder)
    refused = noted = 0
    step = 0
    while True:
        target = place.target(after_b=verb is do_rollback)
        ops = FailingOps(step, code, stays=stays)
        try:
            verb(place.b, target, ops)
        except MiltonError as error:
            refused += 1
            assert MESSAGES[code] in str(error)
        else:
            noted += ops.has_failed
        if not ops.has_failed:
            break
        assert whole(target) in place.digests
        before = len(history(target))
        recover_target(target, actor="recovery", now=clock)
        assert status(target).problems == ()
        assert whole(target) in place.digests
        do_deploy(place.b, target, CountingOps())
        assert len(history(target)) == before + 1
        assert {d.outcome for d in history(target)} <= set(Outcome) - {Outcome.IN_PROGRESS}
        step += 1
    assert refused + noted == step > 25
    assert refused > 0
    assert noted > 0, "no failure after the commit was merely noted"


class UnreadableOps(FileOps):
    """A disk that cannot read back what was written to it."""

    def read_into(self, handle: Fd, buffer: memoryview) -> int:
        if "/staging/" in str(Path(f"/proc/self/fd/{handle}").readlink()):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read_into(handle, buffer)


def test_a_release_that_cannot_be_read_back_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path)
    target = place.target()
    with pytest.raises(DeploymentFailed, match="the disk failed to read or write"):
        do_deploy(place.b, target, UnreadableOps())
    assert whole(target) == read_manifest(place.a).release_digest


class LyingOps(FileOps):
    """A disk that says it wrote and keeps something else."""

    def write(self, handle: Fd, data: bytes | memoryview) -> int:
        is_weights = Path(f"/proc/self/fd/{handle}").readlink().name == "weights.gguf"
        return super().write(handle, bytes(len(data)) if is_weights else data)


def test_a_disk_that_keeps_zeros_is_found_out_by_reading_back(tmp_path: Path) -> None:
    place = Place(tmp_path)
    target = place.target()
    with pytest.raises(DeploymentFailed, match="holds nothing but zero bytes"):
        do_deploy(place.b, target, LyingOps())
    assert whole(target) == read_manifest(place.a).release_digest


def test_a_deployment_between_two_file_systems_is_copied_all_the_same(tmp_path: Path, quick_folder: Path) -> None:
    bundle = make_bundle(quick_folder / "bundles", "v1")
    target = EdgeTarget("edge", tmp_path / "target")
    assert deploy(bundle, target, load_test=None, actor="ada", now=clock).outcome is Outcome.COMMITTED


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 24 MiB, full when it is full."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(folder)], capture_output=True, check=False
    )
    if mount.returncode != 0:
        pytest.skip("mounting a file system needs rights that this user lacks")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def big_bundle(folder: Path, version: str, counter: int) -> Path:
    return make_bundle(folder, version, counter=counter, weights=gguf_around(version.encode() * (2 << 20)))


def test_a_release_that_would_not_fit_is_refused_before_anything_is_written(tmp_path: Path, small_disk: Path) -> None:
    target = EdgeTarget("edge", small_disk / "target")
    deploy(big_bundle(tmp_path, "v1", 1), target, load_test=None, actor="ada", now=clock)
    with pytest.raises(DeploymentFailed, match="20 MiB free, the release needs 20 MiB") as raised:
        deploy(big_bundle(tmp_path, "v2", 2), target, load_test=None, actor="ada", now=clock)
    assert isinstance(raised.value.__cause__, NotEnoughRoom)
    assert "milton gc" in str(raised.value)


def test_a_manifest_may_ask_for_more_room_than_its_files_take(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, "v1")
    manifest = read_manifest(bundle)
    needs = manifest.requirements.model_copy(update={"disk_bytes": 1 << 60})
    write_manifest(bundle, manifest.model_copy(update={"requirements": needs}))
    for dry_run in (True, False):
        with pytest.raises(MiltonError, match="the release needs 1,099,511,627,792 MiB"):
            deploy(bundle, EdgeTarget("edge", tmp_path / "t"), load_test=None, actor="ada", now=clock, dry_run=dry_run)


def test_on_a_full_disk_a_failure_is_recorded_a_rollback_works_and_gc_makes_room(
    tmp_path: Path, small_disk: Path
) -> None:
    target = EdgeTarget("edge", small_disk / "target")
    bundles = [
        make_bundle(tmp_path, f"v{n}", counter=n, weights=gguf_around(f"v{n}".encode() * (1 << 19))) for n in (1, 2, 3)
    ]
    for bundle in bundles[:2]:
        deploy(bundle, target, load_test=healthy, actor="ada", now=clock)
    fill(small_disk / "filler")
    with pytest.raises(DeploymentFailed, match="0 MiB free"):
        deploy(bundles[2], target, load_test=healthy, actor="ada", now=clock)
    assert rollback(target, load_test=healthy, actor="ada", now=clock).model_version == "v1"
    assert [d.outcome for d in history(target)][-2:] == [Outcome.FAILED, Outcome.COMMITTED]
    freed = collect_garbage(target, actor="ada", now=clock)
    assert freed.freed == (read_manifest(bundles[1]).release_digest,)
    assert freed.freed_bytes > 1 << 20
    assert recover_target(target, actor="ada", now=clock) == ()
    assert whole(target) == read_manifest(bundles[0]).release_digest


class NoRoomForAFile(FileOps):
    """A disk that is so full that not even an empty file can be made there."""

    def __init__(self, code: int) -> None:
        self._code = code

    def create(self, name: str, parent: Fd) -> Fd:
        raise OSError(self._code, os.strerror(self._code))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
def test_gc_makes_room_where_not_even_the_journals_reserve_can_be_made(tmp_path: Path, code: int) -> None:
    place = Place(tmp_path)
    target = place.target(after_b=True)
    (target.path / "journal.reserve").unlink()
    freed = collect_garbage(target, actor="ada", now=clock, ops=NoRoomForAFile(code))
    assert freed.freed == (read_manifest(place.a).release_digest,)
    assert whole(target) == read_manifest(place.b).release_digest


class OverQuota(FileOps):
    """A disk whose quota is used up for the journal, until its reserve is given up."""

    def write(self, handle: Fd, data: bytes) -> int:
        journal = Path(f"/proc/self/fd/{handle}").readlink()
        if journal.name == "journal.jsonl" and (journal.parent / "journal.reserve").exists():
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        return super().write(handle, data)


def test_the_journals_reserve_helps_against_a_quota_too(tmp_path: Path) -> None:
    place = Place(tmp_path)
    target = place.target(after_b=True)
    done = rollback(target, load_test=healthy, actor="ada", now=clock, ops=OverQuota())
    assert done.outcome is Outcome.COMMITTED


def fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as stream:
        for size in (1 << 20, 1 << 12):
            try:
                while True:
                    stream.write(b"x" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC


def test_a_read_only_file_system_is_told_as_such(tmp_path: Path, small_disk: Path) -> None:
    bundle = make_bundle(tmp_path, "v1")
    target = EdgeTarget("edge", small_disk / "target")
    deploy(bundle, target, load_test=healthy, actor="ada", now=clock)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(DiskFailed, match="the file system is read-only"):
        deploy(bundle, target, load_test=healthy, actor="ada", now=clock)
    assert status(target).active.model_version == "v1"
    assert len(history(target)) == 1


def test_a_limit_on_file_size_is_told_as_such(tmp_path: Path) -> None:
    bundle = big_bundle(tmp_path, "v1", 1)
    target = EdgeTarget("edge", tmp_path / "target")
    with file_size_limit(1 << 20), pytest.raises(DeploymentFailed, match="larger than this process may write"):
        deploy(bundle, target, load_test=healthy, actor="ada", now=clock)
    assert history(target)[-1].outcome is Outcome.FAILED
    assert list((target.path / "staging").iterdir()) == []
