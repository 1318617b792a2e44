"""Freeing releases that are not in service: `gc`.

What belongs here: choosing them, and removing them so that no half-removed release is ever under `releases/`. What
does not: the rule that what is active or last known good stays; that is in `states`, which refuses to record anything
else.

The journal is told after the room is freed, not before: on a full disk there may be no room to tell it first. A crash
in between leaves releases that are gone and not yet recorded as such; `recovery` records them.
"""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from milton_assets.edge.deployment.fileops import remove_tree
from milton_assets.edge.deployment.layout import RELEASES, STAGING
from milton_assets.edge.deployment.session import Session
from milton_assets.edge.deployment.states import Collected, TargetState
from milton_assets.edge.release.disk import folder_beneath, names
from milton_assets.vocabulary.digest import Sha256

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Collection(BaseModel):
    """What was, or in a dry run would be, freed and kept; `foreign` lies under `releases/` and is no release."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str
    freed: tuple[Sha256, ...]
    freed_bytes: int
    kept: tuple[Sha256, ...]
    foreign: tuple[str, ...]
    dry_run: bool


def plan(target: str, releases: Path, state: TargetState, *, keep: int, dry_run: bool) -> Collection:
    """What can be freed: all but the active, the last known good, and the `keep` releases before the active one."""
    found = names_in(releases)
    before = [digest for digest in reversed(state.lineage[:-1]) if digest not in state.protected]
    wanted = state.protected | set(dict.fromkeys(before[:keep]))
    digests = [name for name in found if _DIGEST.fullmatch(name)]
    freed = tuple(digest for digest in digests if digest not in wanted)
    return Collection(
        target=target,
        freed=freed,
        freed_bytes=sum(_size_bytes(releases / digest) for digest in freed),
        kept=tuple(digest for digest in digests if digest in wanted),
        foreign=tuple(name for name in found if not _DIGEST.fullmatch(name)),
        dry_run=dry_run,
    )


def names_in(folder: Path) -> list[str]:
    """The folder's entries, sorted; none when it is not there."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _size_bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def collect(session: Session, *, actor: str, keep: int) -> Collection:
    """Free what can be freed, and record it."""
    chosen = plan(session.target.name, session.target.path / RELEASES, session.state, keep=keep, dry_run=False)
    with (
        folder_beneath(session.ops, session.folder, (RELEASES,)) as releases,
        folder_beneath(session.ops, session.folder, (STAGING,)) as staging,
    ):
        for digest in chosen.freed:
            session.ops.rename(digest, releases, digest, staging)
            session.ops.fsync(releases)
            session.ops.fsync(staging)
            remove_tree(session.ops, digest, staging)
        session.ops.fsync(staging)
    if chosen.freed:
        session.journal.append(
            Collected(at=session.now(), actor=actor, releases=chosen.freed, freed_bytes=chosen.freed_bytes)
        )
    return chosen


def record_missing(session: Session, *, actor: str) -> tuple[str, ...]:
    """Record releases that the journal knows and the disk no longer has; which. Never the active or known good one."""
    with folder_beneath(session.ops, session.folder, (RELEASES,)) as releases:
        present = set(names(releases))
    known = session.state.releases.keys() - session.state.protected
    missing = tuple(sorted(known - present))
    if missing:
        session.journal.append(Collected(at=session.now(), actor=actor, releases=missing, freed_bytes=0))
    return missing
