"""The one door through which a deployment touches the disk.

What belongs here: one method a system call, relative to an open folder and never following a link. What does not:
any order of steps; that order is what `deployer`, `staging` and `recovery` are about, and because every step of it
passes this door, a test can stop the deployer at each of them, or let each of them fail.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from milton_assets.edge.direct import set_direct

CHUNK_BYTES = 4 << 20
_CHUNKS_AHEAD = 4
_RENAME_EXCHANGE = 2
_libc = ctypes.CDLL(None, use_errno=True)

Fd = int


class FileOps:
    """The real disk. Folders and files are file descriptors; names are single path parts. Raises `OSError`."""

    def open_folder(self, path: str | Path, parent: Fd | None = None) -> Fd:
        """Open a folder; with `parent`, the folder of that name in it, which must not be a link."""
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | (os.O_NOFOLLOW if parent is not None else 0), dir_fd=parent)

    def open_read(self, name: str, parent: Fd) -> Fd:
        """Open a file for reading. Never blocks, even when the name is a pipe's."""
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)

    def open_append(self, name: str, parent: Fd) -> Fd:
        """Open a file for appending, creating it when it is not there."""
        return os.open(name, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o644, dir_fd=parent)

    def create(self, name: str, parent: Fd) -> Fd:
        """Create a file that must not be there yet."""
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=parent)

    def close(self, handle: Fd) -> None:
        """Close a file or folder."""
        os.close(handle)

    def read(self, handle: Fd, size: int) -> bytes:
        """Up to `size` bytes; empty at the end of the file."""
        return os.read(handle, size)

    def read_into(self, handle: Fd, buffer: memoryview) -> int:
        """Fill some of `buffer`; how many bytes, 0 at the end of the file."""
        return os.readv(handle, [buffer])

    def write(self, handle: Fd, data: bytes | memoryview) -> int:
        """Write some of `data`; how many bytes."""
        return os.write(handle, data)

    def overwrite(self, handle: Fd, data: bytes) -> int:
        """Write some of `data` over the file's beginning; how many bytes."""
        return os.pwrite(handle, data, 0)

    def write_uncached(self, handle: Fd, wanted: bool) -> None:
        """Have writes to the file go straight to the disk, or through memory again, as far as its file system allows.

        Straight to the disk go whole pages, from a buffer that is aligned to a page (an `mmap` is).
        """
        set_direct(handle, wanted)

    def truncate(self, handle: Fd, size: int) -> None:
        """Cut the file to `size` bytes."""
        os.ftruncate(handle, size)

    def allocate(self, handle: Fd, size: int) -> None:
        """Give the file `size` bytes of disk, which then are not there for others."""
        os.posix_fallocate(handle, 0, size)

    def fsync(self, handle: Fd) -> None:
        """Make a file's bytes, or a folder's entries, durable."""
        os.fsync(handle)

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

    def mkdir(self, name: str, parent: Fd) -> None:
        """Create a folder that must not be there yet."""
        os.mkdir(name, 0o755, dir_fd=parent)

    def rename(self, name: str, parent: Fd, new_name: str, new_parent: Fd) -> None:
        """Move an entry, over an existing file or link; never over a folder that holds something."""
        os.rename(name, new_name, src_dir_fd=parent, dst_dir_fd=new_parent)

    def exchange(self, name: str, parent: Fd, other: str, other_parent: Fd) -> None:
        """Swap two entries in one step, `renameat2(RENAME_EXCHANGE)`."""
        if _libc.renameat2(parent, os.fsencode(name), other_parent, os.fsencode(other), _RENAME_EXCHANGE) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), name, None, other)

    def symlink(self, to: str, name: str, parent: Fd) -> None:
        """Create a link with the text `to`."""
        os.symlink(to, name, dir_fd=parent)

    def unlink(self, name: str, parent: Fd) -> None:
        """Remove a file or link."""
        os.unlink(name, dir_fd=parent)

    def rmdir(self, name: str, parent: Fd) -> None:
        """Remove an empty folder."""
        os.rmdir(name, dir_fd=parent)

    def free_bytes(self, folder: Fd) -> int:
        """Bytes an unprivileged writer may still fill on the folder's file system."""
        stats = os.fstatvfs(folder)
        return stats.f_bavail * stats.f_frsize


def write_all(ops: FileOps, handle: Fd, data: bytes | memoryview) -> None:
    """Write all of `data`."""
    left = memoryview(data)
    while left:
        left = left[ops.write(handle, left) :]


def read_ahead(ops: FileOps, handle: Fd, size: int) -> Generator[memoryview]:
    """The file's bytes, `CHUNK_BYTES` at a time in buffers aligned to a page; stops once it is beyond `size`.

    A thread, which ends with the iterator, fills the next buffers while one is worked on; a file that fits in one needs
    none. Close the iterator before the file.
    """
    buffers = [memoryview(mmap.mmap(-1, CHUNK_BYTES)) for _ in range(min(_CHUNKS_AHEAD, size // CHUNK_BYTES + 1))]
    seen = 0
    if len(buffers) == 1:
        while seen <= size and (count := ops.read_into(handle, buffers[0])):
            seen += count
            yield buffers[0][:count]
        return
    with ThreadPoolExecutor(1) as reader:
        reading = deque((buffer, reader.submit(ops.read_into, handle, buffer)) for buffer in buffers)
        try:
            while seen <= size:
                buffer, filled = reading.popleft()
                if not (count := filled.result()):
                    return
                seen += count
                yield buffer[:count]
                reading.append((buffer, reader.submit(ops.read_into, handle, buffer)))
        finally:
            reader.shutdown(cancel_futures=True)


@contextmanager
def opened(ops: FileOps, handle: Fd) -> Iterator[Fd]:
    """The handle for the length of a `with` block."""
    try:
        yield handle
    finally:
        ops.close(handle)


@contextmanager
def folder_beneath(ops: FileOps, root: Fd, parts: tuple[str, ...], *, create: bool = False) -> Iterator[Fd]:
    """The folder `parts` below `root`, walked part by part, no part a link; with `create`, missing ones are made."""
    handle = ops.open_folder(".", root)
    try:
        for part in parts:
            if create and not exists(part, handle):
                ops.mkdir(part, handle)
            deeper = ops.open_folder(part, handle)
            ops.close(handle)
            handle = deeper
        yield handle
    finally:
        ops.close(handle)


def exists(name: str, parent: Fd) -> bool:
    """Whether there is an entry of that name, be it a dangling link."""
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def link_text(name: str, parent: Fd) -> str | None:
    """The text of the link of that name, None when there is none. Raises `OSError` when it is no link."""
    try:
        return os.readlink(name, dir_fd=parent)
    except FileNotFoundError:
        return None


def names(folder: Fd) -> list[str]:
    """The folder's entries, sorted."""
    return sorted(os.listdir(folder))  # noqa: PTH208 - a descriptor, not a path


def is_folder(name: str, parent: Fd) -> bool:
    """Whether the entry is a folder, and no link to one."""
    return (os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode & 0o170000) == 0o040000


def remove_tree(ops: FileOps, name: str, parent: Fd) -> None:
    """Remove the entry and all below it, following no link."""
    if not is_folder(name, parent):
        ops.unlink(name, parent)
        return
    with opened(ops, ops.open_folder(name, parent)) as folder:
        for entry in names(folder):
            remove_tree(ops, entry, folder)
    ops.rmdir(name, parent)


def sync_folders(ops: FileOps, folder: Fd) -> None:
    """Make the entries of the folder and of all folders below it durable, the deepest first."""
    for entry in names(folder):
        if is_folder(entry, folder):
            with opened(ops, ops.open_folder(entry, folder)) as below:
                sync_folders(ops, below)
    ops.fsync(folder)
