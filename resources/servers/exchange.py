"""One HTTP request and its whole answer, with a name for everything that can go wrong between.

What belongs here: connections, deadlines, limits, and failures by kind. What does not: what an answer means (`client`,
`dialect`), and streaming (`milton_assets.tiers.inference`).
"""

from __future__ import annotations

import json
import logging
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

_log = logging.getLogger(__name__)
MAX_ANSWER_BYTES = 64 << 20
_CONNECT_TIMEOUT_S = 10.0
_LOADING_WAIT_S = 0.5
_SHORTEST_WAIT_S = 0.05
_ASKS_TO_WAIT = {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE}
_EXCERPT_CHARACTERS = 400


@dataclass(frozen=True)
class Answer:
    """A whole answer. `location` is where a redirect leads; `wait_s` how long the server asks to be left alone, and
    `retry_after` how it says so."""

    status: int
    raw: bytes
    location: str | None = None
    wait_s: float | None = None
    retry_after: str | None = None

    def told(self, api_key: str | None) -> str:
        """Status and words, for an error; the key that was sent is left out, should the server have echoed it."""
        said = excerpt(redact(self.raw.decode(errors="replace"), api_key))
        leads = f" (it leads to {excerpt(redact(self.location, api_key))})" if self.location else ""
        waits = f" (Retry-After {excerpt(redact(self.retry_after, api_key))})" if self.retry_after else ""
        return f"{self.status}{leads}{waits}{f': {said}' if said.strip() else ''}"


class Transport:
    """Requests to one server, with its key. May be used from several threads at once.

    A kept-alive connection that the server closed between two requests is replaced by a new one and is never an error.
    Proxies named in the environment are not used: what is asked is the server at this address. `timeout_s` is the
    longest silence and the longest whole answer. `ca_file` is trusted beside the system's certificates. A server that
    asks to wait (429 or 503 with Retry-After, or one that is loading its model) is asked again until `patience_s` have
    passed, by default `timeout_s`. Redirects are not followed: the key and the question are for this address.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        timeout_s: float,
        ca_file: Path | None = None,
        *,
        patience_s: float | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._patience_s = timeout_s if patience_s is None else patience_s
        self.api_key = api_key
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
        answer = self.exchange(method, url, body)
        if answer.status != httpx.codes.OK:
            raise ModelCallFailed(CallErrorKind.HTTP_STATUS, f"{url} answered {answer.told(self.api_key)}")
        try:
            # json.loads alone would let NaN and Infinity in, which are not JSON.
            return json.loads(answer.raw, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            said = excerpt(redact(answer.raw.decode(errors="replace"), self.api_key))
            raise ModelCallFailed(CallErrorKind.NOT_JSON, f"{url} answered {said!r}") from error

    def exchange(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> Answer:
        """The answer, whatever its status. Raises `ModelCallFailed` when there is no whole one."""
        until, waited = time.monotonic() + self._patience_s, False
        while True:
            answer = self._exchange(method, url, body)
            if answer.wait_s is None or time.monotonic() + answer.wait_s > until:
                return answer
            if not waited:
                _log.warning("%s asks to wait: %s", url, answer.told(self.api_key))
            waited = True
            time.sleep(answer.wait_s)

    def _exchange(self, method: str, url: str, body: Mapping[str, Any] | None) -> Answer:
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
    ) -> Answer:
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
            location = response.headers.get("Location") if response.is_redirect else None
            retry_after = response.headers.get("Retry-After") if response.status_code in _ASKS_TO_WAIT else None
            return Answer(response.status_code, bytes(raw), location, _wait_s(response, raw), retry_after)


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


def _wait_s(response: httpx.Response, raw: bytearray) -> float | None:
    """The seconds after which the server wants to be asked again, if it says so."""
    if response.status_code not in _ASKS_TO_WAIT:
        return None
    told = response.headers.get("Retry-After", "")
    if told.isascii() and told.isdigit():
        return max(float(told[:9]), _SHORTEST_WAIT_S)
    # llama.cpp answers so until its weights are in memory, without saying how long that takes.
    return _LOADING_WAIT_S if b"loading model" in raw.lower() else None


def excerpt(text: str) -> str:
    """The beginning of what a server said, for an error."""
    return text if len(text) <= _EXCERPT_CHARACTERS else text[:_EXCERPT_CHARACTERS] + "…"


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
