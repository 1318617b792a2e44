"""A bundle that travels as one file: sending it whole, and receiving it with the manifest first.

What belongs here: what the tar (`archive`) and the delta (`delta`) share. What does not: their formats.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

from milton_assets.edge.bundle.placing import SPARE_BYTES
from milton_assets.edge.bundle.publishing import naming_lock, publish, staging_folder
from milton_assets.edge.bundle.streaming import CHUNK_BYTES
from milton_assets.edge.manifest import FileEntry
from milton_assets.edge.release import (
    Problem,
    ProblemKind,
    ReleaseDamaged,
    ReleaseDocuments,
    SignatureInvalid,
    verify_release,
)
from milton_assets.edge.release.progress import ByteProgress
from milton_assets.edge.release.report import damaged
from milton_assets.edge.release.weights import format_required, header_problem
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import fsync_dir


def checked_documents(
    unlisted: Mapping[str, bytes], trusted: Collection[str] | None, where: Path | str
) -> ReleaseDocuments:
    """The release's documents, which stand first in what travels, `where` they came from.

    Raises `BadInput` when they do not hold, or manifest and sums do not agree; `SignatureInvalid` when a signature does
    not hold or, with `trusted`, is not by one of those keys.
    """
    documents = ReleaseDocuments.of(unlisted, str(where))
    for problem in documents.problems(trusted):
        if problem.kind is ProblemKind.SIGNATURE:
            raise SignatureInvalid(f"{documents.manifest.name}, {problem}", expected="the signature of a trusted key")
        raise BadInput(f"{documents.manifest.name}, {problem}", remedy="make the bundle again")
    return documents


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears under `path` when the block ends well, and not at all otherwise."""
    if os.path.lexists(path):
        raise BadInput(f"{path} exists already", expected="a new file", remedy="choose another name, or remove it")
    staged = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with staged.open("xb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        staged.rename(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}", expected="a writable folder with room") from error
    finally:
        staged.unlink(missing_ok=True)
    fsync_dir(path.parent)


class Readable(Protocol):
    """What bytes come from, forwards."""

    def read(self, count: int, /) -> bytes:
        """Up to `count` bytes; none at the end."""
        ...


class Incoming:
    """Reads a file forwards and never more than is there."""

    def __init__(self, source: IO[bytes], path: Path) -> None:
        self.path = path
        self._source = source

    def read(self, count: int) -> bytes:
        """Up to `count` bytes."""
        return self._source.read(count)

    def exactly(self, count: int) -> bytes:
        """Just `count` bytes. Raises `BadInput` at the end of the file."""
        raw = self._source.read(count)
        if len(raw) != count:
            raise BadInput(f"{self.path} is cut short", expected="a whole file", remedy="fetch it again")
        return raw


@contextmanager
def opened(archive: Path) -> Iterator[Incoming]:
    """The regular file at that path, to be read forwards. Raises `BadInput`."""
    try:
        handle = os.open(archive, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise BadInput(f"{archive} cannot be read ({error.strerror})", expected="a packed bundle or a delta") from None
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise BadInput(f"{archive} is no regular file", expected="a packed bundle or a delta")
        yield Incoming(stream, archive)


@contextmanager
def created_below(root: Path, path: str) -> Iterator[IO[bytes]]:
    """A new regular file below `root`, each folder on the way made or opened without following links."""
    *folders, name = path.split("/")
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        for folder in folders:
            with suppress(FileExistsError):
                os.mkdir(folder, 0o755, dir_fd=handle)
            below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = below
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=handle)
    finally:
        os.close(handle)
    with os.fdopen(file, "wb", buffering=0) as stream:
        yield stream


@contextmanager
def receiving(into: Path, documents: ReleaseDocuments) -> Iterator[Path]:
    """A folder to put the manifest's files into, which becomes `into/<name>` when the block ends well.

    The caller compares every byte with its digest as it arrives; what arrived is then verified as a release, without
    reading the weights once more. Raises `BadInput` when it would not fit, or that name is taken, and `ReleaseDamaged`.
    """
    manifest = documents.manifest
    into.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(into).free
    if manifest.payload_bytes + SPARE_BYTES > free:
        raise BadInput(
            f"{into} has {free / 1e9:.2f} GB free",
            expected=f"{(manifest.payload_bytes + SPARE_BYTES) / 1e9:.2f} GB for {manifest.name}",
            remedy="free space, or choose another folder",
        )
    with staging_folder(into) as staged:
        for name, raw in documents.unlisted.items():
            (staged / name).write_bytes(raw)
        yield staged
        _require_release(staged, documents)
        with naming_lock(into):
            final = into / manifest.name
            if os.path.lexists(final):
                raise BadInput(f"{final} exists already", remedy="remove it, or choose another folder")
            publish(staged, final)


def _require_release(staged: Path, documents: ReleaseDocuments) -> None:
    """Raise `ReleaseDamaged` unless what arrived is a release in all but its digests, and its headers hold."""
    manifest = verify_release(staged, contents=False).require()
    tables = {table.path: table for table in manifest.tensor_tables}
    found = [
        (entry.path, header_problem(staged / entry.path, entry.path, format_required(manifest, entry.path), table))
        for entry in manifest.files
        for table in [tables.get(entry.path)]
    ]
    if problems := [Problem(ProblemKind.MALFORMED, path, said) for path, said in found if said]:
        raise damaged(Path(documents.manifest.name), problems)


def copy_checked(source: Readable, out: IO[bytes], entry: FileEntry, progress: ByteProgress) -> None:
    """Copy exactly the entry's bytes, digesting what is written. Raises `ReleaseDamaged`."""
    digest = hashlib.sha256()
    on_bytes = progress.of(entry.path)
    left = entry.size_bytes
    while left and (chunk := source.read(min(left, CHUNK_BYTES))):
        digest.update(chunk)
        written = 0
        while written < len(chunk):
            written += out.write(chunk[written:])
        left -= len(chunk)
        on_bytes(entry.size_bytes - left)
    progress.finished(entry.size_bytes)
    if left or digest.hexdigest() != entry.sha256:
        raise ReleaseDamaged(
            f"{entry.path} is not what the manifest lists"
            + (f": {left} bytes are missing" if left else f": its SHA-256 is {digest.hexdigest()}"),
            expected=entry.sha256,
            remedy="`milton bundle scrub` says what is damaged; fetch the bundle again",
        )
