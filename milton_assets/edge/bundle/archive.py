"""A bundle as one file: a deterministic, uncompressed tar, and back, creating only what the signed manifest names.

What belongs here: `pack_bundle` and `unpack_bundle`. What does not: the tar format itself (`tar`).

An archive holds `<name>/manifest.json`, `<name>/SHA256SUMS`, the signatures there are, then the listed files in order
of their paths, and nothing else. So whoever unpacks knows, before the first byte of weights, every path, size and
digest that may follow and who vouches for them; weights are not compressed, since quantised ones shrink by 3-5 %.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from milton_assets.edge.bundle.tar import BLOCK_BYTES, Member, end_of_archive, header_of, read_member
from milton_assets.edge.bundle.transfer import (
    Incoming,
    checked_documents,
    copy_checked,
    created_below,
    new_file,
    opened,
    receiving,
)
from milton_assets.edge.disk_errors import disk_errors_explained
from milton_assets.edge.manifest import MANIFEST_FILE, SUMS_FILE, parse_manifest
from milton_assets.edge.release import Folder, read_documents, verify_release
from milton_assets.edge.release.documents import UNLISTED_LIMITS
from milton_assets.edge.release.progress import ByteProgress
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.progress import OnProgress, silent


@disk_errors_explained()
def pack_bundle(bundle: Path, archive: Path, *, on_progress: OnProgress = silent) -> Path:
    """Write the bundle in the folder `bundle` to the file `archive`, and return that. Equal bundles give equal bytes.

    Every file is checked against the manifest while it is written. Raises `ReleaseDamaged` when one differs, `BadInput`
    when `archive` exists. The file appears whole or not at all.
    """
    with Folder(bundle) as folder, new_file(archive) as out:
        documents = read_documents(folder)
        manifest = verify_release(folder, contents=False).require()
        mtime = int(manifest.created_at.timestamp())
        for name, raw in documents.unlisted.items():
            out.write(header_of(f"{manifest.name}/{name}", len(raw), mtime) + raw + bytes(-len(raw) % BLOCK_BYTES))
        progress = ByteProgress("pack", manifest.payload_bytes, on_progress)
        for entry in manifest.files:
            out.write(header_of(f"{manifest.name}/{entry.path}", entry.size_bytes, mtime))
            with folder.open_file(entry.path) as handle, os.fdopen(os.dup(handle), "rb", buffering=0) as source:
                copy_checked(source, out, entry, progress)
            out.write(bytes(-entry.size_bytes % BLOCK_BYTES))
        out.write(end_of_archive())
    return archive


@disk_errors_explained()
def unpack_bundle(
    archive: Path, into: Path, *, trusted: Collection[str] | None = None, on_progress: OnProgress = silent
) -> Path:
    """Unpack `archive` into a folder of the bundle's name in `into`, and return that folder.

    Only files that the manifest names are created, as new regular files below an open folder, each no longer than the
    manifest says and with the digest it says. A signature that is there must hold; with `trusted` (fingerprints), one
    of those keys must have signed, and that is known before any weights are read.

    Raises `BadInput` for an archive that is anything else, `SignatureInvalid`, `ReleaseDamaged`, or `DiskFailed`, and
    leaves nothing.
    """
    with opened(archive) as stream:
        unlisted, member = _documents(stream)
        documents = checked_documents(unlisted, trusted, archive)
        manifest = documents.manifest
        with receiving(into, documents) as staged:
            progress = ByteProgress("unpack", manifest.payload_bytes, on_progress)
            for entry in manifest.files:
                _require_member(member, f"{manifest.name}/{entry.path}", entry.size_bytes)
                with created_below(staged, entry.path) as out:
                    copy_checked(stream, out, entry, progress)
                _skip_padding(stream, entry.size_bytes)
                member = read_member(stream.exactly)
            if member is not None:
                raise BadInput(f"the archive holds {member.path!r:.200}, which its manifest does not list")
            if stream.read(1):
                raise BadInput(f"{archive} goes on after its end", expected="nothing more", remedy="fetch it again")
    return into / manifest.name


def _skip_padding(stream: Incoming, size_bytes: int) -> None:
    """Read the zeros after a file of that size."""
    if any(stream.exactly(-size_bytes % BLOCK_BYTES)):
        raise BadInput(f"{stream.path} holds something between its files", remedy="fetch it again")


def _documents(stream: Incoming) -> tuple[dict[str, bytes], Member | None]:
    """Manifest, sums and signatures, which stand first, and the header of what follows."""
    documents: dict[str, bytes] = {}
    top = ""
    member = read_member(stream.exactly)
    while member is not None:
        folder, _, name = member.path.partition("/")
        if name not in UNLISTED_LIMITS or name in documents or (documents and folder != top):
            break
        if member.size_bytes > UNLISTED_LIMITS[name]:
            raise BadInput(f"{name} has {member.size_bytes} bytes", expected=f"at most {UNLISTED_LIMITS[name]}")
        top = folder
        documents[name] = stream.exactly(member.size_bytes)
        _skip_padding(stream, member.size_bytes)
        member = read_member(stream.exactly)
    for name in (MANIFEST_FILE, SUMS_FILE):
        if name not in documents:
            raise BadInput(f"the archive does not begin with {name}", expected="an archive of `milton bundle pack`")
    if parse_manifest(documents[MANIFEST_FILE]).name != top:
        raise BadInput(f"the archive's folder is {top!r:.200}", expected="the name of the bundle in it")
    return documents, member


def _require_member(member: Member | None, path: str, size_bytes: int) -> None:
    if member is None or member.path != path:
        found = "ends" if member is None else f"has {member.path!r:.200}"
        raise BadInput(f"the archive {found} where its manifest has {path}", remedy="fetch it again")
    if member.size_bytes != size_bytes:
        raise BadInput(f"{path} has {member.size_bytes} bytes in the archive", expected=f"{size_bytes}, as signed")
