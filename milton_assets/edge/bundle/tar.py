"""The small part of the tar format that bundles travel in.

What belongs here: writing and reading headers of regular files. What does not: which files, and what is done with them
(`transport`).

The reader knows nothing but regular files in the ustar format and, before one, a short pax header with its path and
size; links, devices, folders, sparse files and GNU extensions are refused by not existing. Python's own `tarfile`
reads far more, and its filters have been got around; it is used for writing alone.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass

from milton_assets.vocabulary.errors import BadInput

BLOCK_BYTES = 512
MAX_PAX_BYTES = 4096

_REGULAR = b"0"
_PAX = b"x"
_RECORD = re.compile(rb"(?P<length>[1-9][0-9]{0,3}) (?P<key>path|size)=(?P<value>[^\n]*)\n")

ReadExactly = Callable[[int], bytes]


@dataclass(frozen=True)
class Member:
    """One regular file of an archive: its path as written, and how many bytes follow."""

    path: str
    size_bytes: int

    @property
    def padding_bytes(self) -> int:
        """Zero bytes after the content, up to the next block."""
        return -self.size_bytes % BLOCK_BYTES


def header_of(path: str, size_bytes: int, mtime: int) -> bytes:
    """The header of a regular file: owner 0, mode 0644, so that equal bundles make equal archives."""
    info = tarfile.TarInfo(path)
    info.size = size_bytes
    info.mtime = mtime
    info.mode = 0o644
    return info.tobuf(tarfile.PAX_FORMAT)


def end_of_archive() -> bytes:
    """Two empty blocks."""
    return bytes(2 * BLOCK_BYTES)


def read_member(read: ReadExactly) -> Member | None:
    """The next file's header; None at the end of the archive. Raises `BadInput` for anything else.

    `read` gives exactly as many bytes as are asked for, or raises.
    """
    block = read(BLOCK_BYTES)
    if not any(block):
        if any(read(BLOCK_BYTES)):
            raise _malformed("a single empty block stands between files")
        return None
    extended: dict[str, str] = {}
    if _kind(block) == _PAX:
        extended = _pax(read, _number(block[124:136]))
        block = read(BLOCK_BYTES)
    if _kind(block) != _REGULAR:
        raise _malformed(f"{_name(block)!r:.200} is no regular file (type {_kind(block)!r})")
    size = int(extended["size"]) if "size" in extended else _number(block[124:136])
    return Member(extended.get("path", _name(block)), size)


def _kind(block: bytes) -> bytes:
    if block[257:265] != b"ustar\x0000":
        raise _malformed("a header is not ustar")
    blanked = block[:148] + b" " * 8 + block[156:]
    if _number(block[148:156]) != sum(blanked):
        raise _malformed("a header's checksum is wrong")
    return block[156:157]


def _name(block: bytes) -> str:
    name, prefix = (block[a:b].split(b"\0", 1)[0] for a, b in ((0, 100), (345, 500)))
    try:
        return (prefix + b"/" + name if prefix else name).decode("utf-8")
    except UnicodeDecodeError:
        raise _malformed("a name is not UTF-8") from None


def _number(field: bytes) -> int:
    digits = field.rstrip(b"\0 ").lstrip(b" ")
    if not re.fullmatch(rb"[0-7]{1,12}", digits):
        raise _malformed(f"a header's number is {field!r:.50}")
    return int(digits, 8)


def _pax(read: ReadExactly, size: int) -> dict[str, str]:
    if size > MAX_PAX_BYTES:
        raise _malformed(f"a pax header has {size} bytes, more than {MAX_PAX_BYTES}")
    raw = read(size + -size % BLOCK_BYTES)[:size]
    found: dict[str, str] = {}
    while raw:
        match = _RECORD.match(raw)
        if match is None or int(match["length"]) != match.end() or match["key"].decode() in found:
            raise _malformed("a pax header holds more than one path and one size")
        found[match["key"].decode()] = match["value"].decode("utf-8", errors="replace")
        raw = raw[match.end() :]
    if not re.fullmatch("0|[1-9][0-9]{0,18}", found.get("size", "0")):
        raise _malformed("a pax header's size is no number")
    return found


def _malformed(why: str) -> BadInput:
    return BadInput(
        f"the archive does not hold: {why}", expected="an archive made by `milton bundle pack`", remedy="fetch it again"
    )
