"""Writing past the page cache.

What belongs here: the one flag both sides of the edge set when they write weights. What does not: what is written.

Through the page cache, gigabytes of weights cost more processor time than their SHA-256, push out what is in use there
(the model that serves, for one), and are held back once too many of them wait for the disk.
"""

from __future__ import annotations

import errno
import fcntl
import os


def bypass_page_cache(handle: int, wanted: bool) -> bool:
    """Have reads and writes of an open file go past the page cache (`O_DIRECT`), or through it; whether it does now.

    While they go past it, their buffers, sizes and offsets must be whole pages. A file system that cannot do that
    (tmpfs, on older kernels) goes on through the cache.
    """
    flags = fcntl.fcntl(handle, fcntl.F_GETFL)
    try:
        fcntl.fcntl(handle, fcntl.F_SETFL, flags | os.O_DIRECT if wanted else flags & ~os.O_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return wanted
