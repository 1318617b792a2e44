"""What travels as one file: sending it whole, and receiving it with the manifest first.

What belongs here: what the tar (`transport`) and the delta (`delta`) share. What does not: their formats.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from milton_assets.edge.bundle.folder import Folder
from milton_assets.edge.bundle.keys import NAMESPACE
from milton_assets.edge.bundle.placing import SPARE_BYTES
from milton_assets.edge.bundle.read import MAX_DOCUMENT_BYTES
from milton_assets.edge.bundle.sshsig import MAX_SIGNATURE_BYTES, SignatureInvalid, fingerprint, verify
from milton_assets.edge.bundle.staging import naming_lock, publish, staging_folder
from milton_assets.edge.bundle.sums import MAX_SUMS_BYTES, parse_sums
from milton_assets.edge.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    MODEL_SIGNATURE_FILE,
    SSH_SIGNATURE_FILE,
    SUMS_FILE,
    BundleManifest,
    parse_manifest,
)
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import fsync_dir

UNLISTED_LIMITS = {
    MANIFEST_FILE: MAX_MANIFEST_BYTES,
    SUMS_FILE: MAX_SUMS_BYTES,
    SSH_SIGNATURE_FILE: MAX_SIGNATURE_BYTES,
    MODEL_SIGNATURE_FILE: MAX_DOCUMENT_BYTES,
}


def read_unlisted(bundle: Folder) -> dict[str, bytes]:
    """The bundle's files that its manifest does not list, by name, the manifest first; signatures only if there."""
    found: dict[str, bytes] = {}
    for name, limit in UNLISTED_LIMITS.items():
        with suppress(FileNotFoundError):  # whoever needs manifest and sums has read them, or asks `checked_manifest`
            found[name] = bundle.read(name, limit)
    return found


def checked_manifest(documents: dict[str, bytes], trusted: Collection[str] | None) -> BundleManifest:
    """The manifest of the documents at a parcel's head.

    Raises `BadInput` when manifest and sums do not agree, `SignatureInvalid` when the signature does not hold or, with
    `trusted`, is not by one of those keys.
    """
    manifest = parse_manifest(documents[MANIFEST_FILE])
    expected = {entry.path: entry.sha256 for entry in manifest.files}
    expected[MANIFEST_FILE] = sha256_bytes(documents[MANIFEST_FILE])
    if parse_sums(documents[SUMS_FILE]) != expected:
        raise BadInput(f"{SUMS_FILE} and {MANIFEST_FILE} do not list the same", remedy="make the bundle again")
    armoured = documents.get(SSH_SIGNATURE_FILE)
    if armoured is not None:
        signer = fingerprint(verify(armoured, documents[SUMS_FILE], NAMESPACE))
        if trusted is not None and signer not in trusted:
            raise SignatureInvalid(f"{manifest.name} is signed by {signer}, which is not trusted")
    elif trusted is not None:
        raise SignatureInvalid(f"{manifest.name} is not signed", expected="the signature of a trusted key")
    return manifest


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
def receiving(into: Path, manifest: BundleManifest, documents: Mapping[str, bytes]) -> Iterator[Path]:
    """A folder to put the manifest's files into, which becomes `into/<name>` when the block ends well.

    Raises `BadInput` when it would not fit, or that name is taken.
    """
    into.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(into).free
    if manifest.payload_bytes + SPARE_BYTES > free:
        raise BadInput(
            f"{into} has {free / 1e9:.2f} GB free",
            expected=f"{(manifest.payload_bytes + SPARE_BYTES) / 1e9:.2f} GB for {manifest.name}",
            remedy="free space, or choose another folder",
        )
    with staging_folder(into) as staged:
        for name, raw in documents.items():
            (staged / name).write_bytes(raw)
        yield staged
        with naming_lock(into):
            final = into / manifest.name
            if os.path.lexists(final):
                raise BadInput(f"{final} exists already", remedy="remove it, or choose another folder")
            publish(staged, final)
