"""Artefacts of an object store on this host's disk, by their digest: fetched once, verified, bounded.

    cache = ArtefactCache(state.cache / "artefacts")
    cache.fetched(UPath("s3://bucket/models/v1/model-q4_0.gguf"), sha256)   # a file on this host
    cache.fetched(UPath("s3://bucket/models/v1/distilled"), sha256)         # a folder

What belongs here: fetching what has a digest, whole, and what makes room for it; and what was found out about an
artefact of that digest, which needs no files and outlives them. What does not: which registry names what
(`object_store`), and judging files, here (`artefacts`) or there (`heads`).

An artefact of digest D lies in the folder `D`, what was fetched of it so far in `.D.part`, and what it was judged to be
in `D.json`. A fetching that was interrupted goes on where it ended, by range requests, and is begun anew, once, where
what came of it is not the artefact: another file may have lain there before.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from pydantic import ValidationError
from upath import UPath

from milton_assets.vocabulary.artefact_files import MAX_DIRECTORY_FILES, artefact_digest, artefact_files, part_names
from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import write_atomic
from milton_assets.vocabulary.locks import locked
from milton_assets.vocabulary.places import asking
from milton_assets.vocabulary.progress import OnProgress, Progress, silent
from milton_assets.vocabulary.registry import Artefact, ArtefactKind, RegistryUnreadable
from resources.file_facts import NotYet

LOCK_TIMEOUT_S: Final = 600.0
_RANGE_BYTES: Final = 32 << 20
_MARGIN_BYTES: Final = 64 << 20
_MEGABYTE: Final = 1_000_000


@dataclass(frozen=True)
class ArtefactCache:
    """Artefacts by their SHA-256 below `folder`, `most_bytes` of them at most (None: half of the disk).

    Fetching ends at `deadline` (monotonic) with `NotYet`; None: never.
    """

    folder: Path
    deadline: float | None = None
    on_progress: OnProgress = silent
    most_bytes: int | None = None

    def path(self, place: UPath, sha256: str) -> Path:
        """Where the artefact at `place` lies on this host, once it was fetched."""
        return self.folder / sha256 / place.name

    def fetched(self, place: UPath, sha256: str) -> Path:
        """The artefact at `place`, a GGUF's first file or a folder, on this host's disk, fetched if need be.

        Raises `BadInput` when it is absent, of another digest, or larger than the disk; `RegistryUnreadable` when it
        cannot be read now; `NotYet`.
        """
        path = self.path(place, sha256)
        with self._locked(sha256):
            if not path.exists():
                self._fetch(place, sha256)
            os.utime(path.parent)
        return path

    def judged(self, kind: ArtefactKind, place: UPath, sha256: str) -> Artefact | None:
        """The artefact of that kind and digest as it was judged, whether its files are still here; None: not yet."""
        kept = self.folder / f"{sha256}.json"
        try:
            found = Artefact.model_validate_json(kept.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        if found.kind is not kind:
            return None
        return found.model_copy(update={"path": str(self.path(place, sha256))})

    def keep(self, artefact: Artefact) -> None:
        """Keep what an artefact was judged to be, in place of what it was judged to be before."""
        kept, text = self.folder / f"{artefact.sha256}.json", artefact.model_dump_json() + "\n"
        if not kept.exists() or kept.read_text() != text:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(kept, text)

    def check_time(self) -> None:
        """Raise `NotYet` once the time that reading may take is spent."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise NotYet

    def _locked(self, sha256: str, *, timeout_s: float = LOCK_TIMEOUT_S) -> AbstractContextManager[None]:
        return locked(self.folder / f".{sha256}.lock", timeout_s=timeout_s)

    def _fetch(self, place: UPath, sha256: str) -> None:
        partial = self.folder / f".{sha256}.part"
        goes_on = partial.exists()
        with reading(place):
            sizes = sizes_bytes(place)
            self._make_room(sum(sizes.values()), sha256)
            for name, size_bytes in sizes.items():
                self._fetch_file(place.parent / name, size_bytes, partial / name)
        try:
            files = artefact_files(partial / place.name)
            found = artefact_digest(partial / place.name, {name: sha256_file(file) for name, file in files.items()})
            if found != sha256:
                raise BadInput(
                    f"{place} has the digest {found}", expected=sha256, remedy="correct the entry, or what lies there"
                )
        except BadInput:
            shutil.rmtree(partial)
            if not goes_on:
                raise
            # What was fetched before was of another file, perhaps, that lay there then.
            self._fetch(place, sha256)
            return
        kept = self.folder / sha256
        kept.mkdir(exist_ok=True)
        # Its first file last, by which it counts as fetched.
        for part in sorted(partial.iterdir(), key=lambda part: part.name == place.name):
            part.replace(kept / part.name)
        partial.rmdir()

    def _fetch_file(self, source: UPath, size_bytes: int, part: Path) -> None:
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as stream:
            while (done := stream.tell()) < size_bytes:
                self.check_time()
                stream.write(source.fs.cat_file(source.path, start=done, end=min(done + _RANGE_BYTES, size_bytes)))
                note = f"MB of {source.name}"
                self.on_progress(Progress("fetch", stream.tell() // _MEGABYTE, size_bytes // _MEGABYTE, note))
            stream.flush()
            os.fsync(stream.fileno())

    def _make_room(self, size_bytes: int, sha256: str) -> None:
        """Remove what was used longest ago until the artefact fits; what is being read lives on until it is closed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        there = [path for path in self.folder.iterdir() if path.is_dir()]
        others = sorted((path for path in there if sha256 not in path.name), key=lambda path: path.stat().st_mtime)
        ours_bytes = sum(_size_bytes(path) for path in there if sha256 in path.name)
        removable = list(others)
        while (room := self._room_bytes(others)) < size_bytes - ours_bytes:
            if not removable:
                raise BadInput(
                    f"{self.folder} has room for {room // _MEGABYTE} MB",
                    expected=f"{size_bytes // _MEGABYTE} MB for the artefact",
                    remedy="make room, or move the state folder",
                )
            oldest = removable.pop(0)
            try:
                with self._locked(oldest.name.strip(".").removesuffix(".part"), timeout_s=0):
                    shutil.rmtree(oldest)
            except BadInput:  # it is being fetched at this moment
                continue

    def _room_bytes(self, others: list[Path]) -> int:
        """What may still be written: of the disk, and of what this cache may hold beside what it keeps."""
        disk = shutil.disk_usage(self.folder)
        held = sum(_size_bytes(folder) for folder in others)
        return min(disk.free - _MARGIN_BYTES, (self.most_bytes or disk.total // 2) - held)


def _size_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@contextmanager
def reading(place: UPath) -> Iterator[None]:
    """What is raised while the artefact at `place` is read, as `BadInput` where it is missing, or
    `RegistryUnreadable`."""
    try:
        with asking(place):
            yield
    except FileNotFoundError:
        raise BadInput(f"{place} is missing", remedy="put the weights there, or retire the entry") from None
    except OSError as error:
        raise RegistryUnreadable(f"{place} cannot be read ({error})", remedy="try again") from error


def sizes_bytes(place: UPath) -> Mapping[str, int]:
    """The files that the artefact at `place` consists of, by their names below its parent, and their sizes in bytes.

    Raises `FileNotFoundError` when there is none, `OSError`, and `BadInput` for what is no model's folder.
    """
    if place.suffix.lower() == ".gguf":
        return {name: int(place.fs.info((place.parent / name).path)["size"]) for name in part_names(place.name)}
    place.fs.invalidate_cache()
    found = place.fs.find(place.path, detail=True)
    # Some tools leave an empty object that stands for the folder itself.
    files = {path: int(told["size"]) for path, told in found.items() if not path.endswith("/")}
    if not files:
        raise FileNotFoundError(str(place))
    if len(files) > MAX_DIRECTORY_FILES:
        raise BadInput(f"{place} holds more than {MAX_DIRECTORY_FILES} files", expected="a model's directory")
    above = place.path.rstrip("/").removesuffix(place.name)
    named = {path.removeprefix(above): size_bytes for path, size_bytes in files.items()}
    if odd := [name for name in named if name.startswith("/") or {"", ".", ".."} & set(PurePosixPath(name).parts)]:
        raise BadInput(f"{place} holds {odd[0]!r:.200}, which is no name below it", expected="plain file names")
    return named
