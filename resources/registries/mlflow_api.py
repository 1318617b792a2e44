"""MLflow's REST API, as far as a registry of models needs it.

What belongs here: what is asked, and what its answers must look like. What does not: what a version means to us
(`mlflow`), and a request's bounds and credentials (`resources.mlflow_server`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import httpx
from pydantic import Field

from milton_assets.vocabulary.artefact_files import MAX_DIRECTORY_FILES
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import RegistryMissing, RegistryUnreadable
from resources.mlflow_runs import MlflowRuns
from resources.mlflow_server import ARTIFACTS, MlflowNoun, MlflowServer, plain_name

MAX_PAGES: Final = 1_000
MAX_DEPTH: Final = 16
PAGE: Final = 200
_DEFAULT_EXPERIMENT: Final = "0"
_CHUNK_BYTES: Final = 1 << 20


class Tag(MlflowNoun):
    """A tag of a model version."""

    key: str
    value: str = ""


class ModelVersion(MlflowNoun):
    """A version of a registered model. `version` counts from 1; the time is in milliseconds since 1970."""

    name: str
    version: str = Field(pattern=r"^[1-9]\d{0,17}$")
    creation_timestamp: int = Field(ge=0, le=253_402_300_799_000)
    source: str = ""
    run_id: str = ""
    status: str = "READY"
    status_message: str = ""
    tags: tuple[Tag, ...] = ()

    def tag(self, key: str) -> str | None:
        """The value of that tag, None when there is none."""
        return next((tag.value for tag in self.tags if tag.key == key), None)


class Alias(MlflowNoun):
    """An alias of a registered model and the version that has it."""

    alias: str
    version: str


class RemoteFile(MlflowNoun):
    """A file or folder below an artefact's root."""

    path: str = Field(min_length=1, max_length=1024)
    is_dir: bool = False
    file_size: int = Field(default=0, ge=0)


class _Versions(MlflowNoun):
    model_versions: tuple[ModelVersion, ...] = ()
    next_page_token: str = ""


class _Version(MlflowNoun):
    model_version: ModelVersion


class _Model(MlflowNoun):
    aliases: tuple[Alias, ...] = ()


class _RegisteredModel(MlflowNoun):
    registered_model: _Model


class _Uri(MlflowNoun):
    artifact_uri: str


class _Files(MlflowNoun):
    files: tuple[RemoteFile, ...] = ()


@dataclass(frozen=True)
class MlflowApi:
    """One registered model `model` on the MLflow server at `base_url`, an http or https address without a path's end.

    Every method raises `RegistryMissing` when there is no such model, and `RegistryUnreadable` when the server does not
    answer, refuses, or answers something else than MLflow does.
    """

    base_url: str
    model: str

    @property
    def _server(self) -> MlflowServer:
        return MlflowServer(self.base_url, "MILTON_REGISTRY", RegistryUnreadable, RegistryMissing)

    def versions(self) -> tuple[ModelVersion, ...]:
        """Every version of the model, oldest first."""
        found: list[ModelVersion] = []
        token = ""
        # The search takes the model's name in quotes, and has no escape for one in it.
        query = {"filter": f"name='{self.model}'", "max_results": str(PAGE)}
        for _ in range(MAX_PAGES):
            page = self._server.get(
                "/model-versions/search", {**query, **({"page_token": token} if token else {})}, _Versions
            )
            found.extend(version for version in page.model_versions if version.name == self.model)
            if not (token := page.next_page_token):
                return tuple(sorted(found, key=lambda version: int(version.version)))
        raise RegistryUnreadable(f"{self.base_url} has more than {MAX_PAGES * PAGE} versions of {self.model!r:.200}")

    def aliases(self) -> dict[str, str]:
        """The model's aliases, each with its version's number."""
        model = self._server.get("/registered-models/get", {"name": self.model}, _RegisteredModel).registered_model
        return {alias.alias: alias.version for alias in model.aliases}

    def set_alias(self, alias: str, version: str) -> None:
        """Give the alias to a version."""
        self._server.send("POST", "/registered-models/alias", {"name": self.model, "alias": alias, "version": version})

    def delete_alias(self, alias: str) -> None:
        """Take the alias from whoever has it."""
        self._server.send("DELETE", "/registered-models/alias", {"name": self.model, "alias": alias})

    def set_tag(self, version: str, key: str, value: str) -> None:
        """Set a tag of a version."""
        self._server.send(
            "POST", "/model-versions/set-tag", {"name": self.model, "version": version, "key": key, "value": value}
        )

    def download_uri(self, version: str) -> str:
        """Where the version's artefacts lie."""
        query = {"name": self.model, "version": version}
        return self._server.get("/model-versions/get-download-uri", query, _Uri).artifact_uri

    def files(self, uri: str) -> dict[str, int]:
        """The size of every file below a proxied artefact root, by its path within. Raises `BadInput` for another."""
        root = self._server.proxied(uri)
        found: dict[str, int] = {}
        folders = [PurePosixPath()]
        while folders:
            folder = folders.pop()
            if len(folder.parts) > MAX_DEPTH:
                raise BadInput(f"{uri} holds folders within folders, more than {MAX_DEPTH} deep")
            listing = self._server.request("GET", ARTIFACTS, params={"path": str(root / folder)})
            for each in self._server.read(listing, _Files).files:
                path = folder / plain_name(PurePosixPath(each.path).name)
                if each.is_dir:
                    folders.append(path)
                else:
                    found[str(path)] = each.file_size
            if len(found) + len(folders) > MAX_DIRECTORY_FILES:
                raise BadInput(f"{uri} holds more than {MAX_DIRECTORY_FILES} files", expected="one model")
        return found

    @contextmanager
    def download(self, uri: str, name: str, *, start: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """The bytes of one file from `start`, and where they begin: 0 when the server sends all of it again."""
        place = self._server.place(uri, name)
        # Without an own encoding: what is compressed on the way has no places to go on from.
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
        with (
            self._server.client() as client,
            self._server.explained(),
            client.stream("GET", place, headers=headers) as got,
        ):
            if got.status_code not in {httpx.codes.OK, httpx.codes.PARTIAL_CONTENT}:
                raise RegistryUnreadable(f"{self.base_url} answers {got.status_code} to a request for {name!r:.200}")
            begins = 0
            if got.status_code == httpx.codes.PARTIAL_CONTENT:
                begins = start
                if not got.headers.get("content-range", "").startswith(f"bytes {start}-"):
                    raise RegistryUnreadable(
                        f"{self.base_url} sends another part of {name!r:.200} than it was asked for"
                    )
            yield begins, got.iter_raw(_CHUNK_BYTES)

    def start_run(self) -> tuple[str, str]:
        """A new run to hold a version's artefacts: its id and where they go."""
        made = MlflowRuns(self._server).create(_DEFAULT_EXPERIMENT, f"milton-{self.model}", {})
        return made.run_id, made.artifact_uri

    def upload(self, uri: str, name: str, file: Path) -> None:
        """Put one file below a proxied artefact root."""
        with file.open("rb") as stream:
            self._server.upload(uri, name, stream)

    def create_version(self, source: str, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        """Make a new version of what lies at `source`; the server numbers it. The model is made when there is none."""
        self._ensure_model()
        body = {
            "name": self.model,
            "source": source,
            "run_id": run_id,
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        return self._server.read(self._server.send("POST", "/model-versions/create", body), _Version).model_version

    def finish_run(self, run_id: str, status: str) -> None:
        """End a run as FINISHED or FAILED."""
        MlflowRuns(self._server).end(run_id, status)

    def _ensure_model(self) -> None:
        try:
            self._server.get("/registered-models/get", {"name": self.model}, _RegisteredModel)
        except RegistryMissing:
            self._server.send("POST", "/registered-models/create", {"name": self.model})
