"""The manifest's table of a weights file's tensors.

What belongs here: making the table and its regions from a layout. What does not: reading the layout
(`edge.release.weights`) and tensor data.
"""

from __future__ import annotations

from collections.abc import Sequence

from milton_assets.edge.bundle.placing import Placed
from milton_assets.edge.bundle.streaming import Region
from milton_assets.edge.manifest import TensorEntry, TensorTable
from milton_assets.edge.release.weights import TensorPlace


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
