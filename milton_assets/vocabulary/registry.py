"""A registry entry and its artefacts.

What belongs here: the validated entry, its artefacts, and the quarantine of what could not be validated. What does
not: reading the registry file or the artefacts (`resources.registry`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from milton_assets.vocabulary.digest import Sha256, sha256_json
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import Slug


class EntryStatus(StrEnum):
    """A registry entry's own word on itself. Only `candidate` entries are measured and decided on."""

    CANDIDATE = "candidate"
    RETIRED = "retired"


class ArtefactKind(StrEnum):
    """What can be deployed: a GGUF file, or a Hugging Face directory."""

    GGUF = "gguf"
    HF_DISTILLED = "hf-distilled"


class Artefact(BaseModel):
    """One artefact. A directory's digest is over the sorted (name, SHA-256) of its files.

    `path` is absolute; in what is kept of an entry it is as `StateDir.tell` has it, see `RegistryEntry.with_paths`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ArtefactKind
    path: str
    size_bytes: int = Field(ge=0)
    sha256: Sha256
    quantization: str | None = None


class RegistryEntry(BaseModel):
    """One model version: what the registry says (`raw`, verbatim) and what was found on disk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Slug
    base_model: str
    created_at: AwareDatetime
    status: EntryStatus
    artefacts: tuple[Artefact, ...]
    raw: dict[str, Any]

    @property
    def entry_sha256(self) -> str:
        """Digest of the entry as the registry holds it."""
        return sha256_json(self.raw)

    @property
    def content_sha256(self) -> str:
        """Digest of entry and artefacts: changes when the entry is re-registered or its files change."""
        return sha256_json([self.entry_sha256, [(a.kind, a.sha256) for a in self.artefacts]])

    def with_paths(self, change: Callable[[str], str]) -> RegistryEntry:
        """The same entry with each artefact's path as `change` has it: told to be kept, or placed where it lies now."""
        artefacts = tuple(a.model_copy(update={"path": change(a.path)}) for a in self.artefacts)
        return self.model_copy(update={"artefacts": artefacts})

    def find(self, kind: ArtefactKind) -> Artefact | None:
        """The artefact of that kind, if the entry has one."""
        return next((artefact for artefact in self.artefacts if artefact.kind is kind), None)

    def artefact(self, kind: ArtefactKind) -> Artefact:
        """The artefact of that kind. Raises `BadInput` with the next steps when the entry has none."""
        if artefact := self.find(kind):
            return artefact
        if kind is ArtefactKind.GGUF:
            raise BadInput(
                f"model {self.version} has no GGUF",
                expected="metrics.compression.gguf_path in its registry entry",
                remedy="quantise the model and register the GGUF, or ask for the full directory with "
                "--artifact hf-distilled",
            )
        raise BadInput(
            f"model {self.version} has no distilled Hugging Face directory",
            expected="metrics.distillation.model_path in its registry entry",
            remedy="register the directory, or deploy the GGUF",
        )


@dataclass(frozen=True)
class Quarantined:
    """An entry that could not be validated, and why. `version` may be no slug."""

    version: str
    reason: str


@dataclass(frozen=True)
class Registry:
    """One reading of the registry: the entries that hold, those that do not, and the file's digest.

    `pending` are versions whose files could not be hashed in the time the reader was given.
    """

    entries: Mapping[str, RegistryEntry]
    quarantined: tuple[Quarantined, ...]
    sha256: str
    read_at: datetime
    pending: tuple[str, ...] = ()

    def candidates(self) -> tuple[RegistryEntry, ...]:
        """Entries with status `candidate`, oldest first, then by version."""
        wanted = (e for e in self.entries.values() if e.status is EntryStatus.CANDIDATE)
        return tuple(sorted(wanted, key=lambda e: (e.created_at, e.version)))
