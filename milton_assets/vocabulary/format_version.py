"""The version of a stored format, which a release either reads or refuses.

What belongs here: the one check. What does not: which version a format has, which it says itself.
"""

from __future__ import annotations

from typing import Any


def of_this_version(given: Any, *, what: str, field: str, version: int) -> Any:
    """`given` as it is, for a validator that runs before the fields are looked at; one without the field is new.

    Raises `ValueError` naming both versions, so that an old record is not refused for a field that came later.
    """
    found = given.get(field, version) if isinstance(given, dict) else version
    if found != version:
        raise ValueError(f"the {what} has version {found!r:.50}, this release reads version {version}")
    return given
