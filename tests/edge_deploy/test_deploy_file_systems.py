"""File systems of devices: a fresh partition, one for another user's server, one that cannot hold a target."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from milton_assets.edge.deployment import DiskFailed, EdgeTarget, NotATarget, Outcome, deploy
from milton_assets.edge.deployment.file_system import FileSystemLacks
from milton_assets.edge.deployment.fileops import FileOps
from milton_assets.edge.release.disk import Fd
from tests.support.crashing import clock, healthy
from tests.support.edge_bundles import WEIGHTS_FILE, make_bundle

_NOBODY = 65534


def test_a_fresh_partition_is_an_empty_folder(target: EdgeTarget, tmp_path: Path) -> None:
    (target.path / "lost+found").mkdir(parents=True, mode=0o700)
    done = deploy(make_bundle(tmp_path / "bundles", "v1"), target, load_test=healthy, actor="ada", now=clock)
    assert done.outcome is Outcome.COMMITTED
    assert (target.path / "lost+found").is_dir()


def test_a_file_of_that_name_is_somebody_elses(target: EdgeTarget, tmp_path: Path) -> None:
    target.path.mkdir()
    (target.path / "lost+found").write_text("x")
    with pytest.raises(NotATarget, match=r"lost\+found"):
        deploy(make_bundle(tmp_path / "bundles", "v1"), target, load_test=healthy, actor="ada", now=clock)


class Lacking(FileOps):
    """A disk whose file system does not have some things, each refused with the errno that real ones give."""

    def __init__(self, code: int, *verbs: str) -> None:
        self._code = code
        self._verbs = verbs

    def _refuse(self, verb: str) -> None:
        if verb in self._verbs:
            raise OSError(self._code, os.strerror(self._code))

    def symlink(self, to: str, name: str, parent: Fd) -> None:
        self._refuse("symlink")
        super().symlink(to, name, parent)

    def lock(self, handle: Fd) -> None:
        self._refuse("lock")
        super().lock(handle)

    def fsync(self, handle: Fd) -> None:
        self._refuse("fsync")
        super().fsync(handle)

    def rename(self, name: str, parent: Fd, new_name: str, new_parent: Fd) -> None:
        self._refuse("rename")
        super().rename(name, parent, new_name, new_parent)


@pytest.mark.parametrize(
    ("disk", "said"),
    [
        pytest.param(Lacking(errno.EPERM, "symlink"), "has no symbolic links", id="FAT, exFAT"),
        pytest.param(Lacking(errno.ENOLCK, "lock"), "has no locks", id="NFS without a lock server"),
        pytest.param(Lacking(errno.ENOSYS, "lock"), "has no locks", id="FUSE without locks"),
        pytest.param(Lacking(errno.EINVAL, "fsync"), "has no durable files (fsync), no durable folders", id="no fsync"),
        pytest.param(Lacking(errno.EOPNOTSUPP, "rename"), "has no renaming over a file", id="no rename"),
        pytest.param(
            Lacking(errno.EOPNOTSUPP, "symlink", "lock"), "has no locks, no symbolic links", id="links and locks"
        ),
    ],
)
def test_a_file_system_that_cannot_hold_a_target_is_refused_with_what_it_lacks(
    target: EdgeTarget, tmp_path: Path, disk: FileOps, said: str
) -> None:
    bundle = make_bundle(tmp_path / "bundles", "v1")
    with pytest.raises(FileSystemLacks) as refused:
        deploy(bundle, target, load_test=healthy, actor="ada", now=clock, ops=disk)
    assert said in str(refused.value)
    assert "ext4" in str(refused.value)
    assert list(target.path.iterdir()) == []


def test_a_refusal_for_another_reason_is_told_as_that(target: EdgeTarget, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundles", "v1")
    with pytest.raises(DiskFailed, match="the disk failed to read or write"):
        deploy(bundle, target, load_test=healthy, actor="ada", now=clock, ops=Lacking(errno.EIO, "fsync"))


def test_what_a_killed_trial_left_is_no_obstacle(target: EdgeTarget, tmp_path: Path) -> None:
    target.path.mkdir()
    (target.path / ".probe-0a1b2c3d").write_text("tried\n")
    done = deploy(make_bundle(tmp_path / "bundles", "v1"), target, load_test=healthy, actor="ada", now=clock)
    assert done.outcome is Outcome.COMMITTED


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def private_umask() -> Iterator[None]:
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
@pytest.mark.usefixtures("private_umask")
def test_another_users_server_can_read_what_is_served_whatever_the_umask(open_folder: Path, tmp_path: Path) -> None:
    target = EdgeTarget("edge", open_folder / "target")
    deploy(make_bundle(tmp_path / "bundles", "v1"), target, load_test=healthy, actor="ada", now=clock)
    served = target.path / "current"
    read = subprocess.run(
        ["find", f"{served}/", "-type", "f", "-exec", "cat", "{}", "+"],
        capture_output=True,
        user=_NOBODY,
        group=_NOBODY,
        extra_groups=[],
        check=False,
    )
    assert read.returncode == 0, read.stderr
    assert len(read.stdout) == sum(p.stat().st_size for p in served.resolve().rglob("*") if p.is_file())
    assert (served / WEIGHTS_FILE).stat().st_mode & 0o777 == 0o644
