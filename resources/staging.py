"""A file that is made beside its place and moved there when it is whole, by one process at a time.

What belongs here: the folder to make it in, and the move. What does not: what is made.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from milton_assets.vocabulary.files import fsync_dir
from milton_assets.vocabulary.locks import locked


@contextmanager
def stage(folder: Path, name: str) -> Iterator[Path]:
    """A temporary folder beside the target, under the target's lock; nothing of it is left behind."""
    with locked(folder / f".{name}.lock"), TemporaryDirectory(prefix=f".{name}.", dir=folder) as staging:
        yield Path(staging)


def publish(staged: Path, target: Path) -> None:
    """Move a whole file to its place, durably."""
    with staged.open("rb") as stream:
        os.fsync(stream.fileno())
    staged.replace(target)
    fsync_dir(target.parent)
