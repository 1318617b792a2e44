"""One file, one meaning: what our GGUF parser accepts, llama.cpp's own reader accepts and reads alike."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.gguf import TENSOR_TYPES, GgufArray
from milton_assets.vocabulary.gguf_reader import read_header
from tests.support import gguf_file as g
from tests.support.llama_gguf import LlamaCppReader

_INTEGERS = (g.UINT8, g.INT8, g.UINT16, g.INT16, g.UINT32, g.INT32, g.UINT64, g.INT64)
_VALUE_TYPES = {
    "UINT8": g.UINT8,
    "INT8": g.INT8,
    "UINT16": g.UINT16,
    "INT16": g.INT16,
    "UINT32": g.UINT32,
    "INT32": g.INT32,
    "FLOAT32": g.FLOAT32,
    "BOOL": g.BOOL,
    "STRING": g.STRING,
    "UINT64": g.UINT64,
    "INT64": g.INT64,
    "FLOAT64": g.FLOAT64,
}
_TYPE_NUMBERS = {kind.name: number for number, kind in TENSOR_TYPES.items()}


@pytest.fixture(scope="module")
def llama_cpp() -> Iterator[LlamaCppReader]:
    with LlamaCppReader() as reader:
        yield reader


def same_meaning(llama_cpp: LlamaCppReader, path: Path) -> bool:
    """Hold the two readings of `path` against each other; whether ours accepted it."""
    try:
        ours = read_header(path)
    except BadInput:
        return False
    theirs = llama_cpp.read(path)
    assert theirs is not None, "we accept what llama.cpp refuses"
    assert (ours.version, ours.alignment, ours.data_start) == (
        theirs["version"],
        theirs["alignment"],
        theirs["data_start"],
    )
    assert [
        [t.name, [*t.dims, *(1,) * (4 - len(t.dims))], _TYPE_NUMBERS[t.type], t.offset, t.size_bytes]
        for t in ours.tensors
    ] == theirs["tensors"]
    assert list(ours.metadata) == list(theirs["metadata"])
    for key, value in ours.metadata.items():
        read = theirs["metadata"][key]
        if isinstance(value, GgufArray):
            assert [_VALUE_TYPES[value.element_type], value.length] == read
        else:
            assert value == read or (math.isnan(float(value)) and math.isnan(read))
    return True


# Text that one reader may end, decode or compare otherwise than the other.
_words = st.sampled_from(["a", "b", "general.name", "split.count", "tokenizer.chat_template", "é", "\n", " a"])
_key = st.one_of(
    _words.map(str.encode),
    st.sampled_from([b"", b"a\0", b"a\0b", b"\0", b"\xff", b"A", b"general.alignment\0", b"general.architecture"]),
    st.integers(60, 66).map(lambda length: b"n" * length),
    st.binary(max_size=4),
)
_scalar = st.one_of(
    st.sampled_from(_INTEGERS).map(lambda kind: (kind, 1)),
    st.just((g.INT64, -1)),
    st.tuples(st.just(g.FLOAT32), st.floats(width=32)),
    st.tuples(st.just(g.FLOAT64), st.floats()),
    st.tuples(st.just(g.BOOL), st.integers(0, 2)),
    st.tuples(st.just(g.STRING), _key),
)
_array = st.one_of(
    st.lists(_key, max_size=3).map(lambda words: (g.ARRAY, (g.STRING, words))),
    st.lists(st.integers(0, 255), max_size=3).map(lambda numbers: (g.ARRAY, (g.UINT8, numbers))),
)
_alignment = st.tuples(
    st.sampled_from((*_INTEGERS, *(g.UINT32,) * 8)), st.sampled_from([0, 1, 2, 8, 16, 32, 48, 64, 127])
)
_pair = st.tuples(_key, _scalar | _array).map(lambda drawn: g.pair(drawn[0], *drawn[1]))
_plain_pair = st.tuples(_words, st.integers(0, 255)).map(lambda drawn: g.pair(f"x.{drawn[0]}", g.UINT8, drawn[1]))
_odd_dimensions = st.lists(st.sampled_from([0, 1, 2, 8, 31, 32, 2**31, 2**62, 2**63]), max_size=5)
_dimensions = st.lists(st.sampled_from([32, 64, 256]), min_size=1, max_size=2)


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """A file with tensors mostly where they belong, and now and then one byte that does not."""
    odd = st.integers(0, 9).map(lambda chance: chance == 0)
    pairs = draw(st.lists(_pair if draw(st.booleans()) else _plain_pair, max_size=4))
    alignment = 32
    if draw(st.booleans()):
        kind, alignment = draw(_alignment)
        pairs.insert(draw(st.integers(0, len(pairs))), g.pair("general.alignment", kind, alignment))
        alignment = alignment or 1
    rows, free = [], 0
    for number in range(draw(st.integers(0, 4))):
        name = draw(_key) if draw(odd) else f"blk.{number}.weight".encode()
        dims = draw(_odd_dimensions if draw(odd) else _dimensions)
        kind = draw(st.integers(-1, 45)) if draw(odd) else draw(st.sampled_from([g.F32, g.F16, g.Q4_0, g.Q8_0]))
        at = draw(st.sampled_from([0, free + 1, free + alignment, 2**63])) if draw(odd) else free
        rows.append(g.tensor(name, dims, kind & 0xFFFFFFFF, at % 2**64))
        if (known := TENSOR_TYPES.get(kind)) is not None:
            size = math.prod(dims) // known.block_elements * known.block_bytes
            free = -(-(free + size) // alignment) * alignment
    data = bytearray(
        g.gguf_bytes(pairs, rows, data=bytes(min(free, 1 << 16)), alignment=alignment, version=draw(st.integers(2, 3)))
    )
    if draw(odd):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(odd) else data)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=1500)
@given(data=headers())
def test_what_we_accept_llama_cpp_reads_alike(tmp_path: Path, llama_cpp: LlamaCppReader, data: bytes) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    event("accepted by both" if same_meaning(llama_cpp, path) else "refused by us")


def _model(*pairs: bytes, tensors: list[bytes] | None = None, data: bytes = bytes(64), alignment: int = 32) -> bytes:
    rows = [g.tensor("t", (8,), g.F32, 0)] if tensors is None else tensors
    return g.gguf_bytes(pairs, rows, data=data, alignment=alignment)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(_model(), id="one tensor"),
        pytest.param(_model(tensors=[]), id="no tensor"),
        pytest.param(_model(g.pair("general.alignment", g.UINT32, 64), alignment=64), id="own alignment"),
        pytest.param(_model(tensors=[g.tensor("n" * 63, (8,), g.F32, 0)]), id="name of 63 characters"),
        pytest.param(_model(g.pair("a", g.ARRAY, (g.STRING, [b"\xff", b"\0"]))), id="array of any bytes"),
        pytest.param(
            _model(tensors=[g.tensor("a", (8,), g.F32, 0), g.tensor("b", (4, 2), g.F32, 32)]), id="two tensors"
        ),
    ],
)
def test_both_accept_what_is_right(tmp_path: Path, llama_cpp: LlamaCppReader, data: bytes) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    assert same_meaning(llama_cpp, path)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(_model(g.pair("general.name", g.STRING, "good\0bad")), id="text that ends for llama.cpp"),
        pytest.param(_model(g.pair("general.name\0", g.STRING, "a")), id="key that ends for llama.cpp"),
        pytest.param(
            _model(
                g.pair("tokenizer.chat_template", g.STRING, "{{ a }}"),
                g.pair("tokenizer.chat_template\0", g.STRING, "b"),
            ),
            id="two templates",
        ),
        pytest.param(_model(g.pair("tokenizer.chat_template", g.UINT8, 7)), id="template that is a number"),
        pytest.param(_model(g.pair("general.architecture", g.STRING, b"\xff")), id="text that is no UTF-8"),
        pytest.param(_model(tensors=[g.tensor("a\0b", (8,), g.F32, 0)]), id="tensor name that ends for llama.cpp"),
        pytest.param(_model(tensors=[g.tensor("t", (), g.F32, 0)]), id="rank 0"),
    ],
)
def test_what_llama_cpp_accepts_and_would_read_otherwise_is_refused(
    tmp_path: Path, llama_cpp: LlamaCppReader, data: bytes
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    assert llama_cpp.read(path) is not None
    with pytest.raises(BadInput):
        read_header(path)


def test_a_real_file_reads_as_llama_cpp_reads_it(llama_cpp: LlamaCppReader, small_gguf: Path) -> None:
    assert same_meaning(llama_cpp, small_gguf)
