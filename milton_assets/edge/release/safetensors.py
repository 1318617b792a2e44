"""A safetensors file's header, read from bytes that nobody vouches for.

What belongs here: the bounded parser of the header. What does not: tensor data and loading a model.

Format: eight bytes with the header's length (little endian), a JSON object of that length mapping each tensor's name
to dtype, shape and `data_offsets`, then the tensors, without holes and to the file's end. The format's own library
refuses headers above 100 MB; one of as many tensors as a manifest may list needs a tenth of that. A parser makes many
times its size of a header that is all brackets and commas, so these are counted first.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

from milton_assets.edge.manifest import MAX_TENSORS
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.strict_json import parse_json

MAX_HEADER_BYTES: Final = 32 << 20
MAX_DIMENSIONS: Final = 8
MAX_NAME_LENGTH: Final = 512
MAX_BRACKETS: Final = 4 * MAX_TENSORS
MAX_COMMAS: Final = 32 * MAX_TENSORS
_METADATA: Final = "__metadata__"

DTYPE_BITS: Final = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}


@dataclass(frozen=True)
class SafeTensor:
    """One row of the header. `offset_bytes` counts from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset_bytes: int
    size_bytes: int


def read_tensors(path: Path) -> tuple[SafeTensor, ...]:
    """The tensors of the safetensors file at `path`, in the order of their offsets.

    Raises `BadInput` when the file cannot be read, is truncated, or its header says anything a loader could trip over.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as stream:
            facts = os.fstat(stream.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise BadInput(f"{path} is no regular file", expected="a safetensors file")
            length = int.from_bytes(stream.read(8), "little")
            if facts.st_size < 8 or length > facts.st_size - 8:
                raise _unusable(path, f"its header would have {length} bytes, the file has {facts.st_size}")
            if length > MAX_HEADER_BYTES:
                raise _unusable(path, f"its header has {length} bytes, more than {MAX_HEADER_BYTES}")
            raw = stream.read(length)
            if raw.count(b"[") + raw.count(b"{") > MAX_BRACKETS or raw.count(b",") > MAX_COMMAS:
                raise _unusable(path, f"its header holds more than {MAX_TENSORS} tensors have")
            header = parse_json(raw, f"the header of {path}")
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror})", expected="a safetensors file") from None
    return _tensors(path, header, data_start=8 + length, end=facts.st_size)


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _unusable(path: Path, why: str) -> BadInput:
    return BadInput(
        f"{path} is no usable safetensors file: {why}", expected="a complete file", remedy="copy the file again"
    )


def _tensors(path: Path, header: Any, data_start: int, end: int) -> tuple[SafeTensor, ...]:
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise _unusable(path, f"its header is no object of at most {MAX_TENSORS} tensors")
    found = []
    for name, row in header.items():
        if name != _METADATA:
            tensor, problem = _tensor(name, row, data_start)
            if tensor is None:
                raise _unusable(path, f"tensor {name!r:.100} {problem}")
            found.append(tensor)
    found.sort(key=lambda tensor: (tensor.offset_bytes, tensor.size_bytes))
    position = data_start
    for tensor in found:
        if tensor.offset_bytes != position:
            raise _unusable(path, f"tensor {tensor.name!r:.100} overlaps another, or a hole is before it")
        position += tensor.size_bytes
    if position != end:
        raise _unusable(path, f"its tensors end at byte {position}, the file at {end}")
    return tuple(found)


def _tensor(name: str, row: Any, data_start: int) -> tuple[SafeTensor, None] | tuple[None, str]:
    if not 1 <= len(name) <= MAX_NAME_LENGTH:
        return None, f"has a name of {len(name)} characters"
    if not isinstance(row, dict) or row.keys() != {"dtype", "shape", "data_offsets"}:
        return None, "has no dtype, shape and data_offsets, or more than these"
    dtype, shape, offsets = row["dtype"], row["shape"], row["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        return None, f"has the unknown dtype {dtype!r:.50}"
    if not _naturals(shape) or len(shape) > MAX_DIMENSIONS:
        return None, f"has the shape {shape!r:.100}"
    if not _naturals(offsets) or len(offsets) != 2:
        return None, f"has the offsets {offsets!r:.100}"
    begin, stop = offsets
    if prod(shape) * DTYPE_BITS[dtype] != (stop - begin) * 8:
        return None, f"of {dtype} and shape {shape!r:.100} does not have {stop - begin} bytes"
    return SafeTensor(name, dtype, tuple(shape), data_start + begin, stop - begin), None


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 62 for item in value)
