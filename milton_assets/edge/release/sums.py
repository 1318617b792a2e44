"""`SHA256SUMS`: the list that plain `sha256sum -c` accepts and that a signature covers.

What belongs here: writing and reading that one format. What does not: computing digests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from milton_assets.edge.manifest import MAX_FILES, SUMS_FILE, check_no_collision
from milton_assets.edge.relative_path import check_path
from milton_assets.vocabulary.errors import BadInput

MAX_SUMS_BYTES = 8 << 20

_LINE = re.compile(r"(?P<sha256>[0-9a-f]{64})  (?P<path>[^\n]+)")


def render_sums(digests: Mapping[str, str]) -> bytes:
    """The file's bytes for `{path: SHA-256}`, sorted by path."""
    return "".join(f"{digests[path]}  {path}\n" for path in sorted(digests)).encode()


def parse_sums(raw: bytes) -> dict[str, str]:
    """`{path: SHA-256}` of a `SHA256SUMS` from outside.

    Raises `BadInput` for anything that `render_sums` would not write.
    """
    expected = "lines of '<64 hexadecimal digits>  <path>', each path once"
    if len(raw) > MAX_SUMS_BYTES:
        raise BadInput(f"{SUMS_FILE} has {len(raw)} bytes", expected=f"at most {MAX_SUMS_BYTES}")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{SUMS_FILE} is not UTF-8: {error!s:.200}", expected=expected) from None
    if not text.endswith("\n"):
        raise BadInput(f"{SUMS_FILE} is empty or breaks off in its last line", expected=expected)
    lines = text[:-1].split("\n")
    if len(lines) > MAX_FILES + 1:
        raise BadInput(f"{SUMS_FILE} has {len(lines)} lines", expected=f"at most {MAX_FILES + 1}")
    digests: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        match = _LINE.fullmatch(line)
        if match is None or match["path"] in digests:
            raise BadInput(f"{SUMS_FILE}, line {number}: {line!r:.200}", expected=expected)
        digests[check_path(match["path"])] = match["sha256"]
    check_no_collision(list(digests))
    return digests
