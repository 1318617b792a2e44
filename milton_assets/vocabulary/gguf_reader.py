"""Reading a GGUF file's header from bytes that nobody vouches for.

    header = read_header(Path("model-q4_0.gguf"))

What belongs here: the bounded parser of GGUF 2 and 3 (little endian). What does not: the header that it returns
(`gguf`).

Nothing is mapped and no tensor is read: the parser walks the header once, asks before each read whether the file
is long enough, and stops at fixed limits, so time and memory stay bounded whatever the file says. Layout: the
specification in the ggml project (`docs/gguf.md`) and what llama.cpp enforces on loading.

A file has one meaning or is refused: what llama.cpp would read otherwise than this parser (it ends text at the first
NUL, and takes a template of another type than text for text) does not pass, nor does what it would not load at all.
Elements of string arrays are the exception: nothing here gives them a meaning.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Mapping
from enum import IntEnum
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.gguf import (
    ARRAY_HEAD,
    TENSOR_TYPES,
    GgufArray,
    GgufHeader,
    GgufTensor,
    MetadataValue,
    Scalar,
)

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
DEFAULT_ALIGNMENT: Final = 32

MAX_HEADER_BYTES: Final = 64 << 20
MAX_METADATA_COUNT: Final = 1 << 16
MAX_TENSOR_COUNT: Final = 1 << 16
MAX_KEY_BYTES: Final = (1 << 16) - 1
MAX_STRING_BYTES: Final = 16 << 20
MAX_TENSOR_NAME_BYTES: Final = 63
"""llama.cpp keeps 64 bytes, a NUL at the end included (`GGML_MAX_NAME`)."""
MAX_ARRAY_ELEMENTS: Final = 1 << 22
"""Over all arrays of a header together. The largest vocabularies need about 1.3 million, merges included."""
MAX_DIMENSIONS: Final = 4
MAX_ALIGNMENT: Final = 1 << 20

_MAX_TENSOR_BYTES: Final = (1 << 63) - 1


class _ValueType(IntEnum):
    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


_SCALARS: Final = {
    _ValueType.UINT8: struct.Struct("<B"),
    _ValueType.INT8: struct.Struct("<b"),
    _ValueType.UINT16: struct.Struct("<H"),
    _ValueType.INT16: struct.Struct("<h"),
    _ValueType.UINT32: struct.Struct("<I"),
    _ValueType.INT32: struct.Struct("<i"),
    _ValueType.FLOAT32: struct.Struct("<f"),
    _ValueType.BOOL: struct.Struct("<B"),
    _ValueType.UINT64: struct.Struct("<Q"),
    _ValueType.INT64: struct.Struct("<q"),
    _ValueType.FLOAT64: struct.Struct("<d"),
}
_LENGTH_BYTES: Final = 8

_EXPECTED_TYPES: Final = {
    "general.alignment": _ValueType.UINT32,
    "general.architecture": _ValueType.STRING,
    "general.base_model.0.name": _ValueType.STRING,
    "general.base_model.0.repo_url": _ValueType.STRING,
    "general.file_type": _ValueType.UINT32,
    "general.name": _ValueType.STRING,
    "general.type": _ValueType.STRING,
    "split.count": _ValueType.UINT16,
    "split.no": _ValueType.UINT16,
    "tokenizer.chat_template": _ValueType.STRING,
}
"""The keys that are read here for their meaning, in the only type in which llama.cpp takes them for the same."""


def read_header(path: Path) -> GgufHeader:
    """Read the header of the GGUF file at `path`.

    Raises `BadInput` when the file cannot be read, is no regular file, is truncated, or says anything that a
    loader could trip over: unknown types, counts or lengths above the limits of this module, names that appear
    twice, text with a NUL in it, tensors that do not follow each other without a gap or reach beyond the file's end.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as stream:
            facts = os.fstat(stream.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise BadInput(f"{path} is no regular file", expected="a GGUF file")
            return parse_header(stream, facts.st_size, path)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({error})", expected="a readable GGUF file") from error


def parse_header(stream: BinaryIO, size_bytes: int, path: object) -> GgufHeader:
    """The header at the beginning of `stream`, of a file of that size that is called `path` wherever it lies.

    No more is read than the header. Raises `BadInput` as `read_header`, and `OSError`.
    """
    try:
        return _parse(_Cursor(stream, size_bytes))
    except _Malformed as error:
        raise BadInput(
            f"{path} is no usable GGUF: {error}",
            expected=f"a complete little-endian GGUF of version {' or '.join(map(str, VERSIONS))}",
            remedy="copy or convert the file again",
        ) from None


def _open_without_waiting(path: str, flags: int) -> int:
    # A named pipe would block in open() without O_NONBLOCK.
    return os.open(path, flags | os.O_NONBLOCK)


class _Malformed(Exception):
    """What is wrong with the bytes; `parse_header` adds the path."""


class _Cursor:
    """A forward-only reader that refuses to run beyond the file's end or the header's limit."""

    def __init__(self, stream: BinaryIO, size_bytes: int) -> None:
        self._stream = stream
        self.size_bytes = size_bytes
        self.position = 0
        self._elements_left = MAX_ARRAY_ELEMENTS

    def take(self, count: int, what: str) -> bytes:
        self.require(count, what)
        data = self._stream.read(count)
        if len(data) != count:
            raise _Malformed(f"the file shrank while its {what} was read")
        self.position += count
        return data

    def require(self, count: int, what: str) -> None:
        if self.position + count > self.size_bytes:
            raise _Malformed(
                f"truncated at byte {self.size_bytes}: {what} needs {count} bytes from byte {self.position}"
            )
        if self.position + count > MAX_HEADER_BYTES:
            raise _Malformed(f"the header is larger than {MAX_HEADER_BYTES} bytes at {what}")

    def skip_strings(self, count: int, what: str) -> None:
        # A vocabulary has hundreds of thousands of them, so this loop asks for the file's end only once each.
        for _ in range(count):
            length = int.from_bytes(self._stream.read(_LENGTH_BYTES), "little")
            self.position += _LENGTH_BYTES
            if length > MAX_STRING_BYTES:
                raise _Malformed(f"{what} holds a string of {length} bytes, more than {MAX_STRING_BYTES}")
            if self.position + length > min(self.size_bytes, MAX_HEADER_BYTES):
                self.require(length, what)
            self._stream.read(length)
            self.position += length

    def spend_elements(self, count: int, what: str) -> None:
        if count > self._elements_left:
            raise _Malformed(f"{what} has {count} elements, more than {self._elements_left} may follow")
        self._elements_left -= count

    def u32(self, what: str) -> int:
        return int.from_bytes(self.take(4, what), "little")

    def u64(self, what: str) -> int:
        return int.from_bytes(self.take(8, what), "little")

    def raw_string(self, what: str, limit: int) -> bytes:
        length = self.u64(f"the length of {what}")
        if length > limit:
            raise _Malformed(f"{what} says it has {length} bytes, more than {limit}")
        return self.take(length, what)

    def string(self, what: str, limit: int = MAX_STRING_BYTES) -> str:
        raw = self.raw_string(what, limit)
        if 0 in raw:
            raise _Malformed(f"{what} holds a NUL, where llama.cpp would take it to end")
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise _Malformed(f"{what} is not UTF-8") from None


def _parse(cursor: _Cursor) -> GgufHeader:
    version = _version(cursor)
    tensor_count = _count(cursor, "tensor", MAX_TENSOR_COUNT)
    metadata_count = _count(cursor, "metadata", MAX_METADATA_COUNT)
    metadata = _metadata(cursor, metadata_count)
    alignment = _alignment(metadata)
    tensors = _tensors(cursor, tensor_count, alignment)
    data_start = _padded(cursor.position, alignment) if tensors else cursor.position
    _check_placement(tensors, data_start, cursor.size_bytes)
    return GgufHeader(
        version=version,
        metadata=MappingProxyType(metadata),
        tensors=tensors,
        alignment=alignment,
        data_start=data_start,
        file_size_bytes=cursor.size_bytes,
    )


def _version(cursor: _Cursor) -> int:
    magic = cursor.take(4, "the magic")
    if magic != MAGIC:
        raise _Malformed(f"it starts with {magic!r}, not {MAGIC!r}")
    raw = cursor.take(4, "the version")
    version = int.from_bytes(raw, "little")
    if version in VERSIONS:
        return version
    if int.from_bytes(raw, "big") in VERSIONS:
        raise _Malformed("it is big-endian")
    raise _Malformed(f"its version is {version}")


def _count(cursor: _Cursor, what: str, limit: int) -> int:
    count = cursor.u64(f"the {what} count")
    if count > limit:
        raise _Malformed(f"the {what} count is {count}, more than {limit}")
    return count


def _metadata(cursor: _Cursor, count: int) -> dict[str, MetadataValue]:
    metadata: dict[str, MetadataValue] = {}
    for index in range(count):
        what = f"metadata key {index + 1} of {count}"
        key = cursor.string(what, MAX_KEY_BYTES)
        if not key:
            raise _Malformed(f"{what} is empty")
        if key in metadata:
            raise _Malformed(f"the metadata key {key!r:.100} appears twice")
        metadata[key] = _value(cursor, f"metadata {key!r:.100}", _EXPECTED_TYPES.get(key))
    return metadata


def _value(cursor: _Cursor, what: str, expected: _ValueType | None) -> MetadataValue:
    kind = _value_type(cursor, what)
    if expected not in {None, kind}:
        raise _Malformed(f"{what} is of the type {kind.name}, not {expected.name}")
    if kind is _ValueType.ARRAY:
        return _array(cursor, what)
    if kind is _ValueType.STRING:
        return cursor.string(what)
    return _scalar(cursor, kind, what)


def _value_type(cursor: _Cursor, what: str) -> _ValueType:
    number = cursor.u32(f"the type of {what}")
    try:
        return _ValueType(number)
    except ValueError:
        raise _Malformed(f"{what} has the unknown value type {number}") from None


def _scalar(cursor: _Cursor, kind: _ValueType, what: str) -> bool | int | float:
    form = _SCALARS[kind]
    value: int | float = form.unpack(cursor.take(form.size, what))[0]
    if kind is not _ValueType.BOOL:
        return value
    if value not in (0, 1):
        raise _Malformed(f"{what} is a boolean of value {value}")
    return bool(value)


def _array(cursor: _Cursor, what: str) -> GgufArray:
    kind = _value_type(cursor, what)
    if kind is _ValueType.ARRAY:
        # The specification allows it; llama.cpp loads no such file, and no known model has one.
        raise _Malformed(f"{what} is an array of arrays")
    length = cursor.u64(f"the length of {what}")
    cursor.spend_elements(length, what)
    kept = min(length, ARRAY_HEAD)
    head: tuple[Scalar, ...]
    if kind is _ValueType.STRING:
        cursor.require(length * _LENGTH_BYTES, what)
        head = tuple(cursor.raw_string(what, MAX_STRING_BYTES).decode(errors="backslashreplace") for _ in range(kept))
        cursor.skip_strings(length - kept, what)
    else:
        cursor.require(length * _SCALARS[kind].size, what)
        head = tuple(_scalar(cursor, kind, what) for _ in range(kept))
        cursor.take((length - kept) * _SCALARS[kind].size, what)
    return GgufArray(kind.name, length, head)


def _alignment(metadata: Mapping[str, MetadataValue]) -> int:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or not 0 < alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise _Malformed(f"general.alignment is {alignment}, no power of two up to {MAX_ALIGNMENT}")
    return alignment


def _tensors(cursor: _Cursor, count: int, alignment: int) -> tuple[GgufTensor, ...]:
    tensors: dict[str, GgufTensor] = {}
    free = 0
    for index in range(count):
        tensor = _tensor(cursor, f"tensor {index + 1} of {count}")
        if tensor.name in tensors:
            raise _Malformed(f"the tensor name {tensor.name!r} appears twice")
        if tensor.offset != free:
            raise _Malformed(
                f"tensor {tensor.name!r} is at offset {tensor.offset}, not at {free}, where the one before it ends"
            )
        free = _padded(tensor.offset + tensor.size_bytes, alignment)
        tensors[tensor.name] = tensor
    return tuple(tensors.values())


def _tensor(cursor: _Cursor, what: str) -> GgufTensor:
    name = cursor.string(f"the name of {what}", MAX_TENSOR_NAME_BYTES)
    if not name:
        raise _Malformed(f"{what} has no name")
    what = f"tensor {name!r}"
    rank = cursor.u32(f"the rank of {what}")
    if not 1 <= rank <= MAX_DIMENSIONS:
        raise _Malformed(f"{what} has {rank} dimensions, not 1 to {MAX_DIMENSIONS}")
    dims = tuple(cursor.u64(f"the dimensions of {what}") for _ in range(rank))
    number = cursor.u32(f"the type of {what}")
    kind = TENSOR_TYPES.get(number)
    if kind is None:
        raise _Malformed(f"{what} has the unknown tensor type {number}")
    if min(dims) < 1 or dims[0] % kind.block_elements:
        raise _Malformed(f"{what} has the shape {dims}, which {kind.name} cannot store")
    size_bytes = prod(dims) // kind.block_elements * kind.block_bytes
    if size_bytes > _MAX_TENSOR_BYTES:
        raise _Malformed(f"{what} of shape {dims} would need {size_bytes} bytes")
    return GgufTensor(name, dims, kind.name, cursor.u64(f"the offset of {what}"), size_bytes)


def _padded(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment


def _check_placement(tensors: tuple[GgufTensor, ...], data_start: int, file_size_bytes: int) -> None:
    if tensors and (end := _end(tensors[-1], data_start)) > file_size_bytes:
        raise _Malformed(
            f"truncated at byte {file_size_bytes}: tensor {tensors[-1].name!r} ends at byte {end}; "
            f"{sum(_end(t, data_start) <= file_size_bytes for t in tensors)} of {len(tensors)} tensors are whole"
        )


def _end(tensor: GgufTensor, data_start: int) -> int:
    return data_start + tensor.offset + tensor.size_bytes
