"""An error of the operating system, in words that say what to do next.

    explained(error, "milton keys init")    # a MiltonError: what could not be done, where, why, and what to do next

What belongs here: that translation. What does not: catching the error; the command line does it in `cli.app`, a Dagster
run in its console logger.
"""

from __future__ import annotations

import errno
import os

from milton_assets.vocabulary.errors import MiltonError

_FREE_ROOM = "free room there, or set MILTON_STATE_DIR to a folder on another disk"
_WRITABLE = "make it writable for this user, or set MILTON_STATE_DIR to another folder"

REMEDIES = {
    errno.ENOSPC: _FREE_ROOM,
    errno.EDQUOT: _FREE_ROOM,
    errno.EFBIG: "raise the limit on the size of files (`ulimit -f`), or use another disk",
    errno.EACCES: _WRITABLE,
    errno.EPERM: _WRITABLE,
    errno.EROFS: _WRITABLE,
    errno.ENOTDIR: "move the file away that stands where a folder is needed, or name another folder",
    errno.EEXIST: "move away what stands there, or name another folder",
    errno.EISDIR: "name a file; a folder stands there",
    errno.ENOENT: "make the folder, or name one that is there",
    errno.ENAMETOOLONG: "name a shorter path",
    errno.ELOOP: "mend the symbolic links there, which lead in a circle",
    errno.EMFILE: "raise the limit on open files (`ulimit -n`)",
    errno.EIO: "look at the disk (`dmesg`), and restore the state folder from a backup",
}
"""What helps against an error of that number."""


def remedy_for(number: int | None) -> str | None:
    """What to do next about an error of that number; None where nothing general can be said."""
    return None if number is None else REMEDIES.get(number)


def explained(error: OSError, doing: str) -> MiltonError:
    """`error` as something a person can act on; `doing` is what was under way."""
    place = _place(error)
    why = os.strerror(error.errno) if error.errno is not None else str(error) or type(error).__name__
    return MiltonError(
        f"{doing} could not go on: {why}" + (f" ({place})" if place else ""), remedy=remedy_for(error.errno)
    )


def _place(error: OSError) -> str:
    names = [os.fsdecode(n) for n in (error.filename, error.filename2) if isinstance(n, str | bytes)]
    return " → ".join(names)
