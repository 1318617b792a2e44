"""The dead-man's switch: whoever deployed from elsewhere comes back and says so, or the device goes back.

What belongs here: the word of the one who came back, and waiting for it. What does not: how it reaches the device
(`milton_assets.agent`), and going back (`activation`).

A release may be healthy and still cut the device off from whoever manages it. So an attempt that was asked for over a
network is committed only once its caller has reached the device again, over a new connection. The word is a file that
names the attempt, so one left behind by an earlier attempt confirms nothing. What counts is what the journal says: a
word that comes too late changes nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from milton_assets.edge.deployment.fileops import FileOps
from milton_assets.edge.deployment.ids import check_deployment_id
from milton_assets.edge.deployment.layout import CONFIRMED_FILE
from milton_assets.edge.deployment.session import read_target
from milton_assets.edge.release.disk import Fd, opened
from milton_assets.vocabulary.edge_target import EdgeTarget
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.files import write_atomic

_POLL_S = 0.1
_ID_BYTES = 64


class NobodyCameBack(MiltonError):
    """The caller of an attempt did not reach the device again in time."""


def confirm(target: EdgeTarget, deployment_id: str, *, ops: FileOps | None = None) -> None:
    """Say that the caller of that attempt reached the target again.

    Raises `BadInput` unless that attempt is in flight with its release activated.
    """
    flight = read_target(target, ops or FileOps()).state.in_flight
    if flight is None or flight.deployment != check_deployment_id(deployment_id) or not flight.may_have_swapped:
        raise BadInput(
            f"{deployment_id} is not waiting for anybody on the target {target.name}",
            expected="an attempt in flight whose release is activated",
            remedy="`milton history` says how it ended",
        )
    write_atomic(target.path / CONFIRMED_FILE, deployment_id)


def confirmed(target: EdgeTarget, deployment_id: str) -> bool:
    """Whether the caller of that attempt came back to `target`."""
    ops = FileOps()
    with opened(ops, ops.open_folder(target.path)) as folder:
        return is_confirmed(folder, deployment_id)


def is_confirmed(folder: Fd, deployment_id: str) -> bool:
    """Whether the caller of that attempt came back to the target whose folder is open."""
    try:
        handle = os.open(CONFIRMED_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return False
    with os.fdopen(handle, "rb") as stream:
        return stream.read(_ID_BYTES) == deployment_id.encode()


def await_confirmation(
    folder: Fd, deployment_id: str, *, activated_at: float, within_s: float, clock: Callable[[], float] = time.monotonic
) -> None:
    """Wait until the caller came back, at most until `within_s` seconds after `activated_at` (by `clock`).

    Raises `NobodyCameBack`.
    """
    while not is_confirmed(folder, deployment_id):
        if clock() >= activated_at + within_s:
            raise NobodyCameBack(
                f"nobody came back over a new connection within {within_s:g} s of the activation",
                expected="whoever deployed to reach the device again",
                remedy="see why the device could not be reached, then deploy again",
            )
        time.sleep(_POLL_S)
