"""Small GGUF files, byte by byte, right or wrong on purpose.

What belongs here: a builder of GGUF bytes and a tiny valid file for tests that need *a* model file but never load
it. What does not: real weights (the fixture `small_gguf`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

UINT8, INT8, UINT16, INT16, UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY, UINT64, INT64, FLOAT64 = range(13)
F32, F16, Q4_0, Q8_0 = 0, 1, 2, 8

_FORMS = {
    UINT8: "<B",
    INT8: "<b",
    UINT16: "<H",
    INT16: "<h",
    UINT32: "<I",
    INT32: "<i",
    FLOAT32: "<f",
    BOOL: "<B",
    UINT64: "<Q",
    INT64: "<q",
    FLOAT64: "<d",
}


def string(text: str | bytes) -> bytes:
    """A GGUF string: its length, then its bytes."""
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(raw)) + raw


def value(kind: int, content: Any) -> bytes:
    """A value without its type; of an array, `content` is `(element type, elements)`."""
    if kind == STRING:
        return string(content)
    if kind == ARRAY:
        element_type, elements = content
        body = b"".join(value(element_type, element) for element in elements)
        return struct.pack("<IQ", element_type, len(elements)) + body
    return struct.pack(_FORMS[kind], content)


def pair(key: str | bytes, kind: int, content: Any) -> bytes:
    """A metadata pair."""
    return string(key) + struct.pack("<I", kind) + value(kind, content)


def tensor(name: str | bytes, dims: Sequence[int], kind: int, offset: int) -> bytes:
    """A row of the tensor table."""
    return string(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


def gguf_bytes(
    pairs: Iterable[bytes] = (),
    tensors: Iterable[bytes] = (),
    *,
    data: bytes = b"",
    version: int = 3,
    alignment: int = 32,
    magic: bytes = b"GGUF",
    metadata_count: int | None = None,
    tensor_count: int | None = None,
) -> bytes:
    """A whole file. The counts can be made to lie."""
    pairs, tensors = list(pairs), list(tensors)
    head = magic + struct.pack(
        "<IQQ",
        version,
        len(tensors) if tensor_count is None else tensor_count,
        len(pairs) if metadata_count is None else metadata_count,
    )
    body = head + b"".join(pairs) + b"".join(tensors)
    return body + b"\0" * (-len(body) % alignment) + data


def tiny_gguf(
    path: Path,
    *,
    quantization: int = 0,
    seed: int = 0,
    data_bytes: int = 256,
    template: str = "{{ messages }}",
    tokens: Sequence[str] = (),
) -> Path:
    """Write a valid GGUF whose one F32 tensor holds `data_bytes` bytes that depend on `seed`; return `path`.

    `quantization` is what `general.file_type` declares (0 is F32, 2 Q4_0, 7 Q8_0). No server can load it. Without
    `tokens` it has no vocabulary.
    """
    vocabulary = [pair("tokenizer.ggml.tokens", ARRAY, (STRING, list(tokens)))] if tokens else []
    data = bytes((index * 7 + seed) % 256 for index in range(data_bytes))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        gguf_bytes(
            [
                pair("general.architecture", STRING, "llama"),
                pair("general.file_type", UINT32, quantization),
                pair("tokenizer.chat_template", STRING, template),
                *vocabulary,
            ],
            [tensor("token_embd.weight", (data_bytes // 4,), F32, 0)],
            data=data,
        )
    )
    return path


def split_gguf(folder: Path, *, parts: int = 3, name: str = "model", seed: int = 0) -> Path:
    """Write a GGUF that llama.cpp's splitter would make: `name-00001-of-0000N.gguf` and so on; return the first."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}-{number + 1:05}-of-{parts:05}.gguf" for number in range(parts)]
    for number, path in enumerate(paths):
        pairs = [
            pair("split.no", UINT16, number),
            pair("split.count", UINT16, parts),
            pair("split.tensors.count", INT32, parts),
        ]
        if number == 0:
            pairs = [pair("general.architecture", STRING, "llama"), pair("general.file_type", UINT32, 2), *pairs]
        data = bytes((index * 7 + seed + number) % 256 for index in range(256))
        path.write_bytes(gguf_bytes(pairs, [tensor(f"blk.{number}.weight", (64,), F32, 0)], data=data))
    return paths[0]
