"""Advisory locks, which the kernel drops when their holder dies.

    with locked(folder / ".models.lock", timeout_s=10): ...

What belongs here: taking a lock on a file or folder, waiting for it, and asking whether it is held. What does not: what
is done under it, and what a holder says of itself.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from milton_assets.vocabulary.errors import BadInput, MiltonError

_POLL_S = 0.02


def acquire(handle: int, *, wait_s: float | None = None, shared: bool = False) -> bool:
    """Take the lock of the open file or folder `handle`; it is held until the last copy of `handle` is closed.

    Waits for another holder for ever, or `wait_s` seconds (0 does not wait) and then answers False. Any number may hold
    a `shared` lock at once, and nobody an exclusive one beside them.
    """
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    if wait_s is None:
        fcntl.flock(handle, how)
        return True
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(handle, how | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)


def wait_until_free(
    why_not: Callable[[], MiltonError | None], *, wait: bool, on_wait: Callable[[str], object], poll_s: float
) -> None:
    """Ask `why_not`, which takes what is wanted or says why it cannot be had, until it can be.

    Raises what it says unless `wait`; else tells `on_wait` so, once, and asks again every `poll_s` seconds.
    """
    said = False
    while (held := why_not()) is not None:
        if not wait:
            raise held
        if not said:
            on_wait(held.problem)
            said = True
        time.sleep(poll_s)


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock of that file now; nobody holds one that is not there. Changes nothing."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not acquire(handle, wait_s=0, shared=True)
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path, *, timeout_s: float | None = None) -> Iterator[None]:
    """Hold the exclusive lock of the lock file `path`, made when absent and never removed.

    Waits for another holder for ever, or `timeout_s` seconds and then raises `BadInput`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        if not acquire(stream.fileno(), wait_s=timeout_s):
            raise BadInput(
                f"{path} has been locked by another process for {timeout_s:g} s",
                remedy="wait until that process is done, or end it",
            )
        yield
