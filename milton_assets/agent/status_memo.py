"""What `status` said last, for as long as it would say the same again.

    before = seen(files)
    said = …                                        # read, checked and told: most of a second on a small device
    remember(memo, asked, said, before, lock)
    recalled(memo, asked)                           # the same text, in the time that Python takes to start

What belongs here: keeping that text beside the identity of every file that it was made from, and whether all of them
are still the same ones. What does not: which files those are, and telling the status (`milton_assets.agent.__main__`).

It is loaded before anything else is, so it imports next to nothing, no pydantic above all. A file is the same one as
long as device, inode, size and both of its times are (docs/adr/0080); where one has changed a moment ago, another
change could hide behind the same times, and nothing is remembered. While somebody works on the target nothing is
recalled.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from milton_assets.vocabulary.locks import is_held

SETTLED_S = 2.0
"""Since the last change of any of the files; file systems' times are that coarse at worst."""
_MAX_BYTES = 4 << 20

Seen = Mapping[str, Sequence[int] | None]
"""Identities by path: of the file itself, or of the link and whether it leads anywhere; None where nothing is."""


def seen(files: Sequence[Path]) -> Seen:
    """The identities of `files` now."""
    return {str(path): _identity(path) for path in files}


def remember(memo: Path, asked: str, said: str, before: Seen, lock: Path) -> None:
    """Keep that `asked` was answered by `said` when the files were as they were `before`, in the file `memo`.

    `lock` is held by whoever works on the target. What cannot be kept is made anew the next time.
    """
    from milton_assets.vocabulary.files import write_atomic

    now_ns = time.time_ns()
    changed_at = max((identity[4] for identity in before.values() if identity is not None), default=0)
    if now_ns - changed_at < SETTLED_S * 1e9 or is_held(lock):
        return
    document = {"program": _program(), "asked": asked, "lock": str(lock), "files": before, "said": said}
    with suppress(OSError):
        write_atomic(memo, json.dumps(document))


def recalled(memo: Path, asked: str) -> str | None:
    """What was said to `asked`, when it would be said again; None when it has to be made anew."""
    try:
        raw = memo.read_bytes()
        if len(raw) > _MAX_BYTES:
            return None
        document = json.loads(raw)
        if [document["program"], document["asked"]] != [_program(), asked] or is_held(Path(document["lock"])):
            return None
        if any(_identity(Path(path)) != identity for path, identity in document["files"].items()):
            return None
        return str(document["said"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # none was kept, or it is none of ours


def _identity(path: Path) -> list[int] | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, int(path.exists())]


def _program() -> list[str | int]:
    """Which release of ours says it: an installed one lies under its digest."""
    found = Path(__file__).stat()
    return [sys.version, __file__, found.st_ino, found.st_mtime_ns]
