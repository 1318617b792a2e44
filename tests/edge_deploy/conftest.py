"""Fixtures of the deployment tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from milton_assets.edge.deployment import EdgeTarget

_IN_MEMORY = Path("/dev/shm")


@pytest.fixture
def quick_folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder where an fsync costs nothing, if the machine has one: for tests that repeat themselves a lot."""
    if not _IN_MEMORY.is_dir():
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="milton-test-", dir=_IN_MEMORY))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def target(tmp_path: Path) -> EdgeTarget:
    """A target that nothing was deployed to yet, with a mirror of its history."""
    return EdgeTarget("edge", tmp_path / "target", tmp_path / "history" / "edge.jsonl")
