"""How weights get into the target: whole, past the page cache, and with nothing left running when it goes wrong."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from milton_assets.edge.deployment import DeploymentFailed, EdgeTarget, FileOps, deploy
from milton_assets.edge.release.disk import CHUNK_BYTES, Fd
from tests.support.crashing import clock
from tests.support.edge_bundles import TOKENS_FILE, make_bundle
from tests.support.page_cache import is_cached, require_direct

COPIED = Path(TOKENS_FILE)
"""A file of any size and content."""


def bundle_of(tmp_path: Path, size_bytes: int) -> Path:
    return make_bundle(tmp_path / "bundles", "v1", tokens=os.urandom(size_bytes))


@pytest.mark.parametrize(
    "size_bytes", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES + 4096, 6 * CHUNK_BYTES]
)
@pytest.mark.parametrize("in_memory", [False, True], ids=["disk", "memory"])
def test_a_file_of_any_size_arrives_whole(
    tmp_path: Path, quick_folder: Path, target: EdgeTarget, size_bytes: int, in_memory: bool
) -> None:
    bundle = bundle_of(tmp_path, size_bytes)
    target = EdgeTarget("edge", quick_folder / "target") if in_memory else target
    deploy(bundle, target, load_test=None, actor="ada", now=clock)
    assert (target.path / "current" / COPIED).read_bytes() == (bundle / COPIED).read_bytes()


class ResizingOps(FileOps):
    """Somebody changes the source's size after it was checked, when its copy begins."""

    def __init__(self, source: Path, size_bytes: int) -> None:
        self.source = source
        self.size_bytes = size_bytes

    def create(self, name: str, parent: Fd) -> Fd:
        if name == self.source.name:
            os.truncate(self.source, self.size_bytes)
        return super().create(name, parent)


@pytest.mark.parametrize("chunks", [1, 2])
def test_a_file_that_ends_early_or_late_is_refused_wherever_that_is(
    tmp_path: Path, target: EdgeTarget, chunks: int
) -> None:
    size = chunks * CHUNK_BYTES
    bundle = bundle_of(tmp_path, size)
    with pytest.raises(DeploymentFailed, match=f"is longer than the {size} bytes its manifest says"):
        deploy(bundle, target, load_test=None, actor="ada", now=clock, ops=ResizingOps(bundle / COPIED, size + 1))
    os.truncate(bundle / COPIED, size)
    shorter = ResizingOps(bundle / COPIED, size - CHUNK_BYTES)
    with pytest.raises(DeploymentFailed, match=f"ends after {size - CHUNK_BYTES} of {size} bytes"):
        deploy(bundle, target, load_test=None, actor="ada", now=clock, ops=shorter)


def test_a_release_takes_no_room_in_the_page_cache_while_it_is_written(tmp_path: Path, target: EdgeTarget) -> None:
    require_direct(tmp_path)
    deploy(bundle_of(tmp_path, 3 * CHUNK_BYTES), target, load_test=None, actor="ada", now=clock)
    assert not is_cached(target.path / "current" / COPIED, CHUNK_BYTES)


class InterruptedOps(FileOps):
    """Someone presses Ctrl-C while the weights are written."""

    def write(self, handle: Fd, data: bytes | memoryview) -> int:
        if len(data) == CHUNK_BYTES:
            raise KeyboardInterrupt
        return super().write(handle, data)


class UnreadableSourceOps(FileOps):
    """The bundle's disk fails in the middle of a file."""

    def __init__(self) -> None:
        self.reads = 0

    def read_into(self, handle: Fd, buffer: memoryview) -> int:
        self.reads += 1
        if self.reads > 6:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read_into(handle, buffer)


@pytest.mark.parametrize(
    ("ops", "error"), [(InterruptedOps(), KeyboardInterrupt), (UnreadableSourceOps(), DeploymentFailed)]
)
def test_an_error_on_either_side_of_a_copy_ends_both(
    tmp_path: Path, target: EdgeTarget, ops: FileOps, error: type[BaseException]
) -> None:
    bundle = bundle_of(tmp_path, 8 * CHUNK_BYTES)
    before = set(threading.enumerate())
    with pytest.raises(error) as raised:
        deploy(bundle, target, load_test=None, actor="ada", now=clock, ops=ops)
    assert raised.tb is not None, "while the traceback keeps every frame alive"
    assert set(threading.enumerate()) <= before
    assert list((target.path / "staging").iterdir()) == []
