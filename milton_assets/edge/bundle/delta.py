"""A new bundle as its difference from an old one, tensor by tensor.

    made = create_delta(old, new, Path("new.delta"))
    apply_delta(Path("new.delta"), old, into)

What belongs here: the delta file, writing and applying it. What does not: coding a chunk (`coding`) and finding pieces
by digest (`pieces`).

The file holds the new bundle's manifest, sums and signatures as they are, then for each listed file its regions in
order: `same` as a piece of the old bundle, XOR with one, raw, or (for headers) compressed with the old one as
dictionary. Applying believes nothing of that: every tensor is compared with the digest in the *full* new release's
signed manifest, then every file with its SHA-256, so a delta can fail but cannot make another release.

Layout: magic; length of a JSON head; head; documents; then per region an opcode, for all but raw the 32-byte digest of
the old piece, and, but for `same`, its chunks: coding, stored length, bytes. Numbers are little endian.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import IO, Any

import zstandard
from blake3 import blake3

from milton_assets.edge.bundle.coding import Coding, chunk_bytes, decode, encode, sampled_size, xor
from milton_assets.edge.bundle.pieces import PieceIndex, gaps, tensor_regions
from milton_assets.edge.bundle.streaming import Region
from milton_assets.edge.bundle.transfer import (
    Incoming,
    checked_documents,
    created_below,
    new_file,
    opened,
    receiving,
)
from milton_assets.edge.disk_errors import disk_errors_explained
from milton_assets.edge.manifest import BundleManifest, FileEntry, TensorEntry, TensorTable
from milton_assets.edge.release import Folder, ReleaseDamaged, read_documents, read_manifest
from milton_assets.edge.release.documents import UNLISTED_LIMITS
from milton_assets.edge.release.progress import ByteProgress
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.progress import OnProgress, silent
from milton_assets.vocabulary.strict_json import parse_json

MAGIC = b"milton-delta-1\n"
MAX_HEAD_BYTES = 64 << 10
MAX_DICTIONARY_BYTES = 64 << 20
WORTH_IT = 0.98
"""A delta of more than this share of the new bundle is not worth an old bundle at hand: the whole bundle is sent."""

_LENGTH = struct.Struct("<I")
_CHUNK = struct.Struct("<BI")
_GAP = struct.Struct("<HI")
_DIGEST_BYTES = 32
_WORTH_A_DICTIONARY = 1024
_STORED_SPARE = 64 << 10


class Op(IntEnum):
    """How a region is given."""

    RAW = 0
    SAME = 1
    XOR = 2
    DICTIONARY = 3


@dataclass(frozen=True)
class DeltaReport:
    """What a delta takes. `full_bytes` is the new bundle's size; tensors are counted by how they are given.

    `pays` is false when the delta would not have been smaller; the file then holds the whole bundle and applies
    without an old one.
    """

    path: Path
    size_bytes: int
    full_bytes: int
    same: int
    xor: int
    raw: int
    pays: bool

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {**self.__dict__, "path": str(self.path), "share": round(self.size_bytes / self.full_bytes, 6)}


@disk_errors_explained()
def create_delta(old: Path, new: Path, delta: Path, *, on_progress: OnProgress = silent) -> DeltaReport:
    """Write to the file `delta` what the bundle in the folder `new` has over the one in `old`.

    Raises `BadInput` when one of them is no bundle or `delta` exists. The file appears whole or not at all. The new
    bundle's files are believed to be what its manifest says; applying checks that.
    """
    with Folder(old) as before, Folder(new) as after, new_file(delta) as out:
        manifest = read_manifest(after)
        base = _Base(before, read_manifest(before))
        counts = _write(out, after, manifest, base, on_progress)
        pays = out.tell() <= WORTH_IT * manifest.payload_bytes
        if not pays:
            out.seek(0)
            out.truncate()
            counts = _write(out, after, manifest, None, on_progress)
        size = out.tell()
    return DeltaReport(delta, size, manifest.payload_bytes, counts[Op.SAME], counts[Op.XOR], counts[Op.RAW], pays)


@disk_errors_explained()
def apply_delta(
    delta: Path,
    old: Path | None,
    into: Path,
    *,
    trusted: Collection[str] | None = None,
    on_progress: OnProgress = silent,
) -> Path:
    """Make the new bundle in the folder `into` from `delta` and the bundle in the folder `old`; return its folder.

    Every tensor is compared with the digest in the new release's manifest as it is made, then every file with its
    SHA-256; a signature must hold, and with `trusted` be by one of those keys. Raises `BadInput` when the delta is
    malformed or made from another old bundle, `SignatureInvalid`, or `ReleaseDamaged` naming the tensor that did not
    come out right; nothing is left then.
    """
    with opened(delta) as stream:
        head, unlisted = _read_head(stream)
        documents = checked_documents(unlisted, trusted, delta)
        manifest = documents.manifest
        if manifest.release_digest != head["release"]:
            raise BadInput(f"{delta} says it makes another release than its manifest", remedy="fetch it again")
        with _base_of(head["base_release"], old, delta) as base, receiving(into, documents) as staged:
            progress = ByteProgress("apply", manifest.payload_bytes, on_progress)
            tables = {table.path: table for table in manifest.tensor_tables}
            for entry in manifest.files:
                with created_below(staged, entry.path) as out:
                    _apply_file(stream, base, entry, tables.get(entry.path), out, progress)
            if stream.read(1):
                raise BadInput(f"{delta} goes on after its end", remedy="fetch it again")
    return into / manifest.name


@dataclass(frozen=True)
class _Slice:
    """One region of a file: a tensor, the `gap`-th stretch outside them, or a whole file that has no table."""

    region: Region
    tensor: TensorEntry | None
    gap: int = 0
    whole_file: bool = False

    @property
    def dtype(self) -> str:
        return self.tensor.dtype if self.tensor else ""

    def chunks(self) -> Iterator[tuple[int, int]]:
        """(offset from the region's start, size) of each chunk."""
        size, step = self.region.end - self.region.start, chunk_bytes(self.dtype)
        for offset in range(0, size, step):
            yield offset, min(step, size - offset)


def _slices(entry: FileEntry, table: TensorTable | None) -> list[_Slice]:
    if table is None:
        return [_Slice(Region(0, entry.size_bytes), None, whole_file=True)]
    regions = tensor_regions(table)
    outside = [_Slice(region, None, number) for number, region in enumerate(gaps(regions, entry.size_bytes))]
    inside = [_Slice(region, tensor) for region, tensor in zip(regions, table.tensors, strict=True)]
    return sorted([*inside, *outside], key=lambda piece: (piece.region.start, piece.region.end))


class _Base:
    """The old bundle, open: its pieces by digest and by name, and their bytes."""

    def __init__(self, folder: Folder, manifest: BundleManifest) -> None:
        self.release = manifest.release_digest
        self.manifest = manifest
        self.index = PieceIndex.of(manifest)
        self._folder = folder
        self._by_name = {
            (tensor.name, tensor.dtype, tensor.size_bytes): tensor.blake3
            for table in manifest.tensor_tables
            for tensor in table.tensors
        }

    def like(self, tensor: TensorEntry) -> str | None:
        """The digest of the old tensor of that name, type and size."""
        return self._by_name.get((tensor.name, tensor.dtype, tensor.size_bytes))

    def outside_of(self, path: str) -> str | None:
        """The digest of what lies outside the tensors of the old file at `path`, else of the only file with tensors."""
        tables = self.manifest.tensor_tables
        chosen = [table for table in tables if table.path == path] or (tables if len(tables) == 1 else ())
        return chosen[0].rest_blake3 if chosen else None

    def read(self, digest: str, offset: int, size: int, gap: int = 0) -> bytes:
        """Bytes of the piece with that digest. Raises `BadInput` when the old bundle has no such piece."""
        piece = self.index.pieces.get(digest)
        if piece is None or gap >= len(piece.regions):
            raise _malformed("it refers to a piece that the old bundle does not have")
        region = piece.regions[gap]
        if offset + size > region.end - region.start:
            raise _malformed("it refers to more of a piece than there is")
        return self._pread(piece.path, region.start + offset, size)

    def read_file(self, sha256: str, offset: int, size: int) -> bytes:
        """Bytes of the listed file with that digest."""
        path = self.index.files.get(sha256)
        if path is None:
            raise _malformed("it refers to a file that the old bundle does not have")
        return self._pread(path, offset, size)

    def gap_size(self, digest: str, gap: int) -> int:
        """How long that stretch outside the tensors is; 0 when there is none."""
        piece = self.index.pieces.get(digest)
        return piece.regions[gap].end - piece.regions[gap].start if piece and gap < len(piece.regions) else 0

    def _pread(self, path: str, offset: int, size: int) -> bytes:
        try:
            with self._folder.open_file(path) as handle:
                raw = os.pread(handle, size, offset)
        except FileNotFoundError:
            raise BadInput(f"the old bundle lacks {path}", remedy="`milton bundle scrub` it") from None
        if len(raw) != size:
            raise BadInput(f"{path} of the old bundle is cut short", remedy="`milton bundle scrub` it")
        return raw


# Writing


def _write(
    out: IO[bytes], after: Folder, manifest: BundleManifest, base: _Base | None, on_progress: OnProgress
) -> dict[Op, int]:
    documents = read_documents(after).unlisted
    head = {
        "base_release": base.release if base else None,
        "release": manifest.release_digest,
        "documents": {name: len(raw) for name, raw in documents.items()},
    }
    raw_head = json.dumps(head).encode()
    out.write(MAGIC + _LENGTH.pack(len(raw_head)) + raw_head + b"".join(documents.values()))
    counts = dict.fromkeys(Op, 0)
    tables = {table.path: table for table in manifest.tensor_tables}
    progress = ByteProgress("delta", manifest.payload_bytes, on_progress)
    for entry in manifest.files:
        with after.open_file(entry.path) as handle:
            on_bytes = progress.of(entry.path)
            for piece in _slices(entry, tables.get(entry.path)):
                op = _write_slice(out, handle, entry, piece, base)
                counts[op] += piece.tensor is not None
                on_bytes(piece.region.end)
        progress.finished(entry.size_bytes)
    return counts


def _write_slice(out: IO[bytes], handle: int, entry: FileEntry, piece: _Slice, base: _Base | None) -> Op:
    def content(offset: int, size: int) -> bytes:
        return _exactly(handle, piece.region.start + offset, size, entry.path)

    op, digest = (Op.RAW, "") if base is None else _choose(piece, entry, base, content)
    out.write(bytes([op]) + bytes.fromhex(digest))
    if op is Op.DICTIONARY and base is not None:
        old = base.read(digest, 0, base.gap_size(digest, piece.gap), piece.gap)
        stored = _compressor(old).compress(content(0, piece.region.end - piece.region.start))
        out.write(_GAP.pack(piece.gap, len(stored)) + stored)
    elif op in {Op.RAW, Op.XOR}:
        for offset, size in piece.chunks():
            raw = content(offset, size)
            if op is Op.XOR and base is not None:
                raw = xor(raw, base.read(digest, offset, size))
            coding, stored = (Coding.PLAIN, raw) if base is None else encode(raw, piece.dtype)
            out.write(_CHUNK.pack(coding, len(stored)) + stored)
    return op


def _choose(piece: _Slice, entry: FileEntry, base: _Base, content: Callable[[int, int], bytes]) -> tuple[Op, str]:
    """How to give the region, and the digest of the old piece it refers to."""
    size = piece.region.end - piece.region.start
    if piece.whole_file:
        return (Op.SAME, entry.sha256) if entry.sha256 in base.index.files else (Op.RAW, "")
    if piece.tensor is None:
        digest = base.outside_of(entry.path)
        if digest and size >= _WORTH_A_DICTIONARY and 0 < base.gap_size(digest, piece.gap) <= MAX_DICTIONARY_BYTES:
            return (Op.DICTIONARY, digest) if size <= MAX_DICTIONARY_BYTES else (Op.RAW, "")
        return Op.RAW, ""
    if piece.tensor.blake3 in base.index.pieces:
        return Op.SAME, piece.tensor.blake3
    digest = base.like(piece.tensor)
    if digest is None or not size:
        return Op.RAW, ""
    offset, length = next(piece.chunks())
    raw = content(offset, length)
    mixed = xor(raw, base.read(digest, offset, length))
    better = sampled_size(mixed, piece.dtype) < sampled_size(raw, piece.dtype)
    return (Op.XOR, digest) if better else (Op.RAW, "")


def _exactly(handle: int, offset: int, size: int, path: str) -> bytes:
    raw = os.pread(handle, size, offset)
    if len(raw) != size:
        raise ReleaseDamaged(f"{path} is shorter than its manifest says", remedy="`milton bundle scrub` the new bundle")
    return raw


def _compressor(dictionary: bytes) -> zstandard.ZstdCompressor:
    window = max(20, min(27, len(dictionary).bit_length() + 1))
    parameters = zstandard.ZstdCompressionParameters.from_level(9, window_log=window, write_content_size=True)
    return zstandard.ZstdCompressor(compression_params=parameters, dict_data=_dictionary(dictionary))


def _dictionary(raw: bytes) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(raw, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


# Applying


def _read_head(stream: Incoming) -> tuple[dict[str, Any], dict[str, bytes]]:
    if stream.exactly(len(MAGIC)) != MAGIC:
        raise _malformed("it is no delta")
    (length,) = _LENGTH.unpack(stream.exactly(_LENGTH.size))
    if length > MAX_HEAD_BYTES:
        raise _malformed(f"its head has {length} bytes")
    head = parse_json(stream.exactly(length), "the delta's head")
    if not isinstance(head, dict) or head.keys() != {"base_release", "release", "documents"}:
        raise _malformed("its head has other fields")
    sizes = head["documents"]
    if not isinstance(sizes, dict) or not all(
        name in UNLISTED_LIMITS and type(size) is int and 0 <= size <= UNLISTED_LIMITS[name]
        for name, size in sizes.items()
    ):
        raise _malformed("its head lists other documents than manifest, sums and signatures")
    return head, {name: stream.exactly(size) for name, size in sizes.items()}


@contextmanager
def _base_of(release: str | None, old: Path | None, delta: Path) -> Iterator[_Base | None]:
    if release is None:
        yield None
        return
    if old is None:
        raise BadInput(f"{delta} needs the bundle it was made from", expected=f"a bundle of release {release!s:.64}")
    with Folder(old) as folder:
        base = _Base(folder, read_manifest(folder))
        if base.release != release:
            raise BadInput(
                f"{old} is the release {base.release}",
                expected=f"{release!s:.64}, from which {delta} was made",
                remedy="name that bundle, or fetch the new one whole",
            )
        yield base


def _apply_file(
    stream: Incoming,
    base: _Base | None,
    entry: FileEntry,
    table: TensorTable | None,
    out: IO[bytes],
    progress: ByteProgress,
) -> None:
    whole, on_bytes = hashlib.sha256(), progress.of(entry.path)
    for piece in _slices(entry, table):
        part = blake3()
        for chunk in _chunks_of(stream, base, piece):
            part.update(chunk)
            whole.update(chunk)
            _write_all(out, chunk)
        on_bytes(piece.region.end)
        if piece.tensor is not None and part.hexdigest() != piece.tensor.blake3:
            raise _came_out_wrong(f"tensor {piece.tensor.name} of {entry.path}")
    progress.finished(entry.size_bytes)
    if whole.hexdigest() != entry.sha256:
        raise _came_out_wrong(entry.path)


def _came_out_wrong(what: str) -> ReleaseDamaged:
    return ReleaseDamaged(
        f"{what} did not come out as the new release's manifest says",
        expected="an undamaged old bundle and delta",
        remedy="`milton bundle scrub` the old bundle, or fetch the new one whole",
    )


def _chunks_of(stream: Incoming, base: _Base | None, piece: _Slice) -> Iterator[bytes]:
    try:
        op = Op(stream.exactly(1)[0])
    except ValueError:
        raise _malformed("it holds an unknown instruction") from None
    digest = "" if op is Op.RAW else stream.exactly(_DIGEST_BYTES).hex()
    if op is not Op.RAW and base is None:
        raise _malformed("it refers to an old bundle but names none")
    if op is Op.DICTIONARY and base is not None:
        yield _with_dictionary(stream, base, piece, digest)
        return
    for offset, size in piece.chunks():
        if op is Op.SAME and base is not None:
            yield base.read_file(digest, offset, size) if piece.whole_file else base.read(digest, offset, size)
            continue
        raw = _read_chunk(stream, size, piece.dtype)
        yield xor(raw, base.read(digest, offset, size)) if op is Op.XOR and base is not None else raw


def _read_chunk(stream: Incoming, size: int, dtype: str) -> bytes:
    coding, length = _CHUNK.unpack(stream.exactly(_CHUNK.size))
    if length > size + _STORED_SPARE:
        raise _malformed(f"a chunk of {size} bytes is stored in {length}")
    try:
        return decode(Coding(coding), stream.exactly(length), size, dtype)
    except ValueError as error:
        raise _malformed(str(error)) from None


def _with_dictionary(stream: Incoming, base: _Base, piece: _Slice, digest: str) -> bytes:
    gap, length = _GAP.unpack(stream.exactly(_GAP.size))
    size = piece.region.end - piece.region.start
    if max(length, size, base.gap_size(digest, gap)) > MAX_DICTIONARY_BYTES + _STORED_SPARE:
        raise _malformed("a header is larger than headers are")
    old, stored = base.read(digest, 0, base.gap_size(digest, gap), gap), stream.exactly(length)
    try:
        decompressor = zstandard.ZstdDecompressor(dict_data=_dictionary(old), max_window_size=1 << 27)
        if zstandard.get_frame_parameters(stored).content_size != size:
            raise _malformed("a header states another size")
        return decompressor.decompress(stored, max_output_size=size)
    except zstandard.ZstdError as error:
        raise _malformed(f"a header does not decompress: {error}") from None


def _write_all(out: IO[bytes], chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[out.write(view) :]


def _malformed(why: str) -> BadInput:
    return BadInput(
        f"the delta does not hold: {why}", expected="a delta made by `milton bundle delta`", remedy="fetch it again"
    )
