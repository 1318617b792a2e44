"""Keys: the slugs that name partitions and become path parts.

What belongs here: the one definition of a valid key, and minting run ids and the seeds of fresh variants. What does
not: what a key refers to.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator

from milton_assets.vocabulary.errors import BadInput

SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
MAX_KEY_LENGTH = 128
TIER_NAME = re.compile(r"[a-z][a-z0-9_]*")
MAX_TIER_NAME_LENGTH = 40
RUN_ID = re.compile(rf"(benchmark_(\d{{8}}_\d{{6}}))(?:\.({SLUG.pattern}))?")
VARIANTS_SEED = re.compile(r"[0-9a-f]{16,64}")


class BadKey(BadInput, ValueError):
    """A key that is no slug. Also a `ValueError`, so that pydantic reports it as a field's error."""


def check_key(text: str, what: str = "key") -> str:
    """Return `text` when it is a slug (`[A-Za-z0-9][A-Za-z0-9._-]*`, no `..`, at most 128 characters).

    Raises `BadKey` otherwise: keys become path parts, so nothing else may pass.
    """
    if not isinstance(text, str) or len(text) > MAX_KEY_LENGTH or not SLUG.fullmatch(text) or ".." in text:
        raise BadKey(
            f"{what} {text!r:.200} is not a slug",
            expected=f"letters, digits, '.', '_' and '-', starting with a letter or digit, without '..', "
            f"at most {MAX_KEY_LENGTH} characters",
            remedy=f"rename the {what}",
        )
    return text


Slug = Annotated[str, AfterValidator(check_key)]


def check_tier_name(text: str) -> str:
    """Return `text` when it may name a tier: lower-case letters, digits and `_`, starting with a letter.

    Narrower than a slug, because an asset of the graph is named for it. Raises `BadKey`.
    """
    if not isinstance(text, str) or len(text) > MAX_TIER_NAME_LENGTH or not TIER_NAME.fullmatch(text):
        raise BadKey(
            f"{text!r:.200} cannot name a tier",
            expected=f"lower-case letters, digits and '_', starting with a letter, at most {MAX_TIER_NAME_LENGTH}",
            remedy="rename the tier",
        )
    return text


TierName = Annotated[str, AfterValidator(lru_cache(check_tier_name))]


def check_run_id(text: str) -> str:
    """Return `text` when it is a benchmark run id. Raises `BadKey`.

    It is `benchmark_YYYYMMDD_HHMMSS` (UTC), and `.CLASS` after it where a device class was decided for by itself.
    """
    match = RUN_ID.fullmatch(text)
    if match:
        check_key(text, "benchmark run id")
        try:
            datetime.strptime(match.group(2), "%Y%m%d_%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            match = None
    if not match:
        raise BadKey(f"{text!r:.200} is not a benchmark run id", expected="benchmark_YYYYMMDD_HHMMSS (UTC)[.CLASS]")
    return text


RunId = Annotated[str, AfterValidator(lru_cache(check_run_id))]


def run_of(campaign: str, device_class: str | None) -> str:
    """The run of that campaign that decides for `device_class`; None is what was measured on the controller."""
    return check_run_id(campaign if device_class is None else f"{campaign}.{device_class}")


def class_of(run_id: str) -> str | None:
    """The device class that a run decided for by itself; None where it was decided on the controller's speeds."""
    match = RUN_ID.fullmatch(run_id)
    return match.group(3) if match else None


def campaign_of(run_id: str) -> str:
    """The campaign of a run: its id without the class."""
    match = RUN_ID.fullmatch(run_id)
    return match.group(1) if match else run_id


def rollout_of_run(run_id: str, device_class: str) -> str:
    """The name of the rollout of that run's bundle to the targets of a class: `RUN-CLASS`, or the run's where it
    decided for that class by itself."""
    return check_key(run_id if class_of(run_id) == device_class else f"{run_id}-{device_class}", "rollout's name")


def key_on_class(device_class: str, version: str) -> str:
    """The partition key of what was measured of a model version on a device class, as Dagster writes such keys."""
    return f"{check_key(device_class, 'device class')}|{check_key(version, 'model version')}"


def mint_run_id(now: datetime, taken: set[str] | frozenset[str] = frozenset()) -> str:
    """A run id for the second of `now` (aware), or for the first later second not in `taken`."""
    if now.tzinfo is None:
        raise BadInput("the time has no zone", expected="an aware datetime")
    at = now.astimezone(UTC)
    while (run_id := at.strftime("benchmark_%Y%m%d_%H%M%S")) in taken:
        at += timedelta(seconds=1)
    return run_id


def check_variants_seed(text: str) -> str:
    """Return `text` when it is a seed of fresh variants: 16 to 64 hexadecimal digits. Raises `BadKey`."""
    if not isinstance(text, str) or not VARIANTS_SEED.fullmatch(text):
        raise BadKey(
            f"{text!r:.200} is no seed of fresh variants",
            expected="16 to 64 hexadecimal digits, as a result states its own",
        )
    return text


VariantsSeed = Annotated[str, AfterValidator(check_variants_seed)]


def mint_variants_seed() -> str:
    """A seed that nobody could know before: 128 bits of the operating system's randomness, in hexadecimal."""
    return secrets.token_hex(16)
