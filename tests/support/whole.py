"""What must hold of a target whatever happened to it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from milton_assets.edge.deployment import EdgeTarget, Outcome, status
from milton_assets.edge.deployment.history import read_mirror
from milton_assets.edge.deployment.report import history
from tests.support.edge_bundles import read_manifest

FINISHED = {Outcome.COMMITTED, Outcome.ROLLED_BACK, Outcome.FAILED, Outcome.INTERRUPTED}


def visible_is_whole(target: EdgeTarget) -> None:
    """Before any recovery, whatever `current` leads to is a whole release."""
    current = target.path / "current"
    if current.is_symlink():
        check_release(current)


def check_release(folder: Path) -> str:
    """The folder holds a whole release; its digest."""
    manifest = read_manifest(folder)
    for entry in manifest.files:
        assert hashlib.sha256((folder / entry.path).read_bytes()).hexdigest() == entry.sha256
    return manifest.release_digest


def check_whole(target: EdgeTarget, allowed: set[str | None]) -> str | None:
    """Everything that must hold after recovery; the release that is served."""
    current = target.path / "current"
    serving = current.readlink().name if current.is_symlink() else None
    assert serving in allowed
    if serving is not None:
        assert check_release(current) == serving
    assert list((target.path / "staging").iterdir()) == []
    for release in (target.path / "releases").iterdir():
        assert check_release(release) == release.name
    found = history(target)
    assert all(d.outcome in FINISHED for d in found)
    assert (found[-1].now_serving if found else None) == serving
    if target.history_file is not None:
        assert [d.id for d in read_mirror(target)] == [d.id for d in found]
    seen = status(target)
    assert seen.problems == ()
    assert (seen.active.digest if seen.active else None) == serving
    return serving
