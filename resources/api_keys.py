"""API keys, which lie in environment variables and are only ever named elsewhere.

What belongs here: reading one. What does not: whom it is sent to.
"""

from __future__ import annotations

import os

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.secrets import check_api_key


def key_from(variable: str | None) -> str | None:
    """The key that the environment variable holds; None without a variable.

    Raises `BadInput` when it is empty or holds what no header can carry, without telling any of it.
    """
    if variable is None:
        return None
    if key := os.environ.get(variable):
        return check_api_key(key, variable)
    raise BadInput(
        f"the environment variable {variable} is empty",
        expected="the server's API key",
        remedy=f"export {variable}, or name another variable",
    )


def key_if_set(variable: str) -> str | None:
    """The key that the environment variable holds, if it holds any. Raises `BadInput` for what no header can carry."""
    key = os.environ.get(variable)
    return check_api_key(key, variable) if key else None
