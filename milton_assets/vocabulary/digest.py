"""Digests, and the one canonical JSON that is digested: RFC 8785, the JSON Canonicalization Scheme.

What belongs here: SHA-256 of bytes, files and canonical JSON. What does not: who signs or compares them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import rfc8785
from pydantic import StringConstraints

from milton_assets.vocabulary.errors import BadInput

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A lower-case hexadecimal SHA-256."""

_CHUNK_BYTES = 1 << 20
_LARGEST_SAFE_INTEGER = 2**53 - 1
_FIRST_WITH_AN_EXPONENT = 10**21
_SHORT_INTEGER = 16
"""An integer of fewer digits, a sign included, is a double and canonical as `int` writes it."""
_LONGEST_INTEGER = 22


class NotCanonical(BadInput, ValueError):
    """A value has no canonical JSON. A `ValueError` too, so that a validator which digests names the field."""


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
    """The canonical JSON of `value` after RFC 8785: keys sorted by UTF-16, numbers written as ECMAScript does (1 for
    1.0), no spaces.

    Raises `NotCanonical` for NaN and infinity, half of a surrogate pair, a key that is no string, what JSON does not
    have, nesting without end, and an integer that a double does not hold as it is written.
    """
    try:
        try:
            return rfc8785.dumps(value).decode()
        except rfc8785.IntegerDomainError:
            # 1e16 is written 10000000000000000, which is read back as an integer: it must come out the same again.
            return rfc8785.dumps(_with_doubles(value)).decode()
    except NotCanonical:
        raise
    except ValueError as error:
        half = any(isinstance(each, UnicodeEncodeError) for each in (error, error.__cause__))
        why = "a text holds half of a surrogate pair" if half else str(error)
        raise NotCanonical(f"this has no canonical JSON: {why:.200}", expected="what RFC 8785 can write") from error
    except RecursionError as error:
        raise NotCanonical("this is nested too deeply for canonical JSON", expected="a few levels") from error


def read_canonical(raw: bytes) -> Any:
    """The value of JSON that is written as `canonical_json` writes it. Raises `ValueError` for any other bytes.

    Several times as fast as writing the value again: numbers are held against their canonical form as they are read,
    and the rest is what `json` writes, but for keys beyond the BMP, which UTF-16 puts in another order.
    """
    text = raw.decode()
    value = json.loads(text, parse_float=_canonical_float, parse_int=_canonical_int, parse_constant=_no_number)
    written = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    if written != text and canonical_json(value) != text:
        raise NotCanonical("this is JSON, and not written in its canonical form", expected="RFC 8785")
    return value


def _canonical_float(digits: str) -> float:
    value = float(digits)
    if canonical_json(value) != digits:
        raise NotCanonical(f"the number {digits:.50} is not in its canonical form", expected="RFC 8785")
    return value


def _canonical_int(digits: str) -> int:
    value = int(digits) if len(digits) <= _LONGEST_INTEGER else 0
    if len(digits) >= _SHORT_INTEGER and canonical_json(value) != digits:
        raise NotCanonical(f"the number {digits:.50} is not in its canonical form", expected="RFC 8785")
    return value


def _no_number(name: str) -> Any:
    raise NotCanonical(f"{name} is no JSON number", expected="RFC 8785")


def _with_doubles(value: Any) -> Any:
    """`value` with every integer beyond 2^53 as the double that is written with the same digits."""
    if isinstance(value, dict):
        return {key: _with_doubles(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_doubles(each) for each in value]
    if isinstance(value, int) and abs(value) > _LARGEST_SAFE_INTEGER:
        return _as_double(value)
    return value


def _as_double(number: int) -> float:
    if abs(number) < _FIRST_WITH_AN_EXPONENT and rfc8785.dumps(double := float(number)) == b"%d" % number:
        return double
    said = str(number) if abs(number) < _FIRST_WITH_AN_EXPONENT else "of more than 21 digits"
    raise NotCanonical(
        f"the integer {said} is more than JSON's numbers hold, which are doubles",
        expected="at most 2^53 - 1, or digits that a double holds",
        remedy="write it as a string",
    )


def sha256_json(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`. Raises `NotCanonical` as `canonical_json` does."""
    return sha256_bytes(canonical_json(value).encode())


def sha256_listing(digests: Mapping[str, str]) -> str:
    """A folder's digest: SHA-256 of the canonical JSON of its sorted `[relative POSIX path, SHA-256]` pairs."""
    return sha256_json(sorted([path, digest] for path, digest in digests.items()))


def short(digest: str) -> str:
    """The first twelve digits, for people."""
    return digest[:12]
