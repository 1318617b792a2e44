"""The registry file: reading it with every entry judged alone, adding to it and retiring from it.

What belongs here: `registry.json` and the artefacts it points to. What does not: Dagster (`resources.registry_resource`
wraps this) and what an entry is (`milton_assets.vocabulary.registry`).

    registry = read_registry(state.registry, state.root)
    add_entries(state.registry, {"v1": new_entry("org/model", gguf="models/quantized/v1/model-q4_0.gguf")})
    retire(state.registry, "v1")

The file belongs to whoever trains: fields we do not know are kept as they are, in their order, and nothing is ever
written over a file that could not be read.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from milton_assets.vocabulary.digest import sha256_bytes, sha256_json, sha256_listing
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import write_atomic
from milton_assets.vocabulary.keys import RunId, Slug, check_key
from milton_assets.vocabulary.locks import locked
from milton_assets.vocabulary.progress import OnProgress, silent
from milton_assets.vocabulary.registry import (
    Artefact,
    ArtefactKind,
    EntryStatus,
    Quarantined,
    Registry,
    RegistryEntry,
)
from resources.file_facts import FactsReader, NotYet

MAX_REGISTRY_BYTES: Final = 64 << 20
MAX_DIRECTORY_FILES: Final = 10_000
LOCK_TIMEOUT_S: Final = 30.0

# RuntimeError: a loop of links, or an entry nested beyond the interpreter's depth. ValueError: pydantic, odd text.
_NOT_HOLDING: Final = (BadInput, OSError, ValueError, RuntimeError)


class RegistryMissing(BadInput):
    """There is no registry file."""


class RegistryUnreadable(BadInput):
    """The registry file as a whole is not what it must be. Nothing was written."""


def artefact_roots(environment: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """`$MILTON_ARTEFACT_ROOTS`, colon-separated: folders outside the state folder that may hold artefacts.

    Raises `BadInput` for a relative one.
    """
    env = os.environ if environment is None else environment
    roots = tuple(Path(part) for part in env.get("MILTON_ARTEFACT_ROOTS", "").split(os.pathsep) if part)
    for root in roots:
        if not root.is_absolute():
            raise BadInput(f"MILTON_ARTEFACT_ROOTS names {str(root)!r}", expected="absolute paths")
    return roots


# Reading


def read_registry(
    path: Path,
    artefact_root: Path,
    *,
    extra_roots: Sequence[Path] = (),
    cache: Path | None = None,
    hash_budget_s: float | None = None,
    on_progress: OnProgress = silent,
) -> Registry:
    """Read the registry at `path`, judging every entry alone.

    Relative artefact paths count from `artefact_root`; what they lead to, links followed, must lie below it or below
    one of `extra_roots`. An entry that does not hold is quarantined with its reason. Digests are taken from `cache`
    (see `resources.file_facts`) where the files have not changed. With `hash_budget_s`, entries whose files could not
    be hashed in that time are `pending`: another reading goes on from there.

    Of a retired entry, artefacts that are gone or broken are left out: they may have been cleared away.

    Raises `RegistryMissing`, and `RegistryUnreadable` when the file as a whole does not hold.
    """
    raw = _read_bytes(path)
    document = _parse(path, raw)
    facts = FactsReader(cache, hash_budget_s, on_progress)
    store = _ArtefactStore(artefact_root, tuple(extra_roots), facts)
    entries: dict[str, RegistryEntry] = {}
    quarantined: list[Quarantined] = []
    pending: list[str] = []
    for version, content in document["models"].items():
        try:
            entries[version] = _entry(version, content, store)
        except NotYet:
            pending.append(version)
        except _NOT_HOLDING as error:
            quarantined.append(Quarantined(_printable(version), _printable(_reason(error))))
    facts.save()
    return Registry(
        entries=entries,
        quarantined=tuple(quarantined),
        sha256=sha256_bytes(raw),
        read_at=datetime.now(UTC),
        pending=tuple(pending),
    )


def read_entry(
    path: Path,
    artefact_root: Path,
    version: str,
    *,
    extra_roots: Sequence[Path] = (),
    cache: Path | None = None,
    on_progress: OnProgress = silent,
) -> RegistryEntry:
    """Read and judge one entry; the files of the others are not looked at.

    Raises `BadInput` when there is no such entry or it does not hold, with the reason, and otherwise as
    `read_registry`.
    """
    models = _parse(path, _read_bytes(path))["models"]
    if version not in models:
        raise BadInput(
            f"model {version!r:.200} is not in the registry",
            expected=f"one of {', '.join(map(_printable, models)) or 'none, the registry is empty'}",
            remedy="`milton registry list` shows what there is, `milton registry add` registers a model",
        )
    facts = FactsReader(cache, on_progress=on_progress)
    try:
        entry = _entry(version, models[version], _ArtefactStore(artefact_root, tuple(extra_roots), facts))
    except _NOT_HOLDING as error:
        raise BadInput(
            f"model {_printable(version)} is quarantined: {_printable(_reason(error))}",
            remedy="correct its entry or its files",
        ) from error
    facts.save()
    return entry


def registered(path: Path) -> dict[str, Any]:
    """The entries of the registry at `path` as they stand, by version, none of them judged.

    Raises `RegistryMissing`, and `RegistryUnreadable` when the file as a whole does not hold.
    """
    models: dict[str, Any] = _parse(path, _read_bytes(path))["models"]
    return models


class _Compression(BaseModel):
    model_config = ConfigDict(strict=True)

    gguf_path: str | None = Field(default=None, min_length=1)


class _Distillation(BaseModel):
    model_config = ConfigDict(strict=True)

    model_path: str | None = Field(default=None, min_length=1)


class _Metrics(BaseModel):
    model_config = ConfigDict(strict=True)

    compression: _Compression = _Compression()
    distillation: _Distillation = _Distillation()


class _Entry(BaseModel):
    """What we need of an entry; whatever else it holds is the trainer's."""

    model_config = ConfigDict(strict=True)

    base_model: str = Field(min_length=1)
    created_at: AwareDatetime
    status: EntryStatus
    metrics: _Metrics


def _entry(version: str, content: Any, store: _ArtefactStore) -> RegistryEntry:
    check_key(version, "model version")
    if not isinstance(content, dict):
        raise BadInput(f"the entry is {_kind(content)}", expected="an object")
    try:
        sha256_json(content)
    except ValueError as error:
        raise BadInput(f"the entry cannot be pinned by digest ({error})", expected="plain JSON") from error
    fields = _Entry.model_validate_json(json.dumps(content))
    declared = [
        (ArtefactKind.GGUF, fields.metrics.compression.gguf_path),
        (ArtefactKind.HF_DISTILLED, fields.metrics.distillation.model_path),
    ]
    return RegistryEntry(
        version=version,
        base_model=fields.base_model,
        created_at=fields.created_at,
        status=fields.status,
        artefacts=tuple(_artefacts(declared, store, keep_going=fields.status is EntryStatus.RETIRED)),
        raw=content,
    )


def _artefacts(
    declared: Iterable[tuple[ArtefactKind, str | None]], store: _ArtefactStore, *, keep_going: bool
) -> Iterator[Artefact]:
    paths = [(kind, path) for kind, path in declared if path is not None]
    if not paths:
        raise BadInput(
            "the entry names no artefact",
            expected="metrics.compression.gguf_path or metrics.distillation.model_path",
            remedy="quantise the model and register the GGUF",
        )
    for kind, path in paths:
        try:
            yield store.find(kind, path)
        except _NOT_HOLDING:
            if not keep_going:
                raise


@dataclass(frozen=True)
class _ArtefactStore:
    root: Path
    extra_roots: tuple[Path, ...]
    facts: FactsReader

    def find(self, kind: ArtefactKind, declared: str) -> Artefact:
        path = self._resolve(declared)
        if kind is ArtefactKind.GGUF:
            return self._gguf(path)
        return self._directory(path)

    def _resolve(self, declared: str) -> Path:
        roots = [root.resolve() for root in (self.root, *self.extra_roots)]
        path = (self.root / declared).resolve()
        if not any(root in path.parents for root in roots):
            raise BadInput(
                f"the path {declared!r:.300} leads to {path}",
                expected=f"a path below {' or '.join(map(str, roots))}",
                remedy="move the file there, or name its folder in MILTON_ARTEFACT_ROOTS",
            )
        return path

    def _gguf(self, path: Path) -> Artefact:
        if path.is_dir():
            raise BadInput(
                f"{path} is a directory",
                expected="a GGUF file at metrics.compression.gguf_path",
                remedy="name the file; a directory belongs in metrics.distillation.model_path",
            )
        if not path.exists():
            raise BadInput(
                f"the GGUF {path} is missing",
                remedy="quantise the model to that path, or remove gguf_path and ask for hf-distilled",
            )
        facts = self.facts.of_gguf(path)
        return Artefact(
            kind=ArtefactKind.GGUF,
            path=str(path),
            size_bytes=facts.identity.size_bytes,
            sha256=facts.sha256,
            quantization=facts.quantization,
        )

    def _directory(self, path: Path) -> Artefact:
        if not path.exists():
            raise BadInput(f"the distilled model {path} is missing", remedy="restore the directory or its path")
        if not path.is_dir():
            raise BadInput(f"{path} is a file", expected="a Hugging Face directory at metrics.distillation.model_path")
        if not (path / "config.json").is_file():
            raise BadInput(f"{path} has no config.json", expected="a Hugging Face model directory")
        digests: dict[str, str] = {}
        size_bytes = 0
        for name, file in self._files(path):
            facts = self.facts.of_file(file)
            digests[name] = facts.sha256
            size_bytes += facts.identity.size_bytes
        return Artefact(
            kind=ArtefactKind.HF_DISTILLED, path=str(path), size_bytes=size_bytes, sha256=sha256_listing(digests)
        )

    def _files(self, folder: Path) -> Iterator[tuple[str, Path]]:
        count = 0
        for parent, _, names in os.walk(folder, onerror=_raise):
            for name in names:
                count += 1
                if count > MAX_DIRECTORY_FILES:
                    raise BadInput(f"{folder} holds more than {MAX_DIRECTORY_FILES} files")
                file = self._resolve(os.path.join(parent, name))  # noqa: PTH118 - os.walk speaks strings
                if not stat.S_ISREG(file.stat().st_mode):
                    raise BadInput(f"{file} is no regular file", expected="a directory of plain files")
                yield (Path(parent) / name).relative_to(folder).as_posix(), file


def _raise(error: OSError) -> None:
    raise error


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


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
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


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'entry'}: {problem['msg']}" for problem in error.errors()
        )
    return str(error)


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


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


def add_entries(path: Path, entries: Mapping[str, Mapping[str, Any]]) -> None:
    """Add entries to the registry at `path`, making the file when there is none. All of them or none.

    Raises `BadInput` for a version that is taken (also by a quarantined entry), a key that is no slug, or an entry
    that lacks a field; `RegistryUnreadable` when the file does not hold.
    """
    for version, entry in entries.items():
        check_key(version, "model version")
        try:
            _Entry.model_validate_json(json.dumps(entry))
        except ValidationError as error:
            raise BadInput(f"the entry of {version} does not hold: {_reason(error)}") from error
    with _editing(path, create=True) as document:
        for version, entry in entries.items():
            _refuse_taken(document, version)
            document["models"][version] = dict(entry)


def refuse_taken(path: Path, version: str) -> None:
    """Raise `BadInput` when the registry at `path` has an entry of that version, also a quarantined one."""
    _refuse_taken(_parse(path, _read_bytes(path)), version)


def _refuse_taken(document: Mapping[str, Any], version: str) -> None:
    if version in document["models"]:
        raise BadInput(
            f"model {version} is registered already",
            expected="a version that no entry has",
            remedy="choose another; what was measured under a version stays tied to it",
        )


def retire(path: Path, version: str) -> bool:
    """Set the entry's status to `retired`; nothing else changes. False when it was retired already.

    Raises `BadInput` when there is no such entry, or it is no object.
    """
    with _editing(path) as document:
        if version not in document["models"]:
            raise BadInput(
                f"model {version!r:.200} is not in the registry",
                expected=f"one of {', '.join(map(_printable, document['models'])) or 'none, it is empty'}",
            )
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
        document = _parse(target, before)
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


# The past


class PastDecision(BaseModel):
    """What a benchmark run decided: who won, if anybody."""

    model_config = ConfigDict(frozen=True, strict=True)

    run_id: RunId
    verdict: str
    winner: Slug | None


class _Run(BaseModel):
    decision: PastDecision


def past_decisions(runs: Path) -> tuple[PastDecision, ...]:
    """The decisions among the run summaries below `runs`, oldest first. Raises `BadInput` for a summary without one."""
    decisions = []
    for path in sorted(runs.glob("benchmark_*.json")):
        try:
            decisions.append(_Run.model_validate_json(path.read_bytes()).decision)
        except (OSError, ValidationError) as error:
            raise BadInput(
                f"the run summary {path} does not hold ({_reason(error)})",
                expected="a decision with run_id, verdict and winner",
                remedy="restore the file, or move it away",
            ) from error
    return tuple(decisions)


def best_version(decisions: Iterable[PastDecision]) -> PastDecision | None:
    """The newest decision that promoted a version: the best model on past evidence. None when none did."""
    promoted = [each for each in decisions if each.verdict == "promote" and each.winner is not None]
    return max(promoted, key=lambda each: each.run_id, default=None)
