"""A registry in an object store, where every host finds it: `s3://bucket/models/registry.json`.

    {"models": {"v1": {…, "metrics": {"compression": {"gguf_path": "v1/model-q4_0.gguf#sha256=5d41…"}}}}}

What belongs here: reading that file, and fetching the weights that it names into this host's cache. What does not: what
an entry is (`json_file`, whose entries these are), and judging files (`artefacts`).

A path counts from the registry's folder and may not leave it. It names the file's SHA-256, by which it is kept: what
was fetched is the same for ever. A fetching that was interrupted goes on where it ended, by range requests. When a
disk has no room, what was used longest ago goes. Trainers write the file; nothing here does. Aliases, which change with
every campaign, are kept beside it.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from pydantic import ValidationError
from upath import UPath

from milton_assets.vocabulary.digest import sha256_bytes, sha256_file
from milton_assets.vocabulary.documents import Documents
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.locks import locked
from milton_assets.vocabulary.progress import OnProgress, Progress, silent
from milton_assets.vocabulary.registry import (
    Artefact,
    NewModel,
    Registry,
    RegistryEntry,
    RegistryMissing,
    RegistryReadOnly,
    RegistryUnreadable,
)
from resources.file_facts import FactsReader, NotYet
from resources.registries.artefacts import Surroundings, gguf_artefact, unknown
from resources.registries.beside import Kept
from resources.registries.json_file import MAX_REGISTRY_BYTES, entry_of, parse_registry
from resources.registries.judging import judge_all, judge_one

LOCK_TIMEOUT_S: Final = 600.0
_RANGE_BYTES: Final = 32 << 20
_MARGIN_BYTES: Final = 64 << 20
_MEGABYTE: Final = 1_000_000
_NAMED = re.compile(r"(?P<path>[^#]+\.gguf)#sha256=(?P<sha256>[0-9a-f]{64})")


@dataclass(frozen=True)
class ObjectRegistry:
    """The registry file at the fsspec URL `uri`."""

    uri: str
    surroundings: Surroundings

    def read(self, *, hash_budget_s: float | None = None, on_progress: OnProgress = silent) -> Registry:
        """The file as it is now, see `RegistryStore.read`; what candidates consist of is fetched first."""
        raw = self._raw()
        facts = self.surroundings.facts(hash_budget_s=hash_budget_s, on_progress=on_progress)
        deadline = None if hash_budget_s is None else time.monotonic() + hash_budget_s
        reader = _Reader(self._folder, ArtefactCache(self._cache, deadline, on_progress), facts)
        models = parse_registry(self.uri, raw)["models"]
        return judge_all(models, lambda key, it: entry_of(key, it, reader), facts, sha256=sha256_bytes(raw))

    def entry(self, version: str, *, on_progress: OnProgress = silent) -> RegistryEntry:
        """One entry, see `RegistryStore.entry`."""
        facts = self.surroundings.facts(on_progress=on_progress)
        reader = _Reader(self._folder, ArtefactCache(self._cache, None, on_progress), facts)
        return judge_one(version, self.registered(), lambda key, it: entry_of(key, it, reader), facts)

    def registered(self) -> Mapping[str, Any]:
        """The entries as they stand in the file."""
        found: Mapping[str, Any] = parse_registry(self.uri, self._raw())["models"]
        return found

    def add(self, model: NewModel, *, on_progress: OnProgress = silent) -> RegistryEntry:
        """Raises `RegistryReadOnly`: whoever trains puts the weights there, and then the entry."""
        raise self._read_only()

    def retire(self, version: str) -> bool:
        """Raises `RegistryReadOnly`."""
        raise self._read_only()

    def aliases(self) -> Mapping[str, str]:
        """The aliases, from the document beside the registry."""
        return self._kept(self._beside.read(self._aliases)).aliases

    def set_alias(self, alias: str, version: str | None) -> None:
        """Keep the alias in the document beside the registry; hosts may do so at once."""
        if version is not None and version not in self.registered():
            raise unknown(version, list(self.registered()))

        def change(raw: bytes | None) -> bytes:
            others = {name: whose for name, whose in self._kept(raw).aliases.items() if name != alias}
            return Kept(aliases=others if version is None else {**others, alias: version}).model_dump_json().encode()

        self._beside.change(self._aliases, change)

    @property
    def _folder(self) -> UPath:
        return UPath(self.uri).parent

    @property
    def _cache(self) -> Path:
        return self.surroundings.state.cache / "artefacts"

    @property
    def _beside(self) -> Documents:
        return Documents(self._folder)

    @property
    def _aliases(self) -> str:
        return f"{UPath(self.uri).stem}.aliases"

    def _kept(self, raw: bytes | None) -> Kept:
        try:
            return Kept() if raw is None else Kept.model_validate_json(raw)
        except ValidationError as error:
            raise RegistryUnreadable(f"{self._beside.place(self._aliases)} does not hold ({error})") from error

    def _raw(self) -> bytes:
        place = UPath(self.uri)
        try:
            place.fs.invalidate_cache()
            if not place.is_file():
                raise RegistryMissing(f"there is no registry at {self.uri}", remedy="put registry.json there")
            if place.stat().st_size > MAX_REGISTRY_BYTES:
                raise RegistryUnreadable(f"the registry {self.uri} is larger than {MAX_REGISTRY_BYTES} bytes")
            return bytes(place.read_bytes())
        except OSError as error:
            raise RegistryUnreadable(f"the registry {self.uri} cannot be read ({error})") from error

    def _read_only(self) -> RegistryReadOnly:
        return RegistryReadOnly(
            f"{self.uri} is only read from here", remedy="put the weights there, and then their entry into the file"
        )


@dataclass(frozen=True)
class _Reader:
    """Finds artefacts below `folder`, as `ArtefactReader` does below a folder of this machine."""

    folder: UPath
    cache: ArtefactCache
    facts: FactsReader

    def gguf(self, declared: str) -> Artefact:
        """The GGUF that a path with its digest names. Raises `BadInput`, `RegistryUnreadable` and `NotYet`."""
        named = _NAMED.fullmatch(declared)
        if named is None:
            raise BadInput(
                f"the path {declared!r:.300} names no GGUF with its digest",
                expected="path/to/model.gguf#sha256=<64 hexadecimal digits>",
            )
        path = PurePosixPath(named["path"])
        if path.is_absolute() or ".." in path.parts or "://" in named["path"]:
            raise BadInput(
                f"the path {declared!r:.300} leaves the registry's folder", expected=f"a path in {self.folder}"
            )
        return gguf_artefact(self.cache.fetched(self.folder / str(path), named["sha256"]), self.facts)

    def directory(self, declared: str, version: str) -> Artefact:
        """Raises `BadInput`: only single files have a digest to be kept by."""
        raise BadInput(
            f"{version} names the directory {declared!r:.200}",
            expected="a GGUF; directories are for registries that hosts see as folders, and for MLflow",
        )

    def base_template(self, base_model: str) -> None:
        """A base model is a name here, never a path."""


@dataclass(frozen=True)
class ArtefactCache:
    """Files by their SHA-256 below `folder`, `most_bytes` of them at most (None: half of the disk).

    Fetching ends at `deadline` (monotonic) with `NotYet`; None: never.
    """

    folder: Path
    deadline: float | None = None
    on_progress: OnProgress = silent
    most_bytes: int | None = None

    def fetched(self, source: UPath, sha256: str) -> Path:
        """The file at `source` on this host's disk, fetched if need be and held against its digest.

        Raises `BadInput` when it is absent, another file, or larger than the disk; `RegistryUnreadable` when it cannot
        be read now; `NotYet`.
        """
        path = self.folder / sha256 / source.name
        with locked(self.folder / f".{sha256}.lock", timeout_s=LOCK_TIMEOUT_S):
            if not path.is_file():
                self._fetch(source, sha256, path)
            os.utime(path.parent)
        return path

    def _fetch(self, source: UPath, sha256: str, path: Path) -> None:
        part = self.folder / f".{sha256}.part"
        try:
            size_bytes = int(source.fs.info(source.path)["size"])
            self._make_room(size_bytes, sha256)
            with part.open("ab") as stream:
                while (done := stream.tell()) < size_bytes:
                    if self.deadline is not None and time.monotonic() > self.deadline:
                        raise NotYet
                    stream.write(source.fs.cat_file(source.path, start=done, end=min(done + _RANGE_BYTES, size_bytes)))
                    note = f"MB of {source.name}"
                    self.on_progress(Progress("fetch", stream.tell() // _MEGABYTE, size_bytes // _MEGABYTE, note))
                stream.flush()
                os.fsync(stream.fileno())
        except FileNotFoundError:
            raise BadInput(f"{source} is missing", remedy="put the weights there, or retire the entry") from None
        except OSError as error:
            raise RegistryUnreadable(f"{source} cannot be read ({error})", remedy="try again") from error
        if (found := sha256_file(part)) != sha256:
            part.unlink()
            raise BadInput(f"{source} has the digest {found}", expected=sha256, remedy="correct the entry, or the file")
        path.parent.mkdir(parents=True, exist_ok=True)
        part.replace(path)

    def _make_room(self, size_bytes: int, sha256: str) -> None:
        """Remove what was used longest ago until the file fits; what is being read lives on until it is closed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = sorted(
            (path for path in self.folder.iterdir() if path.is_dir() and path.name != sha256),
            key=lambda path: path.stat().st_mtime,
        )
        while (room := self._room_bytes(kept)) < size_bytes:
            if not kept:
                raise BadInput(
                    f"{self.folder} has room for {room // _MEGABYTE} MB",
                    expected=f"{size_bytes // _MEGABYTE} MB for the file",
                    remedy="make room, or move the state folder",
                )
            shutil.rmtree(kept.pop(0))

    def _room_bytes(self, kept: list[Path]) -> int:
        """What may still be written: of the disk, and of what this cache may hold beside what it keeps."""
        disk = shutil.disk_usage(self.folder)
        held = sum(file.stat().st_size for folder in kept for file in folder.iterdir())
        return min(disk.free - _MARGIN_BYTES, (self.most_bytes or disk.total // 2) - held)


def open_object(uri: str, around: Surroundings) -> ObjectRegistry:
    """The registry at an fsspec URL. Raises `BadInput` for one that names no JSON file."""
    if not uri.endswith(".json") or "#" in uri or "?" in uri:
        raise BadInput(f"the registry {uri!r:.200} names no JSON file", expected="s3://bucket/models/registry.json")
    return ObjectRegistry(uri, around)
