"""Places where files lie: a folder on this machine, or below an fsspec URL such as `s3://bucket/evidence`.

    with asking(place):                # whatever it is that an object store's client raises: an `OSError`
        place.read_bytes()
    if lies(place): ...                # False means that there is nothing, and never that nobody could be asked

What belongs here: what a place is, and how it is asked so that "nothing is there" and "nobody answers" stay two things.
What does not: what lies there (`documents`, `resources.evidence_store`, `resources.registries`).

fsspec's own `isfile`, and with it `UPath.is_file`, answers False whatever went wrong. The client of an S3 server that
cannot be reached raises errors of its own (`botocore.exceptions.BotoCoreError`), which are no `OSError`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from upath import UPath

Place = Path | UPath
"""A folder on this machine, or below an fsspec URL."""

_CLIENT = "botocore.exceptions"


class NoAnswer(ConnectionError):
    """An object store did not answer, or did not let us ask."""


def is_here(place: Place) -> bool:
    """Whether the place is a path of this machine, whose locks and renames hold."""
    return isinstance(place, Path) or place.protocol in {"", "file", "local"}


@contextmanager
def asking(place: Place) -> Iterator[None]:
    """What an object store's client raises while it asks for `place`, as `NoAnswer`; every other error as it is."""
    try:
        yield
    except Exception as error:
        # Whoever asks no object store need not have its client, and pays nothing for it.
        client = sys.modules.get(_CLIENT)
        if client is None or not isinstance(error, client.BotoCoreError):
            raise
        raise NoAnswer(
            f"{place} cannot be asked: {error} (is the object store up, and are AWS_ENDPOINT_URL and its keys right?)"
        ) from error


def lies(place: Place) -> bool:
    """Whether a file lies there now. Raises `OSError` where that cannot be asked."""
    if isinstance(place, Path):
        return place.is_file()
    with asking(place):
        # Another host may have written it a moment ago.
        place.fs.invalidate_cache()
        try:
            return bool(place.fs.info(place.path)["type"] == "file")
        except FileNotFoundError:
            return False
