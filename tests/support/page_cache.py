"""What the kernel keeps of a file in memory.

What belongs here: asking it. What does not: what ought to be there.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from milton_assets.edge.page_cache import bypass_page_cache


def is_cached(path: Path, offset: int) -> bool:
    """Whether the byte at `offset` could be read from memory alone."""
    with path.open("rb", buffering=0) as stream:
        try:
            return os.preadv(stream.fileno(), [bytearray(1)], offset, os.RWF_NOWAIT) == 1
        except BlockingIOError:
            return False


def require_direct(folder: Path) -> None:
    """Skip the test where the folder's file system has no way past the page cache, or does not say what is in it."""
    probe = folder / "probe"
    probe.write_bytes(b"x")
    with probe.open("r+b") as stream:
        can = bypass_page_cache(stream.fileno(), True)
    try:
        is_cached(probe, 0)
    except OSError:
        can = False
    probe.unlink()
    if not can:
        pytest.skip("this file system always goes through the page cache")
