"""A folder of GGUF files as they lie on many disks, taken as a registry: `folder:///data/gguf`.

What belongs here: which files are a version, and what it is called. What does not: judging them (`artefacts`), and
keeping what a folder cannot hold, retirements and aliases (`beside`, in the state folder: the folder is only read).

A version is a GGUF file, or the first part of a split one. Its name comes from its own place alone, so that a new file
never renames another: `FOLDER.NAME`, without the suffix and the number of the part. In the Hugging Face cache
(`models--ORG--NAME/snapshots/REVISION/FILE`) it is `ORG.NAME.REVISION.FILE`, with eight digits of the revision.
What a slug cannot hold becomes `-`, and then eight digits of the path's digest tell it from its like.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final

from milton_assets.vocabulary.artefact_files import hub_blobs, is_first_part, without_part
from milton_assets.vocabulary.digest import sha256_bytes, sha256_json
from milton_assets.vocabulary.progress import OnProgress, silent
from milton_assets.vocabulary.registry import (
    ArtefactKind,
    EntryStatus,
    Head,
    NewModel,
    Registry,
    RegistryEntry,
    RegistryMissing,
    RegistryReadOnly,
    RegistryUnreadable,
)
from resources.file_facts import FactsReader
from resources.registries.artefacts import (
    SLUG_DIGITS,
    ArtefactReader,
    Surroundings,
    encodable,
    head_of,
    local_path,
    slug_of,
    unknown,
)
from resources.registries.beside import Beside
from resources.registries.judging import judge_all, judge_one

MAX_FOLDERS: Final = 10_000
MAX_MODELS: Final = 10_000
_SNAPSHOT: Final = re.compile(r"(?:(?P<above>.*)/)?models--(?P<repo>[^/]+)/snapshots/(?P<revision>[^/]+)/(?P<rest>.+)")


@dataclass(frozen=True)
class FolderRegistry:
    """The GGUF files below `folder`; `surroundings` says where the state lies and where links may lead."""

    folder: Path
    surroundings: Surroundings

    @property
    def uri(self) -> str:
        """`folder://` and the path."""
        return f"folder://{self.folder}"

    def read(self, *, hash_budget_s: float | None = None, on_progress: OnProgress = silent) -> Registry:
        """The folder as it is now, see `RegistryStore.read`. Its digest is over what `registered` tells."""
        registered = self.registered()
        facts = self.surroundings.facts(hash_budget_s=hash_budget_s, on_progress=on_progress)
        return judge_all(registered, self._judge(facts), facts, sha256=sha256_json(registered))

    def entry(self, version: str, *, on_progress: OnProgress = silent) -> RegistryEntry:
        """One file's entry, see `RegistryStore.entry`."""
        facts = self.surroundings.facts(on_progress=on_progress)
        return judge_one(version, self.registered(), self._judge(facts), facts)

    def judged(self, version: str, *, on_progress: OnProgress = silent) -> RegistryEntry:
        """The same as `entry`: the files are on this machine."""
        return self.entry(version, on_progress=on_progress)

    def head(self, entry: RegistryEntry, kind: ArtefactKind) -> Head:
        """What the file says of itself, see `RegistryStore.head`."""
        return head_of(Path(entry.artefact(kind).path))

    def base_head(self, entry: RegistryEntry) -> Head | None:
        """None: a base model is a name here, never a path."""
        return None

    def registered(self) -> Mapping[str, Any]:
        """Each version's file, relative to the folder, and its status."""
        if not self.folder.is_dir():
            raise RegistryMissing(f"there is no folder {self.folder}", remedy="correct MILTON_REGISTRY, or make it")
        retired = self._beside.read().retired
        found: dict[str, Any] = {}
        for name in sorted(_models(self.folder)):
            version = version_of(name)
            # Two names of one slug need two digests that begin alike: the second gets a whole one.
            key = version if version not in found else f"{version[:60]}-{sha256_bytes(os.fsencode(name))[:60]}"
            status = EntryStatus.RETIRED if key in retired else EntryStatus.CANDIDATE
            found[key] = {"file": encodable(name), "status": status.value}
        return found

    def add(self, model: NewModel, *, on_progress: OnProgress = silent) -> RegistryEntry:
        """Always raises `RegistryReadOnly`: whoever keeps the folder puts files there."""
        raise RegistryReadOnly(
            f"{self.uri} is only read",
            expected="a registry that can be written to",
            remedy=f"put the file below {self.folder}: it is a version from then on",
        )

    def retire(self, version: str) -> bool:
        """Keep in the state folder that the version is retired; the file stays."""
        if version not in (registered := self.registered()):
            raise unknown(version, list(registered))
        return self._beside.retire(version)

    def aliases(self) -> Mapping[str, str]:
        """The aliases, from the state folder."""
        return self._beside.read().aliases

    def set_alias(self, alias: str, version: str | None) -> None:
        """Keep the alias in the state folder."""
        self._beside.set_alias(alias, version)

    @property
    def _beside(self) -> Beside:
        name = f"folder-{sha256_bytes(os.fsencode(self.folder))[:12]}.json"
        return Beside(self.surroundings.state.root / "models" / name)

    def _judge(self, facts: FactsReader) -> Callable[[str, Mapping[str, Any]], RegistryEntry]:
        roots = (self.folder, *hub_blobs(self.folder), *self.surroundings.artefact_roots)
        reader = ArtefactReader(self.folder, roots, facts)
        return lambda version, raw: self._entry(version, raw, reader)

    def _entry(self, version: str, raw: Mapping[str, Any], reader: ArtefactReader) -> RegistryEntry:
        name = raw["file"]
        artefact = reader.gguf(name)
        return RegistryEntry(
            version=version,
            base_model=reader.facts.of_gguf(Path(artefact.path)).header.base_model or PurePosixPath(name).stem,
            created_at=datetime.fromtimestamp(Path(artefact.path).stat().st_mtime, UTC),
            status=EntryStatus(raw["status"]),
            artefacts=(artefact,),
            raw=dict(raw),
        )


def version_of(name: str) -> str:
    """The version that the file `name`, relative to the folder, is: a slug, from the name alone."""
    path = PurePosixPath(name)
    parts = str(path.with_name(without_part(path.name)))
    if snapshot := _SNAPSHOT.fullmatch(parts):
        repository = snapshot["repo"].replace("--", "/")
        parts = "/".join(
            filter(None, (snapshot["above"], repository, snapshot["revision"][:SLUG_DIGITS], snapshot["rest"]))
        )
    return slug_of(parts.replace("/", "."), name)


def _models(folder: Path) -> Iterator[str]:
    """The GGUF files below `folder` that stand for a model, relative to it; a part only when its first one is gone."""
    count = 0
    for seen, (parent, folders, names) in enumerate(os.walk(folder, onerror=_unreadable)):
        if seen >= MAX_FOLDERS:
            raise RegistryUnreadable(f"{folder} holds more than {MAX_FOLDERS} folders", remedy="name one further down")
        # What is hidden is no model; `blobs` holds the Hugging Face cache's files under their digests.
        folders[:] = sorted(each for each in folders if not each.startswith(".") and each != "blobs")
        there = {name for name in names if name.lower().endswith(".gguf") and not name.startswith(".")}
        orphans: set[str] = set()
        for name in sorted(there):
            whole = without_part(name)
            if not is_first_part(name) and (
                whole in orphans
                or any(is_first_part(other) and other != name and without_part(other) == whole for other in there)
            ):
                continue
            orphans.add(whole)
            count += 1
            if count > MAX_MODELS:
                raise RegistryUnreadable(f"{folder} holds more than {MAX_MODELS} models", remedy="name a smaller one")
            yield (Path(parent) / name).relative_to(folder).as_posix()


def _unreadable(error: OSError) -> None:
    raise RegistryUnreadable(f"{error.filename} cannot be read ({error.strerror})")


def open_folder(uri: str, around: Surroundings) -> FolderRegistry:
    """The folder that `folder:///path` names. Raises `BadInput`."""
    return FolderRegistry(local_path(uri), around)
