"""Copying a release into a folder of the target: only what its manifest names, only as regular files.

What belongs here: copying, with the listed size as the limit, and making it durable. What does not: checking the source
or the copy (`edge.release.verify_release`) and moving it into place (`attempt`).
"""

from __future__ import annotations

from contextlib import closing

from milton_assets.edge.deployment.fileops import FileOps, folder_made_beneath, sync_folders, write_all
from milton_assets.edge.manifest import FileEntry
from milton_assets.edge.release import Folder, Problem, ProblemKind, ReleaseDamaged, ReleaseDocuments
from milton_assets.edge.release.disk import CHUNK_BYTES, Fd, opened, read_ahead
from milton_assets.edge.release.report import damaged
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.progress import OnProgress, Progress

_MIB = 1 << 20


def copy_release(ops: FileOps, source: Folder, into: Fd, documents: ReleaseDocuments, on_progress: OnProgress) -> None:
    """Copy the release from the folder `source` into the empty open folder `into`, durably.

    `documents` are what was read of it; these very bytes are written. Raises `ReleaseDamaged` when a source is no
    regular file, or is shorter or longer than the manifest says; `OSError` as the disk does.
    """
    done = 0
    for entry in documents.manifest.files:
        *parents, name = entry.path.split("/")
        with (
            folder_made_beneath(ops, into, tuple(parents)) as parent,
            opened(ops, ops.create(name, parent)) as written,
        ):
            _copy(ops, source, written, entry)
            ops.fsync(written)
        done += entry.size_bytes
        on_progress(Progress("copy", done // _MIB, documents.size_bytes // _MIB, f"{entry.path} (MiB)"))
    for name, raw in documents.unlisted.items():
        with opened(ops, ops.create(name, into)) as written:
            write_all(ops, written, raw)
            ops.fsync(written)
    sync_folders(ops, into)


def _copy(ops: FileOps, folder: Folder, written: Fd, entry: FileEntry) -> None:
    """Whole chunks go past the page cache; what is left of the file goes through it."""
    size, done = entry.size_bytes, 0
    ops.write_uncached(written, True)
    try:
        with folder.open_file(entry.path) as source, closing(read_ahead(ops, source, size)) as chunks:
            for chunk in chunks:
                done += len(chunk)
                if done > size:
                    raise _changed(folder, entry, f"is longer than the {size} bytes its manifest says")
                if len(chunk) < CHUNK_BYTES:
                    ops.write_uncached(written, False)
                write_all(ops, written, chunk)
    except FileNotFoundError:
        raise _changed(folder, entry, "is missing") from None
    except BadInput as error:
        raise _changed(folder, entry, error.problem) from None
    if done < size:
        raise _changed(folder, entry, f"is truncated: it ends after {done} of {size} bytes")


def _changed(folder: Folder, entry: FileEntry, what: str) -> ReleaseDamaged:
    """The error for a file that is not what it was when the source was checked."""
    return damaged(folder.path, [Problem(ProblemKind.SIZE, entry.path, what)])
