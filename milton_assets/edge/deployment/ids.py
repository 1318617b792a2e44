"""Deployment ids: `deploy_YYYYMMDD_HHMMSS_mmm_<6 hex>`, UTC, unique even within a millisecond.

What belongs here: the id's form and minting one. What does not: what a deployment is.
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Container
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import BadKey

_ID = re.compile(r"deploy_\d{8}_\d{6}_\d{3}_[0-9a-f]{6}")
_SUFFIXES = 1 << 24
_sequence = itertools.count(secrets.randbelow(_SUFFIXES))


def check_deployment_id(text: str) -> str:
    """Return `text` when it has the form of a deployment id; raise `BadKey` otherwise."""
    if not _ID.fullmatch(text):
        raise BadKey(f"{text!r:.200} is not a deployment id", expected="deploy_YYYYMMDD_HHMMSS_mmm_<6 hex>")
    return text


DeploymentId = Annotated[str, AfterValidator(check_deployment_id)]


def mint(now: datetime, taken: Container[str] = frozenset()) -> str:
    """An id for the millisecond of `now` (aware) that is not in `taken`.

    The suffix counts up from a random start: a process never repeats one within 2^24 ids, whatever its clock does,
    and two processes meet only by chance; `taken` (the ids in the target's journal) rules that out too.
    """
    if now.tzinfo is None:
        raise BadInput("the time has no zone", expected="an aware datetime")
    at = now.astimezone(UTC)
    stem = f"deploy_{at:%Y%m%d_%H%M%S}_{at.microsecond // 1000:03d}"
    while True:
        candidate = f"{stem}_{next(_sequence) % _SUFFIXES:06x}"
        if candidate not in taken:
            return candidate
