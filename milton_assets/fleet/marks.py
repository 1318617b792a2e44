"""Where a target was when it was last changed from this state folder, and on which file system.

    targets/kit.json   {"place": "/mnt/kit", "filesystem": {"mounted_at": "/mnt/kit", "id": "8f3a…"}, …}

What belongs here: the mark, and finding by it that a target is gone: not mounted, or wiped. What does not: what lies in
a target. The mark is what keeps a target whose disk is not mounted from being made anew on the disk below.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from milton_assets.vocabulary.edge_target import EdgeTarget
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import write_atomic
from milton_assets.vocabulary.state import StateDir


class TargetGone(BadInput):
    """A target that was there, and is not now."""


class Filesystem(BaseModel):
    """A file system: where it is mounted, and the id that the kernel gives it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mounted_at: str
    id: str

    @classmethod
    def under(cls, path: Path) -> Filesystem:
        """The one on which `path`, or the nearest folder above it that is there, lies."""
        nearest = next(folder for folder in (path, *path.parents) if folder.is_dir()).resolve()
        mounted_at = next(folder for folder in (nearest, *nearest.parents) if folder.is_mount())
        return cls(mounted_at=str(mounted_at), id=f"{os.statvfs(nearest).f_fsid & (1 << 64) - 1:016x}")


class Mark(BaseModel):
    """One target's mark. `place` is as `StateDir.tell` has it; `since` is when it was first changed from here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    place: str
    filesystem: Filesystem
    since: AwareDatetime


def mark_file(state: StateDir, name: str) -> Path:
    """Where the mark of that target is kept."""
    return state.targets / f"{name}.json"


def read_mark(state: StateDir, name: str) -> Mark | None:
    """The mark of that target, None when there is none. Raises `BadInput` for one that does not hold."""
    path = mark_file(state, name)
    if not path.exists():
        return None
    try:
        return Mark.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise BadInput(
            f"{path} does not say where the target {name} is: {error.errors()[0]['msg']}",
            expected="the file as it was written",
            remedy="restore it, or move it away and name the target's folder with --target-path",
        ) from None


def write_mark(state: StateDir, target: EdgeTarget, now: datetime) -> None:
    """Mark where `target` is, if that is not marked yet."""
    known = read_mark(state, target.name)
    mark = Mark(
        place=state.tell(target.path),
        filesystem=Filesystem.under(target.path),
        since=known.since if known else now,
    )
    if mark != known:
        write_atomic(mark_file(state, target.name), mark.model_dump_json(indent=2) + "\n")


def gone(state: StateDir, target: EdgeTarget) -> TargetGone | None:
    """The error for `target`, at whose place nothing lies, when it was marked as being there; None for a new one."""
    mark = read_mark(state, target.name)
    if mark is None or state.place(mark.place) != target.path:
        return None
    now = Filesystem.under(target.path)
    unmounted = now.mounted_at != mark.filesystem.mounted_at
    why = (
        f"it lay on the file system mounted at {mark.filesystem.mounted_at}, which is not mounted"
        if unmounted
        else "it was wiped, or another disk is mounted there"
    )
    return TargetGone(
        f"the target {target.name} is not at {target.path}, where it was: {why}",
        expected="the target as it was left",
        remedy=("mount it and try again" if unmounted else "restore it, or mount its disk")
        + f"; if it is gone for good, `milton target forget {target.name}` lets a new one be made there",
    )
