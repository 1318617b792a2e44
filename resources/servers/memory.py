"""How much memory a model server may hold before it is ended: what its model and context need, with room, and no more.

What belongs here: reckoning the allowance, and whether there is room for a second model beside one that is served.
What does not: holding a server to it (`warden`).

A chat template runs inside the server, on whatever it is sent, and can build gigabytes from a sentence. What a server
holds of its own (mapped weights do not count) is bounded by twice the weights, which some builds copy and repack, the
context's keys and values, and two gigabytes for the program and its buffers; and by nine tenths of the machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import psutil

from milton_assets.vocabulary.artefact_files import artefact_files
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.gguf import GgufHeader
from milton_assets.vocabulary.gguf_reader import read_header

COPIES_OF_WEIGHTS: Final = 2
ROOM_BYTES: Final = 2 << 30
SHARE_OF_MACHINE: Final = 0.9
_BYTES_A_NUMBER: Final = 4
"""Of a key or a value, at most: caches are kept in 16 bits unless somebody asks for 32."""
_MOST_HEADS: Final = 1 << 16


_BESIDE_WEIGHTS_BYTES: Final = 256 << 20
"""What a server holds beside the weights, at least: its context and its buffers."""


def why_no_room(size_bytes: int) -> str | None:
    """Why a model of that size cannot be served beside what runs now; None where there is room."""
    needed, free = size_bytes + _BESIDE_WEIGHTS_BYTES, psutil.virtual_memory().available
    if needed <= free:
        return None
    return f"needs {needed / 1e9:.1f} GB beside the model under test, and {free / 1e9:.1f} GB are free"


def machine_bytes() -> int:
    """What any server on this machine may hold."""
    return int(psutil.virtual_memory().total * SHARE_OF_MACHINE)


def allowance_bytes(gguf: Path, context_tokens: int) -> int:
    """What llama.cpp may hold to serve the GGUF with a context of so many tokens over all its slots.

    A header that cannot be read allows what the machine has: llama.cpp says what is wrong with it. Raises `OSError`.
    """
    try:
        header = read_header(gguf)
        weights_bytes = sum(part.stat().st_size for part in artefact_files(gguf).values())
    except BadInput:
        return machine_bytes()
    wanted = COPIES_OF_WEIGHTS * weights_bytes + context_tokens * _cache_bytes_a_token(header) + ROOM_BYTES
    return min(wanted, machine_bytes())


def _cache_bytes_a_token(header: GgufHeader) -> int:
    """Keys and values of one token in every layer; as if every head had its own where the header does not say more."""

    def number(name: str) -> int:
        value = header.metadata.get(f"{header.architecture}.{name}")
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0

    width, heads = number("embedding_length"), number("attention.head_count") or 1
    head_width = max(number("attention.key_length"), number("attention.value_length")) or width // heads
    cached_heads = min(number("attention.head_count_kv") or heads, _MOST_HEADS)
    return number("block_count") * 2 * cached_heads * head_width * _BYTES_A_NUMBER
