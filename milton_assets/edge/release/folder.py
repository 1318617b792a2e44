"""A folder that nobody vouches for, read without following a link or leaving it.

What belongs here: opening, listing and reading below an open directory descriptor, on any disk. What does not: what
the files mean.

Every step is taken relative to a descriptor with `O_NOFOLLOW`, so that a link swapped in between two steps is
refused by the kernel and not by a check that came too early.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from milton_assets.edge.relative_path import MAX_DEPTH
from milton_assets.edge.release.disk import Fd, ReadOnlyDisk, folder_beneath, names, opened
from milton_assets.vocabulary.errors import BadInput

MAX_ENTRIES = 50_000
_READ_BYTES = 1 << 20
_THIS_DISK = ReadOnlyDisk()
_NO_PLAIN_WAY = frozenset({errno.ELOOP, errno.ENOTDIR})
_NO_DRIVER = frozenset({errno.ENXIO, errno.ENODEV})
"""What opening a socket, or a device without a driver, fails with."""


class EntryKind(StrEnum):
    """What a name in a folder stands for. The values read well after "is a"."""

    FILE = "regular file"
    SYMLINK = "symbolic link"
    FOLDER = "folder"
    PIPE = "pipe"
    SOCKET = "socket"
    CHARACTER_DEVICE = "character device"
    BLOCK_DEVICE = "block device"
    OTHER = "thing that is no file"


_KINDS = {
    stat.S_IFREG: EntryKind.FILE,
    stat.S_IFLNK: EntryKind.SYMLINK,
    stat.S_IFDIR: EntryKind.FOLDER,
    stat.S_IFIFO: EntryKind.PIPE,
    stat.S_IFSOCK: EntryKind.SOCKET,
    stat.S_IFCHR: EntryKind.CHARACTER_DEVICE,
    stat.S_IFBLK: EntryKind.BLOCK_DEVICE,
}


@dataclass(frozen=True)
class Entry:
    """One name below the folder: any but a folder that holds something. `path` is relative and POSIX."""

    path: str
    kind: EntryKind
    size_bytes: int
    links: int


class Folder:
    """An open folder. Use as a context manager."""

    def __init__(self, path: Path, disk: ReadOnlyDisk = _THIS_DISK, *, beneath: Fd | None = None) -> None:
        """Open `path` on `disk`; with `beneath`, that open folder, which `path` only names in messages.

        Raises `BadInput` when it is missing or no folder; a link to a folder is followed here only.
        """
        self.path = path
        self.disk = disk
        try:
            self._handle = disk.open_folder(path) if beneath is None else disk.open_folder(".", beneath)
        except (FileNotFoundError, NotADirectoryError) as error:
            what = "does not exist" if isinstance(error, FileNotFoundError) else "is no folder"
            raise BadInput(
                f"the bundle {path} {what}",
                expected="the folder of a bundle",
                remedy="`milton bundle create` makes one; a .tar is unpacked with `milton bundle unpack`",
            ) from None

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.disk.close(self._handle)

    @property
    def handle(self) -> Fd:
        """The open folder's descriptor."""
        return self._handle

    def walk(self) -> Iterator[Entry]:
        """Every entry but folders that hold something, in order of names; an empty folder is an entry.

        Raises `BadInput` beyond `MAX_ENTRIES` entries, folders included, or `MAX_DEPTH` folders.
        """
        seen = 0
        with opened(self.disk, self.disk.open_folder(".", self._handle)) as top:
            for entry in self._walk(top, "", 0):
                seen += 1
                if seen > MAX_ENTRIES:
                    raise BadInput(f"{self.path} holds more than {MAX_ENTRIES} entries", expected="a bundle")
                if entry.kind is not EntryKind.FOLDER or entry.links == 0:
                    yield entry

    def _walk(self, folder: Fd, prefix: str, depth: int) -> Iterator[Entry]:
        """As `walk`, with a folder that holds something as an entry of one link or more."""
        if depth > MAX_DEPTH:
            raise BadInput(f"{self.path} is more than {MAX_DEPTH} folders deep", expected="a bundle")
        for name in names(folder):
            facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
            kind = _KINDS.get(stat.S_IFMT(facts.st_mode), EntryKind.OTHER)
            if kind is not EntryKind.FOLDER:
                yield Entry(prefix + name, kind, facts.st_size, facts.st_nlink)
                continue
            with opened(self.disk, self.disk.open_folder(name, folder)) as below:
                held = 0
                for entry in self._walk(below, f"{prefix}{name}/", depth + 1):
                    held += 1
                    yield entry
            yield Entry(f"{prefix}{name}/", kind, 0, links=held)

    @contextmanager
    def open_file(self, path: str, *, from_disk: bool = False) -> Iterator[Fd]:
        """A read-only descriptor of the regular file `path`; nothing on the way may be a link.

        With `from_disk` it is read past the page cache. Raises `FileNotFoundError`, or `BadInput` when it is a link or
        no regular file.
        """
        *parents, name = path.split("/")
        try:
            with folder_beneath(self.disk, self._handle, tuple(parents)) as parent:
                handle = self.disk.open_uncached(name, parent) if from_disk else self.disk.open_read(name, parent)
        except OSError as error:
            if error.errno in _NO_PLAIN_WAY:
                raise BadInput(
                    f"{path!r:.200} leads through a link or a file", expected="plain folders and files"
                ) from None
            if error.errno in _NO_DRIVER:
                raise _not_regular(path) from None
            raise
        with opened(self.disk, handle):
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise _not_regular(path)
            yield handle

    def read(self, path: str, limit: int) -> bytes:
        """The whole of a small file. Raises as `open_file`, and `BadInput` when it is longer than `limit` bytes."""
        chunks: list[bytes] = []
        size = 0
        with self.open_file(path) as handle:
            while chunk := self.disk.read(handle, _READ_BYTES):
                size += len(chunk)
                if size > limit:
                    raise BadInput(f"{path} is larger than {limit} bytes", expected=f"at most {limit}")
                chunks.append(chunk)
        return b"".join(chunks)


def _not_regular(path: str) -> BadInput:
    return BadInput(f"{path!r:.200} is no regular file", expected="a regular file")
