"""A registered model of MLflow's, taken as a registry: `mlflow+http://host:5000/#model-name` (or `mlflow+https`).

What belongs here: what a model version means to us, and fetching its files into the state folder's cache. What does
not: the requests (`mlflow_api`), and judging the files (`artefacts`).

A version `3` of the model `edge` is the model version `edge-v3`; MLflow numbers its versions itself. Tags of the
version that we read: `base_model`; `gguf_path`, where it holds several GGUF models; `milton.sha256`, the digest that
its files must have; and `milton.status`, which `retire` sets. Its GGUF is the artefact, or, where it holds none, the
directory with a `config.json`. What was fetched is kept while the server lists files of the same names and sizes.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from milton_assets.vocabulary.artefact_files import artefact_files, is_first_part, without_part
from milton_assets.vocabulary.digest import sha256_bytes, sha256_json
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.locks import locked
from milton_assets.vocabulary.progress import OnProgress, Progress, silent
from milton_assets.vocabulary.registry import (
    Artefact,
    ArtefactKind,
    EntryStatus,
    Head,
    NewModel,
    Registry,
    RegistryEntry,
    RegistryUnreadable,
)
from resources.file_facts import FactsReader, NotYet
from resources.registries.artefacts import (
    Surroundings,
    directory_artefact,
    gguf_artefact,
    head_of,
    slug_of,
    unknown,
)
from resources.registries.judging import judge_all, judge_one
from resources.registries.mlflow_api import MlflowApi, ModelVersion

STATUS_TAG: Final = "milton.status"
SHA256_TAG: Final = "milton.sha256"
BASE_MODEL_TAG: Final = "base_model"
GGUF_TAG: Final = "gguf_path"
LOCK_TIMEOUT_S: Final = 5.0
_NAME_LIMIT: Final = 100
_MARGIN_BYTES: Final = 64 << 20
_MEGABYTE: Final = 1_000_000
_TELL_BYTES: Final = 256 << 20


@dataclass(frozen=True)
class MlflowRegistry:
    """The registered model that `api` speaks of."""

    api: MlflowApi
    surroundings: Surroundings

    @property
    def uri(self) -> str:
        """The server's address and the model's name."""
        return f"mlflow+{self.api.base_url}/#{self.api.model}"

    def read(self, *, hash_budget_s: float | None = None, on_progress: OnProgress = silent) -> Registry:
        """The model's versions as they are now, see `RegistryStore.read`; candidates' files are fetched first."""
        versions = self._versions()
        facts = self.surroundings.facts(hash_budget_s=hash_budget_s, on_progress=on_progress)
        fetching = _Fetching(self._cache, self.api, hash_budget_s, on_progress)
        sha256 = sha256_json({key: _raw(version) for key, version in versions.items()})
        return judge_all(versions, lambda key, it: self._entry(key, it, fetching, facts), facts, sha256=sha256)

    def entry(self, version: str, *, on_progress: OnProgress = silent) -> RegistryEntry:
        """One version's entry, see `RegistryStore.entry`."""
        facts = self.surroundings.facts(on_progress=on_progress)
        fetching = _Fetching(self._cache, self.api, None, on_progress)
        return judge_one(version, self._versions(), lambda key, it: self._entry(key, it, fetching, facts), facts)

    def judged(self, version: str, *, on_progress: OnProgress = silent) -> RegistryEntry:
        """The same as `entry`: MLflow keeps no digests, so a version's files are fetched to know what it is."""
        return self.entry(version, on_progress=on_progress)

    def head(self, entry: RegistryEntry, kind: ArtefactKind) -> Head:
        """What the fetched files say of themselves, see `RegistryStore.head`."""
        return head_of(Path(entry.artefact(kind).path))

    def base_head(self, entry: RegistryEntry) -> Head | None:
        """None: a base model is a name here, never a path."""
        return None

    def registered(self) -> Mapping[str, Any]:
        """What MLflow says of each version, without its aliases and what changes by itself."""
        return {key: _raw(version) for key, version in self._versions().items()}

    def add(self, model: NewModel, *, on_progress: OnProgress = silent) -> RegistryEntry:
        """Upload the model in a run of its own, and make a version of it."""
        if model.version is not None:
            raise BadInput(
                f"the version {model.version} was asked for, and MLflow numbers its versions itself",
                remedy="leave --version out",
            )
        if (source := model.gguf or model.hf) is None or (model.gguf and model.hf):
            raise BadInput("a version in MLflow is one artefact", expected="a GGUF or a directory")
        facts = self.surroundings.facts(on_progress=on_progress)
        judged = _judged(source, facts, allow_code=False)
        facts.save()
        run_id, root = self.api.start_run()
        try:
            files = artefact_files(source)
            for number, (name, file) in enumerate(files.items(), 1):
                on_progress(Progress("upload", number, len(files), name))
                self.api.upload(f"{root}/model", name, file)
            tags = {BASE_MODEL_TAG: model.base_model, SHA256_TAG: judged.sha256}
            made = self.api.create_version(f"{root}/model", run_id, tags)
        except BaseException:
            self.api.finish_run(run_id, "FAILED")
            raise
        self.api.finish_run(run_id, "FINISHED")
        return self.entry(self._key(made.version), on_progress=on_progress)

    def retire(self, version: str) -> bool:
        """Tag the version as retired."""
        versions = self._versions()
        if version not in versions:
            raise unknown(version, list(versions))
        if _status(versions[version]) is EntryStatus.RETIRED:
            return False
        self.api.set_tag(versions[version].version, STATUS_TAG, EntryStatus.RETIRED.value)
        return True

    def aliases(self) -> Mapping[str, str]:
        """The model's aliases, whoever set them."""
        return {alias: self._key(number) for alias, number in self.api.aliases().items()}

    def set_alias(self, alias: str, version: str | None) -> None:
        """Set MLflow's alias, so that whoever loads `models:/NAME@ALIAS` gets it."""
        if version is None:
            self.api.delete_alias(alias)
            return
        versions = self._versions()
        if version not in versions:
            raise unknown(version, list(versions))
        self.api.set_alias(alias, versions[version].version)

    @property
    def _cache(self) -> Path:
        return self.surroundings.state.cache / "mlflow" / sha256_bytes(self.uri.encode())[:12]

    def _key(self, number: str) -> str:
        return f"{slug_of(self.api.model, self.api.model, limit=_NAME_LIMIT)}-v{number}"

    def _versions(self) -> dict[str, ModelVersion]:
        return {self._key(version.version): version for version in self.api.versions()}

    def _entry(self, key: str, version: ModelVersion, fetching: _Fetching, facts: FactsReader) -> RegistryEntry:
        status = _status(version)
        return RegistryEntry(
            version=key,
            base_model=version.tag(BASE_MODEL_TAG) or version.name,
            created_at=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
            status=status,
            # A retired version's files are not fetched: nobody will ask for them.
            artefacts=(self._artefact(key, version, fetching, facts),) if status is EntryStatus.CANDIDATE else (),
            raw=_raw(version),
        )

    def _artefact(self, key: str, version: ModelVersion, fetching: _Fetching, facts: FactsReader) -> Artefact:
        if version.status != "READY":
            raise BadInput(f"MLflow says that it is {version.status} {version.status_message:.200}".rstrip())
        path = fetching.fetch(version)
        found = _judged(path, facts, allow_code=key in self.surroundings.allow_code)
        said = version.tag(SHA256_TAG)
        if said is not None and said != found.sha256:
            raise BadInput(
                f"its files have the digest {found.sha256}",
                expected=f"{said}, as its tag {SHA256_TAG} says",
                remedy=f"remove {path} to have them fetched again; if they differ still, they were changed in MLflow",
            )
        return found


def _judged(path: Path, facts: FactsReader, *, allow_code: bool) -> Artefact:
    return directory_artefact(path, facts, allow_code=allow_code) if path.is_dir() else gguf_artefact(path, facts)


def _status(version: ModelVersion) -> EntryStatus:
    return EntryStatus.RETIRED if version.tag(STATUS_TAG) == EntryStatus.RETIRED else EntryStatus.CANDIDATE


def _raw(version: ModelVersion) -> dict[str, Any]:
    return {
        "model": version.name,
        "version": version.version,
        "source": version.source,
        "run_id": version.run_id,
        "tags": {tag.key: tag.value for tag in version.tags if tag.key != STATUS_TAG},
        "status": _status(version).value,
    }


class _Fetching:
    """Fetches versions' files below `cache`, for `budget_s` seconds at most (None: as long as it takes).

    What was fetched of a file stays when it ends in the middle, and the next fetching goes on from there.
    """

    def __init__(self, cache: Path, api: MlflowApi, budget_s: float | None, on_progress: OnProgress) -> None:
        self._cache = cache
        self._api = api
        self._deadline = None if budget_s is None else time.monotonic() + budget_s
        self._on_progress = on_progress

    def fetch(self, version: ModelVersion) -> Path:
        """The version's model on this disk: a GGUF (the first part of a split one) or a directory.

        Raises `BadInput` when it holds none or there is no room, `RegistryUnreadable`, and `NotYet`.
        """
        uri = self._api.download_uri(version.version)
        sizes = self._api.files(uri)
        primary, wanted = chosen(sizes, version.tag(GGUF_TAG))
        folder = self._cache / version.version
        files, parts = folder / "files", folder / "parts"
        with locked(self._cache / f".{version.version}.lock", timeout_s=LOCK_TIMEOUT_S):
            self._make_room(folder, sum(sizes[name] for name in wanted if not _is_there(files / name, sizes[name])))
            for name in wanted:
                if not _is_there(files / name, sizes[name]):
                    self._fetch_file(uri, name, sizes[name], parts / name)
                    (files / name).parent.mkdir(parents=True, exist_ok=True)
                    (parts / name).replace(files / name)
            for path in [path for path in files.rglob("*") if path.is_file()]:
                if path.relative_to(files).as_posix() not in wanted:
                    path.unlink()
        return files / primary

    def _fetch_file(self, uri: str, name: str, size_bytes: int, part: Path) -> None:
        part.parent.mkdir(parents=True, exist_ok=True)
        start = part.stat().st_size if part.exists() else 0
        if start > size_bytes:
            part.unlink()
            start = 0
        told = start
        if start < size_bytes or not part.exists():
            with self._api.download(uri, name, start=start) as (begins, chunks), part.open("ab") as stream:
                stream.truncate(begins)
                done = begins
                for chunk in chunks:
                    done += len(chunk)
                    if done > size_bytes:
                        raise BadInput(f"the server sends more of {name} than the {size_bytes} bytes it lists")
                    stream.write(chunk)
                    if done - told >= _TELL_BYTES or done == size_bytes:
                        told = done
                        note = f"MB of {self._api.model} {name}"
                        self._on_progress(Progress("fetch", done // _MEGABYTE, size_bytes // _MEGABYTE, note))
                    if self._deadline is not None and done < size_bytes and time.monotonic() > self._deadline:
                        raise NotYet
                stream.flush()
                os.fsync(stream.fileno())
        if (found := part.stat().st_size) != size_bytes:
            raise RegistryUnreadable(f"the server ended {name} after {found} of {size_bytes} bytes", remedy="try again")

    def _make_room(self, folder: Path, needed_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        free_bytes = shutil.disk_usage(folder).free
        if needed_bytes and needed_bytes + _MARGIN_BYTES > free_bytes:
            raise BadInput(
                f"{folder} has {free_bytes // _MEGABYTE} MB free",
                expected=f"{(needed_bytes + _MARGIN_BYTES) // _MEGABYTE} MB for its files",
                remedy="make room, or move the state folder with MILTON_STATE_DIR",
            )


def _is_there(path: Path, size_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size == size_bytes


def chosen(sizes: Mapping[str, int], gguf_path: str | None = None) -> tuple[str, tuple[str, ...]]:
    """Of a version's files: the path of its model, and the files that this consists of. Raises `BadInput`."""
    models = [name for name in sizes if name.lower().endswith(".gguf") and is_first_part(PurePosixPath(name).name)]
    if gguf_path is not None:
        if gguf_path not in models:
            raise BadInput(f"its tag {GGUF_TAG} names {gguf_path!r:.200}", expected=f"one of {', '.join(models)}")
        models = [gguf_path]
    if len(models) > 1:
        raise BadInput(
            f"it holds {len(models)} GGUF models ({', '.join(sorted(models)[:3])}, …)",
            expected="one",
            remedy=f"name it in the version's tag {GGUF_TAG}",
        )
    if models:
        return models[0], tuple(_parts_of(models[0], sizes))
    folders = [PurePosixPath(name).parent for name in sizes if PurePosixPath(name).name == "config.json"]
    if not folders:
        raise BadInput("it holds no model", expected="a GGUF, or a directory with a config.json and safetensors")
    folder = min(folders, key=lambda path: (len(path.parts), str(path)))
    return str(folder), tuple(name for name in sorted(sizes) if folder in PurePosixPath(name).parents)


def _parts_of(first: str, names: Mapping[str, int]) -> Iterator[str]:
    path = PurePosixPath(first)
    whole = without_part(path.name)
    for name in sorted(names):
        other = PurePosixPath(name)
        split = whole != path.stem
        if name == first or (
            split and other.parent == path.parent and other.suffix == path.suffix and without_part(other.name) == whole
        ):
            yield name


def open_mlflow(uri: str, around: Surroundings) -> MlflowRegistry:
    """The registered model that `mlflow+http://host:port/#name` names. Raises `BadInput`, which repeats no password."""
    parts = urlsplit(uri.removeprefix("mlflow+"))
    expected = "mlflow+http://host:5000/#model-name, or mlflow+https"
    if parts.username is not None or parts.password is not None:
        raise BadInput(
            "the registry's URI holds a user or a password",
            expected=expected,
            remedy="put them into MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        )
    try:
        port_holds = parts.port is None or parts.port > 0
    except ValueError:
        port_holds = False
    model = unquote(parts.fragment)
    if not parts.hostname or not port_holds or parts.query:
        raise BadInput(f"the registry {uri!r:.200} is no address of MLflow's", expected=expected)
    if not model or not model.isprintable() or set(model) & set("'\"/:"):
        raise BadInput(f"the registry {uri!r:.200} names no registered model after #", expected=expected)
    return MlflowRegistry(MlflowApi(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", model), around)
