"""The address of a model server, as people write it, reduced to the one form that is used.

What belongs here: judging an address. What does not: asking what answers there (`resources.servers`).
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.secrets import without_user

EXPECTED = "http://HOST:PORT, or https://HOST/PREFIX"
_PAGES = re.compile(r"/v1/(?:chat/completions|completions|embeddings|models)$")
_MOST_SHOWN = 200


def server_root(address: str) -> str:
    """The server's root: scheme, host, port and prefix, with no `/v1`, page of its API or slash at its end.

    Surrounding white space is dropped. Raises `BadInput` for what is no http(s) address, and for one that carries a
    user name and password, a query or a fragment; the error shows the address without the password.
    """
    text = address.strip()
    if any(not character.isprintable() or character.isspace() for character in text):
        raise _no_address(text, "it holds white space or control characters")
    parts = _parts(text)
    if "@" in parts.netloc:
        raise BadInput(
            f"the address {_shown(text)} holds a user name or password",
            expected=EXPECTED,
            remedy="leave them out of the address; an API key goes into an environment variable that is named",
        )
    if parts.query or parts.fragment:
        raise _no_address(text, "it has a query or a fragment")
    path = _PAGES.sub("", parts.path.rstrip("/")).removesuffix("/v1").rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _shown(text: str) -> str:
    """`text` without a password, shortened, and printable."""
    return ascii(without_user(text)[:_MOST_SHOWN])


def _parts(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise _no_address(text, str(error)) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise _no_address(text, "it names no http:// or https:// host")
    if port == 0:
        raise _no_address(text, "its port is 0")
    return parts


def _no_address(text: str, why: str) -> BadInput:
    return BadInput(f"{_shown(text)} is no server address: {_shown(why)[1:-1]}", expected=EXPECTED)
