"""Reading a release over and over, a little at a time, to find bytes that changed while it serves.

    patrol = Patrol(release, manifest_sha256, remembered=target / "patrol.json")
    for finding in patrol.round(32 << 20): ...

What belongs here: which bytes come next, and what is found. What does not: when a round is run and what becomes of a
finding (the device's watch), and the check of a whole release at once (`edge.release.verify_release`).

A round reads no more than it is told to. What is looked at is a tensor, what lies outside a file's tensors, or a file
without any; how far a pass over all of them has come is remembered on disk, so that a device which is switched off
every evening comes to the end of it. The kernel is asked to read from the disk; pages that a model server has mapped
are read as that server sees them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from blake3 import blake3
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from milton_assets.edge.bundle.pieces import gaps, tensor_regions
from milton_assets.edge.bundle.streaming import CHUNK_BYTES, Region
from milton_assets.edge.disk_errors import disk_errors_explained, explained
from milton_assets.edge.manifest import BundleManifest
from milton_assets.edge.release import Folder, read_documents
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import write_atomic


class _Hash(Protocol):
    def update(self, data: bytes, /) -> object: ...
    def hexdigest(self) -> str: ...


@dataclass(frozen=True)
class _Piece:
    """Bytes that have one digest: BLAKE3 of tensors and what lies between them, SHA-256 of whole files."""

    path: str
    what: str
    regions: tuple[Region, ...]
    digest: str
    is_file: bool
    file_size_bytes: int

    def hasher(self) -> _Hash:
        return hashlib.sha256() if self.is_file else blake3()


class _Position(BaseModel):
    """How far the pass over a release has come: the number of the piece that is next."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    manifest_sha256: Sha256
    next: int = Field(ge=0)


class Patrol:
    """The rounds over one release. `passes` counts how often its end was reached since this was made."""

    def __init__(self, release: Path, manifest_sha256: str, *, remembered: Path) -> None:
        """Go on where `remembered` says, from the start when it is of another release, not there or not readable.

        `manifest_sha256` is the digest of the manifest that was deployed.
        """
        self.passes = 0
        self._release = release
        self._manifest_sha256 = manifest_sha256
        self._remembered = remembered
        self._at = self._recalled()
        self._reading: _Reading | None = None

    def round(self, budget_bytes: int) -> tuple[str, ...]:
        """Read the next `budget_bytes`, at most to the end of the pass; what was found wrong, a sentence each.

        Raises `BadInput` for a budget that is not positive, `DiskFailed` when where it is cannot be remembered.
        """
        if budget_bytes < 1:
            raise BadInput(f"a round was to read {budget_bytes} bytes", expected="at least 1")
        findings: list[str] = []
        before = self._at
        try:
            with Folder(self._release) as folder:
                findings += self._read(folder, self._pieces(folder), budget_bytes)
        except BadInput as error:
            self._at, self._reading = 0, None
            findings.append(error.problem)
        if self._at != before:
            self._remember()
        return tuple(findings)

    def _read(self, folder: Folder, pieces: tuple[_Piece, ...], budget_bytes: int) -> Iterator[str]:
        left = budget_bytes
        self._at %= len(pieces)
        while left > 0:
            piece = pieces[self._at]
            if self._reading is None or self._reading.piece != piece:
                self._reading = _Reading(piece)
            try:
                left -= self._reading.go_on(folder, left)
                if not self._reading.is_done:
                    return
                yield from self._reading.findings()
            except FileNotFoundError:
                yield f"{piece.path} is missing"
            except BadInput as error:
                yield f"{piece.path}: {error.problem}"
            except OSError as error:
                yield f"{piece.path}, {piece.what} cannot be read: {explained(error).problem}"
            self._reading = None
            self._at += 1
            if self._at == len(pieces):
                self._at = 0
                self.passes += 1
                return

    def _pieces(self, folder: Folder) -> tuple[_Piece, ...]:
        documents = read_documents(folder)
        if documents.manifest_sha256 != self._manifest_sha256:
            raise BadInput(
                f"{self._release} has another manifest than the one that was deployed", expected=self._manifest_sha256
            )
        if problem := next(iter(documents.problems()), None):
            raise BadInput(f"what {self._release} says of itself is damaged: {problem}")
        return tuple(_pieces_of(documents.manifest))

    def _recalled(self) -> int:
        try:
            position = _Position.model_validate_json(self._remembered.read_bytes())
        except (OSError, ValidationError):
            return 0
        return position.next if position.manifest_sha256 == self._manifest_sha256 else 0

    @disk_errors_explained()
    def _remember(self) -> None:
        position = _Position(manifest_sha256=self._manifest_sha256, next=self._at)
        write_atomic(self._remembered, position.model_dump_json() + "\n")


def _pieces_of(manifest: BundleManifest) -> Iterator[_Piece]:
    tables = {table.path: table for table in manifest.tensor_tables}
    for entry in manifest.files:
        size = entry.size_bytes
        if (table := tables.get(entry.path)) is None:
            yield _Piece(entry.path, "the file", (Region(0, size),), entry.sha256, True, size)
            continue
        regions = tensor_regions(table)
        for tensor, region in zip(table.tensors, regions, strict=True):
            yield _Piece(entry.path, f"tensor {tensor.name}", (region,), tensor.blake3, False, size)
        outside = tuple(gaps(regions, size))
        yield _Piece(entry.path, "the header or the padding between tensors", outside, table.rest_blake3, False, size)


class _Reading:
    """One piece, read in as many steps as it takes."""

    def __init__(self, piece: _Piece) -> None:
        self.piece = piece
        self.is_done = False
        self._hasher = piece.hasher()
        self._region = 0
        self._done = 0
        self._links = 1

    def go_on(self, folder: Folder, budget_bytes: int) -> int:
        """Read up to so many bytes more; how many. Raises as `Folder.open_file`, and `BadInput` for another size."""
        left = budget_bytes
        with folder.open_file(self.piece.path) as handle:
            facts = os.fstat(handle)
            self._links = facts.st_nlink
            if facts.st_size != self.piece.file_size_bytes:
                raise BadInput(f"it has {facts.st_size} bytes, listed are {self.piece.file_size_bytes}")
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            while self._region < len(self.piece.regions) and left > 0:
                region = self.piece.regions[self._region]
                start = region.start + self._done
                data = os.pread(handle, min(CHUNK_BYTES, left, region.end - start), start)
                self._hasher.update(data)
                self._done += len(data)
                left -= len(data)
                if region.start + self._done >= region.end or not data:
                    self._region, self._done = self._region + 1, 0
        self.is_done = self._region == len(self.piece.regions)
        return budget_bytes - left

    def findings(self) -> Iterator[str]:
        """What is wrong with the piece, once it is read."""
        if self._links > 1:
            yield f"{self.piece.path} has {self._links} hard links, so it can be changed under another name"
        if self._hasher.hexdigest() != self.piece.digest:
            yield f"{self.piece.path}, {self.piece.what} is not what was deployed"
