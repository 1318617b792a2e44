"""`scrub` names the damaged tensor, `repair` fetches only it.

    report = scrub_bundle(folder)
    repair_bundle(folder, source=other_folder)

What belongs here: finding damage by the digests in the manifest, and mending it from another copy. What does not: who
signed the manifest (`verify`); damage of the manifest itself cannot be found by what it says, and is refused.

A region (a tensor, or what lies outside all tensors) is fetched by its digest, wherever the source has it, so a bundle
of another version helps too if it shares the tensor. A repair is made in a copy beside the damaged file, checked
against the file's SHA-256 and then renamed over it: it works for hard-linked files without touching their other name,
and a repair that is interrupted changes nothing.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from milton_assets.edge.bundle.pieces import PieceIndex, gaps, tensor_regions
from milton_assets.edge.bundle.placing import SPARE_BYTES
from milton_assets.edge.bundle.streaming import CHUNK_BYTES, Region, RegionDigests, digest_descriptor, pump
from milton_assets.edge.disk_errors import disk_errors_explained
from milton_assets.edge.manifest import BundleManifest, FileEntry, TensorTable
from milton_assets.edge.release import Folder, ReleaseDamaged, read_documents, read_manifest
from milton_assets.edge.release.progress import ByteProgress
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import fsync_dir
from milton_assets.vocabulary.progress import OnProgress, silent


@dataclass(frozen=True)
class Damage:
    """One damaged file. `tensors` are the names of the damaged ones; `outside` is whether other bytes are damaged too.

    `whole` says that nothing of the file can be told to be right: it is missing, of another size, or has no tensors.
    """

    path: str
    tensors: tuple[str, ...] = ()
    outside: bool = False
    whole: bool = False

    def __str__(self) -> str:
        if self.whole:
            return f"{self.path}: missing, unreadable, of another size, or damaged as a whole"
        parts = [f"tensor {name}" for name in self.tensors]
        if self.outside:
            parts.append("the header or the padding between tensors")
        return f"{self.path}: {', '.join(parts)}"


@dataclass(frozen=True)
class ScrubReport:
    """What is damaged, file by file, and how many bytes were read to know."""

    damages: tuple[Damage, ...]
    bytes_checked: int

    @property
    def ok(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damages

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "ok": self.ok,
            "bytes_checked": self.bytes_checked,
            "damages": [
                {"path": d.path, "tensors": list(d.tensors), "outside": d.outside, "whole": d.whole}
                for d in self.damages
            ],
        }


@dataclass(frozen=True)
class RepairReport:
    """What was mended, and how many bytes were fetched for it."""

    repaired: tuple[Damage, ...]
    fetched_bytes: int


class RepairImpossible(BadInput):
    """The source does not have what is damaged."""


@disk_errors_explained()
def scrub_bundle(bundle: Path, *, on_progress: OnProgress = silent) -> ScrubReport:
    """Read every listed file once and name what is damaged, down to the tensor; what the disk cannot read is.

    Raises `BadInput` when the manifest itself is damaged, `DiskFailed` when the disk refuses for another reason.
    """
    with Folder(bundle) as folder:
        manifest = _undamaged_manifest(folder)
        tables = {table.path: table for table in manifest.tensor_tables}
        progress = ByteProgress("scrub", manifest.payload_bytes, on_progress)
        found = [_damage(folder, entry, tables.get(entry.path), progress) for entry in manifest.files]
        return ScrubReport(tuple(damage for damage in found if damage), manifest.payload_bytes)


def _undamaged_manifest(folder: Folder) -> BundleManifest:
    documents = read_documents(folder)
    if problems := list(documents.problems()):
        raise BadInput(
            f"what {folder.path} says of itself is damaged: {problems[0]}",
            expected="an undamaged manifest to compare the files with",
            remedy="fetch the bundle again",
        )
    return documents.manifest


def _damage(folder: Folder, entry: FileEntry, table: TensorTable | None, progress: ByteProgress) -> Damage | None:
    try:
        with folder.open_file(entry.path) as handle:
            if os.fstat(handle).st_size != entry.size_bytes:
                return Damage(entry.path, whole=True)
            if table is None:
                _, found = digest_descriptor(handle, on_bytes=progress.of(entry.path))
                return None if found == entry.sha256 else Damage(entry.path, whole=True)
            return _damage_by_tensor(handle, entry, table, progress)
    except (FileNotFoundError, BadInput):
        return Damage(entry.path, whole=True)
    except OSError as error:
        _require_bad_sector(error)
        return Damage(entry.path, whole=True)
    finally:
        progress.finished(entry.size_bytes)


def _damage_by_tensor(handle: int, entry: FileEntry, table: TensorTable, progress: ByteProgress) -> Damage | None:
    whole, parts = hashlib.sha256(), RegionDigests(tensor_regions(table))
    try:
        pump(handle, apart=[whole.update, parts], on_bytes=progress.of(entry.path))
    except OSError as error:
        _require_bad_sector(error)
        return _damage_around_bad_sectors(handle, entry, table)
    if whole.hexdigest() == entry.sha256:
        return None
    digests, rest = parts.finish()
    tensors = tuple(tensor.name for tensor, found in zip(table.tensors, digests, strict=True) if found != tensor.blake3)
    outside = rest != table.rest_blake3
    return Damage(entry.path, tensors, outside, whole=not tensors and not outside)


def _require_bad_sector(error: OSError) -> None:
    """Raise `error` again unless it says that the disk could not read a place: that is damage, and not a failure."""
    if error.errno != errno.EIO:
        raise error


def _damage_around_bad_sectors(handle: int, entry: FileEntry, table: TensorTable) -> Damage | None:
    """The damage of a file that cannot be read in one pass, region by region."""
    regions = tensor_regions(table)
    pairs = zip(table.tensors, regions, strict=True)
    tensors = tuple(tensor.name for tensor, region in pairs if not _holds(handle, [region], tensor.blake3))
    outside = not _holds(handle, gaps(regions, entry.size_bytes), table.rest_blake3)
    return Damage(entry.path, tensors, outside) if tensors or outside else None


def _holds(handle: int, regions: Iterable[Region], digest: str) -> bool:
    """Whether these regions can be read, and together have that BLAKE3."""
    hasher = blake3()
    for region in regions:
        for offset in range(region.start, region.end, CHUNK_BYTES):
            try:
                hasher.update(os.pread(handle, min(CHUNK_BYTES, region.end - offset), offset))
            except OSError as error:
                _require_bad_sector(error)
                return False
    return hasher.hexdigest() == digest


@disk_errors_explained()
def repair_bundle(bundle: Path, source: Path, *, on_progress: OnProgress = silent) -> RepairReport:
    """Mend what `scrub_bundle` finds, fetching only the damaged regions from the bundle in the folder `source`.

    Raises `RepairImpossible` when `source` lacks one of them or its copy is damaged too, `DiskFailed` when the disk
    refuses; files mended until then stay mended.
    """
    report = scrub_bundle(bundle, on_progress=on_progress)
    fetched = 0
    with Folder(bundle) as folder, Folder(source) as other:
        manifest = read_manifest(folder)
        tables = {table.path: table for table in manifest.tensor_tables}
        index = PieceIndex.of(read_manifest(other))
        for damage in report.damages:
            entry = manifest.file(damage.path)
            if damage.whole:
                fetched += _replace_whole(bundle, entry, other, index)
            else:
                fetched += _mend(folder, entry, damage, tables[entry.path], other, index)
    return RepairReport(report.damages, fetched)


def _mend(
    bundle: Folder, entry: FileEntry, damage: Damage, table: TensorTable, source: Folder, index: PieceIndex
) -> int:
    regions = tensor_regions(table)
    outside = list(gaps(regions, entry.size_bytes))
    kept: list[Region] = [] if damage.outside else outside
    wanted: list[tuple[str, str, list[Region]]] = []
    for tensor, region in zip(table.tensors, regions, strict=True):
        if tensor.name in damage.tensors:
            wanted.append((f"tensor {tensor.name}", tensor.blake3, [region]))
        else:
            kept.append(region)
    if damage.outside:
        wanted.append(("the bytes outside its tensors", table.rest_blake3, outside))
    with _beside(bundle.path, entry) as staged, staged.open("x+b", buffering=0) as out:
        out.truncate(entry.size_bytes)
        with bundle.open_file(entry.path) as handle:
            for region in kept:
                _copy(handle, region, out.fileno())
        fetched = sum(
            _fetch(out.fileno(), f"{what} of {entry.path}", digest, places, source, index)
            for what, digest, places in wanted
        )
        _require_digest(out.fileno(), entry)
    return fetched


def _copy(handle: int, region: Region, out: int) -> None:
    for offset in range(region.start, region.end, CHUNK_BYTES):
        os.pwrite(out, os.pread(handle, min(CHUNK_BYTES, region.end - offset), offset), offset)


def _fetch(out: int, what: str, digest: str, places: list[Region], source: Folder, index: PieceIndex) -> int:
    """Copy the piece with that digest from the source into `places` of `out`; its size in bytes."""
    piece = index.pieces.get(digest)
    if piece is None or [r.end - r.start for r in piece.regions] != [r.end - r.start for r in places]:
        raise RepairImpossible(
            f"{source.path} does not have {what}", expected="a bundle that has it", remedy="name another source"
        )
    hasher, fetched = blake3(), 0
    with source.open_file(piece.path) as handle:
        for taken, place in zip(piece.regions, places, strict=True):
            for offset in range(0, taken.end - taken.start, CHUNK_BYTES):
                count = min(CHUNK_BYTES, taken.end - taken.start - offset)
                chunk = os.pread(handle, count, taken.start + offset)
                hasher.update(chunk)
                os.pwrite(out, chunk, place.start + offset)
                fetched += len(chunk)
    if hasher.hexdigest() != digest:
        raise RepairImpossible(f"{source.path} has {what} damaged too", remedy="name another source")
    return fetched


def _replace_whole(bundle: Path, entry: FileEntry, source: Folder, index: PieceIndex) -> int:
    path = index.files.get(entry.sha256)
    if path is None:
        raise RepairImpossible(
            f"{source.path} does not have {entry.path}", expected="a bundle that has it", remedy="name another source"
        )
    with _beside(bundle, entry) as staged, staged.open("w+b", buffering=0) as out:
        with source.open_file(path) as handle:
            pump(handle, here=[out.write])
        _require_digest(out.fileno(), entry)
    return entry.size_bytes


@contextmanager
def _beside(bundle: Path, entry: FileEntry) -> Iterator[Path]:
    """A hidden neighbour of the file that replaces it when the block ends well, and is removed otherwise."""
    folder = bundle
    for part in Path(entry.path).parent.parts:
        folder = folder / part
        if folder.is_symlink():
            raise BadInput(f"{folder} is a link", expected="a folder", remedy="fetch the bundle again")
        folder.mkdir(exist_ok=True)
    free = shutil.disk_usage(folder).free
    if entry.size_bytes + SPARE_BYTES > free:
        raise BadInput(
            f"{folder} has {free / 1e9:.2f} GB free", expected=f"{entry.size_bytes / 1e9:.2f} GB for a repair"
        )
    path = bundle / entry.path
    if path.is_dir() and not path.is_symlink():
        raise BadInput(f"{path} is a folder", expected="a file", remedy="remove it, then repair")
    staged = folder / f".{path.name[:150]}.{secrets.token_hex(6)}"
    try:
        yield staged
        staged.replace(path)
        fsync_dir(folder)
    finally:
        staged.unlink(missing_ok=True)


def _require_digest(handle: int, entry: FileEntry) -> None:
    os.fsync(handle)
    os.lseek(handle, 0, os.SEEK_SET)
    size, found = digest_descriptor(handle)
    if (size, found) != (entry.size_bytes, entry.sha256):
        raise ReleaseDamaged(
            f"{entry.path} is still not what the manifest lists after its repair: {found}",
            expected=entry.sha256,
            remedy="fetch the bundle again",
        )
