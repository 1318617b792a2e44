"""Whether the file system under a new target can hold one: what a deployment leans on is tried, once.

What belongs here: trying, and saying what is missing. What does not: a disk that is full, failing or read-only, which
every step finds out by itself (`edge.disk_errors`).

FAT and exFAT have no symbolic links, some network file systems no locks that `flock` takes or no `fsync` of a folder.
A target there would fail halfway, or worse, promise what it cannot keep.
"""

from __future__ import annotations

import errno
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from milton_assets.edge.deployment.fileops import FileOps, exists, write_all
from milton_assets.edge.release.disk import Fd, opened
from milton_assets.vocabulary.errors import BadInput

PROBE_PREFIX = ".probe-"
"""How the names begin under which it is tried; a crash can leave one."""
_NOT_HERE = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOLCK})
"""What a file system answers that does not have what is asked for. A refusal for another reason is told as such."""


class FileSystemLacks(BadInput):
    """The file system cannot hold a target."""


def check_file_system(ops: FileOps, folder: Fd, path: Path) -> None:
    """Try in the open folder at `path` all that a target needs of its file system, and leave nothing.

    Raises `FileSystemLacks` naming everything that is missing, `OSError` when it refuses for another reason.
    """
    # Names of its own, since another deployer may be trying the same.
    name = f"{PROBE_PREFIX}{secrets.token_hex(4)}"
    link = f"{name}.link"
    try:
        with opened(ops, ops.create(name, folder)) as handle:
            write_all(ops, handle, b"tried\n")
            lacking = [
                *_lacking("locks", lambda: ops.lock(handle)),
                *_lacking("durable files (fsync)", lambda: ops.fsync(handle)),
            ]
        links = _lacking("symbolic links", lambda: ops.symlink(name, link, folder))
        lacking += links
        if not links:
            lacking += _lacking("renaming over a file", lambda: ops.rename(link, folder, name, folder))
        lacking += _lacking("durable folders (fsync)", lambda: ops.fsync(folder))
    finally:
        with suppress(OSError):  # what is to be told is why the trial failed
            for made in (link, name):
                if exists(made, folder):
                    ops.unlink(made, folder)
    if lacking:
        raise FileSystemLacks(
            f"the file system at {path} has no {', no '.join(lacking)}",
            expected="a file system such as ext4, xfs, btrfs or f2fs",
            remedy="format the device's partition with one of these, or put the target elsewhere",
        )


def _lacking(what: str, attempt: Callable[[], object]) -> list[str]:
    try:
        attempt()
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
        return [what]
    return []
