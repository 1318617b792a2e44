"""A release's own word on itself, read once and kept, and the check of a folder against it.

What belongs here: reading `manifest.json`, `SHA256SUMS` and the signatures into memory, and comparing every entry of
a folder with them. What does not: whom to believe (admission), and copying (`staging`).

Nothing is checked in one place and used in another: what is written to the target comes from these very bytes, and
what the target serves was read back from its own disk.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from milton_assets.edge.deployment.fileops import Fd, FileOps, folder_beneath, is_folder, names, opened, read_ahead
from milton_assets.edge.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    SIGNATURE_FILES,
    SUMS_FILE,
    BundleManifest,
    parse_manifest,
)
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.progress import OnProgress, Progress, silent

MIB = 1 << 20
_TYPES = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}
_MOST_PROBLEMS = 5


class ReleaseDamaged(MiltonError):
    """Files are not what the release's manifest says they are."""


@dataclass(frozen=True)
class Sealed:
    """A release's manifest, and the bytes of the files that the manifest does not list (itself among them)."""

    manifest: BundleManifest
    unlisted: Mapping[str, bytes]

    @property
    def manifest_sha256(self) -> str:
        """Digest of `manifest.json` as it was read."""
        return sha256_bytes(self.unlisted[MANIFEST_FILE])

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return self.manifest.payload_bytes + sum(map(len, self.unlisted.values()))

    @property
    def needed_bytes(self) -> int:
        """Room that the release takes: what its manifest asks for, and at least its files."""
        return max(self.size_bytes, self.manifest.requirements.disk_bytes)

    def expected(self) -> dict[str, tuple[int, str]]:
        """Path to (size in bytes, SHA-256) of every file the folder must hold, and no other."""
        listed = {entry.path: (entry.size_bytes, entry.sha256) for entry in self.manifest.files}
        return listed | {name: (len(raw), sha256_bytes(raw)) for name, raw in self.unlisted.items()}


def read_sealed(ops: FileOps, folder: Fd, where: str) -> Sealed:
    """Read what the folder says of itself; `where` names it in messages.

    Raises `BadInput` when the manifest is missing or does not hold, or `SHA256SUMS` contradicts it.
    """
    unlisted = {name: _read_small(ops, folder, name, where) for name in (MANIFEST_FILE, SUMS_FILE)}
    present = set(names(folder))
    unlisted |= {name: _read_small(ops, folder, name, where) for name in sorted(SIGNATURE_FILES & present)}
    sealed = Sealed(parse_manifest(unlisted[MANIFEST_FILE]), unlisted)
    _check_sums(sealed, where)
    return sealed


def _read_small(ops: FileOps, folder: Fd, name: str, where: str) -> bytes:
    try:
        handle = ops.open_read(name, folder)
    except FileNotFoundError:
        raise BadInput(
            f"{where} holds no {name}",
            expected="a bundle made by `milton bundle create`",
            remedy="name the bundle's folder, or make the bundle again",
        ) from None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise BadInput(f"{where}/{name} is a symbolic link", expected="a regular file") from None
    with opened(ops, handle):
        if problem := odd_kind(os.fstat(handle)):
            raise BadInput(f"{where}/{name} is {problem}", expected="a regular file")
        chunks: list[bytes] = []
        while chunk := ops.read(handle, MIB):
            chunks.append(chunk)
            if len(chunks) * MIB > MAX_MANIFEST_BYTES + MIB:
                raise BadInput(f"{where}/{name} is larger than {MAX_MANIFEST_BYTES} bytes")
    return b"".join(chunks)


def _check_sums(sealed: Sealed, where: str) -> None:
    expected = {entry.path: entry.sha256 for entry in sealed.manifest.files}
    expected[MANIFEST_FILE] = sealed.manifest_sha256
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(expected.items()))
    found = sealed.unlisted[SUMS_FILE].decode("utf-8", errors="replace")
    if sorted(found.splitlines()) != sorted(lines.splitlines()):
        raise BadInput(
            f"{where}/{SUMS_FILE} is not the sums of what {MANIFEST_FILE} lists",
            expected="one line a listed file and one for the manifest",
            remedy="make the bundle again",
        )


def odd_kind(found: os.stat_result) -> str | None:
    """What it is, when it is no regular file."""
    return None if stat.S_ISREG(found.st_mode) else _TYPES.get(stat.S_IFMT(found.st_mode), "no file")


def check_folder(
    ops: FileOps,
    folder: Fd,
    sealed: Sealed,
    where: str,
    *,
    from_disk: bool,
    on_progress: OnProgress = silent,
    links_allowed: bool = False,
) -> None:
    """Read every file below `folder` and compare all of it with what is sealed; `where` names it in messages.

    With `from_disk` the page cache is dropped first, so that what is compared is what the disk holds. A file with
    more than one name is refused (someone else could write to it) unless `links_allowed`. Raises `ReleaseDamaged`
    naming what is missing, surplus or different, and how.
    """
    expected = sealed.expected()
    found = dict(_entries(ops, folder, ""))
    problems = [f"{path} is missing" for path in expected if path not in found]
    problems += [f"{path} does not belong there" for path in found if path not in expected]
    done = 0
    for path in sorted(expected.keys() & found.keys()):
        size, digest = expected[path]
        problem = _check_file(ops, folder, path, size, digest, from_disk=from_disk, links_allowed=links_allowed)
        problems += [f"{path} {problem}"] if problem else []
        done += size
        on_progress(Progress("verify", done // MIB, sealed.size_bytes // MIB, f"{path} (MiB)"))
    if problems:
        raise damaged(where, problems)


def damaged(where: str, problems: Iterable[str]) -> ReleaseDamaged:
    """The error that names the first few problems of a folder."""
    said = list(problems)
    more = f"; and {len(said) - _MOST_PROBLEMS} more" if len(said) > _MOST_PROBLEMS else ""
    return ReleaseDamaged(
        f"{where} is not what its manifest says: {'; '.join(said[:_MOST_PROBLEMS])}{more}",
        expected="every listed file, byte for byte, and no other",
        remedy="get the bundle again, or make it again with `milton bundle create`",
    )


def _entries(ops: FileOps, folder: Fd, prefix: str) -> Iterable[tuple[str, None]]:
    for name in names(folder):
        if is_folder(name, folder):
            with opened(ops, ops.open_folder(name, folder)) as below:
                yield from _entries(ops, below, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", None


def _check_file(
    ops: FileOps, folder: Fd, path: str, size: int, digest: str, *, from_disk: bool, links_allowed: bool
) -> str | None:
    *parents, name = path.split("/")
    with folder_beneath(ops, folder, tuple(parents)) as parent:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if problem := odd_kind(found):
            return f"is {problem}, not a regular file"
        if found.st_nlink > 1 and not links_allowed:
            return f"has {found.st_nlink} hard links, so it can be changed under another name"
        if found.st_size != size:
            return f"has {found.st_size} bytes instead of {size}"
        with opened(ops, ops.open_uncached(name, parent) if from_disk else ops.open_read(name, parent)) as handle:
            actual, all_zero = _digest(ops, handle, size)
    if actual == digest:
        return None
    return "holds nothing but zero bytes" if all_zero else f"has the SHA-256 {actual} instead of {digest}"


def _digest(ops: FileOps, handle: Fd, size: int) -> tuple[str, bool]:
    """SHA-256 of the file up to the first buffer beyond `size`, and whether all of it is zero."""
    hashing = hashlib.sha256()
    all_zero = size > 0
    with closing(read_ahead(ops, handle, size)) as chunks:
        for chunk in chunks:
            hashing.update(chunk)
            # The first byte settles it for nearly every chunk, without a look at the others.
            all_zero = all_zero and chunk[0] == 0 and not any(chunk)
    return hashing.hexdigest(), all_zero


def open_bundle(ops: FileOps, bundle: Path) -> Fd:
    """Open a bundle's folder. Raises `BadInput` when it is none."""
    try:
        return ops.open_folder(bundle)
    except (FileNotFoundError, NotADirectoryError) as error:
        what = "does not exist" if isinstance(error, FileNotFoundError) else "is not a folder"
        raise BadInput(
            f"the bundle {bundle} {what}",
            expected="the folder of a bundle",
            remedy="`milton bundle create` makes one; a .tar is unpacked with `milton bundle unpack`",
        ) from None
