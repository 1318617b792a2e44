"""The one door through which a release is read.

What belongs here: one method a system call, relative to an open folder and never following a link, and what is built
of these alone. What does not: writing (`edge.deployment.fileops`, which adds it), and what the bytes mean.

Because every read passes this door, a test can let each of them fail, lie, or find other bytes than the one before.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

CHUNK_BYTES = 4 << 20
_CHUNKS_AHEAD = 4

Fd = int


class ReadOnlyDisk:
    """The real disk, for reading. Folders and files are file descriptors; names are single path parts.

    Raises `OSError`.
    """

    def open_folder(self, path: str | Path, parent: Fd | None = None) -> Fd:
        """Open a folder; with `parent`, the folder of that name in it, which must not be a link."""
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | (os.O_NOFOLLOW if parent is not None else 0), dir_fd=parent)

    def open_read(self, name: str, parent: Fd) -> Fd:
        """Open a file for reading. Never blocks, even when the name is a pipe's."""
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)

    def open_uncached(self, name: str, parent: Fd) -> Fd:
        """Open a file so that it is read from the disk and not from memory, as far as its file system allows.

        Reads must fill buffers that are aligned to a page (an `mmap` is).
        """
        try:
            return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_DIRECT, dir_fd=parent)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        handle = self.open_read(name, parent)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        return handle

    def close(self, handle: Fd) -> None:
        """Close a file or folder."""
        os.close(handle)

    def read(self, handle: Fd, size: int) -> bytes:
        """Up to `size` bytes; empty at the end of the file."""
        return os.read(handle, size)

    def read_into(self, handle: Fd, buffer: memoryview) -> int:
        """Fill some of `buffer`; how many bytes, 0 at the end of the file."""
        return os.readv(handle, [buffer])


def read_ahead(disk: ReadOnlyDisk, handle: Fd, size: int) -> Generator[memoryview]:
    """The file's bytes, `CHUNK_BYTES` at a time in buffers aligned to a page; stops once it is beyond `size`.

    A thread, which ends with the iterator, fills the next buffers while one is worked on; a file that fits in one needs
    none. Close the iterator before the file.
    """
    buffers = [memoryview(mmap.mmap(-1, CHUNK_BYTES)) for _ in range(min(_CHUNKS_AHEAD, size // CHUNK_BYTES + 1))]
    seen = 0
    if len(buffers) == 1:
        while seen <= size and (count := disk.read_into(handle, buffers[0])):
            seen += count
            yield buffers[0][:count]
        return
    from concurrent.futures import ThreadPoolExecutor  # brings `logging`, which a `status` need not wait for

    with ThreadPoolExecutor(1) as reader:
        reading = deque((buffer, reader.submit(disk.read_into, handle, buffer)) for buffer in buffers)
        try:
            while seen <= size:
                buffer, filled = reading.popleft()
                if not (count := filled.result()):
                    return
                seen += count
                yield buffer[:count]
                reading.append((buffer, reader.submit(disk.read_into, handle, buffer)))
        finally:
            reader.shutdown(cancel_futures=True)


@contextmanager
def opened(disk: ReadOnlyDisk, handle: Fd) -> Iterator[Fd]:
    """The handle for the length of a `with` block."""
    try:
        yield handle
    finally:
        disk.close(handle)


@contextmanager
def folder_beneath(disk: ReadOnlyDisk, root: Fd, parts: tuple[str, ...]) -> Iterator[Fd]:
    """The folder `parts` below `root`, walked part by part, no part a link."""
    handle = disk.open_folder(".", root)
    try:
        for part in parts:
            deeper = disk.open_folder(part, handle)
            disk.close(handle)
            handle = deeper
        yield handle
    finally:
        disk.close(handle)


def names(folder: Fd) -> list[str]:
    """The folder's entries, sorted."""
    return sorted(os.listdir(folder))  # noqa: PTH208 - a descriptor, not a path
