"""Digests, and the one canonical JSON that is digested: RFC 8785, the JSON Canonicalization Scheme.

What belongs here: SHA-256 of bytes, files and canonical JSON. What does not: who signs or compares them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from json import encoder
from pathlib import Path
from typing import Annotated, Any

from pydantic import StringConstraints

from milton_assets.vocabulary.errors import BadInput

_SHA256 = re.compile(r"^[0-9a-f]{64}$")
Sha256 = Annotated[str, StringConstraints(pattern=_SHA256.pattern)]
"""A lower-case hexadecimal SHA-256."""

_CHUNK_BYTES = 1 << 20
_LARGEST_SAFE_INTEGER = 2**53 - 1
_FIRST_WITH_AN_EXPONENT = 10**21
_SHORTEST_PLAIN, _LARGEST_PLAIN = 1e-4, 1e16
"""Python writes what lies between, and is not whole, as ECMAScript does: the shortest digits, without an exponent."""

_FEW_KEYS = 32
_LITERALS = {None: "null", True: "true", False: "false"}
_SUBCLASSES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (int, int),
    (float, float),
    (list, list),
    (tuple, list),
    (dict, dict),
)
_text = encoder.encode_basestring
_SHORT_INTEGER = 16
"""An integer of fewer digits, a sign included, is a double and canonical as `int` writes it."""
_LONGEST_INTEGER = 22


class NotCanonical(BadInput, ValueError):
    """A value has no canonical JSON. A `ValueError` too, so that a validator which digests names the field."""


def check_sha256(text: str, what: str) -> str:
    """Return `text` when it is a lower-case hexadecimal SHA-256. Raises `BadInput`, which says `what` it is not."""
    if not isinstance(text, str) or not _SHA256.fullmatch(text):
        raise BadInput(f"{what} is {text!r:.100}", expected="64 hexadecimal digits, in lower case")
    return text


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
        written = _written(value)
        if not written.isascii():
            written.encode()
        return written
    except NotCanonical:
        raise
    except ValueError as error:
        half = isinstance(error, UnicodeEncodeError)
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


def _written(value: Any) -> str:
    """`value` as RFC 8785 has it: what the package `rfc8785` writes, several times as fast (ADR 207)."""
    kind = type(value)
    if kind is str:
        return _text(value)
    parts = []
    # Loops and no helpers: each level of nesting is to take one frame of the stack.
    if kind is dict:
        keys = tuple(value)
        for key, written in _remembered_order(keys) if len(keys) <= _FEW_KEYS else _order(keys):
            each = value[key]
            parts.append(written + (_text(each) if type(each) is str else _written(each)))
        return f"{{{','.join(parts)}}}"
    if kind is list or kind is tuple:
        for each in value:
            parts.append(_written(each))
        return f"[{','.join(parts)}]"
    if kind is float:
        return _float(value)
    if value is None or kind is bool:
        return _LITERALS[value]
    if kind is int:
        return str(value) if abs(value) <= _LARGEST_SAFE_INTEGER else _float(_as_double(value))
    if isinstance(value, str):
        return _text(value)
    for base, plain in _SUBCLASSES:
        if isinstance(value, base):
            return _written(plain(value))
    raise ValueError(f"unsupported type: {kind}")


def _order(keys: tuple[str, ...]) -> list[tuple[str, str]]:
    """The keys as they are sorted, each with how it is written before its value."""
    try:
        # By code point and by UTF-16 is the same order, unless a key holds what takes two units.
        order = sorted(keys) if all(map(str.isascii, keys)) else sorted(keys, key=_utf16)
    except TypeError:
        raise ValueError("object keys must be strings") from None
    return [(key, f"{_text(key)}:") for key in order]


_remembered_order = lru_cache(maxsize=512)(_order)
"""Thousands of records have the same few keys."""


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be")


def _float(number: float) -> str:
    if number.is_integer():
        if abs(number) <= _LARGEST_SAFE_INTEGER:
            return str(int(number))
    elif _SHORTEST_PLAIN <= abs(number) < _LARGEST_PLAIN:
        return repr(number)
    return _as_the_package_has_it(number)


def _as_the_package_has_it(number: float) -> str:
    import rfc8785  # for the few numbers that Python writes otherwise: a `status` need not wait for it

    return rfc8785.dumps(number).decode()


def _as_double(number: int) -> float:
    if abs(number) < _FIRST_WITH_AN_EXPONENT and _as_the_package_has_it(double := float(number)) == str(number):
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
