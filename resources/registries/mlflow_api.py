"""MLflow's REST API, as far as a registry of models needs it. The `mlflow` package is not needed.

What belongs here: requests, their bounds, and what their answers must look like. What does not: what a version means to
us (`mlflow`). See https://mlflow.org/docs/latest/rest-api.html

Credentials are MLflow's own variables: MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from milton_assets.vocabulary.artefact_files import MAX_DIRECTORY_FILES
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import RegistryMissing, RegistryUnreadable
from milton_assets.vocabulary.tls import trusting

API: Final = "/api/2.0/mlflow"
ARTIFACTS: Final = "/api/2.0/mlflow-artifacts/artifacts"
PROXIED: Final = "mlflow-artifacts:"
TIMEOUT_S: Final = 30.0
MAX_ANSWER_BYTES: Final = 16 << 20
MAX_PAGES: Final = 1_000
MAX_DEPTH: Final = 16
PAGE: Final = 200
_CHUNK_BYTES: Final = 1 << 20

Answer = TypeVar("Answer", bound=BaseModel)


class _Noun(BaseModel):
    """An answer's part; MLflow may add fields at any time."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Tag(_Noun):
    """A tag of a model version."""

    key: str
    value: str = ""


class ModelVersion(_Noun):
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


class Alias(_Noun):
    """An alias of a registered model and the version that has it."""

    alias: str
    version: str


class RemoteFile(_Noun):
    """A file or folder below an artefact's root."""

    path: str = Field(min_length=1, max_length=1024)
    is_dir: bool = False
    file_size: int = Field(default=0, ge=0)


class _Versions(_Noun):
    model_versions: tuple[ModelVersion, ...] = ()
    next_page_token: str = ""


class _Version(_Noun):
    model_version: ModelVersion


class _Model(_Noun):
    aliases: tuple[Alias, ...] = ()


class _RegisteredModel(_Noun):
    registered_model: _Model


class _Uri(_Noun):
    artifact_uri: str


class _Files(_Noun):
    files: tuple[RemoteFile, ...] = ()


class _RunInfo(_Noun):
    run_id: str
    artifact_uri: str


class _RunBody(_Noun):
    info: _RunInfo


class _Run(_Noun):
    run: _RunBody


@dataclass(frozen=True)
class MlflowApi:
    """One registered model `model` on the MLflow server at `base_url`, an http or https address without a path's end.

    Every method raises `RegistryMissing` when there is no such model, and `RegistryUnreadable` when the server does not
    answer, refuses, or answers something else than MLflow does.
    """

    base_url: str
    model: str

    def versions(self) -> tuple[ModelVersion, ...]:
        """Every version of the model, oldest first."""
        found: list[ModelVersion] = []
        token = ""
        # The search takes the model's name in quotes, and has no escape for one in it.
        query = {"filter": f"name='{self.model}'", "max_results": str(PAGE)}
        for _ in range(MAX_PAGES):
            page = self._get("/model-versions/search", {**query, **({"page_token": token} if token else {})}, _Versions)
            found.extend(version for version in page.model_versions if version.name == self.model)
            if not (token := page.next_page_token):
                return tuple(sorted(found, key=lambda version: int(version.version)))
        raise RegistryUnreadable(f"{self.base_url} has more than {MAX_PAGES * PAGE} versions of {self.model!r:.200}")

    def aliases(self) -> dict[str, str]:
        """The model's aliases, each with its version's number."""
        model = self._get("/registered-models/get", {"name": self.model}, _RegisteredModel).registered_model
        return {alias.alias: alias.version for alias in model.aliases}

    def set_alias(self, alias: str, version: str) -> None:
        """Give the alias to a version."""
        self._send("POST", "/registered-models/alias", {"name": self.model, "alias": alias, "version": version})

    def delete_alias(self, alias: str) -> None:
        """Take the alias from whoever has it."""
        self._send("DELETE", "/registered-models/alias", {"name": self.model, "alias": alias})

    def set_tag(self, version: str, key: str, value: str) -> None:
        """Set a tag of a version."""
        self._send(
            "POST", "/model-versions/set-tag", {"name": self.model, "version": version, "key": key, "value": value}
        )

    def download_uri(self, version: str) -> str:
        """Where the version's artefacts lie."""
        query = {"name": self.model, "version": version}
        return self._get("/model-versions/get-download-uri", query, _Uri).artifact_uri

    def files(self, uri: str) -> dict[str, int]:
        """The size of every file below a proxied artefact root, by its path within. Raises `BadInput` for another."""
        root = self._proxied(uri)
        found: dict[str, int] = {}
        folders = [PurePosixPath()]
        while folders:
            folder = folders.pop()
            if len(folder.parts) > MAX_DEPTH:
                raise BadInput(f"{uri} holds folders within folders, more than {MAX_DEPTH} deep")
            listing = self._request("GET", ARTIFACTS, params={"path": str(root / folder)})
            for each in _read(listing, _Files).files:
                path = folder / _plain_name(PurePosixPath(each.path).name)
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
        place = f"{ARTIFACTS}/{quote(str(self._proxied(uri) / name))}"
        # Without an own encoding: what is compressed on the way has no places to go on from.
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
        with self._client() as client, _explained(self.base_url), client.stream("GET", place, headers=headers) as got:
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
        body = {"experiment_id": "0", "run_name": f"milton-{self.model}"}
        info = _read(self._send("POST", "/runs/create", body), _Run).run.info
        return info.run_id, info.artifact_uri

    def upload(self, uri: str, name: str, file: Path) -> None:
        """Put one file below a proxied artefact root."""
        place = f"{ARTIFACTS}/{quote(str(self._proxied(uri) / name))}"
        with file.open("rb") as stream:
            self._request("PUT", place, content=stream, timeout=None)

    def create_version(self, source: str, run_id: str, tags: Mapping[str, str]) -> ModelVersion:
        """Make a new version of what lies at `source`; the server numbers it. The model is made when there is none."""
        self._ensure_model()
        body = {
            "name": self.model,
            "source": source,
            "run_id": run_id,
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        return _read(self._send("POST", "/model-versions/create", body), _Version).model_version

    def finish_run(self, run_id: str, status: str) -> None:
        """End a run as FINISHED or FAILED."""
        self._send("POST", "/runs/update", {"run_id": run_id, "status": status})

    def _ensure_model(self) -> None:
        try:
            self._get("/registered-models/get", {"name": self.model}, _RegisteredModel)
        except RegistryMissing:
            self._send("POST", "/registered-models/create", {"name": self.model})

    def _proxied(self, uri: str) -> PurePosixPath:
        """The path that the server itself gives out an artefact root under."""
        if not uri.startswith(PROXIED):
            raise BadInput(
                f"its artefacts lie at {uri!r:.200}",
                expected=f"artefacts that the server gives out itself ({PROXIED}/…)",
                remedy="start it with `--serve-artifacts --artifacts-destination …`, and log the model again",
            )
        rest = uri.removeprefix(PROXIED)
        path = "/" + rest[2:].partition("/")[2] if rest.startswith("//") else rest
        return PurePosixPath(*(_plain_name(part) for part in path.strip("/").split("/")))

    def _get(self, path: str, query: Mapping[str, str], noun: type[Answer]) -> Answer:
        return _read(self._request("GET", f"{API}{path}", params=dict(query)), noun)

    def _send(self, method: str, path: str, body: Mapping[str, Any]) -> bytes:
        return self._request(method, f"{API}{path}", json=dict(body))

    def _request(self, method: str, path: str, **options: Any) -> bytes:
        with self._client() as client, _explained(self.base_url), client.stream(method, path, **options) as answer:
            raw = bytearray()
            for chunk in answer.iter_bytes():
                raw += chunk
                if len(raw) > MAX_ANSWER_BYTES:
                    raise RegistryUnreadable(f"{self.base_url} answers with more than {MAX_ANSWER_BYTES} bytes")
            if answer.status_code == httpx.codes.OK:
                return bytes(raw)
            said = _error(bytes(raw))
            if said.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise RegistryMissing(
                    f"{self.base_url}: {said.message}", remedy="correct MILTON_REGISTRY, or register the model"
                )
            raise RegistryUnreadable(
                f"{self.base_url} answers {answer.status_code} {said.message or said.error_code}".rstrip(),
                expected="MLflow's REST API",
                remedy="check the address and MLFLOW_TRACKING_TOKEN (or _USERNAME and _PASSWORD)",
            )

    def _client(self) -> httpx.Client:
        headers, auth = {}, None
        if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
            headers["Authorization"] = f"Bearer {token}"
        elif user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
            auth = httpx.BasicAuth(user, os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))
        given = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH")
        # Reading the certificate store takes tens of milliseconds: only for https.
        verify = trusting(Path(given) if given else None) if self.base_url.startswith("https:") else False
        return httpx.Client(base_url=self.base_url, headers=headers, auth=auth, timeout=TIMEOUT_S, verify=verify)


class _Error(_Noun):
    error_code: str = ""
    message: str = ""


def _error(raw: bytes) -> _Error:
    try:
        said = _Error.model_validate_json(raw)
    except ValidationError:
        return _Error()
    return said.model_copy(update={"message": said.message[:300]})


def _read(raw: bytes, noun: type[Answer]) -> Answer:
    try:
        return noun.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise RegistryUnreadable(
            f"the server's answer does not hold ({'.'.join(map(str, first['loc']))}: {first['msg']})",
            expected="what MLflow's REST API answers",
            remedy="check that the address is that of an MLflow server",
        ) from error


def _plain_name(name: str) -> str:
    if name in {"", ".", ".."} or "/" in name or "\\" in name or not name.isprintable():
        raise BadInput(f"the artefacts hold a file named {name!r:.200}", expected="plain names")
    return name


@contextmanager
def _explained(base_url: str) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise RegistryUnreadable(
            f"the MLflow server {base_url} does not answer ({type(error).__name__}: {str(error)[:300]})",
            remedy="start it, correct MILTON_REGISTRY, or name its certificate in MLFLOW_TRACKING_SERVER_CERT_PATH",
        ) from error
