"""Where the tensors lie in a weights file, read from its header with bounds.

What belongs here: the layout of a GGUF or safetensors file as named regions, and the manifest's table of it. What
does not: parsing GGUF (`vocabulary.gguf`) and tensor data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from milton_assets.edge.bundle.placing import Placed
from milton_assets.edge.bundle.safetensors import read_tensors
from milton_assets.edge.bundle.streaming import Region
from milton_assets.edge.manifest import TensorEntry, TensorTable
from milton_assets.vocabulary.gguf import GgufHeader, read_header


@dataclass(frozen=True)
class TensorPlace:
    """One tensor's place in its file, in bytes from the file's start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset_bytes: int
    size_bytes: int


def gguf_layout(header: GgufHeader) -> tuple[TensorPlace, ...]:
    """The tensors of a GGUF, in the order of their offsets."""
    places = (TensorPlace(t.name, t.type, t.dims, header.data_start + t.offset, t.size_bytes) for t in header.tensors)
    return tuple(sorted(places, key=lambda place: place.offset_bytes))


def read_layout(path: Path, name: str | None = None) -> tuple[TensorPlace, ...] | None:
    """The layout of a weights file; None for a file that is none, going by `name` (by default the path's own).

    Raises `BadInput` for a header that does not hold.
    """
    suffix = PurePosixPath(name or path.name).suffix.lower()
    if suffix == ".gguf":
        return gguf_layout(read_header(path))
    if suffix == ".safetensors":
        return tuple(TensorPlace(t.name, t.dtype, t.shape, t.offset_bytes, t.size_bytes) for t in read_tensors(path))
    return None


def regions(layout: Sequence[TensorPlace]) -> list[Region]:
    """The layout as regions for `streaming.RegionDigests`."""
    return [Region(place.offset_bytes, place.offset_bytes + place.size_bytes) for place in layout]


def tensor_table(path: str, layout: Sequence[TensorPlace], placed: Placed) -> TensorTable:
    """The manifest's table of the file at `path` in the bundle."""
    return TensorTable(
        path=path,
        tensors=tuple(
            TensorEntry(
                name=place.name,
                dtype=place.dtype,
                shape=place.shape,
                offset_bytes=place.offset_bytes,
                size_bytes=place.size_bytes,
                blake3=digest,
            )
            for place, digest in zip(layout, placed.regions_blake3, strict=True)
        ),
        rest_blake3=placed.rest_blake3,
    )


def agrees(table: TensorTable, layout: Sequence[TensorPlace]) -> bool:
    """Whether the table lists exactly the tensors of the layout, at their places."""
    listed = [TensorPlace(t.name, t.dtype, t.shape, t.offset_bytes, t.size_bytes) for t in table.tensors]
    return listed == list(layout)
