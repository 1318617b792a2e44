"""Which release a target serves: what `current` points to, and what its manifest says about serving it.

What belongs here: reading that, as often as anybody likes. What does not: verifying a release (`edge.release`, before
it became current) and moving the link (`edge.deployment`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from milton_assets.edge.deployment.fileops import FileOps
from milton_assets.edge.deployment.layout import RELEASES, Link, read_link
from milton_assets.edge.manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES, HealthContract, parse_manifest
from milton_assets.edge.release.disk import opened
from milton_assets.vocabulary.errors import BadInput


@dataclass(frozen=True)
class Released:
    """A release as it is served: its digest, the file or folder that a model server loads, and its health contract."""

    digest: str
    model_version: str
    artefact: Path
    contract: HealthContract
    ram_bytes: int


def current_digest(target: Path) -> str | None:
    """The digest of the release that `current` points to; None when it points to nothing, or there is no target yet.

    Raises `NotATarget` when it points elsewhere.
    """
    if not os.path.lexists(target / Link.CURRENT):
        return None
    ops = FileOps()
    with opened(ops, ops.open_folder(target)) as folder:
        return read_link(Link.CURRENT, folder)


def read_release(target: Path, digest: str) -> Released:
    """What that release's manifest says. The paths are in the release's own folder, so they stay when `current` moves.

    Raises `BadInput` when it is no manifest or another release's, `OSError` when it is not there.
    """
    return read_released(target / RELEASES / digest, digest)


def read_released(folder: Path, digest: str) -> Released:
    """The same of a release in a folder of its own. Raises as `read_release`."""
    with (folder / MANIFEST_FILE).open("rb") as stream:
        manifest = parse_manifest(stream.read(MAX_MANIFEST_BYTES + 1))
    if manifest.release_digest != digest:
        raise BadInput(
            f"the manifest in {folder} is that of the release {manifest.release_digest}",
            expected=f"the release {digest}",
            remedy="`milton recover` says what the target holds; deploy the bundle again",
        )
    return Released(
        digest, manifest.model_version, folder / manifest.primary, manifest.health, manifest.requirements.ram_bytes
    )
