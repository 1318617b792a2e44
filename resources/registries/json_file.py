"""The registry as a JSON file: every entry judged alone, adding to it and retiring from it.

    registry = JsonRegistry(state.registry, state.root, Surroundings(state))
    registry.read().candidates()

What belongs here: `registry.json`. What does not: the artefacts that it points to (`artefacts`), bringing them into the
state folder (`resources.model_files`), and what an entry is (`milton_assets.vocabulary.registry`).

The file belongs to whoever trains: fields we do not know are kept as they are, in their order, and nothing is ever
written over a file that could not be read. Aliases, which change with every campaign, are kept in a file beside it.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from milton_assets.vocabulary.digest import NotCanonical, sha256_bytes, sha256_json
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import write_atomic
from milton_assets.vocabulary.keys import check_key
from milton_assets.vocabulary.locks import locked
from milton_assets.vocabulary.progress import OnProgress, silent
from milton_assets.vocabulary.registry import (
    Artefact,
    ArtefactKind,
    EntryStatus,
    Head,
    NewModel,
    Registry,
    RegistryEntry,
    RegistryMissing,
    RegistryUnreadable,
)
from resources.file_facts import FactsReader
from resources.model_files import bring_gguf, bring_hf, placing
from resources.registries.artefacts import (
    NOT_HOLDING,
    ArtefactReader,
    Surroundings,
    head_of,
    reason,
    taken,
    unknown,
)
from resources.registries.beside import Beside
from resources.registries.judging import judge_all, judge_one

MAX_REGISTRY_BYTES: Final = 64 << 20
LOCK_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True)
class JsonRegistry:
    """The registry file at `path`. Relative artefact paths count from `root`, and files are brought below it.

    What a path leads to, links followed, must lie below `root`, the state folder, or one of the artefact roots.
    """

    path: Path
    root: Path
    surroundings: Surroundings

    @property
    def uri(self) -> str:
        """The file's path."""
        return str(self.path)

    def read(self, *, hash_budget_s: float | None = None, on_progress: OnProgress = silent) -> Registry:
        """The file as it is now, see `RegistryStore.read`.

        Digests are taken from the state folder's cache where the files have not changed. Of a retired entry, artefacts
        that are gone or broken are left out: they may have been cleared away.
        """
        raw = _read_bytes(self.path)
        models = parse_registry(self.path, raw)["models"]
        facts = self.surroundings.facts(hash_budget_s=hash_budget_s, on_progress=on_progress)
        return judge_all(models, self._judge(facts), facts, sha256=sha256_bytes(raw))

    def entry(self, version: str, *, on_progress: OnProgress = silent) -> RegistryEntry:
        """One entry, see `RegistryStore.entry`."""
        facts = self.surroundings.facts(on_progress=on_progress)
        return judge_one(version, self.registered(), self._judge(facts), facts)

    def judged(self, version: str, *, on_progress: OnProgress = silent) -> RegistryEntry:
        """The same as `entry`: the files are on this machine."""
        return self.entry(version, on_progress=on_progress)

    def head(self, entry: RegistryEntry, kind: ArtefactKind) -> Head:
        """What the file says of itself, see `RegistryStore.head`."""
        return head_of(Path(entry.artefact(kind).path))

    def base_head(self, entry: RegistryEntry) -> Head | None:
        """What the base model at a path says of itself, see `RegistryStore.base_head`."""
        return self._reader(self.surroundings.facts()).base_head(entry.base_model)

    def registered(self) -> Mapping[str, Any]:
        """The entries as they stand in the file."""
        return registered(self.path)

    def add(self, model: NewModel, *, on_progress: OnProgress = silent) -> RegistryEntry:
        """Register the model; its files are brought below `root` unless they lie where artefacts may lie.

        When anything fails, what was placed is removed, and the version is as free as it was.
        """
        if model.version is None:
            raise BadInput("the model has no version", expected="a version that no entry has", remedy="give --version")
        version = check_key(model.version, "model version")
        if self.path.exists() and version in self.registered():
            raise taken(version)
        facts = self.surroundings.facts(on_progress=on_progress)
        reader = self._reader(facts)
        with placing(self.root, version, reader.roots, on_progress, link=model.link) as place:
            gguf = bring_gguf(model.gguf, place) if model.gguf is not None else None
            allow_code = version in reader.allow_code
            hf = bring_hf(model.hf, place, allow_code=allow_code) if model.hf is not None else None
            content = new_entry(model.base_model, gguf=gguf, hf=hf)
            try:
                judged = entry_of(version, content, reader)
            except NOT_HOLDING as error:
                raise BadInput(
                    f"{version} was not registered: {reason(error)}", remedy="correct the files, then add it again"
                ) from error
            add_entries(self.path, {version: content})
        facts.save()
        return judged

    def retire(self, version: str) -> bool:
        """Set the entry's status to `retired`, see `retire`."""
        return retire(self.path, version)

    def aliases(self) -> Mapping[str, str]:
        """The aliases, from the file beside the registry."""
        return self._beside.read().aliases

    def set_alias(self, alias: str, version: str | None) -> None:
        """Keep the alias in the file beside the registry."""
        self._beside.set_alias(alias, version)

    @property
    def _beside(self) -> Beside:
        return Beside(self.path.with_name(f"{self.path.stem}.aliases.json"))

    def _judge(self, facts: FactsReader) -> Callable[[str, Any], RegistryEntry]:
        reader = self._reader(facts)
        return lambda version, content: entry_of(version, content, reader)

    def _reader(self, facts: FactsReader) -> ArtefactReader:
        around = self.surroundings
        roots = dict.fromkeys((self.root, around.state.root, *around.artefact_roots))
        return ArtefactReader(self.root, tuple(roots), facts, around.allow_code)


class _Compression(BaseModel):
    model_config = ConfigDict(strict=True)

    gguf_path: str | None = Field(default=None, min_length=1)


class _Distillation(BaseModel):
    model_config = ConfigDict(strict=True)

    model_path: str | None = Field(default=None, min_length=1)


class _Metrics(BaseModel):
    """What was not made is left out, or null: some trainers write every key."""

    model_config = ConfigDict(strict=True)

    compression: _Compression | None = None
    distillation: _Distillation | None = None

    @property
    def gguf_path(self) -> str | None:
        return self.compression.gguf_path if self.compression else None

    @property
    def model_path(self) -> str | None:
        return self.distillation.model_path if self.distillation else None


class _Entry(BaseModel):
    """What we need of an entry; whatever else it holds is the trainer's."""

    model_config = ConfigDict(strict=True)

    base_model: str = Field(min_length=1)
    created_at: AwareDatetime
    status: EntryStatus
    metrics: _Metrics
    reference: str | None = Field(default=None, min_length=1)


class Finds(Protocol):
    """What finds the artefacts that an entry names: `ArtefactReader` on this machine."""

    def gguf(self, declared: str) -> Artefact:
        """The GGUF at a declared path."""
        ...

    def directory(self, declared: str, version: str) -> Artefact:
        """The Hugging Face directory at a declared path."""
        ...

    def base_template(self, base_model: str) -> str | None:
        """The chat template of a base model that is named by its files' path."""
        ...


def entry_of(version: str, content: Any, reader: Finds) -> RegistryEntry:
    """One entry of the file, validated, with its artefacts as `reader` finds them. Raises one of `NOT_HOLDING`."""
    check_key(version, "model version")
    if not isinstance(content, dict):
        raise BadInput(f"the entry is {_kind(content)}", expected="an object")
    try:
        sha256_json(content)
    except NotCanonical as error:
        raise BadInput(
            f"the entry cannot be pinned by digest ({error.problem})", expected=error.expected, remedy=error.remedy
        ) from error
    fields = _Entry.model_validate_json(json.dumps(content))
    return RegistryEntry(
        version=version,
        base_model=fields.base_model,
        created_at=fields.created_at,
        status=fields.status,
        artefacts=tuple(_artefacts(version, fields.metrics, reader, keep_going=fields.status is EntryStatus.RETIRED)),
        base_template=reader.base_template(fields.base_model),
        raw=content,
    )


def declared_path(entry: RegistryEntry, kind: ArtefactKind) -> str:
    """The path of that artefact as the entry declares it. Raises `BadInput` when the entry has none."""
    entry.artefact(kind)
    metrics = _Entry.model_validate_json(json.dumps(entry.raw)).metrics
    return str(metrics.gguf_path if kind is ArtefactKind.GGUF else metrics.model_path)


def _artefacts(version: str, metrics: _Metrics, reader: Finds, *, keep_going: bool) -> Iterator[Artefact]:
    found: list[Callable[[], Artefact]] = []
    if (gguf := metrics.gguf_path) is not None:
        found.append(lambda: reader.gguf(gguf))
    if (directory := metrics.model_path) is not None:
        found.append(lambda: reader.directory(directory, version))
    if not found:
        raise BadInput(
            "the entry names no artefact",
            expected="metrics.compression.gguf_path or metrics.distillation.model_path",
            remedy="quantise the model and register the GGUF",
        )
    for find in found:
        try:
            yield find()
        except NOT_HOLDING:
            if not keep_going:
                raise


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_REGISTRY_BYTES + 1)
    except FileNotFoundError:
        raise RegistryMissing(
            f"there is no registry at {path}",
            remedy="`milton demo` makes one with small real models, `milton registry add` registers yours",
        ) from None
    except OSError as error:
        raise RegistryUnreadable(f"the registry {path} cannot be read ({error})") from error
    if len(raw) > MAX_REGISTRY_BYTES:
        raise RegistryUnreadable(f"the registry {path} is larger than {MAX_REGISTRY_BYTES} bytes")
    return raw


def parse_registry(path: object, raw: bytes) -> dict[str, Any]:
    """The document that the registry at `path` holds. Raises `RegistryUnreadable`."""
    try:
        document = json.loads(raw, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise RegistryUnreadable(
            f"the registry {path} is no JSON ({error})",
            expected='{"models": {VERSION: ENTRY, …}}',
            remedy="it may be half written: wait for its writer, or restore it from a copy; it was left as it is",
        ) from error
    if not isinstance(document, dict) or not isinstance(document.get("models"), dict):
        found = _kind(document) if not isinstance(document, dict) else f"models: {_kind(document.get('models'))}"
        raise RegistryUnreadable(
            f"the registry {path} holds {found}",
            expected='an object {"models": {VERSION: ENTRY, …}}',
            remedy="correct the file; it was left as it is",
        )
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r:.200} appears twice in one object")
    return content


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "nothing"}
    return names.get(type(value), "a number")


# Writing


def new_entry(
    base_model: str,
    *,
    gguf: str | None = None,
    hf: str | None = None,
    created_at: datetime | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """An entry as the registry holds it. `gguf` and `hf` are paths, relative to the state folder if they can be."""
    metrics: dict[str, Any] = {}
    if gguf is not None:
        metrics["compression"] = {"gguf_path": gguf}
    if hf is not None:
        metrics["distillation"] = {"model_path": hf}
    at = (created_at or datetime.now(UTC)).astimezone(UTC)
    return {
        "base_model": base_model,
        "created_at": at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "status": EntryStatus.CANDIDATE.value,
        "metrics": metrics,
        **(extra or {}),
    }


def registered(path: Path) -> dict[str, Any]:
    """The entries of the registry at `path` as they stand, by version, none of them judged.

    Raises `RegistryMissing`, and `RegistryUnreadable` when the file as a whole does not hold.
    """
    models: dict[str, Any] = parse_registry(path, _read_bytes(path))["models"]
    return models


def add_entries(path: Path, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Add entries to the registry at `path`, making it when there is none. All of them or none; no artefact is read.

    Raises `BadInput` for a version that is taken (also by a quarantined entry), a key that is no slug, or an entry
    that lacks a field; `RegistryUnreadable` when the file does not hold.
    """
    for version, entry in entries.items():
        check_key(version, "model version")
        try:
            _Entry.model_validate_json(json.dumps(entry))
        except ValidationError as error:
            raise BadInput(f"the entry of {version} does not hold: {reason(error)}") from error
    with _editing(path, create=True) as document:
        for version, entry in entries.items():
            if version in document["models"]:
                raise taken(version)
            document["models"][version] = dict(entry)


def retire(path: Path, version: str) -> bool:
    """Set the entry's status to `retired`; nothing else changes. False when it was retired already.

    Raises `BadInput` when there is no such entry, or it is no object.
    """
    with _editing(path) as document:
        if version not in document["models"]:
            raise unknown(version, list(document["models"]))
        entry = document["models"][version]
        if not isinstance(entry, dict):
            raise BadInput(f"the entry of {version} is {_kind(entry)}", expected="an object")
        changed: bool = entry.get("status") != EntryStatus.RETIRED
        entry["status"] = EntryStatus.RETIRED.value
    return changed


@contextmanager
def _editing(path: Path, *, create: bool = False) -> Iterator[dict[str, Any]]:
    """The parsed registry, written back on success: under our lock, atomically, and only over what was read."""
    target = path.resolve()
    if not create:
        _read_bytes(target)
    with locked(target.with_name(f".{target.name}.lock"), timeout_s=LOCK_TIMEOUT_S):
        exists = target.exists()
        before = _read_bytes(target) if exists else b'{"models": {}}'
        document = parse_registry(target, before)
        yield document
        try:
            after = json.dumps(document, indent=2, ensure_ascii=before.isascii()).encode() + b"\n"
        except ValueError as error:
            raise RegistryUnreadable(f"the registry {path} cannot be written back ({error})") from error
        if json.loads(after) == json.loads(before) and exists:
            return
        if exists != target.exists() or (exists and _read_bytes(target) != before):
            raise BadInput(f"another program changed {path} meanwhile", remedy="try again")
        mode = stat.S_IMODE(target.stat().st_mode) if exists else None
        write_atomic(target, after)
        if mode is not None:
            target.chmod(mode)
