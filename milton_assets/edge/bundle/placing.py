"""One weights file, put into a bundle with a single read.

What belongs here: cloning, copying or linking a file and taking its digests in the same pass. What does not: what the
digests are compared with.

A clone (reflink) shares blocks until one side writes, so it costs nothing and an edit of the source cannot reach it. A
hard link costs nothing either, but *is* the source: an edit in place changes the bundle, and only verifying notices.
It is therefore made on request alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from milton_assets.edge.bundle.streaming import CHUNK_BYTES, OnBytes, Region, RegionDigests, Sink, ignore_bytes, pump
from milton_assets.edge.page_cache import bypass_page_cache
from milton_assets.vocabulary.errors import BadInput

_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
SPARE_BYTES = 64 << 20
"""Kept free beyond the weights, for the documents and the file system's own needs."""


class LinkMode(StrEnum):
    """How a bundle may share bytes with its source."""

    AUTO = "auto"
    """Clone where the file system can, else copy."""
    COPY = "copy"
    """Always copy."""
    HARD = "hard"
    """Hard link: instant, but whoever edits the source in place edits the bundle; `verify` then says so."""


@dataclass(frozen=True)
class Placed:
    """What was put there: size, SHA-256, BLAKE3 per region in order and of the rest, and how it was done."""

    size_bytes: int
    sha256: str
    regions_blake3: tuple[str, ...]
    rest_blake3: str
    how: str


def place(
    source: Path,
    target: Path,
    *,
    link: LinkMode = LinkMode.AUTO,
    regions: Sequence[Region] | None = None,
    on_bytes: OnBytes = ignore_bytes,
) -> Placed:
    """Put `source` at `target`, which must not exist, and digest what was put there; its folders are made.

    A copy goes past the page cache, but is durable only once the caller has fsynced it. Without `regions` no BLAKE3 is
    taken. Raises `BadInput` when `source` is no regular file, changes meanwhile, or does not fit.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if link is LinkMode.HARD:
        _hard_link(source, target)
        return _digested(target, regions, on_bytes, how="hard link")
    read = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        before = _regular(read, source)
        write = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            cloned = link is LinkMode.AUTO and _clone(read, write)
            if not cloned:
                _require_room(target.parent, before.st_size)
                placed = _pass(read, source, regions, on_bytes, how="copy", writer=_Writer(write))
        finally:
            os.close(write)
        if cloned:
            return _digested(target, regions, on_bytes, how="clone")
        after = os.fstat(read)
    finally:
        os.close(read)
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise _changed(source)
    return placed


def _changed(path: Path) -> BadInput:
    return BadInput(f"{path} changed while it was copied", remedy="let its writer finish, then bundle again")


def _regular(handle: int, path: Path) -> os.stat_result:
    facts = os.fstat(handle)
    if not stat.S_ISREG(facts.st_mode):
        raise BadInput(f"{path} is no regular file", expected="a regular file")
    return facts


def _clone(read: int, write: int) -> bool:
    try:
        fcntl.ioctl(write, _FICLONE, read)
    except OSError:  # another file system, or one without clones: copying is the answer
        return False
    return True


def _hard_link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(strict=True), target)
    except OSError as error:
        raise BadInput(
            f"{source} cannot be linked into the bundle: {error.strerror}",
            expected="source and bundles on one file system that has hard links",
            remedy="bundle without a hard link",
        ) from None


def _require_room(folder: Path, size_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if size_bytes + SPARE_BYTES > free:
        raise BadInput(
            f"{folder.parent} has {free / 1e9:.2f} GB free",
            expected=f"{(size_bytes + SPARE_BYTES) / 1e9:.2f} GB",
            remedy="free space (old bundles can go), or put the bundles on another disk",
        )


class _Writer:
    """A sink that writes whole chunks past the page cache, and what is left of the file through it."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        bypass_page_cache(handle, True)

    def __call__(self, view: memoryview) -> None:
        if len(view) < CHUNK_BYTES:
            bypass_page_cache(self._handle, False)
        while view:
            view = view[os.write(self._handle, view) :]


def _digested(path: Path, regions: Sequence[Region] | None, on_bytes: OnBytes, *, how: str) -> Placed:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        _regular(handle, path)
        return _pass(handle, path, regions, on_bytes, how=how)
    finally:
        os.close(handle)


def _pass(
    handle: int,
    path: Path,
    regions: Sequence[Region] | None,
    on_bytes: OnBytes,
    *,
    how: str,
    writer: _Writer | None = None,
) -> Placed:
    whole, parts = hashlib.sha256(), RegionDigests(regions or [])
    sinks: list[Sink] = [whole.update]
    if regions is not None:
        sinks.append(parts)
    if writer is not None:
        sinks.append(writer)
    size = pump(handle, apart=sinks, on_bytes=on_bytes)
    try:
        digests, rest = parts.finish() if regions is not None else ([], "")
    except ValueError:
        raise _changed(path) from None
    return Placed(size, whole.hexdigest(), tuple(digests), rest, how)
