"""The one door through which a deployment touches the disk.

What belongs here: what `edge.release.disk` reads with, and one method a system call for writing, relative to an open
folder and never following a link. What does not: any order of steps; that order is what `deployer`, `copying` and
`recovery` are about, and because every step of it passes this door, a test can stop the deployer at each of them, or
let each of them fail.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from milton_assets.edge.page_cache import bypass_page_cache
from milton_assets.edge.relative_path import MAX_DEPTH
from milton_assets.edge.release.disk import Fd, ReadOnlyDisk, names, opened

_RENAME_EXCHANGE = 2


class FileOps(ReadOnlyDisk):
    """The real disk. Folders and files are file descriptors; names are single path parts. Raises `OSError`."""

    def open_append(self, name: str, parent: Fd) -> Fd:
        """Open a file for appending, creating it when it is not there."""
        return os.open(name, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o644, dir_fd=parent)

    def create(self, name: str, parent: Fd) -> Fd:
        """Create a file that must not be there yet, for others to read whatever the umask."""
        handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=parent)
        os.fchmod(handle, 0o644)
        return handle

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
        bypass_page_cache(handle, wanted)

    def truncate(self, handle: Fd, size: int) -> None:
        """Cut the file to `size` bytes."""
        os.ftruncate(handle, size)

    def allocate(self, handle: Fd, size: int) -> None:
        """Give the file `size` bytes of disk, which then are not there for others."""
        os.posix_fallocate(handle, 0, size)

    def fsync(self, handle: Fd) -> None:
        """Make a file's bytes, or a folder's entries, durable."""
        os.fsync(handle)

    def mkdir(self, name: str, parent: Fd) -> None:
        """Create a folder that must not be there yet, for others to read whatever the umask."""
        os.mkdir(name, 0o755, dir_fd=parent)
        os.chmod(name, 0o755, dir_fd=parent)  # noqa: S103 - a server of another user reads what lies in it

    def rename(self, name: str, parent: Fd, new_name: str, new_parent: Fd) -> None:
        """Move an entry, over an existing file or link; never over a folder that holds something."""
        os.rename(name, new_name, src_dir_fd=parent, dst_dir_fd=new_parent)

    def exchange(self, name: str, parent: Fd, other: str, other_parent: Fd) -> None:
        """Swap two entries in one step, `renameat2(RENAME_EXCHANGE)`."""
        import ctypes  # whoever only looks at a target need not wait for it

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.renameat2(parent, os.fsencode(name), other_parent, os.fsencode(other), _RENAME_EXCHANGE) != 0:
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

    def lock(self, handle: Fd) -> None:
        """Take the lock of an open file that nobody else has."""
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def free_bytes(self, folder: Fd) -> int:
        """Bytes an unprivileged writer may still fill on the folder's file system."""
        stats = os.fstatvfs(folder)
        return stats.f_bavail * stats.f_frsize


def write_all(ops: FileOps, handle: Fd, data: bytes | memoryview) -> None:
    """Write all of `data`."""
    left = memoryview(data)
    while left:
        left = left[ops.write(handle, left) :]


@contextmanager
def folder_made_beneath(ops: FileOps, root: Fd, parts: tuple[str, ...]) -> Iterator[Fd]:
    """As `folder_beneath`, but what is missing on the way is made."""
    handle = ops.open_folder(".", root)
    try:
        for part in parts:
            if not exists(part, handle):
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


def is_folder(name: str, parent: Fd) -> bool:
    """Whether the entry is a folder, and no link to one."""
    return (os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode & 0o170000) == 0o040000


def remove_tree(ops: FileOps, name: str, parent: Fd) -> None:
    """Remove the entry and all below it, following no link, however deep somebody nested it.

    Below `MAX_DEPTH` folders, what lies deeper is first moved up into `parent`, under a name of its own.
    """
    waiting = [name]
    while waiting:
        waiting += _remove(ops, waiting.pop(), parent, parent, depth=0)


def _remove(ops: FileOps, name: str, folder: Fd, top: Fd, *, depth: int) -> list[str]:
    """Remove the entry of `folder`; the names in `top` of what was too deep for that."""
    if not is_folder(name, folder):
        ops.unlink(name, folder)
        return []
    if depth > MAX_DEPTH:
        moved = f"deep-{secrets.token_hex(8)}"
        ops.rename(name, folder, moved, top)
        return [moved]
    with opened(ops, ops.open_folder(name, folder)) as below:
        left = [deep for entry in names(below) for deep in _remove(ops, entry, below, top, depth=depth + 1)]
    ops.rmdir(name, folder)
    return left


def sync_folders(ops: FileOps, folder: Fd) -> None:
    """Make the entries of the folder and of all folders below it durable, the deepest first."""
    for entry in names(folder):
        if is_folder(entry, folder):
            with opened(ops, ops.open_folder(entry, folder)) as below:
                sync_folders(ops, below)
    ops.fsync(folder)
