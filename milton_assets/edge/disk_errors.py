"""What a disk's refusals mean to a person.

What belongs here: turning an `OSError` of the disk that bundles or targets lie on into an error that says what to do.
What does not: deciding what happens to whatever was being done.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from milton_assets.vocabulary.errors import MiltonError

_MEANINGS = {
    errno.ENOSPC: ("the disk is full", "make room, e.g. with `milton gc`"),
    errno.EDQUOT: ("the disk quota is used up", "make room, e.g. with `milton gc`"),
    errno.EFBIG: ("a file is larger than this process may write", "raise the limit, or deploy a smaller model"),
    errno.EROFS: ("the file system is read-only", "mount it writable; a failing disk may have made it so"),
    errno.EIO: ("the disk failed to read or write", "check the disk (its errors are in `dmesg`) before trying again"),
    errno.EACCES: ("this user may not do that there", "run as the target's owner, or change its permissions"),
    errno.EPERM: ("this user may not do that there", "run as the target's owner, or change its permissions"),
}


class DiskFailed(MiltonError):
    """The disk did not do what was asked of it. `__cause__` is the `OSError`."""


def explained(error: OSError) -> DiskFailed:
    """The same failure, with its meaning and what to do next."""
    meaning, remedy = _MEANINGS.get(error.errno or 0, (error.strerror or str(error), "check the folder"))
    where = f" ({error.filename})" if error.filename else ""
    return DiskFailed(f"{meaning}{where}: {error}", remedy=remedy)


@contextmanager
def disk_errors_explained() -> Iterator[None]:
    """Raise what the disk refuses in the `with` block (or the function decorated with this) as `DiskFailed`."""
    try:
        yield
    except OSError as error:
        raise explained(error) from error
