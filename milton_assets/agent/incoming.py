"""Releases on their way to this device: what a transfer has brought so far, kept until it is whole.

    incoming = Incoming(state.root / "incoming", releases)
    offer = incoming.offer(documents)            # what is there already
    incoming.take(offer.release, "model/weights.gguf", 1 << 20, raw)
    incoming.wrong(offer.release)                # empty: every file is what its digest says

What belongs here: files of an offered release, grown at their ends; what can be had from releases that the target
holds; a delta and what it makes. What does not: taking a release into service, which verifies all of it again.

A file lies where the bundle has it and is as long as what has come of it, so that nothing has to be remembered beside
it. Only the latest offer is kept, and only the latest connection may add to it: one whose link was cut may linger.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from milton_assets.edge.deployment.fileops import FileOps, folder_made_beneath
from milton_assets.edge.disk_errors import disk_errors_explained
from milton_assets.edge.manifest import SIGNATURE_FILES, BundleManifest, FileEntry
from milton_assets.edge.release import ReleaseDocuments, SignatureInvalid, read_manifest
from milton_assets.edge.release.disk import opened
from milton_assets.edge.release.report import ProblemKind
from milton_assets.fleet.messages import Offered
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.files import write_atomic

_READ_BYTES = 1 << 20
_HOLDER = "holder"


class NotTheLatest(MiltonError):
    """Another connection goes on with the transfer."""


class Incoming:
    """The folder `root` of offered releases. `releases` is the target's, whose files need not travel again; nor need
    what `measured` finds by its digest: weights that were sent to be measured."""

    def __init__(self, root: Path, releases: Path, measured: Callable[[str], Path | None] = lambda _: None) -> None:
        self._root = root
        self._releases = releases
        self._measured = measured
        self._ticket = secrets.token_hex(16)
        self._manifest: BundleManifest | None = None
        self._ops = FileOps()

    @disk_errors_explained()
    def offer(self, unlisted: Mapping[str, bytes], serving: str | None, delta: str | None = None) -> Offered:
        """Begin, or go on with, the release of these documents; `delta` is the digest of the delta that is to come.

        Raises `BadInput` for documents that do not hold or disagree, `SignatureInvalid`.
        """
        documents = ReleaseDocuments.of(unlisted, "the offered release")
        for problem in documents.problems():
            if problem.kind is ProblemKind.SIGNATURE:
                raise SignatureInvalid(f"the offered release, {problem}", expected="a signature that holds")
            raise BadInput(f"the offered release, {problem}", remedy="make the bundle again")
        manifest = documents.manifest
        folder = self.folder(manifest.release_digest)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self._root / _HOLDER, self._ticket)
        self._clear_others(manifest.release_digest)
        for name in SIGNATURE_FILES - unlisted.keys():
            (folder / name).unlink(missing_ok=True)
        for name, raw in unlisted.items():
            write_atomic(folder / name, raw)
        self._manifest = manifest
        self._from_releases(manifest)
        have = {entry.path: self._size(folder / entry.path) for entry in manifest.files}
        come = self._size(self.delta(manifest.release_digest, delta)) if delta else 0
        return Offered(release=manifest.release_digest, serving=serving, have=have, delta_bytes=come)

    def folder(self, release: str) -> Path:
        """Where the offered release lies."""
        return self._root / release

    def delta(self, release: str, sha256: str) -> Path:
        """Where a delta that makes that release lies."""
        return self._root / f"{release}.{sha256}.delta"

    @disk_errors_explained()
    def take(self, path: str, offset: int, raw: bytes) -> int:
        """Add `raw` to the offered file `path`, whose end is at `offset`; where its end is now.

        Raises `BadInput` for a file that the manifest does not list, another offset, or bytes beyond its listed size.
        """
        manifest = self._offered()
        entry = manifest.file(path)
        *parents, name = path.split("/")
        with (
            opened(self._ops, self._ops.open_folder(self.folder(manifest.release_digest))) as folder,
            folder_made_beneath(self._ops, folder, tuple(parents)) as parent,
        ):
            return append(name, parent, offset, raw, entry.size_bytes)

    @disk_errors_explained()
    def take_delta(self, sha256: str, offset: int, raw: bytes) -> int:
        """Add `raw` to the delta with that digest; where its end is now. Raises as `take`."""
        manifest = self._offered()
        path = self.delta(manifest.release_digest, sha256)
        with opened(self._ops, self._ops.open_folder(self._root)) as folder:
            return append(path.name, folder, offset, raw, manifest.payload_bytes)

    @disk_errors_explained()
    def apply(self, sha256: str, base: str, on_busy: Callable[[], None] = lambda: None) -> None:
        """Make the offered release of the delta with that digest and the target's release `base`.

        Raises `BadInput` or `ReleaseDamaged` when it does not come out; the delta is then dropped, since sending it
        again would not help.
        """
        from milton_assets.edge.bundle.delta import apply_delta

        manifest = self._offered()
        path = self.delta(manifest.release_digest, sha256)
        made = self._root / "applied"
        shutil.rmtree(made, ignore_errors=True)
        try:
            if _sha256(path) != sha256:
                raise BadInput("the delta that arrived is not the one that was sent", remedy="send it again")
            result = apply_delta(path, self._releases / base, made)
            folder = self.folder(manifest.release_digest)
            shutil.rmtree(folder)
            result.rename(folder)
        finally:
            path.unlink(missing_ok=True)
            shutil.rmtree(made, ignore_errors=True)

    @disk_errors_explained()
    def wrong(self) -> tuple[str, ...]:
        """The listed files that are not what their digest says; they are dropped, and have to come again."""
        manifest = self._offered()
        folder = self.folder(manifest.release_digest)
        found = tuple(entry.path for entry in manifest.files if not _is(folder / entry.path, entry))
        for path in found:
            (folder / path).unlink(missing_ok=True)
        return found

    def clear(self) -> None:
        """Drop everything that came: it is in service, or nobody wants it."""
        shutil.rmtree(self._root, ignore_errors=True)

    def _offered(self) -> BundleManifest:
        if self._manifest is None:
            raise BadInput("nothing was offered over this connection", expected="an offer before its files")
        try:
            ticket = (self._root / _HOLDER).read_text()
        except OSError:
            ticket = ""
        if ticket != self._ticket:
            raise NotTheLatest("another connection goes on with the transfer", expected="one transfer at a time")
        return self._manifest

    def _clear_others(self, release: str) -> None:
        for path in self._root.iterdir():
            if path.name != _HOLDER and not path.name.startswith(release):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def _from_releases(self, manifest: BundleManifest) -> None:
        """Copy what the device holds of it already, so that it need not travel."""
        held = files_held_by(self._releases)
        folder = self.folder(manifest.release_digest)
        for entry in manifest.files:
            source, path = held.get(entry.sha256) or self._measured(entry.sha256), folder / entry.path
            if source is None or path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_name(f".{path.name}.copy")
            shutil.copyfile(source, beside)
            beside.replace(path)

    @staticmethod
    def _size(path: Path) -> int:
        try:
            return path.lstat().st_size
        except OSError:
            return 0


def files_held_by(releases: Path) -> dict[str, Path]:
    """The files of the releases in that folder, by their digest as the releases list it."""
    held: dict[str, Path] = {}
    for release in sorted(releases.iterdir()) if releases.is_dir() else ():
        with suppress(MiltonError):  # a release that cannot be read is none to copy from
            for entry in read_manifest(release).files:
                path = release / entry.path
                if path.is_file() and not path.is_symlink() and path.stat().st_size == entry.size_bytes:
                    held[entry.sha256] = path
    return held


def append(name: str, folder: int, offset: int, raw: bytes, limit: int) -> int:
    """Add `raw` at the end of a file, which is at `offset`, in an open folder; where its end is now.

    Raises `BadInput` for another offset, and for bytes beyond `limit`.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(name, flags, 0o644, dir_fd=folder)
    try:
        size = os.fstat(handle).st_size
        if offset != size or offset + len(raw) > limit:
            raise BadInput(
                f"{len(raw)} bytes for {name!r:.200} at {offset}, of which {size} of at most {limit} are here",
                expected="the bytes that follow, and no more than the manifest lists",
            )
        done = 0
        while done < len(raw):
            done += os.pwrite(handle, memoryview(raw)[done:], offset + done)
        return offset + len(raw)
    finally:
        os.close(handle)


def _is(path: Path, entry: FileEntry) -> bool:
    try:
        return path.lstat().st_size == entry.size_bytes and _sha256(path) == entry.sha256
    except OSError:
        return False


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while raw := stream.read(_READ_BYTES):
            digest.update(raw)
    return digest.hexdigest()
