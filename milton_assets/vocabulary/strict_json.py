"""JSON and JSON Lines from outside, read strictly: the one reader of both.

    value = parse_json(raw, "manifest.json")
    for line in json_lines(stream, path): line.where, line.value

Refused, with the line where there are lines: what is no UTF-8, no JSON, a key twice in one object, NaN and Infinity,
a number that no float holds, an integer of thousands of digits, half of a surrogate pair, nesting without end, a line
or a file that is too long. Accepted: a byte order mark at the start, Windows line ends, blank lines. Lines end in a
line feed and in nothing else, as other separators may stand within a string. NaN is read where `nan=True` says that the
format has it, and nowhere else.

What belongs here: from bytes to values. What does not: what the values mean, and journals, whose lines are chained by
digests and whose torn end is no error (`chained`).
"""

from __future__ import annotations

import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from milton_assets.vocabulary.errors import BadInput

MAX_LINE_BYTES = 8 << 20
MAX_LINES = 100_000_000
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MAY_HOLD_HALF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True)
class Line:
    """One line that is not blank: where it stands (`file:number`, counted from 1) and its JSON value."""

    where: str
    number: int
    value: Any


def strict_loads(raw: bytes | str, *, nan: bool = False) -> Any:
    """The JSON value of `raw`. Raises `ValueError`, which says what is wrong, for whatever this module refuses."""
    try:
        text = raw.removeprefix(_BYTE_ORDER_MARK).decode("utf-8") if isinstance(raw, bytes) else raw
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from None
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_nan if nan else _no_constant, parse_float=_finite
        )
        if _MAY_HOLD_HALF_A_PAIR.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("a string holds half of a surrogate pair") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def parse_json(
    raw: bytes | str,
    what: str,
    *,
    expected: str = "strict JSON in UTF-8",
    remedy: str | None = None,
    nan: bool = False,
) -> Any:
    """The JSON value of `raw`, which `what` names. Raises `BadInput` for whatever this module refuses."""
    try:
        return strict_loads(raw, nan=nan)
    except ValueError as error:
        raise BadInput(f"{what} is no valid JSON: {error!s:.300}", expected=expected, remedy=remedy) from None


def json_lines(
    source: bytes | BinaryIO, name: str | Path, *, max_line_bytes: int = MAX_LINE_BYTES, max_lines: int = MAX_LINES
) -> Iterator[Line]:
    """Every line of `source` that is not blank, in constant memory. Raises `BadInput` with the line's number."""
    for number, text in text_lines(source, name, max_line_bytes=max_line_bytes, max_lines=max_lines):
        where = f"{name}:{number}"
        yield Line(where, number, parse_json(text, where, expected="one JSON value a line, in UTF-8"))


def text_lines(
    source: bytes | BinaryIO, name: str | Path, *, max_line_bytes: int = MAX_LINE_BYTES, max_lines: int = MAX_LINES
) -> Iterator[tuple[int, str]]:
    """Number and text, without its end, of every line that is not blank. Raises `BadInput` with the line's number."""
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    number = 0
    while raw := stream.readline(max_line_bytes + 1):
        number += 1
        if len(raw) > max_line_bytes:
            raise BadInput(f"{name}:{number} is beyond the limits", expected=f"at most {max_line_bytes} bytes a line")
        if number > max_lines:
            raise BadInput(f"{name}:{number} is beyond the limits", expected=f"at most {max_lines} lines")
        if number == 1:
            raw = raw.removeprefix(_BYTE_ORDER_MARK)
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadInput(f"{name}:{number} is not UTF-8 (byte {error.start})", expected="lines in UTF-8") from None
        if line.strip():
            yield number, line.removesuffix("\n").removesuffix("\r")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r:.200} appears twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _nan(name: str) -> Any:
    return math.nan if name == "NaN" else _no_constant(name)


def _finite(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"the number {digits:.50} is too large")
    return value
