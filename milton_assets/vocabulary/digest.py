"""Digests, and the one canonical JSON that is digested.

What belongs here: SHA-256 of bytes, files and canonical JSON. What does not: who signs or compares them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import StringConstraints

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A lower-case hexadecimal SHA-256."""

_CHUNK_BYTES = 1 << 20


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of `data`, lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of the file's bytes, read once in constant memory. Raises `OSError` as `open` does."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        buffer = memoryview(bytearray(_CHUNK_BYTES))
        while count := stream.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no needless spaces, UTF-8, and no NaN or infinity (`ValueError`)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_json(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`."""
    return sha256_bytes(canonical_json(value).encode())


def sha256_listing(digests: Mapping[str, str]) -> str:
    """A folder's digest: SHA-256 of the canonical JSON of its sorted `[relative POSIX path, SHA-256]` pairs."""
    return sha256_json(sorted([path, digest] for path, digest in digests.items()))


def short(digest: str) -> str:
    """The first twelve digits, for people."""
    return digest[:12]
