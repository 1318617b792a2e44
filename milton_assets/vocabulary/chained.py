"""Journals' lines: JSON lines chained by digests, the one reader and writer of both kinds, a target's and a rollout's.

    raw, sha256 = chained_line(seq, previous, record)
    for link in chained_lines(raw, read): link.record, link.whole_bytes

A line is `{"seq", "previous", "record", "sha256"}` in canonical JSON; `sha256` is over the canonical JSON of the other
three, `previous` is the line before's. An append is one write and one fsync, so a crash can tear only the last line:
without its line feed, or with NUL bytes where blocks never reached the disk. Such a tail is left out. Anything else
that does not hold, a changed, missing, reordered or malformed line, is tampering, and is told with its number.

What belongs here: the lines. What does not: what a record means, and the file that they lie in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

from milton_assets.vocabulary.digest import NotCanonical, canonical_json, read_canonical, sha256_bytes, sha256_json

R = TypeVar("R")
GENESIS = "0" * 64
"""What the first line names as the one before it."""
_KEYS = {"seq", "previous", "record", "sha256"}


class ChainBroken(ValueError):
    """Line `number` (counted from 0) does not hold, because of `why`."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"line {number + 1} does not hold: {why}")
        self.number = number
        self.why = why


class Chained(NamedTuple, Generic[R]):
    """A line that holds. `whole_bytes` is where it ends, counted from the journal's begin."""

    seq: int
    previous: str
    record: R
    sha256: str
    whole_bytes: int


def digest_of_line(seq: int, previous: str, record: Any) -> str:
    """The digest of the line with that number and that JSON record, after the line with the digest `previous`."""
    return sha256_json({"seq": seq, "previous": previous, "record": record})


def line_bytes(seq: int, previous: str, record: Any, sha256: str) -> bytes:
    """A line as it is written, with its line feed."""
    return (canonical_json({"seq": seq, "previous": previous, "record": record, "sha256": sha256}) + "\n").encode()


def chained_lines(raw: bytes, read: Callable[[int, Any], R]) -> Iterator[Chained[R]]:
    """The lines in a journal's bytes, each once it holds, in time linear in their number; a torn end is left out.

    `read` makes a record of a line's number and JSON; a `ValueError`, `KeyError`, `TypeError` or `AttributeError` of
    its says that there is none. It is asked before the line's digest is looked at, so that it can refuse a journal of
    another version by an error of its own. Raises `ChainBroken`.
    """
    number, previous, begin = 0, GENESIS, 0
    written = len(raw.rstrip(b"\0"))
    while begin < written:
        end = raw.find(b"\n", begin) + 1
        if end == 0 or (end == len(raw) and b"\0" in raw[begin:]):
            return
        line = raw[begin:end]
        try:
            data: Any = read_canonical(line[:-1])
            record = read(number, data["record"])
            place, sha256 = (data["seq"], data["previous"]), data["sha256"]
            is_as_written = set(data) == _KEYS and isinstance(sha256, str)
        except NotCanonical:
            raise ChainBroken(number, "it is not what its digest says") from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ChainBroken(number, f"it is no journal line ({type(error).__name__})") from None
        if place != (number, previous):
            raise ChainBroken(number, "it does not follow the line before it")
        if not is_as_written or sha256 != sha256_bytes(_told(line)):
            raise ChainBroken(number, "it is not what its digest says")
        yield Chained(number, previous, record, sha256, end)
        number, previous, begin = number + 1, sha256, end


def _told(line: bytes) -> bytes:
    """What the digest of a line in canonical form is over: the keys before `sha256`, which is the last in order."""
    return line[: line.rindex(b',"sha256":"')] + b"}"
