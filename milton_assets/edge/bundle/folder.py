"""A folder that nobody vouches for, read without following a link or leaving it.

What belongs here: opening, listing and reading below an open directory descriptor. What does not: what the files
mean.

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

from milton_assets.vocabulary.errors import BadInput

MAX_ENTRIES = 50_000
MAX_DEPTH = 32

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe would block in open() otherwise
_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY


class EntryKind(StrEnum):
    """What a name in a folder stands for."""

    FILE = "file"
    SYMLINK = "symlink"
    SPECIAL = "special"


@dataclass(frozen=True)
class Entry:
    """One name below the folder that is no folder itself. `path` is relative and POSIX."""

    path: str
    kind: EntryKind
    size_bytes: int
    links: int


class Folder:
    """An open folder. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        """Open `path`. Raises `BadInput` when it is missing or no folder; a link to a folder is followed here only."""
        self.path = path
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        except FileNotFoundError:
            raise BadInput(f"there is no folder {path}", expected="a bundle's folder") from None
        except NotADirectoryError:
            raise BadInput(f"{path} is no folder", expected="a bundle's folder") from None

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)

    def walk(self) -> Iterator[Entry]:
        """Every entry that is no folder, and every *empty* folder as a special entry, in order of names.

        Raises `BadInput` beyond `MAX_ENTRIES` entries or `MAX_DEPTH` folders.
        """
        for count, entry in enumerate(self._walk("", 0), start=1):
            if count > MAX_ENTRIES:
                raise BadInput(f"{self.path} holds more than {MAX_ENTRIES} entries", expected="a bundle")
            yield entry

    def _walk(self, prefix: str, depth: int) -> Iterator[Entry]:
        if depth > MAX_DEPTH:
            raise BadInput(f"{self.path} is more than {MAX_DEPTH} folders deep", expected="a bundle")
        with self._opened(prefix.rstrip("/"), _FOLDER) as handle:
            with os.scandir(handle) as found:
                names = sorted(entry.name for entry in found)
            facts = [(name, os.lstat(name, dir_fd=handle)) for name in names]
        if not facts and prefix:
            yield Entry(prefix, EntryKind.SPECIAL, 0, 1)
        for name, fact in facts:
            path = prefix + name
            if stat.S_ISDIR(fact.st_mode):
                yield from self._walk(f"{path}/", depth + 1)
            else:
                yield Entry(path, _kind_of(fact.st_mode), fact.st_size, fact.st_nlink)

    @contextmanager
    def open_file(self, path: str) -> Iterator[int]:
        """A read-only descriptor of the regular file `path`; nothing on the way may be a link.

        Raises `FileNotFoundError`, or `BadInput` when it is a link or no regular file.
        """
        with self._opened(path, _READ) as handle:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise BadInput(f"{path!r:.200} is no regular file", expected="a regular file")
            yield handle

    def read(self, path: str, limit: int) -> bytes:
        """The whole of a small file. Raises as `open_file`, and `BadInput` when it is longer than `limit` bytes."""
        with self.open_file(path) as handle:
            size = os.fstat(handle).st_size
            if size > limit:
                raise BadInput(f"{path} has {size} bytes", expected=f"at most {limit}")
            with os.fdopen(os.dup(handle), "rb") as stream:
                return stream.read(size)

    @contextmanager
    def _opened(self, path: str, flags: int) -> Iterator[int]:
        *folders, name = path.split("/") if path else ["."]
        handle = os.dup(self._handle)
        try:
            for folder in folders:
                handle = _step(handle, folder, _FOLDER, path)
            handle = _step(handle, name, flags, path)
            yield handle
        finally:
            os.close(handle)


def _step(handle: int, name: str, flags: int, path: str) -> int:
    """Open `name` below `handle` and close `handle`, unless opening fails."""
    try:
        below = os.open(name, flags, dir_fd=handle)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            raise BadInput(
                f"{path!r:.200} leads through a link or a file", expected="plain folders and files"
            ) from None
        if error.errno in {errno.ENXIO, errno.ENODEV}:
            raise BadInput(f"{path!r:.200} is no regular file", expected="a regular file") from None
        raise
    os.close(handle)
    return below


def _kind_of(mode: int) -> EntryKind:
    if stat.S_ISREG(mode):
        return EntryKind.FILE
    return EntryKind.SYMLINK if stat.S_ISLNK(mode) else EntryKind.SPECIAL
