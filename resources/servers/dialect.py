"""What a server says of itself, and how each kind of server says it.

What belongs here: `Dialect`, the facts that set one server apart from another (how it signs its list of models, what it
calls a model, which pages tell of it, whether it loads what it is asked for), the list of those we know, and asking
pages. What does not: any one server's pages, which are in `resources.servers.dialects`, a module each: adding a server
is adding a module there that defines `DIALECT`.
"""

from __future__ import annotations

import json
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx

from milton_assets.vocabulary.chat import ModelCallFailed
from milton_assets.vocabulary.errors import ServerFailed
from resources.servers.exchange import Answer, Transport
from resources.servers.wire import ServedModel

DEFAULT_TIMEOUT_S = 10.0
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class About:
    """What a server tells beyond its list of models; None where it does not tell."""

    build: str | None = None
    model_path: str | None = None
    quantization: str | None = None
    chat_template: str | None = None
    context_tokens: int | None = None
    slots: int | None = None


class Ask:
    """Reads a server's pages. A page that is absent or no JSON object is an empty one; silence is `ServerFailed`."""

    def __init__(self, transport: Transport, base_url: str) -> None:
        self._transport = transport
        self.base_url = base_url

    def get(self, path: str) -> Mapping[str, Any]:
        """The page's JSON object."""
        return self._page("GET", path, None)

    def needed(self, path: str) -> Mapping[str, Any]:
        """The page's JSON object. Raises `ServerFailed` with the server's words when its status is not 200."""
        return self._page("GET", path, None, needed=True)

    def post(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """The answer's JSON object."""
        return self._page("POST", path, body)

    def load(self, model: str) -> None:
        """Have a server that switches load the model, by asking it for one token.

        Raises `ServerFailed` with the server's words when it does not.
        """
        path = "/v1/chat/completions"
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
        answer = self._exchanged("POST", path, body)
        if answer.status != httpx.codes.OK:
            raise ServerFailed(
                self._told(path, answer),
                expected=f"a server that loads {model} when it is asked for",
                remedy="load it there, or let the server load what it is asked for; its log says why it did not",
            )

    def _told(self, path: str, answer: Answer) -> str:
        return f"{self.base_url}{path} answered {answer.told(self._transport.api_key)}"

    def _page(
        self, method: str, path: str, body: Mapping[str, Any] | None, *, needed: bool = False
    ) -> Mapping[str, Any]:
        answer = self._exchanged(method, path, body)
        if needed and answer.status != httpx.codes.OK:
            raise ServerFailed(
                self._told(path, answer),
                expected="an OpenAI-compatible server's list of models",
                remedy="give the address that it leads to" if answer.location else "check the address and the server",
            )
        try:
            found = json.loads(answer.raw) if answer.status == httpx.codes.OK else {}
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _exchanged(self, method: str, path: str, body: Mapping[str, Any] | None) -> Answer:
        try:
            answer = self._transport.exchange(method, f"{self.base_url}{path}", body)
        except ModelCallFailed as error:
            raise ServerFailed(
                f"the server at {self.base_url} gave no answer: {error.problem}",
                expected="a running OpenAI-compatible server",
                remedy="check the address, and that the server is up",
            ) from error
        if answer.status in {401, 403}:
            raise ServerFailed(self._told(path, answer), remedy="give the server's API key")
        return answer


@contextmanager
def asking(
    base_url: str,
    api_key: str | None,
    timeout_s: float,
    ca_file: Path | None = None,
    *,
    patience_s: float | None = None,
) -> Iterator[Ask]:
    """Ask the server at `base_url`, and wait so long when it asks for that (`Transport`)."""
    with Transport(base_url, api_key, timeout_s, ca_file, patience_s=patience_s) as transport:
        yield Ask(transport, base_url)


def _exactly(asked: str, listed: str) -> bool:
    return asked == listed


def _nothing(_: Ask, __: ServedModel) -> About:
    return About()


def _never(_: ServedModel) -> bool:
    return False


@dataclass(frozen=True)
class Dialect:
    """One kind of server.

    `owned_by` is what it writes into the `owned_by` of its models. `same_model(asked, listed)` says whether a listed
    name is the one asked for. `describe(ask, model)` reads its other pages. `switches(model)` says whether the server
    has several models and loads the one that it is asked for.
    """

    name: str
    owned_by: str
    same_model: Callable[[str, str], bool] = _exactly
    describe: Callable[[Ask, ServedModel], About] = field(default=_nothing)
    switches: Callable[[ServedModel], bool] = field(default=_never)


UNKNOWN = Dialect("openai-compatible", "")


@cache
def known_dialects() -> Mapping[str, Dialect]:
    """Every dialect in `resources.servers.dialects`, by what it writes into `owned_by`."""
    from resources.servers import dialects

    modules = (import_module(f"{dialects.__name__}.{found.name}") for found in pkgutil.iter_modules(dialects.__path__))
    return {module.DIALECT.owned_by: module.DIALECT for module in modules}


def dialect_of(model: ServedModel) -> Dialect:
    """The dialect of the server that lists `model`; `UNKNOWN` for one that we have no module for."""
    return known_dialects().get(model.owned_by or "", UNKNOWN)


def text(page: Mapping[str, Any], *keys: str) -> str | None:
    """The non-empty text under those nested keys, if there is one. Half a surrogate pair, which JSON has, is none."""
    found = _under(page, keys)
    return found if isinstance(found, str) and found and not _SURROGATE.search(found) else None


def number(page: Mapping[str, Any], *keys: str) -> int | None:
    """The positive integer under those nested keys, if there is one."""
    found = _under(page, keys)
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else None


def _under(page: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        if not isinstance(page, Mapping):
            return None
        page = page.get(key)
    return page
