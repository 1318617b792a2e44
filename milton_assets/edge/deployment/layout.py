"""What lies in a target's folder, and whether a folder is one.

What belongs here: the names, recognising and creating a target, and its two links. What does not: when a link moves.

    releases/<release digest>/   a release, byte for byte its bundle
    current                      link to the release in service: what a model server on the device is pointed at
    last-known-good              link to the release that last proved itself here
    staging/<deployment id>/     a release on its way in; empty whenever nobody deploys
    lost+found                   the file system's own, where the target is a whole partition
    journal.jsonl                the truth about all of it
    journal.reserve              room that the journal gets when the disk is full
    lock                         held while someone works on the target
    guard.log                    what the process that last watched a release had to say
    patrol.json                  how far reading the release in service a little at a time has come
    health.jsonl, health.jsonl.1 what happened while it was served, a bounded journal (`edge.serving.health_journal`)
    confirmed                    the attempt whose controller came back, while a remote one is watched
    device-policy.yaml           which bundles the device admits; written by its owner, never by a deployment
    key-list.json, .lock         whose signatures count since the policy was written, as the keys before them said
    canary/                      releases that are, or were, compared with the one in service (`edge.canary.folder`)
    heard.json                   when a controller was last heard, and the latest silence that was too long
    gateway.json                 held by the gateway that serves it and would lend its memory (`borrowing`)
    borrower.json, loan.json     which release is being tried in that memory, and where it answers
"""

from __future__ import annotations

import os
import re
from enum import StrEnum
from pathlib import Path

from milton_assets.edge.deployment.file_system import PROBE_PREFIX
from milton_assets.edge.deployment.fileops import FileOps, exists, is_folder, link_text
from milton_assets.edge.deployment.journal import JOURNAL_FILE, RESERVE_FILE, has_begun
from milton_assets.edge.deployment.lock import LOCK_FILE
from milton_assets.edge.release.disk import Fd, names, opened
from milton_assets.vocabulary.errors import BadInput

RELEASES = "releases"
STAGING = "staging"
CANARY = "canary"
POLICY_FILE = "device-policy.yaml"
CONFIRMED_FILE = "confirmed"
GUARD_LOG = "guard.log"
PATROL_FILE = "patrol.json"
HEALTH_FILE = "health.jsonl"
OLDER_HEALTH_FILE = "health.jsonl.1"
HEARD_FILE = "heard.json"
GATEWAY_FILE = "gateway.json"
BORROWER_FILE = "borrower.json"
LOAN_FILE = "loan.json"
KEY_LIST_FILE = "key-list.json"
KEY_LIST_LOCK = "key-list.lock"
_LINK_SUFFIX = ".next"
_LINK = re.compile(RELEASES + r"/([0-9a-f]{64})")


class Link(StrEnum):
    """The two links of a target."""

    CURRENT = "current"
    KNOWN_GOOD = "last-known-good"


_OURS = frozenset(
    {
        RELEASES,
        STAGING,
        CANARY,
        JOURNAL_FILE,
        RESERVE_FILE,
        LOCK_FILE,
        POLICY_FILE,
        CONFIRMED_FILE,
        GUARD_LOG,
        PATROL_FILE,
        HEALTH_FILE,
        OLDER_HEALTH_FILE,
        HEARD_FILE,
        GATEWAY_FILE,
        BORROWER_FILE,
        LOAN_FILE,
        KEY_LIST_FILE,
        KEY_LIST_LOCK,
        *Link,
        *(f".{link}{_LINK_SUFFIX}" for link in Link),
    }
)


class NotATarget(BadInput):
    """A folder that is in use for something else."""


def is_target(ops: FileOps, path: Path) -> bool:
    """Whether the folder is a target already; false when it may become one (absent, empty, or half set up).

    Raises `NotATarget` for anything else: another's folder is not taken over.
    """
    if not os.path.lexists(path):
        return False
    try:
        folder = ops.open_folder(path)
    except (NotADirectoryError, FileNotFoundError):
        raise _not_a_target(path, "is no folder") from None
    with opened(ops, folder):
        if has_begun(ops, folder):
            return True
        if foreign := [name for name in names(folder) if not _is_ours(name, folder)]:
            raise _not_a_target(path, f"is in use for something else: it holds {', '.join(map(repr, foreign[:4]))}")
        if holds := [link for link in Link if exists(link, folder)] + _entries(ops, RELEASES, folder):
            raise _not_a_target(path, f"holds {holds[0]!r:.80} but no journal, so nobody can say what it serves")
    return False


def _is_ours(name: str, folder: Fd) -> bool:
    return name in _OURS or name.startswith(PROBE_PREFIX) or (name == "lost+found" and is_folder(name, folder))


def _entries(ops: FileOps, name: str, folder: Fd) -> list[str]:
    if not exists(name, folder):
        return []
    with opened(ops, ops.open_folder(name, folder)) as below:
        return names(below)


def _not_a_target(path: Path, why: str) -> NotATarget:
    return NotATarget(
        f"{path} {why}",
        expected="an edge target, an empty folder, or a path where nothing is yet",
        remedy="name another folder with --target-path",
    )


def set_up(ops: FileOps, folder: Fd) -> None:
    """Make the folders that a target has."""
    missing = [name for name in (RELEASES, STAGING) if not exists(name, folder)]
    for name in missing:
        ops.mkdir(name, folder)
    if missing:
        ops.fsync(folder)


def read_link(link: Link, folder: Fd) -> str | None:
    """The release a link points to, None when it is not there. Raises `NotATarget` when it points elsewhere."""
    try:
        text = link_text(link, folder)
    except OSError:
        text = "something that is no link"
    if text is None:
        return None
    if not (match := _LINK.fullmatch(text)):
        raise NotATarget(
            f"the target's {link!r} leads to {text!r:.200}",
            expected=f"a link to {RELEASES}/<digest>",
            remedy=f"someone changed it by hand: remove {link!r}, and `milton recover` restores it",
        )
    return match.group(1)


def point(ops: FileOps, folder: Fd, link: Link, release: str | None) -> None:
    """Let a link point to a release, or to nothing, in one step and durably."""
    if release is None:
        if exists(link, folder):
            ops.unlink(link, folder)
    else:
        beside = f".{link}{_LINK_SUFFIX}"
        if exists(beside, folder):
            ops.unlink(beside, folder)
        ops.symlink(f"{RELEASES}/{release}", beside, folder)
        ops.rename(beside, folder, link, folder)
    ops.fsync(folder)
