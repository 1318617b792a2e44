"""A folder that appears whole under its name, or not at all.

What belongs here: the hidden neighbour a bundle is built in, its lock, its removal, and sweeping what a killed
process left. What does not: what is written into it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from milton_assets.vocabulary.files import fsync_dir
from milton_assets.vocabulary.locks import acquire

_PREFIX = ".staging-"
_ABANDONED_AFTER_S = 60.0


@contextmanager
def staging_folder(into: Path) -> Iterator[Path]:
    """A fresh hidden folder in `into`, removed on leaving whatever happens, unless it was renamed away.

    The folder is locked while in use. What an earlier process left behind, killed before it could clean up, is no
    longer locked and is removed first.
    """
    into.mkdir(parents=True, exist_ok=True)
    _sweep(into)
    staged = into / f"{_PREFIX}{secrets.token_hex(8)}"
    staged.mkdir(mode=0o755)
    try:
        with _locked(staged):
            yield staged
    finally:
        if staged.exists():
            shutil.rmtree(staged)


@contextmanager
def naming_lock(into: Path) -> Iterator[None]:
    """Hold the right to choose a name and a counter in `into`; other makers wait."""
    with _locked(into):
        yield


def publish(staged: Path, final: Path, *, durable: bool = True) -> None:
    """Rename `staged` to `final`, which must not exist; before that make every file and folder of it durable."""
    if durable:
        for folder, _, names in os.walk(staged, topdown=False):
            for name in names:
                _fsync_file(Path(folder) / name)
            fsync_dir(Path(folder))
    staged.rename(final)
    if durable:
        fsync_dir(final.parent)


def _fsync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sweep(into: Path) -> None:
    for left in into.glob(f"{_PREFIX}*"):
        with suppress(FileNotFoundError, BlockingIOError):  # another maker swept it, or is at work in it
            if time.time() - left.stat().st_mtime > _ABANDONED_AFTER_S:
                with _locked(left, wait_s=0):
                    shutil.rmtree(left)


@contextmanager
def _locked(folder: Path, *, wait_s: float | None = None) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not acquire(handle, wait_s=wait_s):
            raise BlockingIOError(f"{folder} is locked")
        yield
    finally:
        os.close(handle)
