"""A bundle as a ModelPack artefact of an OCI registry: which blob is which file.

What belongs here: the artefact's manifest and configuration, made from a release's documents and read as hostile input.
What does not: talking to a registry (`resources.oci_registry`), and moving the files (`usecases.sharing`).

Media types and annotations are those of the CNCF ModelPack specification (github.com/modelpack/model-spec, v1). Every
file of the release is one layer as it is, neither packed nor compressed, so a layer's digest is the file's own, and a
registry that has the weights already is sent nothing. What may be believed is what the release's own signed manifest
says: the artefact's manifest only says where the blobs are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from milton_assets.edge.manifest import FileEntry
from milton_assets.edge.relative_path import check_path
from milton_assets.edge.release import ReleaseDocuments
from milton_assets.edge.release.documents import UNLISTED_LIMITS
from milton_assets.vocabulary.digest import canonical_json, sha256_bytes
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import ArtefactKind
from milton_assets.vocabulary.strict_json import parse_json

ARTEFACT_TYPE: Final = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_TYPE: Final = "application/vnd.cncf.model.config.v1+json"
IMAGE_MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
WEIGHT_TYPE: Final = "application/vnd.cncf.model.weight.v1.raw"
WEIGHT_CONFIG_TYPE: Final = "application/vnd.cncf.model.weight.config.v1.raw"
DOCUMENT_TYPE: Final = "application/vnd.cncf.model.doc.v1.raw"
FILE_PATH: Final = "org.cncf.model.filepath"
MAX_MANIFEST_BYTES: Final = 4 << 20
"""What registries take at most, by the distribution specification."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_WEIGHTS = (".gguf", ".safetensors")


class Descriptor(BaseModel):
    """A blob: its digest, size in bytes, and what it is."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    media_type: str = Field(alias="mediaType", max_length=200)
    digest: str = Field(pattern=_DIGEST.pattern, max_length=71)
    size: int = Field(ge=0)


class _Annotations(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)

    path: Annotated[str, AfterValidator(check_path)] = Field(alias=FILE_PATH)


class Layer(Descriptor):
    """A file of the release."""

    annotations: _Annotations

    @property
    def path(self) -> str:
        """Where it lies in the release."""
        return self.annotations.path


class ModelPack(BaseModel):
    """The artefact's manifest. `layers` are the release's files, those that it does not list first."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    schema_version: Literal[2] = Field(default=2, alias="schemaVersion")
    media_type: Literal["application/vnd.oci.image.manifest.v1+json"] = Field(
        default=IMAGE_MANIFEST_TYPE, alias="mediaType"
    )
    artifact_type: Literal["application/vnd.cncf.model.manifest.v1+json"] = Field(
        default=ARTEFACT_TYPE, alias="artifactType"
    )
    config: Descriptor
    layers: tuple[Layer, ...] = Field(min_length=1, max_length=10_000)

    def to_bytes(self) -> bytes:
        """The manifest as it is stored; equal releases give equal bytes."""
        return canonical_json(self.model_dump(mode="json", by_alias=True)).encode()

    def by_path(self) -> Mapping[str, Layer]:
        """The layers by the path of their file."""
        return {layer.path: layer for layer in self.layers}


@dataclass(frozen=True)
class Packed:
    """A release's artefact: the manifest, and the configuration's bytes, which lie in no file of the release."""

    manifest: ModelPack
    config: bytes


def modelpack_of(documents: ReleaseDocuments) -> Packed:
    """The artefact of a release."""
    unlisted = [
        _layer(name, sha256_bytes(raw), len(raw), DOCUMENT_TYPE)
        for name in UNLISTED_LIMITS
        if (raw := documents.unlisted.get(name)) is not None
    ]
    listed = [_layer(file.path, file.sha256, file.size_bytes, _type_of(file)) for file in documents.manifest.files]
    layers = (*unlisted, *listed)
    config = canonical_json(_config(documents, layers)).encode()
    about = Descriptor(media_type=CONFIG_TYPE, digest=f"sha256:{sha256_bytes(config)}", size=len(config))
    return Packed(ModelPack(config=about, layers=layers), config)


def read_modelpack(raw: bytes, where: str) -> ModelPack:
    """The manifest that a registry gave. Raises `BadInput` for anything but a ModelPack of files as they are."""
    try:
        found = ModelPack.model_validate(parse_json(raw, where))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BadInput(
            f"{where} is no ModelPack artefact of a bundle: {place}: {first['msg']}",
            expected=f"a manifest of the type {ARTEFACT_TYPE}, a layer a file",
            remedy="name an artefact that `milton bundle push` made",
        ) from error
    if len(found.by_path()) != len(found.layers):
        raise BadInput(f"{where} names a file twice", expected="each file once")
    return found


def require_same_files(found: ModelPack, documents: ReleaseDocuments, where: str) -> None:
    """Raise `BadInput` unless the layers are the release's files, no more and no less, by digest and size."""
    told = {layer.path: (layer.digest, layer.size) for layer in found.layers}
    right = {layer.path: (layer.digest, layer.size) for layer in modelpack_of(documents).manifest.layers}
    if odd := sorted(path for path in told.keys() | right.keys() if told.get(path) != right.get(path)):
        raise BadInput(
            f"{where} has another {odd[0]!r:.200} than the manifest of {documents.manifest.name}",
            expected="the files that the release's manifest lists",
            remedy="push the bundle again",
        )


def _layer(path: str, sha256: str, size_bytes: int, media_type: str) -> Layer:
    annotations = _Annotations(path=path)
    return Layer(media_type=media_type, digest=f"sha256:{sha256}", size=size_bytes, annotations=annotations)


def _type_of(file: FileEntry) -> str:
    if not file.path.startswith("model/"):
        return DOCUMENT_TYPE
    return WEIGHT_TYPE if file.path.endswith(_WEIGHTS) else WEIGHT_CONFIG_TYPE


def _config(documents: ReleaseDocuments, layers: tuple[Layer, ...]) -> dict[str, Any]:
    manifest = documents.manifest
    descriptor = {
        "createdAt": manifest.created_at.isoformat(),
        "name": manifest.model_version,
        "version": manifest.name,
        "revision": manifest.release_digest,
        "title": manifest.base_model,
        "licenses": [manifest.licence] if manifest.licence else None,
    }
    model = {
        "format": "gguf" if manifest.artefact_kind is ArtefactKind.GGUF else "safetensors",
        "quantization": manifest.quantization,
    }
    return {
        "descriptor": {name: value for name, value in descriptor.items() if value is not None},
        "modelfs": {"type": "layers", "diffIds": [layer.digest for layer in layers]},
        "config": {name: value for name, value in model.items() if value is not None},
    }
