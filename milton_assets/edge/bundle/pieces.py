"""The pieces a bundle's files are made of, and finding them by their digests.

What belongs here: regions of tensor tables, what lies between them, and an index of both. What does not: reading them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from milton_assets.edge.bundle.streaming import Region
from milton_assets.edge.manifest import BundleManifest, TensorTable


@dataclass(frozen=True)
class Piece:
    """Where a bundle has some bytes: regions of one file, in order."""

    path: str
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class PieceIndex:
    """What a bundle has, by digest: files by SHA-256, tensors and what lies outside them by BLAKE3."""

    files: dict[str, str]
    pieces: dict[str, Piece]

    @classmethod
    def of(cls, manifest: BundleManifest) -> PieceIndex:
        """The index of the bundle with that manifest."""
        sizes = {entry.path: entry.size_bytes for entry in manifest.files}
        pieces: dict[str, Piece] = {}
        for table in manifest.tensor_tables:
            regions = tensor_regions(table)
            for tensor, region in zip(table.tensors, regions, strict=True):
                pieces[tensor.blake3] = Piece(table.path, (region,))
            pieces[table.rest_blake3] = Piece(table.path, tuple(gaps(regions, sizes[table.path])))
        return cls({entry.sha256: entry.path for entry in manifest.files}, pieces)


def tensor_regions(table: TensorTable) -> list[Region]:
    """The table's tensors as regions of their file."""
    return [Region(tensor.offset_bytes, tensor.offset_bytes + tensor.size_bytes) for tensor in table.tensors]


def gaps(regions: Sequence[Region], size_bytes: int) -> Iterator[Region]:
    """What lies outside the sorted regions of a file of that size."""
    position = 0
    for region in regions:
        if region.start > position:
            yield Region(position, region.start)
        position = region.end
    if size_bytes > position:
        yield Region(position, size_bytes)
