"""Writing a release into a folder of the target: only what its manifest names, only as regular files.

What belongs here: copying, with the sealed size as the limit, and making it durable. What does not: reading it back
(`sealed.check_folder`) and moving it into place (`deployer`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager

from milton_assets.edge.deployment.fileops import (
    CHUNK_BYTES,
    Fd,
    FileOps,
    folder_beneath,
    opened,
    read_ahead,
    sync_folders,
    write_all,
)
from milton_assets.edge.deployment.sealed import MIB, Sealed, damaged, odd_kind
from milton_assets.edge.manifest import FileEntry
from milton_assets.vocabulary.progress import OnProgress, Progress

_NOT_THERE = {
    errno.ENOENT: "is missing",
    errno.ENOTDIR: "lies below something that is no folder",
}
_ODD = frozenset({errno.ELOOP, errno.ENXIO, errno.ENODEV})
"""Opening a link, a socket, or a device that has no driver."""


def stage(ops: FileOps, bundle: Fd, staged: Fd, sealed: Sealed, where: str, on_progress: OnProgress) -> None:
    """Copy the release from the open folder `bundle` into the empty open folder `staged`, durably.

    Raises `ReleaseDamaged` when a source is no regular file, or is shorter or longer than the manifest says;
    `OSError` as the disk does.
    """
    done = 0
    for entry in sealed.manifest.files:
        *parents, name = entry.path.split("/")
        with (
            folder_beneath(ops, staged, tuple(parents), create=True) as parent,
            opened(ops, ops.create(name, parent)) as written,
        ):
            _copy(ops, bundle, written, entry, where)
            ops.fsync(written)
        done += entry.size_bytes
        on_progress(Progress("copy", done // MIB, sealed.size_bytes // MIB, f"{entry.path} (MiB)"))
    for name, raw in sealed.unlisted.items():
        with opened(ops, ops.create(name, staged)) as written:
            write_all(ops, written, raw)
            ops.fsync(written)
    sync_folders(ops, staged)


def _copy(ops: FileOps, bundle: Fd, written: Fd, entry: FileEntry, where: str) -> None:
    """Whole chunks go past the page cache; what is left of the file goes through it."""
    size, done = entry.size_bytes, 0
    ops.write_uncached(written, True)
    with _open_source(ops, bundle, entry, where) as source, closing(read_ahead(ops, source, size)) as chunks:
        for chunk in chunks:
            done += len(chunk)
            if done > size:
                raise damaged(where, [f"{entry.path} is longer than the {size} bytes its manifest says"])
            if len(chunk) < CHUNK_BYTES:
                ops.write_uncached(written, False)
            write_all(ops, written, chunk)
    if done < size:
        raise damaged(where, [f"{entry.path} is truncated: it ends after {done} of {size} bytes"])


@contextmanager
def _open_source(ops: FileOps, bundle: Fd, entry: FileEntry, where: str) -> Iterator[Fd]:
    *parents, name = entry.path.split("/")
    try:
        with folder_beneath(ops, bundle, tuple(parents)) as parent:
            handle = _open(ops, name, parent, entry, where)
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
        raise damaged(where, [f"{entry.path} {_NOT_THERE[error.errno]}"]) from None
    with opened(ops, handle):
        _require_regular(os.fstat(handle), entry, where)
        yield handle


def _open(ops: FileOps, name: str, parent: Fd, entry: FileEntry, where: str) -> Fd:
    try:
        return ops.open_read(name, parent)
    except OSError as error:
        if error.errno in _ODD:
            _require_regular(os.stat(name, dir_fd=parent, follow_symlinks=False), entry, where)
        raise


def _require_regular(found: os.stat_result, entry: FileEntry, where: str) -> None:
    if kind := odd_kind(found):
        raise damaged(where, [f"{entry.path} is {kind}, not a regular file"])
