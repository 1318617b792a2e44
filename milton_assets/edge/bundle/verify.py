"""`verify_bundle`: is this folder, byte for byte, what its manifest says?

What belongs here: the check and its report. What does not: who may sign or what a device admits (`signing`,
`admission`), and which tensor is damaged (`scrub`).

Nothing is loaded and nothing is written. All problems are reported, not only the first.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from milton_assets.edge.bundle.folder import Entry, EntryKind, Folder
from milton_assets.edge.bundle.progress import ByteProgress
from milton_assets.edge.bundle.read import read_document, read_sums
from milton_assets.edge.bundle.signing import signed_by
from milton_assets.edge.bundle.sshsig import SignatureInvalid, fingerprint
from milton_assets.edge.bundle.streaming import digest_descriptor
from milton_assets.edge.bundle.tensors import agrees, read_layout
from milton_assets.edge.manifest import (
    DECISION_FILE,
    EVIDENCE_FILE,
    MANIFEST_FILE,
    REGISTRY_ENTRY_FILE,
    RESERVED_FILES,
    SSH_SIGNATURE_FILE,
    SUMS_FILE,
    BundleManifest,
    FileEntry,
    parse_manifest,
)
from milton_assets.vocabulary.digest import sha256_bytes, sha256_json
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.progress import OnProgress, silent
from milton_assets.vocabulary.strict_json import parse_json


class ProblemKind(StrEnum):
    """What can be wrong with a bundle."""

    MALFORMED = "malformed"
    MISSING = "missing"
    EXTRA = "extra"
    SIZE = "size"
    DIGEST = "digest"
    SYMLINK = "symlink"
    SPECIAL = "special"
    UNREADABLE = "unreadable"
    CHAIN = "chain"
    SIGNATURE = "signature"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: with which path, and a sentence."""

    kind: ProblemKind
    path: str
    detail: str

    def __str__(self) -> str:
        return f"{self.path if self.path.isprintable() else ascii(self.path)}: {self.detail}"


@dataclass(frozen=True)
class VerificationReport:
    """What was found. `manifest` is None when it does not hold; `notes` are worth knowing but no problems.

    `signer` is the fingerprint of the key whose signature holds, None without one.
    """

    path: Path
    problems: tuple[Problem, ...]
    files_checked: int
    bytes_checked: int
    manifest: BundleManifest | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()
    signer: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the bundle is what its manifest says."""
        return not self.problems

    def require(self) -> BundleManifest:
        """The manifest of a bundle that holds. Raises `BundleDamaged` naming every problem otherwise."""
        if self.problems or self.manifest is None:
            raise BundleDamaged(
                f"{self.path} is not a whole bundle: " + "; ".join(map(str, self.problems[:20])),
                expected="the files its manifest lists, unchanged, and no others",
                remedy="fetch or make the bundle again",
            )
        return self.manifest

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "path": str(self.path),
            "ok": self.ok,
            "name": self.manifest.name if self.manifest else None,
            "release_digest": self.manifest.release_digest if self.manifest else None,
            "signer": self.signer,
            "files_checked": self.files_checked,
            "bytes_checked": self.bytes_checked,
            "problems": [{"kind": p.kind.value, "path": p.path, "detail": p.detail} for p in self.problems],
            "notes": list(self.notes),
        }


class BundleDamaged(MiltonError):
    """A bundle that is not what its manifest says."""


def verify_bundle(
    path: Path, *, trusted: Collection[str] | None = None, on_progress: OnProgress = silent
) -> VerificationReport:
    """Check the bundle in the folder `path`: every listed file is there, regular, of its size and SHA-256, and nothing
    else is; `SHA256SUMS` says the same; the documents are those whose digests the manifest names; headers parse; its
    signature, if it has one, holds. With `trusted` (fingerprints), one of those keys must have signed it.

    Reads each file once, in flat memory. Raises `BadInput` when `path` is no folder at all; everything else is in the
    report.
    """
    with Folder(path) as folder:
        try:
            raw = read_document(folder, MANIFEST_FILE)
            manifest = parse_manifest(raw)
            sums = read_sums(folder)
            entries = {entry.path: entry for entry in folder.walk()}
        except (BadInput, OSError) as error:
            return VerificationReport(path, (Problem(ProblemKind.MALFORMED, str(path), str(error)),), 0, 0)
        files = _Files(folder, manifest, on_progress)
        signature = _Signature.of(folder, trusted)
        problems = [
            *signature.problems,
            *_sums_problems(manifest, sha256_bytes(raw), sums),
            *_name_problems(manifest, entries),
            *files.problems(),
            *_chain_problems(folder, manifest),
        ]
        return VerificationReport(
            path,
            tuple(problems),
            files.checked,
            files.bytes_checked,
            manifest,
            notes=(*signature.notes, *_notes(manifest, entries)),
            signer=signature.signer,
        )


@dataclass(frozen=True)
class _Signature:
    signer: str | None = None
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, folder: Folder, trusted: Collection[str] | None) -> _Signature:
        def refused(why: str, signer: str | None = None) -> _Signature:
            return cls(signer, (Problem(ProblemKind.SIGNATURE, SSH_SIGNATURE_FILE, why),))

        try:
            key = signed_by(folder)
        except (SignatureInvalid, BadInput) as error:
            return refused(f"does not hold: {error.problem}")
        if key is None:
            return cls(notes=("it is not signed",)) if trusted is None else refused("is missing: it is not signed")
        signer = fingerprint(key)
        if trusted is not None and signer not in trusted:
            return refused(f"is by {signer}, which is not trusted", signer)
        return cls(signer)


def _sums_problems(manifest: BundleManifest, manifest_sha256: str, sums: dict[str, str]) -> Iterator[Problem]:
    expected = {entry.path: entry.sha256 for entry in manifest.files} | {MANIFEST_FILE: manifest_sha256}
    for path in sorted(expected.keys() | sums.keys()):
        said, found = sums.get(path), expected.get(path)
        if said is None:
            yield Problem(ProblemKind.MALFORMED, SUMS_FILE, f"does not list {path}")
        elif found is None:
            yield Problem(ProblemKind.MALFORMED, SUMS_FILE, f"lists {path}, which the manifest does not")
        elif said != found:
            yield Problem(ProblemKind.DIGEST, path, f"{SUMS_FILE} says {said}, but it is {found}")


def _name_problems(manifest: BundleManifest, entries: Mapping[str, Entry]) -> Iterator[Problem]:
    listed = {entry.path for entry in manifest.files} | RESERVED_FILES
    for path, entry in entries.items():
        if entry.kind is EntryKind.SYMLINK:
            yield Problem(ProblemKind.SYMLINK, path, "is a symbolic link")
        elif entry.kind is EntryKind.SPECIAL:
            yield Problem(ProblemKind.SPECIAL, path, "is no regular file")
        elif path not in listed:
            yield Problem(ProblemKind.EXTRA, path, "is not listed in the manifest")


def _notes(manifest: BundleManifest, entries: Mapping[str, Entry]) -> tuple[str, ...]:
    listed = (entries.get(entry.path) for entry in manifest.files)
    return tuple(
        f"{entry.path} has another name (hard link): whoever edits that edits the bundle"
        for entry in listed
        if entry is not None and entry.kind is EntryKind.FILE and entry.links > 1
    )


class _Files:
    """Checks each listed file by reading it once."""

    def __init__(self, folder: Folder, manifest: BundleManifest, on_progress: OnProgress) -> None:
        self.checked = 0
        self.bytes_checked = 0
        self._folder = folder
        self._manifest = manifest
        self._tables = {table.path: table for table in manifest.tensor_tables}
        self._progress = ByteProgress("verify", manifest.payload_bytes, on_progress)

    def problems(self) -> Iterator[Problem]:
        """What is wrong with the listed files, in their order."""
        for entry in self._manifest.files:
            try:
                with self._folder.open_file(entry.path) as handle:
                    yield from self._file(entry, handle)
            except FileNotFoundError:
                yield Problem(ProblemKind.MISSING, entry.path, "is missing")
            except BadInput as error:
                yield Problem(ProblemKind.SPECIAL, entry.path, error.problem)
            except OSError as error:
                yield Problem(ProblemKind.UNREADABLE, entry.path, error.strerror or str(error))

    def _file(self, entry: FileEntry, handle: int) -> Iterator[Problem]:
        size = os.fstat(handle).st_size
        if size != entry.size_bytes:
            yield Problem(ProblemKind.SIZE, entry.path, f"has {size} bytes, listed are {entry.size_bytes}")
            return
        size, found = digest_descriptor(handle, on_bytes=self._progress.of(entry.path))
        self._progress.finished(size)
        self.checked += 1
        self.bytes_checked += size
        if found != entry.sha256:
            yield Problem(ProblemKind.DIGEST, entry.path, f"has the SHA-256 {found}, listed is {entry.sha256}")
        else:
            yield from self._header(entry, handle)

    def _header(self, entry: FileEntry, handle: int) -> Iterator[Problem]:
        try:
            layout = read_layout(Path(f"/proc/self/fd/{handle}"), entry.path)
        except BadInput as error:
            yield Problem(ProblemKind.MALFORMED, entry.path, error.problem)
            return
        table = self._tables.get(entry.path)
        if table is not None and (layout is None or not agrees(table, layout)):
            yield Problem(ProblemKind.MALFORMED, entry.path, "has other tensors than the manifest's table")


def _chain_problems(folder: Folder, manifest: BundleManifest) -> Iterator[Problem]:
    """The documents must be those whose digests the manifest names: entry, evidence, decision."""
    expected_digests = {
        REGISTRY_ENTRY_FILE: manifest.entry_sha256,
        EVIDENCE_FILE: manifest.evidence_sha256,
        DECISION_FILE: manifest.decision_sha256,
    }
    for name, expected in expected_digests.items():
        try:
            document = parse_json(read_document(folder, name), name)
            found = sha256_json(document["raw"] if name == REGISTRY_ENTRY_FILE else document)
        except (BadInput, KeyError, TypeError, RecursionError, OSError) as error:
            yield Problem(ProblemKind.CHAIN, name, f"cannot be read: {error}")
            continue
        if found != expected:
            yield Problem(ProblemKind.CHAIN, name, f"has the content digest {found}, the manifest names {expected}")
