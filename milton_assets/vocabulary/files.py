"""Files that are either the old or the new version, never half of one.

What belongs here: atomic writes, fsync and listing of folders, and keeping a path inside its folder. What does not:
formats, and locks (`locks`).
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from milton_assets.vocabulary.errors import BadInput


def fsync_dir(folder: Path) -> None:
    """Make the folder's entries durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def entries(folder: Path) -> list[Path]:
    """What lies in the folder, by name; nothing where there is none. Raises `OSError` where it cannot be listed.

    `Path.glob` finds nothing in a folder that may not be read, as if nothing lay there.
    """
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write `data` to `path` through a temporary neighbour, fsync and rename: old or new, never half."""
    raw = data.encode() if isinstance(data, str) else data
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        handle = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(handle, "wb") as stream:
            stream.write(raw)
            stream.flush()
            os.fsync(stream.fileno())
        staged.replace(path)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)


def write_once(path: Path, data: str) -> None:
    """Write `data` to `path` unless something is there; of several that do at once, one has written it, whole."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        write_atomic(staged, data)
        with suppress(FileExistsError):
            path.hardlink_to(staged)
    finally:
        staged.unlink(missing_ok=True)
    fsync_dir(path.parent)


def inside(folder: Path, relative: str) -> Path:
    """`folder / relative`, resolved, refused with `BadInput` when it would leave `folder`."""
    root = folder.resolve()
    try:
        path = (root / relative).resolve()
    except (RuntimeError, ValueError, OSError) as error:  # a loop of links, a NUL
        raise BadInput(
            f"the path {relative!r:.200} leads nowhere ({error})", expected=f"a path below {root}"
        ) from error
    if path != root and root not in path.parents:
        raise BadInput(f"the path {relative!r:.200} leaves its folder", expected=f"a path below {root}")
    return path
