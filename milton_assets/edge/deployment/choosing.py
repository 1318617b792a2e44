"""Which bundle to deploy, when only a run, or nothing, was named: the one rule, for graph and command line.

What belongs here: finding bundles in a folder by what their manifests say. What does not: believing them; a deployment
verifies whatever was chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from milton_assets.edge.manifest import BUNDLE_PREFIX, BundleManifest
from milton_assets.edge.release import Folder, read_documents
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import entries
from milton_assets.vocabulary.keys import class_of
from milton_assets.vocabulary.registry import ArtefactKind


@dataclass(frozen=True)
class Choice:
    """The chosen bundle, and what in the folder could not be read as a bundle, a sentence each."""

    path: Path
    manifest: BundleManifest
    unreadable: tuple[str, ...]


def choose_bundle(
    bundles: Path, *, kind: ArtefactKind, run_id: str | None = None, device_class: str | None = None
) -> Choice:
    """The newest bundle of that kind (by counter, then time) in the folder `bundles`, of that run when one is named.

    Else it is of a run that decided for `device_class`, or, for None, on the speeds of the controller.

    Raises `BadInput` with the next step when there is none, `OSError` where the folder cannot be listed.
    """
    found: list[tuple[Path, BundleManifest]] = []
    unreadable = []
    for path in entries(bundles):
        if not path.name.startswith(BUNDLE_PREFIX):
            continue
        try:
            found.append((path, _manifest(path)))
        except (BadInput, OSError) as error:
            unreadable.append(f"{path.name}: {error}")
    of_kind = [(p, m) for p, m in found if m.artefact_kind is kind]
    wanted = [(p, m) for p, m in of_kind if m.run_id == run_id or (not run_id and class_of(m.run_id) == device_class)]
    if not wanted:
        raise BadInput(
            f"{bundles} holds no {kind} bundle"
            + (f" of {run_id}" if run_id else f" for the class {device_class}" if device_class else ""),
            expected="; ".join(["a bundle made by `milton bundle create`", *unreadable]),
            remedy=f"milton bundle create{f' --run {run_id}' if run_id else ''} --artifact {kind}",
        )
    path, manifest = max(wanted, key=lambda pair: (pair[1].counter, pair[1].created_at, pair[0].name))
    return Choice(path, manifest, tuple(unreadable))


def _manifest(path: Path) -> BundleManifest:
    with Folder(path) as folder:
        return read_documents(folder).manifest
