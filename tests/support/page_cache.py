"""What the kernel keeps of a file in memory.

What belongs here: asking it. What does not: what ought to be there.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import pytest

from milton_assets.edge.page_cache import bypass_page_cache

_LIBC = ctypes.CDLL(None, use_errno=True)


def is_cached(path: Path, offset: int) -> bool:
    """Whether the page of the byte at `offset` is in memory. Asks without reading: a read would bring it there.

    Source: mincore(2), which tells of a file's pages only to whom the file belongs.
    """
    place = offset - offset % mmap.PAGESIZE
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        byte, told = ctypes.c_char.from_buffer(mapped, place), ctypes.c_ubyte()
        failed = _LIBC.mincore(ctypes.c_void_p(ctypes.addressof(byte)), mmap.PAGESIZE, ctypes.byref(told))
        del byte  # or the mapping could not be closed
        if failed:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    return bool(told.value & 1)


def require_direct(folder: Path) -> None:
    """Skip the test where the folder's file system has no way past the page cache."""
    probe = folder / "probe"
    probe.write_bytes(b"x")
    with probe.open("r+b") as stream:
        can = bypass_page_cache(stream.fileno(), True)
    assert is_cached(probe, 0), "what was just written through the cache is there"
    probe.unlink()
    if not can:
        pytest.skip("this file system always goes through the page cache")
