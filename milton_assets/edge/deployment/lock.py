"""One deployer a target: an advisory lock that the kernel drops with its holder, and that says who holds it.

What belongs here: taking, waiting for and reading the lock. What does not: what is done under it.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, ValidationError

from milton_assets.edge.deployment.fileops import FileOps
from milton_assets.edge.release.disk import Fd
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.locks import acquire, is_held

LOCK_FILE = "lock"
_GLANCE_S = 0.25
_HOLDER_BYTES = 1024
_MAX_NAME_CHARACTERS = 60


class TargetBusy(MiltonError):
    """Another deployer works on the target."""


def _short(text: str) -> str:
    return text[:_MAX_NAME_CHARACTERS]


class Holder(BaseModel):
    """Who holds the lock."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    actor: Annotated[str, AfterValidator(_short)]
    host: Annotated[str, AfterValidator(_short)]
    pid: int
    since: AwareDatetime

    @classmethod
    def me(cls, actor: str, now: datetime) -> Holder:
        """This process."""
        return cls(actor=actor, host=socket.gethostname(), pid=os.getpid(), since=now)


@contextmanager
def locked(target: Path, holder: Holder, *, wait_s: float = 0.0, ops: FileOps | None = None) -> Iterator[Fd]:
    """Hold the target's lock for the length of a `with` block; yields its descriptor.

    Waits up to `wait_s` seconds for another holder, then raises `TargetBusy` naming it. Killing the holder frees the
    lock, whatever the file says. Even without a wait a short grace is given, since `is_locked` takes it for an instant.
    """
    handle = os.open(target / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        if not acquire(handle, wait_s=max(wait_s, _GLANCE_S)):
            raise _busy(target, handle)
        # Padded and never cut: a file that keeps its block can be written on a full disk. Whoever cannot even so holds
        # the lock all the same, without saying who it is.
        with suppress(OSError):
            said = json.dumps(holder.model_dump(mode="json")).encode().ljust(_HOLDER_BYTES)
            (ops or FileOps()).overwrite(handle, said)
        yield handle
    finally:
        os.close(handle)


def _busy(target: Path, handle: int) -> TargetBusy:
    try:
        holder = Holder.model_validate_json(os.pread(handle, _HOLDER_BYTES, 0))
        who = (
            f"{holder.actor} (process {holder.pid} on {holder.host}) since {holder.since.isoformat(timespec='seconds')}"
        )
    except ValidationError:
        who = "another process, which has not said who it is"
    return TargetBusy(
        f"the target {target} is held by {who}",
        expected="a target nobody else is deploying to",
        remedy="wait until it is done (--wait SECONDS waits for you); if that process is gone, so is its lock",
    )


def is_locked(target: Path) -> bool:
    """Whether someone holds the target's lock now. Changes nothing."""
    return is_held(target / LOCK_FILE)
