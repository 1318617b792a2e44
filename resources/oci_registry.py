"""A repository of an OCI registry: its blobs and manifests, over the distribution API.

    with OciRepository(OciReference.parse("oci://registry.example/models/lamp:v1")) as repository: ...

What belongs here: references, credentials, and moving bytes. What does not: what the bytes are
(`milton_assets.edge.bundle.modelpack`).

`oras` finds the credentials that `docker login` and the like keep, and answers a registry's challenge. Its own
transfers read a blob into memory whole and repeat a refused connection for two minutes, so bytes are moved here.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self
from urllib.parse import urljoin, urlsplit

from milton_assets.vocabulary.errors import BadInput, MiltonError

OnBytes = Callable[[int], None]
SCHEME: Final = "oci://"
CONNECT_TIMEOUT_S: Final = 10.0
READ_TIMEOUT_S: Final = 120.0
_CHUNK_BYTES: Final = 1 << 20
_HOST = r"(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5})?|\[[0-9A-Fa-f:]+\](?::[0-9]{1,5})?)"
_NAME = r"(?P<name>[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*)"
_TAG = r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
_DIGEST = r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
_REFERENCE = re.compile(SCHEME + _HOST + "/" + _NAME + _TAG + _DIGEST)


def ignore_bytes(_: int) -> None:
    """Nobody wants to know how far it is."""


class OciFailed(MiltonError):
    """A registry that could not be reached, or did not do what it was asked."""


@dataclass(frozen=True)
class OciReference:
    """`oci://HOST/NAME[:TAG][@DIGEST]`. A digest goes before a tag: it names one artefact for ever."""

    host: str
    name: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises `BadInput`."""
        found = _REFERENCE.fullmatch(text)
        if found is None:
            raise BadInput(
                f"{text!r:.300} is no reference to an OCI registry",
                expected=f"{SCHEME}HOST/NAME:TAG, or {SCHEME}HOST/NAME@sha256:…, the name in lower case",
            )
        return cls(**found.groupdict())

    def at(self, digest: str) -> OciReference:
        """The same repository's artefact of that digest."""
        return replace(self, digest=digest)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{SCHEME}{self.host}/{self.name}{tag}{f'@{self.digest}' if self.digest else ''}"

    @property
    def is_loopback(self) -> bool:
        """Whether the registry is on this machine, where plain HTTP is what registries speak by default."""
        hostname = urlsplit(f"//{self.host}").hostname or ""
        try:
            return ipaddress.ip_address(hostname).is_loopback
        except ValueError:
            return hostname == "localhost"


class OciRepository:
    """The repository of `reference`. `plain_http` is the default on this machine only; `ca_file` is trusted for TLS."""

    def __init__(self, reference: OciReference, *, plain_http: bool = False, ca_file: Path | None = None) -> None:
        self.reference = reference
        try:
            import oras.auth
            import oras.container
            import requests
        except ImportError as error:
            raise BadInput(
                f"{error.name} is not installed, and OCI registries need it",
                expected="the extra `oci`",
                remedy="pip install 'milton-autobench[oci]'",
            ) from error
        self._failures = (requests.RequestException,)
        self._session = requests.Session()
        self._session.verify = str(ca_file) if ca_file else True
        insecure = plain_http or reference.is_loopback
        self._root = f"{'http' if insecure else 'https'}://{reference.host}/v2/{reference.name}"
        self._auth = {
            kind: oras.auth.get_auth_backend(kind, self._session, insecure, tls_verify=self._session.verify)
            for kind in ("basic", "token")
        }
        self._container = oras.container.Container(f"{reference.host}/{reference.name}")
        self._authorisation: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def has(self, digest: str) -> bool:
        """Whether it has that blob."""
        response = self._ask("HEAD", f"{self._root}/blobs/{digest}")
        if response.status_code in {200, 404}:
            return bool(response.status_code == 200)
        raise self._refused(response, f"whether it has {digest}")

    def put(self, digest: str, size_bytes: int, content: IO[bytes], on_bytes: OnBytes = ignore_bytes) -> None:
        """Store the bytes of `content` under their digest, which the registry checks. Raises `OciFailed`.

        `on_bytes` is told how many bytes were taken so far.
        """
        begun = self._ask("POST", f"{self._root}/blobs/uploads/")
        place = begun.headers.get("Location")
        if begun.status_code != 202 or not place:
            raise self._refused(begun, "an upload to begin")
        url = urljoin(begun.url, place)
        url += ("&" if urlsplit(url).query else "?") + f"digest={digest}"
        headers = {"Content-Length": str(size_bytes), "Content-Type": "application/octet-stream"}
        # An empty body has no length that the library would keep, so nothing is sent in its place.
        body = _Sized(content, size_bytes, on_bytes) if size_bytes else b""
        stored = self._ask("PUT", url, data=body, headers=headers)
        if stored.status_code != 201:
            raise self._refused(stored, f"{digest} to be stored")

    def put_manifest(self, raw: bytes, media_type: str, tag: str | None) -> str:
        """Store a manifest under its digest and, with one, a tag; the digest. Raises `OciFailed`."""
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        url = f"{self._root}/manifests/{tag or digest}"
        response = self._ask("PUT", url, data=raw, headers={"Content-Type": media_type})
        if response.status_code != 201:
            raise self._refused(response, "the manifest to be stored")
        return digest

    def manifest(self, media_type: str, limit_bytes: int) -> tuple[str, bytes]:
        """The digest and the bytes of the reference's manifest; a digest that was asked for is held to. Raises."""
        asked = self.reference.digest or self.reference.tag or "latest"
        response = self._ask("GET", f"{self._root}/manifests/{asked}", headers={"Accept": media_type}, stream=True)
        with response:
            if response.status_code != 200:
                raise self._refused(response, f"the artefact {self.reference}")
            raw = self._read(response, limit_bytes, "its manifest")
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        if self.reference.digest not in {None, digest}:
            raise OciFailed(
                f"{self.reference.host} gave another manifest, {digest}",
                expected=f"{self.reference.digest}",
                remedy="do not use that registry",
            )
        return digest, raw

    def small_blob(self, digest: str, limit_bytes: int) -> bytes:
        """A blob's bytes, held against their digest. Raises `OciFailed`."""
        with self.blob(digest) as source:
            raw = source.read(limit_bytes + 1)
            while len(raw) <= limit_bytes and (more := source.read(limit_bytes + 1 - len(raw))):
                raw += more
        if len(raw) > limit_bytes or f"sha256:{hashlib.sha256(raw).hexdigest()}" != digest:
            raise OciFailed(f"{self.reference.host} gave another blob than {digest}", remedy="do not use that registry")
        return raw

    @contextmanager
    def blob(self, digest: str) -> Iterator[BlobReader]:
        """A blob's bytes, forwards, unchecked. Raises `OciFailed`."""
        headers = {"Accept-Encoding": "identity"}
        with self._ask("GET", f"{self._root}/blobs/{digest}", headers=headers, stream=True) as response:
            if response.status_code != 200:
                raise self._refused(response, f"the blob {digest}")
            yield BlobReader(response.raw.read, self.reference.host)

    def _read(self, response: Any, limit_bytes: int, what: str) -> bytes:
        raw = b""
        reader = BlobReader(response.raw.read, self.reference.host)
        while chunk := reader.read(_CHUNK_BYTES):
            raw += chunk
            if len(raw) > limit_bytes:
                raise OciFailed(f"{what} has more than {limit_bytes} bytes", expected=f"at most {limit_bytes} bytes")
        return raw

    def _ask(self, method: str, url: str, *, headers: dict[str, str] | None = None, **more: Any) -> Any:
        """One request; after a challenge once more, with credentials, which go to the registry's own address alone."""
        ours = urlsplit(url).netloc == self.reference.host
        for answered in (False, True):
            sent = {**(headers or {}), **(self._authorisation if ours else {})}
            try:
                response = self._session.request(
                    method, url, headers=sent, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S), **more
                )
            except self._failures as error:
                raise OciFailed(
                    f"the registry {self.reference.host} gave no answer: {error}",
                    expected="a running OCI registry",
                    remedy="check the address, and --plain-http if it speaks no TLS",
                ) from error
            if response.status_code != 401 or answered or not ours or not self._answer(response):
                return response
        return response

    def _answer(self, challenge: Any) -> bool:
        """Whether there are credentials for that challenge; they are then sent from now on."""
        kind = "basic" if challenge.headers.get("Www-Authenticate", "").lower().startswith("basic") else "token"
        auth = self._auth[kind]
        auth.load_configs(self._container)
        try:
            headers, answered = auth.authenticate_request(challenge, {})
        except AttributeError:  # what the library's basic backend has for nobody is no credential at all
            return False
        self._authorisation = {"Authorization": headers["Authorization"]} if answered else {}
        return bool(answered)

    def _refused(self, response: Any, what: str) -> OciFailed:
        said = " ".join(response.text.split())[:300]
        status = f"{response.status_code} {response.reason}"
        remedies = {401: f"docker login {self.reference.host}", 403: f"docker login {self.reference.host}"}
        return OciFailed(
            f"{self.reference.host} answered {status}{f': {said}' if said else ''}",
            expected=what,
            remedy=remedies.get(response.status_code, "check the reference, and that you may use that repository"),
        )


class BlobReader:
    """The bytes of an answer, as they come."""

    def __init__(self, read: Callable[[int], bytes], host: str) -> None:
        self._source = read
        self._host = host

    def read(self, count: int, /) -> bytes:
        """Up to `count` bytes; none at the end. Raises `OciFailed` when the connection breaks."""
        from urllib3.exceptions import HTTPError

        try:
            return self._source(count)
        except HTTPError as error:
            raise OciFailed(f"{self._host} broke off: {error}", remedy="try again") from error


class _Sized:
    """A body of a known length, which is sent in pieces."""

    def __init__(self, content: IO[bytes], size_bytes: int, on_bytes: OnBytes) -> None:
        self._content = content
        self._size_bytes = size_bytes
        self._taken = 0
        self._on_bytes = on_bytes

    def __len__(self) -> int:
        return self._size_bytes

    def read(self, count: int = -1) -> bytes:
        chunk = self._content.read(_CHUNK_BYTES if count < 0 else count)
        self._taken += len(chunk)
        self._on_bytes(self._taken)
        return chunk
