"""Telling a command line or an address without the secrets in it.

What belongs here: what is left out when something is shown or recorded. What does not: keys themselves, which are read
from the variables that name them (`resources.api_keys`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_SECRET = re.compile(r"--(.+-)?(key|token|secret|password)")

_USER = re.compile(r"(://)[^/@\s]+@")


def without_secrets(argv: Sequence[str]) -> tuple[str, ...]:
    """The arguments with `***` for the value of every `--…key`, `--…token`, `--…secret` and `--…password`."""
    shown: list[str] = []
    for argument in argv:
        if shown and _SECRET.fullmatch(shown[-1]):
            shown.append("***")
        elif (option := argument.partition("=")[0]) != argument and _SECRET.fullmatch(option):
            shown.append(f"{option}=***")
        else:
            shown.append(argument)
    return tuple(shown)


def without_user(text: str) -> str:
    """The text with `***` for user and password of every address in it."""
    return _USER.sub(r"\1***@", text)
