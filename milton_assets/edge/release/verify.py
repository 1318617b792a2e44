"""`verify_release`: is this folder, byte for byte, what its manifest says, and its manifest what its documents say?

What belongs here: the check of a folder, wherever it lies. What does not: its report (`report`), who may sign or what a
device admits (`edge.deployment.admission`), and which tensor is damaged (`edge.bundle.scrub`).

Nothing is loaded and nothing is written. All problems are reported, not only the first.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from pathlib import Path

from milton_assets.edge.disk_errors import explained
from milton_assets.edge.manifest import RESERVED_FILES, BundleManifest, FileEntry
from milton_assets.edge.release.chain import chain_problems
from milton_assets.edge.release.disk import Fd, ReadOnlyDisk, read_ahead
from milton_assets.edge.release.documents import MAX_DOCUMENT_BYTES, ReleaseDocuments, read_documents
from milton_assets.edge.release.folder import Entry, EntryKind, Folder
from milton_assets.edge.release.progress import ByteProgress
from milton_assets.edge.release.report import Problem, ProblemKind, VerificationReport
from milton_assets.edge.release.weights import HEAD_BYTES, format_required, header_problem, model_problem
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.progress import OnProgress, silent


def verify_release(
    release: Path | Folder,
    *,
    trusted: Collection[str] | None = None,
    contents: bool = True,
    from_disk: bool = False,
    one_name_each: bool = False,
    known_by: ReleaseDocuments | None = None,
    disk: ReadOnlyDisk | None = None,
    on_progress: OnProgress = silent,
) -> VerificationReport:
    """Check the release in a folder: every listed file is there, regular, of its size and SHA-256, and nothing else is,
    not even an empty folder; `SHA256SUMS` says the same; the documents say what the manifest says (`chain`); headers
    parse; its signatures, if it has any, hold. With `trusted` (fingerprints), one of those keys must have signed it.

    Without `contents` everything but the listed files' digests and headers is checked, which reads no weights: for
    whoever copies them next and checks the copy. With `from_disk` the page cache is passed by, so that what is compared
    is what the disk holds. With `one_name_each` a file with a second name (hard link) is a problem, since someone could
    change it under that; else it is a note. `known_by` are the documents it has to have, byte for byte: those it was
    accepted by. `disk` is where a path lies, by default this machine's.

    Reads each file once, in flat memory. Raises `BadInput` when a path is no folder at all; everything else is in the
    report.
    """
    if isinstance(release, Path):
        with Folder(release, disk or ReadOnlyDisk()) as folder:
            return verify_release(
                folder,
                trusted=trusted,
                contents=contents,
                from_disk=from_disk,
                one_name_each=one_name_each,
                known_by=known_by,
                on_progress=on_progress,
            )
    try:
        documents = read_documents(release)
        entries = {entry.path: entry for entry in release.walk()}
    except (BadInput, OSError) as error:
        return _malformed(release, explained(error).problem if isinstance(error, OSError) else str(error))
    if known_by is not None and documents.unlisted != known_by.unlisted:
        return _malformed(release, "says something else of itself than what it was accepted by")
    manifest = documents.manifest
    files = _Files(release, manifest, from_disk=from_disk, on_progress=on_progress)
    linked = [f for f in manifest.files if (entry := entries.get(f.path)) is not None and _is_linked(entry)]
    found = list(files.problems() if contents else _size_problems(manifest, entries))
    if contents and not found and (problem := model_problem(release.path, manifest)):
        found.append(Problem(ProblemKind.MALFORMED, manifest.primary, problem))
    problems = [
        *documents.problems(trusted),
        *_name_problems(manifest, entries),
        *(_linked(file, entries[file.path]) for file in linked if one_name_each),
        *found,
        *chain_problems(manifest, lambda name: release.read(name, MAX_DOCUMENT_BYTES)),
    ]
    return VerificationReport(
        release.path,
        tuple(problems),
        files.checked,
        files.bytes_checked,
        manifest,
        notes=(*_signature_notes(documents, trusted), *(_linked_note(f) for f in linked if not one_name_each)),
        signers=tuple(sorted(documents.fingerprints())),
    )


def _malformed(release: Folder, problem: str) -> VerificationReport:
    return VerificationReport(release.path, (Problem(ProblemKind.MALFORMED, str(release.path), problem),))


def _signature_notes(documents: ReleaseDocuments, trusted: Collection[str] | None) -> Iterator[str]:
    if not documents.is_signed and trusted is None:
        yield "it is not signed"


def _name_problems(manifest: BundleManifest, entries: Mapping[str, Entry]) -> Iterator[Problem]:
    listed = {entry.path for entry in manifest.files} | RESERVED_FILES
    for path, entry in entries.items():
        name = path.rstrip("/")
        if entry.kind is EntryKind.SYMLINK:
            yield Problem(ProblemKind.SYMLINK, name, "is a symbolic link, not a regular file")
        elif name not in listed:
            yield Problem(ProblemKind.EXTRA, path, "does not belong there: the manifest does not list it")
        elif entry.kind is not EntryKind.FILE:
            yield Problem(ProblemKind.SPECIAL, name, f"is a {entry.kind}, not a regular file")


def _size_problems(manifest: BundleManifest, entries: Mapping[str, Entry]) -> Iterator[Problem]:
    for file in manifest.files:
        entry = entries.get(file.path)
        if entry is None and f"{file.path}/" not in entries:
            yield _missing(file, entries)
        elif entry is not None and entry.kind is EntryKind.FILE and entry.size_bytes != file.size_bytes:
            yield _other_size(file, entry.size_bytes)


def _missing(file: FileEntry, entries: Mapping[str, Entry]) -> Problem:
    parts = file.path.split("/")
    if any("/".join(parts[:count]) in entries for count in range(1, len(parts))):
        return Problem(ProblemKind.SPECIAL, file.path, "lies below something that is no folder")
    return Problem(ProblemKind.MISSING, file.path, "is missing")


def _other_size(file: FileEntry, size_bytes: int) -> Problem:
    how = "truncated" if size_bytes < file.size_bytes else "too long"
    return Problem(ProblemKind.SIZE, file.path, f"is {how}: it has {size_bytes} bytes, listed are {file.size_bytes}")


def _is_linked(entry: Entry) -> bool:
    return entry.kind is EntryKind.FILE and entry.links > 1


def _linked(file: FileEntry, entry: Entry) -> Problem:
    detail = f"has {entry.links} hard links, so it can be changed under another name"
    return Problem(ProblemKind.LINKED, file.path, detail)


def _linked_note(file: FileEntry) -> str:
    return f"{file.path} has another name (hard link): whoever edits that edits the bundle"


class _Files:
    """Checks each listed file by reading it once."""

    def __init__(self, folder: Folder, manifest: BundleManifest, *, from_disk: bool, on_progress: OnProgress) -> None:
        self.checked = 0
        self.bytes_checked = 0
        self._folder = folder
        self._manifest = manifest
        self._from_disk = from_disk
        self._tables = {table.path: table for table in manifest.tensor_tables}
        self._progress = ByteProgress("verify", manifest.payload_bytes, on_progress)

    def problems(self) -> Iterator[Problem]:
        """What is wrong with the listed files, in their order."""
        for entry in self._manifest.files:
            try:
                with self._folder.open_file(entry.path, from_disk=self._from_disk) as handle:
                    yield from self._file(entry, handle)
            except FileNotFoundError:
                yield Problem(ProblemKind.MISSING, entry.path, "is missing")
            except BadInput as error:
                yield Problem(ProblemKind.SPECIAL, entry.path, error.problem)
            except OSError as error:
                yield Problem(ProblemKind.UNREADABLE, entry.path, f"cannot be read: {explained(error).problem}")

    def _file(self, entry: FileEntry, handle: Fd) -> Iterator[Problem]:
        size = os.fstat(handle).st_size
        if size != entry.size_bytes:
            yield _other_size(entry, size)
            return
        found, all_zero, head = self._digest(entry, handle)
        self._progress.finished(size)
        self.checked += 1
        self.bytes_checked += size
        if found != entry.sha256:
            said = "holds nothing but zero bytes; " if all_zero else ""
            yield Problem(ProblemKind.DIGEST, entry.path, f"{said}has the SHA-256 {found}, listed is {entry.sha256}")
            return
        required = format_required(self._manifest, entry.path)
        opened = Path(f"/proc/self/fd/{handle}")
        if problem := header_problem(opened, entry.path, required, self._tables.get(entry.path), head):
            yield Problem(ProblemKind.MALFORMED, entry.path, problem)

    def _digest(self, entry: FileEntry, handle: Fd) -> tuple[str, bool, bytes]:
        """SHA-256 of the file up to the first buffer beyond its listed size, whether all is zero, and how it begins."""
        hashing = hashlib.sha256()
        on_bytes = self._progress.of(entry.path)
        all_zero, done, head = entry.size_bytes > 0, 0, b""
        with closing(read_ahead(self._folder.disk, handle, entry.size_bytes)) as chunks:
            for chunk in chunks:
                hashing.update(chunk)
                head = head or bytes(chunk[:HEAD_BYTES])
                # The first byte settles it for nearly every chunk, without a look at the others.
                all_zero = all_zero and chunk[0] == 0 and not any(chunk)
                done += len(chunk)
                on_bytes(done)
        return hashing.hexdigest(), all_zero, head
