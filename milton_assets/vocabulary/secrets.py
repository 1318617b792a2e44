"""Secrets: what an API key may look like, and telling texts, command lines and addresses without them.

What belongs here: the one check of a key, and what is left out when something is shown or recorded. What does not:
where keys are read from (`resources.api_keys`) and whom they are sent to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from milton_assets.vocabulary.errors import BadInput

REDACTED = "***"
_FIRST, _LAST = "!", "~"
_SECRET = re.compile(r"--(.+-)?(key|token|secret|password)")

_USER = re.compile(r"(://)[^/@\s]+@")


def without_secrets(argv: Sequence[str]) -> tuple[str, ...]:
    """The arguments with `***` for the value of every `--…key`, `--…token`, `--…secret` and `--…password`."""
    shown: list[str] = []
    for argument in argv:
        if shown and _SECRET.fullmatch(shown[-1]):
            shown.append(REDACTED)
        elif (option := argument.partition("=")[0]) != argument and _SECRET.fullmatch(option):
            shown.append(f"{option}={REDACTED}")
        else:
            shown.append(argument)
    return tuple(shown)


def without_user(text: str) -> str:
    """The text with `***` for user and password of every address in it."""
    return _USER.sub(r"\1***@", text)


def redact(text: str, *secrets: str | None) -> str:
    """`text` with `***` for every secret in it."""
    for secret in filter(None, secrets):
        text = text.replace(secret, REDACTED)
    return text


def check_api_key(key: str, where: str) -> str:
    """The key, if a header can carry it: visible ASCII.

    `where` names its source. Raises `BadInput`, whose text holds no character of the key.
    """
    if not key:
        raise BadInput(f"the API key in {where} is empty", expected="the server's API key")
    odd = next((place for place, character in enumerate(key, 1) if not _FIRST <= character <= _LAST), None)
    if odd is not None:
        raise BadInput(
            f"character {odd} of {len(key)} of the API key in {where} cannot be sent in a header "
            f"({_kind(key[odd - 1])})",
            expected="visible ASCII characters only",
            remedy="copy the key again, without line breaks, spaces or typographic quotes",
        )
    return key


def _kind(character: str) -> str:
    if character in "\r\n":
        return "a line break"
    if character.isspace():
        return "white space"
    return "a control character" if ord(character) < 0x80 else "not ASCII"
