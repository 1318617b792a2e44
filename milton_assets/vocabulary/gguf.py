"""A GGUF file's header, read from bytes that nobody vouches for.

What belongs here: the bounded parser of GGUF 2 and 3 (little endian) and the header it returns. What does not:
tensor data, quantising, and loading a model.

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
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final

from milton_assets.vocabulary.digest import sha256_json
from milton_assets.vocabulary.errors import BadInput

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
ARRAY_HEAD: Final = 64
"""Arrays up to this length are kept whole; of longer ones, this many elements."""

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


@dataclass(frozen=True)
class TensorType:
    """A ggml tensor type: `block_elements` elements are stored in `block_bytes` bytes."""

    name: str
    block_elements: int
    block_bytes: int


TENSOR_TYPES: Final[Mapping[int, TensorType]] = MappingProxyType(
    {
        0: TensorType("F32", 1, 4),
        1: TensorType("F16", 1, 2),
        2: TensorType("Q4_0", 32, 18),
        3: TensorType("Q4_1", 32, 20),
        6: TensorType("Q5_0", 32, 22),
        7: TensorType("Q5_1", 32, 24),
        8: TensorType("Q8_0", 32, 34),
        9: TensorType("Q8_1", 32, 36),
        10: TensorType("Q2_K", 256, 84),
        11: TensorType("Q3_K", 256, 110),
        12: TensorType("Q4_K", 256, 144),
        13: TensorType("Q5_K", 256, 176),
        14: TensorType("Q6_K", 256, 210),
        15: TensorType("Q8_K", 256, 292),
        16: TensorType("IQ2_XXS", 256, 66),
        17: TensorType("IQ2_XS", 256, 74),
        18: TensorType("IQ3_XXS", 256, 98),
        19: TensorType("IQ1_S", 256, 50),
        20: TensorType("IQ4_NL", 32, 18),
        21: TensorType("IQ3_S", 256, 110),
        22: TensorType("IQ2_S", 256, 82),
        23: TensorType("IQ4_XS", 256, 136),
        24: TensorType("I8", 1, 1),
        25: TensorType("I16", 1, 2),
        26: TensorType("I32", 1, 4),
        27: TensorType("I64", 1, 8),
        28: TensorType("F64", 1, 8),
        29: TensorType("IQ1_M", 256, 56),
        30: TensorType("BF16", 1, 2),
        34: TensorType("TQ1_0", 256, 54),
        35: TensorType("TQ2_0", 256, 66),
        39: TensorType("MXFP4", 32, 17),
        40: TensorType("NVFP4", 64, 36),
        41: TensorType("Q1_0", 128, 18),
    }
)

FILE_TYPES: Final[Mapping[int, str]] = MappingProxyType(
    {
        0: "F32",
        1: "F16",
        2: "Q4_0",
        3: "Q4_1",
        7: "Q8_0",
        8: "Q5_0",
        9: "Q5_1",
        10: "Q2_K",
        11: "Q3_K_S",
        12: "Q3_K_M",
        13: "Q3_K_L",
        14: "Q4_K_S",
        15: "Q4_K_M",
        16: "Q5_K_S",
        17: "Q5_K_M",
        18: "Q6_K",
        19: "IQ2_XXS",
        20: "IQ2_XS",
        21: "Q2_K_S",
        22: "IQ3_XS",
        23: "IQ3_XXS",
        24: "IQ1_S",
        25: "IQ4_NL",
        26: "IQ3_S",
        27: "IQ3_M",
        28: "IQ2_S",
        29: "IQ2_M",
        30: "IQ4_XS",
        31: "IQ1_M",
        32: "BF16",
        36: "TQ1_0",
        37: "TQ2_0",
        38: "MXFP4_MOE",
        39: "NVFP4",
        40: "Q1_0",
    }
)
"""`general.file_type` as llama.cpp numbers it (`llama_ftype`), without its `MOSTLY_`."""


Scalar = bool | int | float | str


@dataclass(frozen=True)
class GgufArray:
    """A metadata array: all of it when `len(head) == length`, otherwise its first `ARRAY_HEAD` elements.

    Elements of a string array that are no UTF-8 (byte-level tokens) are shown with backslash escapes.
    """

    element_type: str
    length: int
    head: tuple[Scalar, ...]


MetadataValue = Scalar | GgufArray


@dataclass(frozen=True)
class GgufTensor:
    """One row of the tensor table. `dims` has the fastest-varying first; `offset` counts from `data_start`."""

    name: str
    dims: tuple[int, ...]
    type: str
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says about itself. Tensor data begins `data_start` bytes into the file."""

    version: int
    metadata: Mapping[str, MetadataValue]
    tensors: tuple[GgufTensor, ...]
    alignment: int
    data_start: int
    file_size_bytes: int

    @property
    def architecture(self) -> str | None:
        """`general.architecture`, e.g. `llama`."""
        return self._text("general.architecture")

    @property
    def base_model(self) -> str | None:
        """What the model was made from (`general.base_model.0.…`), else its own `general.name`."""
        told = (self._text(f"general.base_model.0.{key}") for key in ("repo_url", "name"))
        found = next(filter(None, told), None) or self._text("general.name")
        return found.removeprefix("https://huggingface.co/") if found else None

    @property
    def chat_template(self) -> str | None:
        """`tokenizer.chat_template`, the Jinja text."""
        return self._text("tokenizer.chat_template")

    @property
    def tokenizer_sha256(self) -> str | None:
        """A digest of how it reads text: the tokenizer's kind, how many tokens it has and the first of them.

        None without a vocabulary. Equal for quantisations and fine-tunes of one model.
        """
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        if not isinstance(tokens, GgufArray) or not tokens.length:
            return None
        kind = [self._text(f"tokenizer.ggml.{name}") for name in ("model", "pre")]
        return sha256_json([*kind, tokens.length, list(tokens.head)])

    @property
    def split_count(self) -> int:
        """Of how many files the model consists (`split.count`); 1 when it was not split."""
        return max(self._number("split.count"), 1)

    @property
    def split_number(self) -> int:
        """Which of these files this is (`split.no`), counted from 0."""
        return self._number("split.no")

    @property
    def parameters(self) -> int:
        """How many weights the tensors hold."""
        return sum(prod(tensor.dims) for tensor in self.tensors)

    @property
    def dominant_tensor_type(self) -> str | None:
        """The tensor type that most of the bytes are in; None without tensors."""
        size_by_type: Counter[str] = Counter()
        for tensor in self.tensors:
            size_by_type[tensor.type] += tensor.size_bytes
        return min(size_by_type, key=lambda name: (-size_by_type[name], name)) if size_by_type else None

    @property
    def quantization(self) -> str | None:
        """The label the file declares (`general.file_type`), else the dominant tensor type, e.g. `Q4_K_M`."""
        declared = self.metadata.get("general.file_type")
        if isinstance(declared, int) and declared in FILE_TYPES:
            return FILE_TYPES[declared]
        return self.dominant_tensor_type

    def _text(self, key: str) -> str | None:
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def _number(self, key: str) -> int:
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else 0


def check_model(path: object, header: GgufHeader) -> None:
    """Raise `BadInput` unless that is the header of a language model's weights, whole or the first part.

    An adapter, a projector (mmproj), an importance matrix or a mere vocabulary is a GGUF too, and no model.
    """
    kind = header.metadata.get("general.type", "model")
    if header.architecture == "clip" and kind == "model":
        kind = "mmproj"
    if any(key.startswith("adapter.") for key in header.metadata) and kind == "model":
        kind = "adapter"
    if kind != "model":
        raise BadInput(
            f"{path} is a GGUF of the type {kind!r:.100}",
            expected="a language model's weights (general.type 'model', or none)",
            remedy=_INSTEAD.get(str(kind), "register the model that it was made for"),
        )
    if not header.tensors and header.split_count == 1:
        raise BadInput(f"{path} holds no tensors", expected="a GGUF with weights", remedy="convert the model again")


_INSTEAD: Final = {
    "adapter": "merge the adapter into its base (`llama-export-lora`), and register the result",
    "mmproj": "register the language model that the projector belongs to",
    "imatrix": "quantise the model with it (`llama-quantize --imatrix`), and register the result",
}


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
