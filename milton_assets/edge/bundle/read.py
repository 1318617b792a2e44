"""Reading a bundle's own files, as hostile input.

What belongs here: the manifest and the sums of an open bundle folder. What does not: checking the rest (`verify`).
"""

from __future__ import annotations

from pathlib import Path

from milton_assets.edge.bundle.folder import Folder
from milton_assets.edge.bundle.sums import MAX_SUMS_BYTES, parse_sums
from milton_assets.edge.manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES, SUMS_FILE, BundleManifest, parse_manifest
from milton_assets.vocabulary.errors import BadInput

MAX_DOCUMENT_BYTES = 64 << 20
_LIMITS = {MANIFEST_FILE: MAX_MANIFEST_BYTES, SUMS_FILE: MAX_SUMS_BYTES}


def read_manifest(bundle: Path | Folder) -> BundleManifest:
    """The bundle's manifest. Raises `BadInput` when it is missing or does not hold; says nothing of the files."""
    return parse_manifest(read_document(bundle, MANIFEST_FILE))


def read_sums(bundle: Path | Folder) -> dict[str, str]:
    """The bundle's `SHA256SUMS` as `{path: SHA-256}`. Raises `BadInput` when it is missing or does not hold."""
    return parse_sums(read_document(bundle, SUMS_FILE))


def read_document(bundle: Path | Folder, name: str) -> bytes:
    """The bytes of one of the bundle's documents. Raises `BadInput` when it is missing, too long or no regular file."""
    if isinstance(bundle, Path):
        with Folder(bundle) as folder:
            return read_document(folder, name)
    try:
        return bundle.read(name, _LIMITS.get(name, MAX_DOCUMENT_BYTES))
    except FileNotFoundError:
        raise BadInput(
            f"{bundle.path} holds no {name}",
            expected="a bundle made by `milton bundle create`",
            remedy="name the bundle's own folder",
        ) from None
