"""One HTTP request and its whole answer, with a name for everything that can go wrong between.

What belongs here: connections, deadlines, limits, and failures by kind. What does not: what an answer means (`client`,
`dialect`), and streaming (`milton_assets.tiers.inference`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from milton_assets.vocabulary.chat import CallErrorKind, ModelCallFailed
from milton_assets.vocabulary.secrets import redact
from milton_assets.vocabulary.tls import trusting

MAX_ANSWER_BYTES = 64 << 20
_CONNECT_TIMEOUT_S = 10.0
_EXCERPT_CHARACTERS = 400


class Transport:
    """Requests to one server, with its key. May be used from several threads at once.

    A kept-alive connection that the server closed between two requests is replaced by a new one and is never an error.
    Proxies named in the environment are not used: what is asked is the server at this address. `timeout_s` is the
    longest silence and the longest whole answer. `ca_file` is trusted beside the system's certificates.
    """

    def __init__(self, base_url: str, api_key: str | None, timeout_s: float, ca_file: Path | None = None) -> None:
        self._timeout_s = timeout_s
        self._api_key = api_key
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        # Reading the certificate store takes tens of milliseconds: only for https, and once for both clients.
        verify = trusting(ca_file) if base_url.startswith("https:") else False
        timeout = httpx.Timeout(timeout_s, connect=min(_CONNECT_TIMEOUT_S, timeout_s))

        def client(kept_alive: int) -> httpx.Client:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=kept_alive)
            return httpx.Client(headers=headers, timeout=timeout, limits=limits, verify=verify, trust_env=False)

        self._keeping = client(kept_alive=64)
        self._fresh = client(kept_alive=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Calls after this fail."""
        self._keeping.close()
        self._fresh.close()

    def json(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> Any:
        """The answer's JSON. Raises `ModelCallFailed`, of kind `http_status` for every status but 200."""
        status, raw = self.exchange(method, url, body)
        if status != httpx.codes.OK:
            raise ModelCallFailed(CallErrorKind.HTTP_STATUS, f"{url} answered {status}: {self._excerpt(raw)}")
        try:
            # json.loads alone would let NaN and Infinity in, which are not JSON.
            return json.loads(raw, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise ModelCallFailed(CallErrorKind.NOT_JSON, f"{url} answered {self._excerpt(raw)!r}") from error

    def _excerpt(self, raw: bytes) -> str:
        return excerpt(redact(raw.decode(errors="replace"), self._api_key))

    def exchange(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> tuple[int, bytes]:
        """The answer's status and body, whatever they are. Raises `ModelCallFailed` when there is no whole answer."""
        attempt = _Attempt()
        try:
            try:
                return self._once(self._keeping, method, url, body, attempt)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                if not attempt.closed_between_requests:
                    raise
            return self._once(self._fresh, method, url, body, _Attempt())
        except httpx.TimeoutException as error:
            raise ModelCallFailed(
                CallErrorKind.TIMEOUT, f"{url}: {type(error).__name__}, {self._timeout_s} s"
            ) from error
        except httpx.ConnectError as error:
            raise ModelCallFailed(CallErrorKind.REFUSED, f"{url}: {error}") from error
        except httpx.DecodingError as error:
            raise ModelCallFailed(CallErrorKind.MALFORMED, f"{url}: {error}") from error
        except httpx.TransportError as error:
            raise ModelCallFailed(CallErrorKind.CUT_SHORT, f"{url}: {error}") from error

    def _once(
        self, client: httpx.Client, method: str, url: str, body: Mapping[str, Any] | None, attempt: _Attempt
    ) -> tuple[int, bytes]:
        deadline = time.monotonic() + self._timeout_s
        raw = bytearray()
        with client.stream(method, url, json=body, extensions={"trace": attempt.trace}) as response:
            for chunk in response.iter_bytes():
                raw += chunk
                if time.monotonic() > deadline:
                    raise ModelCallFailed(CallErrorKind.TIMEOUT, f"{url}: no whole answer within {self._timeout_s} s")
                if len(raw) > MAX_ANSWER_BYTES:
                    raise ModelCallFailed(
                        CallErrorKind.MALFORMED, f"{url}: an answer of more than {MAX_ANSWER_BYTES} bytes"
                    )
            return response.status_code, bytes(raw)


@dataclass
class _Attempt:
    """What one try got to, from httpcore's trace events."""

    connected: bool = False
    answered: bool = False

    def trace(self, event: str, _: Mapping[str, Any]) -> None:
        if event == "connection.connect_tcp.started":
            self.connected = True
        elif event.endswith("receive_response_headers.complete"):
            self.answered = True

    @property
    def closed_between_requests(self) -> bool:
        """Whether it failed on a connection that an earlier request had left open, before any answer."""
        return not self.connected and not self.answered


def excerpt(text: str) -> str:
    """The beginning of what a server said, for an error."""
    return text if len(text) <= _EXCERPT_CHARACTERS else text[:_EXCERPT_CHARACTERS] + "…"


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
