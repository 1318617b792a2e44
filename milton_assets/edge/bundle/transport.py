"""A bundle as one file: a deterministic, uncompressed tar, and back, creating only what the signed manifest names.

What belongs here: `pack_bundle` and `unpack_bundle`. What does not: the tar format itself (`tar`).

An archive holds `<name>/manifest.json`, `<name>/SHA256SUMS`, the signatures there are, then the listed files in order
of their paths, and nothing else. So whoever unpacks knows, before the first byte of weights, every path, size and
digest that may follow and who vouches for them; weights are not compressed, since quantised ones shrink by 3-5 %.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from milton_assets.edge.bundle.folder import Folder
from milton_assets.edge.bundle.keys import NAMESPACE
from milton_assets.edge.bundle.placing import SPARE_BYTES
from milton_assets.edge.bundle.progress import ByteProgress
from milton_assets.edge.bundle.read import MAX_DOCUMENT_BYTES, read_manifest
from milton_assets.edge.bundle.sshsig import MAX_SIGNATURE_BYTES, SignatureInvalid, fingerprint, verify
from milton_assets.edge.bundle.staging import naming_lock, publish, staging_folder
from milton_assets.edge.bundle.streaming import CHUNK_BYTES
from milton_assets.edge.bundle.sums import MAX_SUMS_BYTES, parse_sums
from milton_assets.edge.bundle.tar import BLOCK_BYTES, Member, end_of_archive, header_of, read_member
from milton_assets.edge.bundle.verify import BundleDamaged
from milton_assets.edge.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    MODEL_SIGNATURE_FILE,
    SSH_SIGNATURE_FILE,
    SUMS_FILE,
    BundleManifest,
    FileEntry,
    parse_manifest,
)
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import fsync_dir
from milton_assets.vocabulary.progress import OnProgress, silent

_UNLISTED_LIMITS = {
    MANIFEST_FILE: MAX_MANIFEST_BYTES,
    SUMS_FILE: MAX_SUMS_BYTES,
    SSH_SIGNATURE_FILE: MAX_SIGNATURE_BYTES,
    MODEL_SIGNATURE_FILE: MAX_DOCUMENT_BYTES,
}


def pack_bundle(bundle: Path, archive: Path, *, on_progress: OnProgress = silent) -> Path:
    """Write the bundle in the folder `bundle` to the file `archive`, and return that. Equal bundles give equal bytes.

    Every file is checked against the manifest while it is written. Raises `BundleDamaged` when one differs, `BadInput`
    when `archive` exists. The file appears whole or not at all.
    """
    with Folder(bundle) as folder, _new_file(archive) as out:
        manifest = read_manifest(folder)
        mtime = int(manifest.created_at.timestamp())
        for name in _UNLISTED_LIMITS:
            with suppress(FileNotFoundError):  # signatures are optional; the manifest was read already
                raw = folder.read(name, _UNLISTED_LIMITS[name])
                out.write(header_of(f"{manifest.name}/{name}", len(raw), mtime) + raw + bytes(-len(raw) % BLOCK_BYTES))
        progress = ByteProgress("pack", manifest.payload_bytes, on_progress)
        for entry in manifest.files:
            out.write(header_of(f"{manifest.name}/{entry.path}", entry.size_bytes, mtime))
            with folder.open_file(entry.path) as handle, os.fdopen(os.dup(handle), "rb", buffering=0) as source:
                _copy_checked(source, out, entry, progress)
            out.write(bytes(-entry.size_bytes % BLOCK_BYTES))
        out.write(end_of_archive())
    return archive


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
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


def unpack_bundle(
    archive: Path, into: Path, *, trusted: Collection[str] | None = None, on_progress: OnProgress = silent
) -> Path:
    """Unpack `archive` into a folder of the bundle's name in `into`, and return that folder.

    Only files that the manifest names are created, as new regular files below an open folder, each no longer than the
    manifest says and with the digest it says. A signature that is there must hold; with `trusted` (fingerprints), one
    of those keys must have signed, and that is known before any weights are read.

    Raises `BadInput` for an archive that is anything else, `SignatureInvalid`, or `BundleDamaged`, and leaves nothing.
    """
    with _opened(archive) as source:
        stream = _Stream(source, archive)
        documents, member = _documents(stream)
        manifest = _checked_manifest(documents, trusted)
        _require_room(into, manifest)
        with staging_folder(into) as staged:
            for name, raw in documents.items():
                (staged / name).write_bytes(raw)
            progress = ByteProgress("unpack", manifest.payload_bytes, on_progress)
            for entry in manifest.files:
                _require_member(member, f"{manifest.name}/{entry.path}", entry.size_bytes)
                with _created(staged, entry.path) as out:
                    _copy_checked(stream, out, entry, progress)
                stream.skip_padding(entry.size_bytes)
                member = read_member(stream.exactly)
            if member is not None:
                raise BadInput(f"the archive holds {member.path!r:.200}, which its manifest does not list")
            with naming_lock(into):
                final = into / manifest.name
                if os.path.lexists(final):
                    raise BadInput(f"{final} exists already", remedy="remove it, or unpack elsewhere")
                publish(staged, final)
    return final


class _Stream:
    """Reads an archive forwards and never more than is there."""

    def __init__(self, source: IO[bytes], path: Path) -> None:
        self._source = source
        self._path = path

    def read(self, count: int) -> bytes:
        """Up to `count` bytes."""
        return self._source.read(count)

    def exactly(self, count: int) -> bytes:
        """Just `count` bytes. Raises `BadInput` at the end of the file."""
        raw = self._source.read(count)
        if len(raw) != count:
            raise BadInput(f"{self._path} is cut short", expected="a whole archive", remedy="fetch it again")
        return raw

    def skip_padding(self, size_bytes: int) -> None:
        """Read the zeros after a file of that size."""
        if any(self.exactly(-size_bytes % BLOCK_BYTES)):
            raise BadInput(f"{self._path} holds something between its files", remedy="fetch it again")


@contextmanager
def _opened(archive: Path) -> Iterator[IO[bytes]]:
    try:
        handle = os.open(archive, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise BadInput(f"{archive} cannot be read ({error.strerror})", expected="a packed bundle") from None
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise BadInput(f"{archive} is no regular file", expected="a packed bundle")
        yield stream


def _documents(stream: _Stream) -> tuple[dict[str, bytes], Member | None]:
    """Manifest, sums and signatures, which stand first, and the header of what follows."""
    documents: dict[str, bytes] = {}
    top = ""
    member = read_member(stream.exactly)
    while member is not None:
        folder, _, name = member.path.partition("/")
        if name not in _UNLISTED_LIMITS or name in documents or (documents and folder != top):
            break
        if member.size_bytes > _UNLISTED_LIMITS[name]:
            raise BadInput(f"{name} has {member.size_bytes} bytes", expected=f"at most {_UNLISTED_LIMITS[name]}")
        top = folder
        documents[name] = stream.exactly(member.size_bytes)
        stream.skip_padding(member.size_bytes)
        member = read_member(stream.exactly)
    for name in (MANIFEST_FILE, SUMS_FILE):
        if name not in documents:
            raise BadInput(f"the archive does not begin with {name}", expected="an archive of `milton bundle pack`")
    if parse_manifest(documents[MANIFEST_FILE]).name != top:
        raise BadInput(f"the archive's folder is {top!r:.200}", expected="the name of the bundle in it")
    return documents, member


def _checked_manifest(documents: dict[str, bytes], trusted: Collection[str] | None) -> BundleManifest:
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


def _require_room(into: Path, manifest: BundleManifest) -> None:
    into.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(into).free
    if manifest.payload_bytes + SPARE_BYTES > free:
        raise BadInput(
            f"{into} has {free / 1e9:.2f} GB free",
            expected=f"{(manifest.payload_bytes + SPARE_BYTES) / 1e9:.2f} GB for {manifest.name}",
            remedy="free space, or unpack elsewhere",
        )


def _require_member(member: Member | None, path: str, size_bytes: int) -> None:
    if member is None or member.path != path:
        found = "ends" if member is None else f"has {member.path!r:.200}"
        raise BadInput(f"the archive {found} where its manifest has {path}", remedy="fetch it again")
    if member.size_bytes != size_bytes:
        raise BadInput(f"{path} has {member.size_bytes} bytes in the archive", expected=f"{size_bytes}, as signed")


@contextmanager
def _created(root: Path, path: str) -> Iterator[IO[bytes]]:
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


def _copy_checked(source: _Stream | IO[bytes], out: IO[bytes], entry: FileEntry, progress: ByteProgress) -> None:
    """Copy exactly the entry's bytes, digesting what is written. Raises `BundleDamaged`."""
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
        raise BundleDamaged(
            f"{entry.path} is not what the manifest lists"
            + (f": {left} bytes are missing" if left else f": its SHA-256 is {digest.hexdigest()}"),
            expected=entry.sha256,
            remedy="`milton bundle scrub` says what is damaged; fetch the bundle again",
        )
