"""The paths that a bundle may name.

What belongs here: one path and whether it may be named. What does not: paths beside each other (`manifest`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

from milton_assets.vocabulary.errors import BadInput

MAX_PATH_BYTES = 512
MAX_PART_BYTES = 200
MAX_DEPTH = 32
"""Folders that a file may lie in, one below another."""
_BAD_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})


class BadPath(BadInput, ValueError):
    """A path that a bundle may not name. Also a `ValueError`, so that pydantic reports it as a field's error."""


def check_path(path: str) -> str:
    """Return `path` when a bundle may name it; raise `BadPath` otherwise.

    A path is relative, POSIX, in Unicode NFC, without empty, `.` or `..` parts, backslashes, control or invisible
    characters, parts that begin or end with a space or end with a dot, and within 512 bytes (200 a part) and 32
    folders. It would read alike on every file system, and `sha256sum -c` needs no escapes for it.
    """
    for problem, found in _path_problems(path):
        if found:
            raise BadPath(f"the path {path!r:.200} {problem}", expected="a plain relative POSIX path")
    return path


def _path_problems(path: str) -> Iterable[tuple[str, bool]]:
    parts = path.split("/")
    yield "is empty", not path
    yield "is absolute", path.startswith("/")
    yield "holds a backslash", "\\" in path
    yield "has an empty, '.' or '..' part", any(part in {"", ".", ".."} for part in parts)
    yield (
        "holds a control or invisible character",
        any(c != " " and unicodedata.category(c) in _BAD_CATEGORIES for c in path),
    )
    yield "is not in Unicode NFC", unicodedata.normalize("NFC", path) != path
    yield "has a part that begins or ends with a space", any(part.strip() != part for part in parts)
    yield "has a part that ends with a dot", any(part.endswith(".") for part in parts)
    yield f"lies more than {MAX_DEPTH} folders deep", len(parts) - 1 > MAX_DEPTH
    sizes = [len(part.encode(errors="surrogatepass")) for part in parts]
    too_long = max(sizes) > MAX_PART_BYTES or sum(sizes) + len(sizes) - 1 > MAX_PATH_BYTES
    yield f"is longer than {MAX_PATH_BYTES} bytes, or {MAX_PART_BYTES} in a part", too_long


RelativePath = Annotated[str, AfterValidator(check_path)]
