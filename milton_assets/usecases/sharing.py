"""A bundle in an OCI registry, and back: pushed as a ModelPack artefact, pulled as the very same files.

What belongs here: moving a release's files between a folder and a registry, checked on both ways. What does not: the
artefact's form (`edge.bundle.modelpack`) and the registry's protocol (`resources.oci_registry`).
"""

from __future__ import annotations

import io
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from milton_assets.edge.bundle.modelpack import (
    IMAGE_MANIFEST_TYPE,
    MAX_MANIFEST_BYTES,
    modelpack_of,
    read_modelpack,
    require_same_files,
)
from milton_assets.edge.bundle.transfer import checked_documents, copy_checked, created_below, receiving
from milton_assets.edge.disk_errors import disk_errors_explained
from milton_assets.edge.release import Folder, read_documents, verify_release
from milton_assets.edge.release.documents import UNLISTED_LIMITS
from milton_assets.edge.release.progress import ByteProgress
from milton_assets.vocabulary.progress import OnProgress, silent
from resources.oci_registry import OciReference, OciRepository


@dataclass(frozen=True)
class Pushed:
    """What became of a push: the artefact by digest, and how many bytes the registry did not have."""

    artefact: OciReference
    sent_bytes: int
    size_bytes: int


@disk_errors_explained()
def push_bundle(bundle: Path, repository: OciRepository, *, on_progress: OnProgress = silent) -> Pushed:
    """Store the bundle in the folder `bundle`; its tag is the reference's, or none.

    A blob that the registry has is not sent. The registry holds every blob against its digest, and the manifest is
    stored last, so that an artefact is whole or absent. Raises `ReleaseDamaged`, `OciFailed`.
    """
    with Folder(bundle) as folder:
        documents = read_documents(folder)
        manifest = verify_release(folder, contents=False).require()
        packed = modelpack_of(documents)
        progress = ByteProgress("push", documents.size_bytes, on_progress)
        sent_bytes = 0
        for layer in packed.manifest.layers:
            if not repository.has(layer.digest):
                on_bytes = progress.of(layer.path)
                if (raw := documents.unlisted.get(layer.path)) is not None:
                    repository.put(layer.digest, layer.size, io.BytesIO(raw), on_bytes)
                else:
                    with folder.open_file(layer.path) as handle, os.fdopen(os.dup(handle), "rb") as source:
                        repository.put(layer.digest, layer.size, source, on_bytes)
                sent_bytes += layer.size
            progress.finished(layer.size)
        about = packed.manifest.config
        if not repository.has(about.digest):
            repository.put(about.digest, about.size, io.BytesIO(packed.config))
        digest = repository.put_manifest(packed.manifest.to_bytes(), IMAGE_MANIFEST_TYPE, repository.reference.tag)
    return Pushed(repository.reference.at(digest), sent_bytes, manifest.payload_bytes)


@disk_errors_explained()
def pull_bundle(
    repository: OciRepository, into: Path, *, trusted: Collection[str] | None = None, on_progress: OnProgress = silent
) -> Path:
    """Fetch an artefact into a folder of the bundle's name in `into`, and return that folder.

    The release's manifest comes first: only files that it names are fetched, each no longer than it says and with the
    digest it says. A signature that is there must hold; with `trusted` (fingerprints), one of those keys must have
    signed, and that is known before any weights travel. Raises `BadInput`, `SignatureInvalid`, `ReleaseDamaged`,
    `OciFailed` or `DiskFailed`, and leaves nothing.
    """
    where = str(repository.reference)
    _, raw = repository.manifest(IMAGE_MANIFEST_TYPE, MAX_MANIFEST_BYTES)
    artefact = read_modelpack(raw, where)
    layers = artefact.by_path()
    unlisted = {
        name: repository.small_blob(layers[name].digest, limit)
        for name, limit in UNLISTED_LIMITS.items()
        if name in layers
    }
    documents = checked_documents(unlisted, trusted, where)
    require_same_files(artefact, documents, where)
    with receiving(into, documents) as staged:
        progress = ByteProgress("pull", documents.manifest.payload_bytes, on_progress)
        for entry in documents.manifest.files:
            with repository.blob(layers[entry.path].digest) as source, created_below(staged, entry.path) as out:
                copy_checked(source, out, entry, progress)
    return into / documents.manifest.name
