"""The headers of weights files, read with bounds from bytes that nobody vouches for.

What belongs here: telling weights by their content, and the layout of a GGUF or safetensors file as named places. What
does not: the parsers (`vocabulary.gguf_reader`, `safetensors`) and tensor data.

A loader goes by a file's first bytes, whatever it is called, and so does this: a GGUF called `model.bin` is parsed as
one. What a manifest says is a GGUF has to be one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from milton_assets.edge.manifest import BundleManifest, TensorTable
from milton_assets.edge.release.safetensors import MAX_HEADER_BYTES, read_tensors
from milton_assets.vocabulary.artefact_files import check_gguf, part_names
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.gguf import GgufHeader
from milton_assets.vocabulary.gguf_reader import read_header
from milton_assets.vocabulary.registry import ArtefactKind

_GGUF_MAGIC = b"GGUF"
HEAD_BYTES = 10


class WeightsFormat(StrEnum):
    """The formats whose headers are parsed."""

    GGUF = "GGUF"
    SAFETENSORS = "safetensors"


@dataclass(frozen=True)
class TensorPlace:
    """One tensor's place in its file, in bytes from the file's start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset_bytes: int
    size_bytes: int


def format_of(head: bytes, name: str) -> WeightsFormat | None:
    """The format of a file that begins with `head`, or that its name claims; None for what is no weights file."""
    suffix = PurePosixPath(name).suffix.lower()
    if head.startswith(_GGUF_MAGIC) or suffix == ".gguf":
        return WeightsFormat.GGUF
    is_object = head[8:10] == b'{"' and int.from_bytes(head[:8], "little") <= MAX_HEADER_BYTES
    return WeightsFormat.SAFETENSORS if is_object or suffix == ".safetensors" else None


def format_required(manifest: BundleManifest, path: str) -> WeightsFormat | None:
    """The format that the listed file at `path` must have, whatever it is called; None when the manifest says none."""
    if manifest.artefact_kind is not ArtefactKind.GGUF:
        return None
    return WeightsFormat.GGUF if path in {manifest.primary, *model_parts(manifest)} else None


def model_parts(manifest: BundleManifest) -> tuple[str, ...]:
    """The paths of a GGUF's parts, listed or not; nothing for a folder, or for a name that stands for no model."""
    if manifest.artefact_kind is not ArtefactKind.GGUF:
        return ()
    primary = PurePosixPath(manifest.primary)
    try:
        return tuple(str(primary.with_name(name)) for name in part_names(primary.name))
    except BadInput:
        return ()


def model_problem(folder: Path, manifest: BundleManifest) -> str | None:
    """Why the GGUF in the release's folder is not one whole language model; None when it is, or is none.

    For a release whose files are all there and hold: they are opened by their paths.
    """
    parts = model_parts(manifest)
    listed = {entry.path for entry in manifest.files}
    if missing := [part for part in parts if part not in listed]:
        return f"{missing[0]} is a part of the model, and the manifest does not list it"
    try:
        if parts:
            check_gguf({part: folder / part for part in parts})
    except BadInput as error:
        return f"must not be loaded: {error.problem}"
    return None


def gguf_layout(header: GgufHeader) -> tuple[TensorPlace, ...]:
    """The tensors of a GGUF, in the order of their offsets."""
    places = (TensorPlace(t.name, t.type, t.dims, header.data_start + t.offset, t.size_bytes) for t in header.tensors)
    return tuple(sorted(places, key=lambda place: place.offset_bytes))


def read_layout(
    path: Path, name: str | None = None, *, required: WeightsFormat | None = None, head: bytes | None = None
) -> tuple[TensorPlace, ...] | None:
    """The layout of the regular file at `path`, called `name` (by default its own); None when it is no weights file.

    `head` is its first `HEAD_BYTES` bytes, where they are known: a file that is no weights file is then not read again.
    Raises `BadInput` for a header that does not hold, or that is not of the `required` format.
    """
    if head is None:
        with path.open("rb", buffering=0) as stream:
            head = stream.read(HEAD_BYTES)
    match required or format_of(head, name or path.name):
        case WeightsFormat.GGUF:
            return gguf_layout(read_header(path))
        case WeightsFormat.SAFETENSORS:
            tensors = read_tensors(path)
            return tuple(TensorPlace(t.name, t.dtype, t.shape, t.offset_bytes, t.size_bytes) for t in tensors)
        case None:
            return None


def header_problem(
    path: Path,
    name: str,
    required: WeightsFormat | None,
    table: TensorTable | None,
    head: bytes | None = None,
) -> str | None:
    """What is wrong with the header of the file at `path`, called `name`; None when a loader may have it."""
    try:
        layout = read_layout(path, name, required=required, head=head)
    except BadInput as error:
        return f"must not be loaded: {error.problem}"
    if table is not None and (layout is None or not agrees(table, layout)):
        return "has other tensors than the manifest's table"
    return None


def agrees(table: TensorTable, layout: Sequence[TensorPlace]) -> bool:
    """Whether the table lists exactly the tensors of the layout, at their places."""
    listed = [TensorPlace(t.name, t.dtype, t.shape, t.offset_bytes, t.size_bytes) for t in table.tensors]
    return listed == list(layout)
