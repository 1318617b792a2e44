"""A registry: its entries, their artefacts, and what every registry can be asked.

What belongs here: the validated entry, its artefacts, the quarantine of what could not be validated, and the protocol
`RegistryStore`. What does not: any registry (`resources.registries`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from milton_assets.vocabulary.chat_template import Lineage, TemplateId, template_id
from milton_assets.vocabulary.digest import Sha256, sha256_json
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.gguf import GgufHeader
from milton_assets.vocabulary.keys import Slug
from milton_assets.vocabulary.progress import OnProgress, silent


class RegistryMissing(BadInput):
    """There is no registry where one was looked for."""


class RegistryUnreadable(BadInput):
    """The registry as a whole is not what it must be, or does not answer. Nothing was written."""


class RegistryReadOnly(BadInput):
    """The registry cannot be written to from here."""


NO_REFERENCE: Final = "none"
"""An entry's `reference` where nothing is to be compared with, not even its base model."""


class EntryStatus(StrEnum):
    """A registry entry's own word on itself. Only `candidate` entries are measured and decided on."""

    CANDIDATE = "candidate"
    RETIRED = "retired"


class ArtefactKind(StrEnum):
    """What can be deployed: a GGUF file, or a Hugging Face directory."""

    GGUF = "gguf"
    HF_DISTILLED = "hf-distilled"


class Artefact(BaseModel):
    """One artefact. `path` is that of a GGUF's first file, where it was split into several.

    It is absolute; in what is kept of an entry it is as `StateDir.tell` has it, see `RegistryEntry.with_paths`. Of a
    registry elsewhere it is where the files are or would be on this machine (`RegistryStore.judged`).

    What consists of one file has that file's digest; otherwise the digest is over the sorted (name, SHA-256) of the
    files. `size_bytes` is of all files. `chat_template_sha256` is of the template's text, None without a template;
    `tokenizer_sha256` is equal for artefacts that read text alike, None where the files do not say how they read it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: ArtefactKind
    path: str
    size_bytes: int = Field(ge=0)
    sha256: Sha256
    quantization: str | None = None
    chat_template_sha256: Sha256 | None = None
    tokenizer_sha256: Sha256 | None = None


class RegistryEntry(BaseModel):
    """One model version: what the registry says (`raw`, verbatim) and what was found on disk.

    `base_template` is the chat template of the base model where `base_model` is a path to its files, else None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Slug
    base_model: str
    created_at: AwareDatetime
    status: EntryStatus
    artefacts: tuple[Artefact, ...]
    base_template: TemplateId | None = None
    raw: dict[str, Any]

    @property
    def entry_sha256(self) -> str:
        """Digest of the entry as the registry holds it."""
        return sha256_json(self.raw)

    @property
    def content_sha256(self) -> str:
        """Digest of entry and artefacts: changes when the entry is re-registered or its files change."""
        return sha256_json([self.entry_sha256, [(a.kind, a.sha256) for a in self.artefacts]])

    @property
    def reference(self) -> str | None:
        """What the registry says the model is to be like: another entry's version or a GGUF's path, see `NO_REFERENCE`.

        A field `reference` of the entry, or the version's tag of that name; without one it is the base model.
        """
        tags = self.raw.get("tags")
        named = self.raw.get("reference") or (tags.get("reference") if isinstance(tags, dict) else None)
        return named if isinstance(named, str) else None

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
class Head:
    """What an artefact says of itself: the header of a GGUF's first file, None of a directory, and the text of its chat
    template, None without one."""

    header: GgufHeader | None
    chat_template: str | None


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

    def lineage(self, entry: RegistryEntry, artefact: Artefact) -> Lineage:
        """What that artefact of the entry descends from: its base model is another entry, a file, or not known here."""
        base = self.entries.get(entry.base_model)
        base_template = entry.base_template
        if base is not None and base.version != entry.version and base.artefacts:
            found = base.find(artefact.kind) or base.artefacts[0]
            base_template = template_id(found.chat_template_sha256)
        return Lineage(
            base_model=entry.base_model,
            template=template_id(artefact.chat_template_sha256),
            base_template=base_template,
            tokenizer_sha256=artefact.tokenizer_sha256,
        )

    def candidates(self) -> tuple[RegistryEntry, ...]:
        """Entries with status `candidate`, oldest first, then by version."""
        wanted = (e for e in self.entries.values() if e.status is EntryStatus.CANDIDATE)
        return tuple(sorted(wanted, key=lambda e: (e.created_at, e.version)))


CHAMPION: Final = "champion"
"""The alias of the version that was deployed last."""

CHALLENGER: Final = "challenger"
"""The alias of the version that was promoted last and is not deployed yet."""


@dataclass(frozen=True)
class NewModel:
    """A model to be registered as a candidate: a GGUF, a Hugging Face directory, or both.

    `version` is None where the registry numbers its versions itself. `link` asks for hard links instead of copies.
    """

    version: Slug | None
    base_model: str
    gguf: Path | None = None
    hf: Path | None = None
    link: bool = False


class RegistryStore(Protocol):
    """What every registry answers. `resources.registries.open_registry` finds one by its URI."""

    @property
    def uri(self) -> str:
        """Where the registry is, for people; holds no secret."""
        ...

    def read(self, *, hash_budget_s: float | None = None, on_progress: OnProgress = silent) -> Registry:
        """The registry now, every entry judged alone.

        With `hash_budget_s`, entries that could not be judged in that time are `pending`: another reading goes on from
        there. Raises `RegistryMissing`, and `RegistryUnreadable` when the registry as a whole
        does not hold.
        """
        ...

    def entry(self, version: str, *, on_progress: OnProgress = silent) -> RegistryEntry:
        """One entry, whose files are on this machine then, of its digests; the files of others are not looked at.

        Raises `BadInput` when there is no such entry or it does not hold, with the reason, and otherwise as `read`.
        """
        ...

    def judged(self, version: str, *, on_progress: OnProgress = silent) -> RegistryEntry:
        """One entry, whose files need not be on this machine: where they are not, its digests are the registry's word.

        Raises as `entry`.
        """
        ...

    def head(self, entry: RegistryEntry, kind: ArtefactKind) -> Head:
        """What that artefact of the entry says of itself; its weights stay where they are.

        Raises as `entry`, and `BadInput` when the entry has no such artefact.
        """
        ...

    def base_head(self, entry: RegistryEntry) -> Head | None:
        """What the entry's base model says of itself, where `base_model` is a path to its files; None where it is a
        name. Raises as `entry`."""
        ...

    def registered(self) -> Mapping[str, Any]:
        """What the registry says of each version (`RegistryEntry.raw`), none of it judged and no file looked at.

        Raises as `read`.
        """
        ...

    def add(self, model: NewModel, *, on_progress: OnProgress = silent) -> RegistryEntry:
        """Register the model as a candidate and return its entry; it is judged before anything is written.

        Raises `BadInput` when it does not hold or its version is taken, and `RegistryReadOnly`.
        """
        ...

    def retire(self, version: str) -> bool:
        """Make the entry no candidate any more; nothing is deleted. False when it was retired already.

        Raises `BadInput` when there is no such entry.
        """
        ...

    def aliases(self) -> Mapping[str, str]:
        """The versions that have an alias, by alias, as they were last set. Raises as `read`."""
        ...

    def set_alias(self, alias: str, version: str | None) -> None:
        """Give the alias to the version, or to none. Raises `BadInput` when that cannot be written."""
        ...
