"""Coding weights for transport: byte planes, XOR with a base, zstd.

What belongs here: one chunk at a time, there and back. What does not: which chunks, and from which base (`delta`).

A quantised tensor is a row of blocks, each a scale or two and the quants. Two neighbours of different kind hide each
other's regularity from a byte coder, so a chunk is first rearranged into planes: each byte of a scale, and the quants,
for all blocks together. After a fine-tuning few quants change, so XOR with the base leaves nearly all of them zero.
Block layouts: `ggml-common.h` of the ggml project.

A device applies deltas, so this takes no numpy: long integers and strided slices do the same work in C.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

import zstandard

CHUNK_BYTES: Final = 8 << 20
LEVEL: Final = 3
_SAMPLE_BYTES: Final = 128 << 10

FIELDS: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "Q4_0": (2, 16),
        "Q4_1": (2, 2, 16),
        "Q5_0": (2, 4, 16),
        "Q5_1": (2, 2, 4, 16),
        "Q8_0": (2, 32),
        "Q2_K": (16, 64, 2, 2),
        "Q3_K": (32, 64, 12, 2),
        "Q4_K": (2, 2, 12, 128),
        "Q5_K": (2, 2, 12, 32, 128),
        "Q6_K": (128, 64, 16, 2),
        "IQ4_NL": (2, 16),
        "MXFP4": (1, 16),
        "F16": (2,),
        "BF16": (2,),
        "F32": (4,),
    }
)
"""Widths in bytes of a block's fields, in order. Fields of up to four bytes are numbers and are split into bytes."""


class Coding(IntEnum):
    """How a chunk is stored."""

    PLAIN = 0
    ZSTD = 1
    ZSTD_PLANES = 2


def chunk_bytes(dtype: str) -> int:
    """The chunk size for tensors of that type: whole blocks."""
    block = sum(FIELDS.get(dtype, (1,)))
    return CHUNK_BYTES // block * block


def encode(raw: bytes, dtype: str) -> tuple[Coding, bytes]:
    """The chunk in the smallest of its codings, judged by a sample."""
    candidates = [Coding.ZSTD, Coding.ZSTD_PLANES] if _has_planes(raw, dtype) else [Coding.ZSTD]
    coding = min(candidates, key=lambda coding: _sampled_size(raw, dtype, coding))
    stored = _compressed(to_planes(raw, dtype) if coding is Coding.ZSTD_PLANES else raw)
    return (coding, stored) if len(stored) < len(raw) else (Coding.PLAIN, raw)


def decode(coding: Coding, stored: bytes, size_bytes: int, dtype: str) -> bytes:
    """The inverse of `encode`. Raises `ValueError` for anything that is not a chunk of `size_bytes` bytes."""
    if coding is Coding.PLAIN:
        raw = stored
    else:
        try:
            if zstandard.get_frame_parameters(stored).content_size != size_bytes:
                raise ValueError("a chunk states another size")
            raw = zstandard.ZstdDecompressor().decompress(stored, max_output_size=size_bytes)
        except zstandard.ZstdError as error:
            raise ValueError(f"a chunk does not decompress: {error}") from None
    if len(raw) != size_bytes:
        raise ValueError(f"a chunk has {len(raw)} bytes, not {size_bytes}")
    if coding is Coding.ZSTD_PLANES:
        if not _has_planes(raw, dtype):
            raise ValueError(f"a chunk of {dtype} has no planes")
        return from_planes(raw, dtype)
    return raw


def xor(one: bytes, other: bytes) -> bytes:
    """Byte for byte; both of one length."""
    mixed = int.from_bytes(one, "little") ^ int.from_bytes(other, "little")
    return mixed.to_bytes(len(one), "little")


def to_planes(raw: bytes, dtype: str) -> bytes:
    """`raw`, whole blocks of `dtype`, rearranged: for each field, or each byte of a number, all blocks together."""
    block = sum(FIELDS[dtype])
    count = len(raw) // block
    planes = bytearray(len(raw))
    for start, end in _planes(dtype):
        at, width = start * count, end - start
        for byte in range(width):
            planes[at + byte : at + width * count : width] = raw[start + byte :: block]
    return bytes(planes)


def from_planes(planes: bytes, dtype: str) -> bytes:
    """The inverse of `to_planes`."""
    block = sum(FIELDS[dtype])
    count = len(planes) // block
    raw = bytearray(len(planes))
    for start, end in _planes(dtype):
        at, width = start * count, end - start
        for byte in range(width):
            raw[start + byte :: block] = planes[at + byte : at + width * count : width]
    return bytes(raw)


def _planes(dtype: str) -> list[tuple[int, int]]:
    planes, at = [], 0
    for width in FIELDS[dtype]:
        step = 1 if width <= 4 else width
        planes += [(start, start + step) for start in range(at, at + width, step)]
        at += width
    return planes


def _has_planes(raw: bytes, dtype: str) -> bool:
    return dtype in FIELDS and len(raw) % sum(FIELDS[dtype]) == 0 and bool(raw)


def sampled_size(raw: bytes, dtype: str) -> int:
    """About how many bytes `raw` takes in its best coding, from a sample of it; comparable for equal lengths."""
    codings = [Coding.ZSTD, Coding.ZSTD_PLANES] if _has_planes(raw, dtype) else [Coding.ZSTD]
    return min(_sampled_size(raw, dtype, coding) for coding in codings)


def _sampled_size(raw: bytes, dtype: str, coding: Coding) -> int:
    block = sum(FIELDS.get(dtype, (1,)))
    length = _SAMPLE_BYTES // block * block
    middle = len(raw) // 2 // block * block
    sample = raw[:length] + raw[middle : middle + length] if len(raw) > 2 * length else raw
    return len(_compressed(to_planes(sample, dtype) if coding is Coding.ZSTD_PLANES else sample))


def _compressed(raw: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=LEVEL, write_content_size=True).compress(raw)
