"""A release's weights, parsed with bounds before anything loads them.

What belongs here: holding each header against the manifest's tensor table. What does not: the parsers
(`vocabulary.gguf`, `edge.bundle.safetensors`) and digests (`sealed`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from milton_assets.edge.bundle.tensors import agrees, read_layout
from milton_assets.edge.deployment.sealed import damaged
from milton_assets.edge.manifest import BundleManifest
from milton_assets.vocabulary.artefact_files import artefact_files, check_gguf
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import ArtefactKind


def check_headers(folder: Path, manifest: BundleManifest) -> None:
    """Parse the header of every weights file in the release's folder.

    Raises `ReleaseDamaged` when one does not parse, has other tensors than the manifest says, or is not a whole model.
    """
    tables = {table.path: table for table in manifest.tensor_tables}
    problems = list(_model_problems(folder, manifest))
    for entry in manifest.files:
        try:
            layout = read_layout(folder / entry.path)
        except BadInput as error:
            problems.append(f"{entry.path} must not be loaded: {error.problem}")
            continue
        table = tables.get(entry.path)
        if table is not None and (layout is None or not agrees(table, layout)):
            problems.append(f"{entry.path} has other tensors than the manifest's table")
    if problems:
        raise damaged(str(folder), problems)


def _model_problems(folder: Path, manifest: BundleManifest) -> Iterator[str]:
    """Why the primary is not a whole model whose parts are all listed, whatever its name ends in."""
    if manifest.artefact_kind is not ArtefactKind.GGUF:
        return
    primary = folder / manifest.primary
    listed = {entry.path for entry in manifest.files}
    try:
        parts = artefact_files(primary)
        check_gguf(parts)
        for name in parts:
            if (path := str(PurePosixPath(manifest.primary).with_name(name))) not in listed:
                yield f"{path} is a part of the model, and the manifest does not list it"
    except BadInput as error:
        yield f"{manifest.primary} must not be loaded: {error.problem}"
