"""A release's weights, parsed with bounds before anything loads them.

What belongs here: holding each header against the manifest's tensor table. What does not: the parsers
(`vocabulary.gguf`, `edge.bundle.safetensors`) and digests (`sealed`).
"""

from __future__ import annotations

from pathlib import Path

from milton_assets.edge.bundle.tensors import agrees, read_layout
from milton_assets.edge.deployment.sealed import damaged
from milton_assets.edge.manifest import BundleManifest
from milton_assets.vocabulary.errors import BadInput


def check_headers(folder: Path, manifest: BundleManifest) -> None:
    """Parse the header of every weights file in the release's folder.

    Raises `ReleaseDamaged` when one does not parse, or has other tensors than the manifest says.
    """
    tables = {table.path: table for table in manifest.tensor_tables}
    problems = []
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
