"""A registry in an object store, where every host finds it: `s3://bucket/models/registry.json`.

    {"models": {"v1": {…, "metrics": {"compression": {"gguf_path": "v1/model-q4_0.gguf#sha256=5d41…"}}}}}

What belongs here: reading that file, and what the paths in it name. What does not: what an entry is (`json_file`,
whose entries these are), fetching (`artefact_cache`), and judging, by files (`artefacts`) or by what they begin with
(`heads`).

A path counts from the registry's folder and may not leave it. It names the artefact's SHA-256, by which it is kept
(`artefact_cache`): what was fetched is the same for ever. Reading the registry, and judging an entry, fetches no
weights: it asks each artefact once what it says of itself (`heads`), and takes the registry's word for the digest. Who
asks for an entry gets its files, verified. Trainers write the file; nothing here does. Aliases, which change with every
campaign, are kept beside it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path, PurePosixPath
from typing import Any, Final

from pydantic import ValidationError
from upath import UPath

from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.documents import Documents
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.places import asking, lies
from milton_assets.vocabulary.progress import OnProgress, silent
from milton_assets.vocabulary.registry import (
    Artefact,
    ArtefactKind,
    Head,
    NewModel,
    Registry,
    RegistryEntry,
    RegistryMissing,
    RegistryReadOnly,
    RegistryUnreadable,
)
from resources.file_facts import FactsReader
from resources.registries.artefact_cache import ArtefactCache
from resources.registries.artefacts import Surroundings, directory_artefact, gguf_artefact, head_of, unknown
from resources.registries.beside import Kept
from resources.registries.heads import directory_head, gguf_head, head_at
from resources.registries.json_file import MAX_REGISTRY_BYTES, declared_path, entry_of, parse_registry
from resources.registries.judging import judge_all, judge_one

_NAMED: Final = re.compile(r"(?P<path>[^#]+)#sha256=(?P<sha256>[0-9a-f]{64})")
_EXPECTED: Final = "path/to/model.gguf#sha256=<64 hexadecimal digits>, or a directory's path with that of its listing"


@dataclass(frozen=True)
class ObjectRegistry:
    """The registry file at the fsspec URL `uri`."""

    uri: str
    surroundings: Surroundings

    def read(self, *, hash_budget_s: float | None = None, on_progress: OnProgress = silent) -> Registry:
        """The file as it is now, see `RegistryStore.read`; what was never judged here is asked what it is."""
        raw = self._raw()
        facts = self.surroundings.facts(hash_budget_s=hash_budget_s, on_progress=on_progress)
        deadline = None if hash_budget_s is None else time.monotonic() + hash_budget_s
        reader = self._reader(facts, ArtefactCache(self._cache, deadline, on_progress), _Files.NOT_LOOKED_AT)
        models = parse_registry(self.uri, raw)["models"]
        return judge_all(models, lambda key, it: entry_of(key, it, reader), facts, sha256=sha256_bytes(raw))

    def entry(self, version: str, *, on_progress: OnProgress = silent) -> RegistryEntry:
        """One entry, whose files are on this host's disk then, see `RegistryStore.entry`."""
        return self._one(version, _Files.FETCHED, on_progress)

    def judged(self, version: str, *, on_progress: OnProgress = silent) -> RegistryEntry:
        """One entry by its files where they are on this host, else by their heads, see `RegistryStore.judged`."""
        return self._one(version, _Files.IF_HERE, on_progress)

    def head(self, entry: RegistryEntry, kind: ArtefactKind) -> Head:
        """What the files say of themselves on this host, or where they lie, see `RegistryStore.head`."""
        path = Path(entry.artefact(kind).path)
        if path.exists():
            return head_of(path)
        return head_at(named(self._folder, declared_path(entry, kind))[0])

    def base_head(self, entry: RegistryEntry) -> Head | None:
        """None: a base model is a name here, never a path."""
        return None

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

    def _one(self, version: str, files: _Files, on_progress: OnProgress) -> RegistryEntry:
        facts = self.surroundings.facts(on_progress=on_progress)
        reader = self._reader(facts, ArtefactCache(self._cache, None, on_progress), files)
        return judge_one(version, self.registered(), lambda key, it: entry_of(key, it, reader), facts)

    def _reader(self, facts: FactsReader, cache: ArtefactCache, files: _Files) -> _Reader:
        return _Reader(self._folder, cache, facts, self.surroundings.allow_code, files)

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
            if not lies(place):
                raise RegistryMissing(f"there is no registry at {self.uri}", remedy="put registry.json there")
            with asking(place):
                if place.stat().st_size > MAX_REGISTRY_BYTES:
                    raise RegistryUnreadable(f"the registry {self.uri} is larger than {MAX_REGISTRY_BYTES} bytes")
                return bytes(place.read_bytes())
        except OSError as error:
            raise RegistryUnreadable(f"the registry {self.uri} cannot be read ({error})") from error

    def _read_only(self) -> RegistryReadOnly:
        return RegistryReadOnly(
            f"{self.uri} is only read from here", remedy="put the weights there, and then their entry into the file"
        )


class _Files(Enum):
    """What is done about an artefact's files: what was judged once is enough, those on this host's disk are used, or
    they are fetched."""

    NOT_LOOKED_AT = auto()
    IF_HERE = auto()
    FETCHED = auto()


@dataclass(frozen=True)
class _Reader:
    """Finds artefacts below `folder`, as `ArtefactReader` does below a folder of this machine."""

    folder: UPath
    cache: ArtefactCache
    facts: FactsReader
    allow_code: frozenset[str]
    files: _Files

    def gguf(self, declared: str) -> Artefact:
        """The GGUF that a path with its digest names: of a split one the first part, and the digest is of all.

        Raises `BadInput`, `RegistryUnreadable` and `NotYet`.
        """
        place, sha256 = named(self.folder, declared)
        if place.suffix.lower() != ".gguf":
            raise BadInput(f"the path {declared!r:.300} does not end in .gguf", expected=_EXPECTED)
        return self._judged(
            ArtefactKind.GGUF,
            place,
            sha256,
            lambda path: gguf_artefact(path, self.facts),
            lambda path: gguf_head(place, sha256, path),
        )

    def directory(self, declared: str, version: str) -> Artefact:
        """The Hugging Face directory that a path with its digest names. Raises as `gguf`."""
        place, sha256 = named(self.folder, declared)
        allowed = version in self.allow_code
        return self._judged(
            ArtefactKind.HF_DISTILLED,
            place,
            sha256,
            lambda path: directory_artefact(path, self.facts, allow_code=allowed),
            lambda path: directory_head(place, sha256, path, allow_code=allowed),
            # What may run code for one version may not for another, so that judgement is not kept.
            keep=not allowed,
        )

    def base_template(self, base_model: str) -> None:
        """A base model is a name here, never a path."""

    def _judged(
        self,
        kind: ArtefactKind,
        place: UPath,
        sha256: str,
        by_files: Callable[[Path], Artefact],
        by_heads: Callable[[Path], Artefact],
        *,
        keep: bool = True,
    ) -> Artefact:
        """The artefact by its files, or by what they begin with; both are given its path on this host."""
        known = self.cache.judged(kind, place, sha256) if keep else None
        if known is not None and self.files is _Files.NOT_LOOKED_AT:
            return known
        path = self.cache.path(place, sha256)
        if self.files is _Files.FETCHED or path.exists():
            found = by_files(self.cache.fetched(place, sha256))
        elif known is not None:
            return known
        else:
            self.cache.check_time()
            found = by_heads(path)
        if keep:
            self.cache.keep(found)
        return found


def named(folder: UPath, declared: str) -> tuple[UPath, str]:
    """Where a path with its digest leads to below `folder`, and that digest. Raises `BadInput`."""
    parts = _NAMED.fullmatch(declared)
    if parts is None:
        raise BadInput(
            f"the path {declared!r:.300} comes without a digest",
            expected=_EXPECTED,
            remedy="`milton registry digest PATH` prints it",
        )
    path = PurePosixPath(parts["path"])
    if path.is_absolute() or not path.name or ".." in path.parts or "://" in parts["path"]:
        raise BadInput(f"the path {declared!r:.300} leaves the registry's folder", expected=f"a path in {folder}")
    return folder / str(path), parts["sha256"]


def open_object(uri: str, around: Surroundings) -> ObjectRegistry:
    """The registry at an fsspec URL. Raises `BadInput` for one that names no JSON file."""
    if not uri.endswith(".json") or "#" in uri or "?" in uri:
        raise BadInput(f"the registry {uri!r:.200} names no JSON file", expected="s3://bucket/models/registry.json")
    return ObjectRegistry(uri, around)
