"""Requests to an MLflow server over its REST API. The `mlflow` package is not needed.

    server = MlflowServer("http://host:5000", "MILTON_REGISTRY", RegistryUnreadable, RegistryMissing)
    server.get("/registered-models/get", {"name": "edge"}, Model)

What belongs here: one request, its bounds, its credentials, and what is said when it fails. What does not: what is
asked of a registry (`registries.mlflow_api`) and of the runs (`mlflow_runs`). See https://mlflow.org/docs/latest/rest-api.html

Credentials are MLflow's own variables: MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD;
MLFLOW_TRACKING_SERVER_CERT_PATH names a certificate to trust.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.tls import trusting

API: Final = "/api/2.0/mlflow"
ARTIFACTS: Final = "/api/2.0/mlflow-artifacts/artifacts"
PROXIED: Final = "mlflow-artifacts:"
TIMEOUT_S: Final = 30.0
MAX_ANSWER_BYTES: Final = 16 << 20

Answer = TypeVar("Answer", bound=BaseModel)


class MlflowNoun(BaseModel):
    """An answer's part; MLflow may add fields at any time."""

    model_config = ConfigDict(frozen=True, extra="ignore")


@dataclass(frozen=True)
class MlflowServer:
    """The server at `base_url`, an http or https address without a path's end, which `setting` names.

    Every method raises `missing` for what the server does not have, and `refused` when it does not answer, refuses, or
    answers something else than MLflow does.
    """

    base_url: str
    setting: str
    refused: type[MiltonError]
    missing: type[MiltonError]

    def get(self, path: str, query: Mapping[str, str], noun: type[Answer]) -> Answer:
        """What the server tells at that path of its API."""
        return self.read(self.request("GET", f"{API}{path}", params=dict(query)), noun)

    def send(self, method: str, path: str, body: Mapping[str, Any]) -> bytes:
        """The answer to a body of JSON."""
        return self.request(method, f"{API}{path}", json=dict(body))

    def request(self, method: str, path: str, **options: Any) -> bytes:
        """The answer's bytes, at most `MAX_ANSWER_BYTES`; `options` are httpx's."""
        with self.client() as client, self.explained(), client.stream(method, path, **options) as answer:
            raw = bytearray()
            for chunk in answer.iter_bytes():
                raw += chunk
                if len(raw) > MAX_ANSWER_BYTES:
                    raise self.refused(f"{self.base_url} answers with more than {MAX_ANSWER_BYTES} bytes")
            if answer.status_code == httpx.codes.OK:
                return bytes(raw)
            said = _error(bytes(raw))
            if said.error_code == "RESOURCE_DOES_NOT_EXIST":
                raise self.missing(
                    f"{self.base_url}: {said.message}", remedy=f"correct {self.setting}, or make it there"
                )
            raise self.refused(
                f"{self.base_url} answers {answer.status_code} {said.message or said.error_code}".rstrip(),
                expected="MLflow's REST API",
                remedy="check the address and MLFLOW_TRACKING_TOKEN (or _USERNAME and _PASSWORD)",
            )

    def read(self, raw: bytes, noun: type[Answer]) -> Answer:
        """An answer as what it must be."""
        try:
            return noun.model_validate_json(raw)
        except ValidationError as error:
            first = error.errors()[0]
            raise self.refused(
                f"the server's answer does not hold ({'.'.join(map(str, first['loc']))}: {first['msg']})",
                expected="what MLflow's REST API answers",
                remedy="check that the address is that of an MLflow server",
            ) from error

    def upload(self, uri: str, name: str, content: IO[bytes] | bytes) -> None:
        """Put one file below a proxied artefact root."""
        self.request("PUT", self.place(uri, name), content=content, timeout=None)

    def place(self, uri: str, name: str) -> str:
        """The path at which the server takes and gives out a file below a proxied artefact root."""
        return f"{ARTIFACTS}/{quote(str(self.proxied(uri) / name))}"

    def proxied(self, uri: str) -> PurePosixPath:
        """The path that the server itself gives out an artefact root under. Raises `BadInput` for another root."""
        if not uri.startswith(PROXIED):
            raise BadInput(
                f"its artefacts lie at {uri!r:.200}",
                expected=f"artefacts that the server gives out itself ({PROXIED}/…)",
                remedy="start it with `--serve-artifacts --artifacts-destination …`, and log anew",
            )
        rest = uri.removeprefix(PROXIED)
        path = "/" + rest[2:].partition("/")[2] if rest.startswith("//") else rest
        return PurePosixPath(*(plain_name(part) for part in path.strip("/").split("/")))

    def client(self) -> httpx.Client:
        """A client with the credentials, which its user closes."""
        headers, auth = {}, None
        if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
            headers["Authorization"] = f"Bearer {token}"
        elif user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
            auth = httpx.BasicAuth(user, os.environ.get("MLFLOW_TRACKING_PASSWORD", ""))
        given = os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH")
        # Reading the certificate store takes tens of milliseconds: only for https.
        verify = trusting(Path(given) if given else None) if self.base_url.startswith("https:") else False
        return httpx.Client(base_url=self.base_url, headers=headers, auth=auth, timeout=TIMEOUT_S, verify=verify)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """A connection that fails, in words."""
        try:
            yield
        except httpx.HTTPError as error:
            raise self.refused(
                f"the MLflow server {self.base_url} does not answer ({type(error).__name__}: {str(error)[:300]})",
                remedy=f"start it, correct {self.setting}, or name its certificate in MLFLOW_TRACKING_SERVER_CERT_PATH",
            ) from error


def plain_name(name: str) -> str:
    """A file's name, if it is one. Raises `BadInput` otherwise."""
    if name in {"", ".", ".."} or "/" in name or "\\" in name or not name.isprintable():
        raise BadInput(f"the artefacts hold a file named {name!r:.200}", expected="plain names")
    return name


class _Error(MlflowNoun):
    error_code: str = ""
    message: str = ""


def _error(raw: bytes) -> _Error:
    try:
        said = _Error.model_validate_json(raw)
    except ValidationError:
        return _Error()
    return said.model_copy(update={"message": said.message[:300]})
