"""The GGUF header parser: what it reads, and everything that it refuses."""

from __future__ import annotations

import os
import struct
import tracemalloc
from pathlib import Path

import pytest
from gguf import GGUFReader
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from milton_assets.vocabulary import gguf, gguf_reader
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.gguf import GgufArray, GgufHeader, GgufTensor
from milton_assets.vocabulary.gguf_reader import read_header
from tests.support.gguf_file import (
    ARRAY,
    BOOL,
    F32,
    FLOAT32,
    INT8,
    INT64,
    Q4_0,
    Q8_0,
    STRING,
    UINT8,
    UINT32,
    UINT64,
    gguf_bytes,
    pair,
    string,
    tensor,
    tiny_gguf,
    value,
)


@pytest.fixture
def parse(tmp_path: Path):
    def _parse(data: bytes) -> GgufHeader:
        path = tmp_path / "model.gguf"
        path.write_bytes(data)
        return read_header(path)

    return _parse


def refusal(parse, data: bytes) -> str:
    with pytest.raises(BadInput) as raised:
        parse(data)
    return str(raised.value)


# What it reads


def test_a_header_holds_metadata_tensors_and_layout(parse) -> None:
    header = parse(
        gguf_bytes(
            [
                pair("general.architecture", STRING, "llama"),
                pair("general.file_type", UINT32, 7),
                pair("tokenizer.chat_template", STRING, "{{ x }}"),
                pair("llama.rope", FLOAT32, 0.5),
                pair("tokenizer.add_bos", BOOL, 1),
                pair("low", INT64, -(2**63)),
            ],
            [tensor("a", (32, 2), Q8_0, 0), tensor("b", (8,), F32, 96)],
            data=bytes(96 + 32),
        )
    )
    assert dict(header.metadata) == {
        "general.architecture": "llama",
        "general.file_type": 7,
        "tokenizer.chat_template": "{{ x }}",
        "llama.rope": 0.5,
        "tokenizer.add_bos": True,
        "low": -(2**63),
    }
    assert header.tensors == (GgufTensor("a", (32, 2), "Q8_0", 0, 68), GgufTensor("b", (8,), "F32", 96, 32))
    assert (header.version, header.alignment, header.parameters) == (3, 32, 72)
    assert header.data_start % 32 == 0
    assert header.file_size_bytes == header.data_start + 128
    assert (header.architecture, header.quantization, header.chat_template) == ("llama", "Q8_0", "{{ x }}")


def test_version_2_is_read(parse) -> None:
    assert parse(gguf_bytes(version=2)).version == 2


def test_without_file_type_the_label_is_the_type_most_bytes_are_in(parse) -> None:
    header = parse(
        gguf_bytes([], [tensor("n", (8,), F32, 0), tensor("w", (32, 64), Q4_0, 32)], data=bytes(32 + 18 * 64))
    )
    assert header.quantization == header.dominant_tensor_type == "Q4_0"


def test_a_file_type_nobody_knows_falls_to_the_dominant_tensor_type(parse) -> None:
    header = parse(gguf_bytes([pair("general.file_type", UINT32, 9999)], [tensor("n", (8,), F32, 0)], data=bytes(32)))
    assert header.quantization == "F32"


def test_a_file_of_metadata_alone_has_no_quantization(parse) -> None:
    header = parse(gguf_bytes([pair("general.architecture", STRING, "llama")]))
    assert header.tensors == ()
    assert header.quantization is None
    assert header.chat_template is None


def test_an_own_alignment_moves_the_data(parse) -> None:
    header = parse(
        gguf_bytes(
            [pair("general.alignment", UINT32, 256)],
            [tensor("a", (8,), F32, 0), tensor("b", (8,), F32, 256)],
            alignment=256,
            data=bytes(256 + 32),
        )
    )
    assert (header.alignment, header.data_start % 256) == (256, 0)


def test_a_short_array_is_kept_whole_and_a_long_one_is_summarised(parse) -> None:
    header = parse(
        gguf_bytes(
            [
                pair("short", ARRAY, (INT8, [-1, 2])),
                pair("words", ARRAY, (STRING, [str(n) for n in range(1000)])),
                pair("long", ARRAY, (UINT8, [n % 256 for n in range(1000)])),
                pair("after", UINT64, 1),
            ]
        )
    )
    assert header.metadata["short"] == GgufArray("INT8", 2, (-1, 2))
    assert header.metadata["words"] == GgufArray("STRING", 1000, tuple(str(n) for n in range(gguf.ARRAY_HEAD)))
    assert header.metadata["long"] == GgufArray("UINT8", 1000, tuple(range(gguf.ARRAY_HEAD)))
    assert header.metadata["after"] == 1


def test_a_byte_level_token_that_is_no_utf8_is_shown_escaped(parse) -> None:
    header = parse(gguf_bytes([pair("tokens", ARRAY, (STRING, [b"\xff"]))]))
    assert header.metadata["tokens"] == GgufArray("STRING", 1, ("\\xff",))


def test_the_type_tables_agree_with_gguf_py() -> None:
    # gguf-py gives Q8_1, which never reaches a file, ggml's former size.
    theirs = {
        kind.value: (kind.name, *GGML_QUANT_SIZES[kind])
        for kind in GGMLQuantizationType
        if kind is not GGMLQuantizationType.Q8_1
    }
    ours = {n: (t.name, t.block_elements, t.block_bytes) for n, t in gguf.TENSOR_TYPES.items() if n in theirs}
    assert {n: theirs[n] for n in ours} == ours
    labels = {kind.value: kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in LlamaFileType}
    assert {n: labels[n] for n in gguf.FILE_TYPES} == dict(gguf.FILE_TYPES)


@pytest.mark.real_model
def test_a_real_file_reads_as_gguf_py_reads_it(small_gguf: Path) -> None:
    header = read_header(small_gguf)
    reference = GGUFReader(small_gguf)
    assert [(t.name, t.dims, t.type, header.data_start + t.offset, t.size_bytes) for t in header.tensors] == [
        (t.name, tuple(t.shape.tolist()), t.tensor_type.name, t.data_offset, t.n_bytes) for t in reference.tensors
    ]
    for key, found in header.metadata.items():
        expected = reference.fields[key].contents(slice(gguf.ARRAY_HEAD) if isinstance(found, GgufArray) else None)
        assert (list(found.head) if isinstance(found, GgufArray) else found) == expected
    assert set(header.metadata) == {key for key in reference.fields if not key.startswith("GGUF.")}


# What it refuses

# The array's strings that are kept, and then the length of one more.
LONG_ARRAY = string("k") + struct.pack("<IIQ", ARRAY, STRING, gguf.ARRAY_HEAD + 1) + bytes(8 * gguf.ARRAY_HEAD)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "truncated at byte 0: the magic needs 4 bytes"),
        (b"GGU", "truncated at byte 3"),
        (b"PK\3\4" + bytes(40), "it starts with b'PK\\x03\\x04'"),
        (gguf_bytes(version=1), "its version is 1"),
        (gguf_bytes(version=4), "its version is 4"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "it is big-endian"),
        (gguf_bytes(metadata_count=2**63), "the metadata count is 9223372036854775808, more than"),
        (gguf_bytes(tensor_count=2**64 - 1), "the tensor count is 18446744073709551615, more than"),
        (gguf_bytes(metadata_count=3)[:24], "truncated"),
        (gguf_bytes([pair("k", UINT8, 1), pair("k", UINT8, 2)]), "the metadata key 'k' appears twice"),
        (gguf_bytes([pair(b"\xff", UINT8, 1)]), "metadata key 1 of 1 is not UTF-8"),
        (gguf_bytes([pair("k", STRING, b"\xff")]), "metadata 'k' is not UTF-8"),
        (gguf_bytes([pair("k", BOOL, 2)]), "metadata 'k' is a boolean of value 2"),
        (gguf_bytes([string("k") + struct.pack("<I", 13)]), "metadata 'k' has the unknown value type 13"),
        (
            gguf_bytes([string("k" * 70_000)]),
            f"metadata key 1 of 1 says it has 70000 bytes, more than {gguf_reader.MAX_KEY_BYTES}",
        ),
        (
            gguf_bytes([string("k") + struct.pack("<IQ", STRING, 2**62)]),
            "metadata 'k' says it has 4611686018427387904 bytes, more than",
        ),
        (
            gguf_bytes([string("k") + struct.pack("<IQ", STRING, 1000)]),
            "truncated",
        ),
        (
            gguf_bytes([string("k") + struct.pack("<IIQ", ARRAY, UINT8, 2**62)]),
            "metadata 'k' has 4611686018427387904 elements, more than",
        ),
        (
            gguf_bytes([string("k") + struct.pack("<IIQ", ARRAY, UINT64, gguf_reader.MAX_ARRAY_ELEMENTS)]),
            "truncated",
        ),
        (gguf_bytes([pair("k", ARRAY, (ARRAY, [(UINT8, [1])]))]), "metadata 'k' is an array of arrays"),
        (
            gguf_bytes([LONG_ARRAY + struct.pack("<Q", 2**62)]),
            "metadata 'k' holds a string of 4611686018427387904 bytes",
        ),
        (gguf_bytes([LONG_ARRAY + struct.pack("<Q", 100)]), "metadata 'k' needs 100 bytes from byte 569"),
        (gguf_bytes([LONG_ARRAY])[:565], "metadata 'k' needs 520 bytes from byte 49"),
        (gguf_bytes([pair("general.alignment", UINT32, 0)]), "general.alignment is 0, no power of two"),
        (gguf_bytes([pair("general.alignment", UINT32, 48)]), "general.alignment is 48, no power of two"),
        (gguf_bytes([pair("general.alignment", UINT32, 1 << 31)]), "no power of two up to"),
        (
            gguf_bytes([pair("general.alignment", STRING, "32")]),
            "'general.alignment' is of the type STRING, not UINT32",
        ),
        (gguf_bytes([pair("general.alignment", UINT64, 32)]), "'general.alignment' is of the type UINT64, not UINT32"),
        (gguf_bytes([pair("tokenizer.chat_template", UINT8, 1)]), "is of the type UINT8, not STRING"),
        (gguf_bytes([pair("split.count", UINT32, 2)]), "'split.count' is of the type UINT32, not UINT16"),
        (gguf_bytes([pair("", UINT8, 1)]), "metadata key 1 of 1 is empty"),
        (gguf_bytes([pair("general.name\0", STRING, "a")]), "metadata key 1 of 1 holds a NUL"),
        (gguf_bytes([pair("general.name", STRING, "a\0b")]), "metadata 'general.name' holds a NUL"),
        (gguf_bytes([], [tensor("a\0b", (8,), F32, 0)], data=bytes(32)), "the name of tensor 1 of 1 holds a NUL"),
        (gguf_bytes([], [tensor("t", (), F32, 0)]), "tensor 't' has 0 dimensions"),
        (gguf_bytes([], [tensor("t", (1,) * 5, F32, 0)]), "tensor 't' has 5 dimensions"),
        (gguf_bytes([], [tensor("t", (0,), F32, 0)]), "has the shape (0,), which F32 cannot store"),
        (gguf_bytes([], [tensor("t", (33,), Q8_0, 0)]), "has the shape (33,), which Q8_0 cannot store"),
        (gguf_bytes([], [tensor("t", (2**63, 2**63), F32, 0)]), "would need"),
        (gguf_bytes([], [tensor("t", (8,), 4, 0)]), "tensor 't' has the unknown tensor type 4"),
        (gguf_bytes([], [tensor("t", (8,), F32, 4)]), "is at offset 4, not at 0"),
        (gguf_bytes([], [tensor("", (8,), F32, 0)], data=bytes(32)), "tensor 1 of 1 has no name"),
        (gguf_bytes([], [tensor("t" * 64, (8,), F32, 0)]), "says it has 64 bytes, more than 63"),
        (gguf_bytes([], [tensor("t", (8,), F32, 0), tensor("t", (8,), F32, 32)]), "tensor name 't' appears twice"),
        (
            gguf_bytes([], [tensor("a", (16,), F32, 0), tensor("b", (8,), F32, 32)], data=bytes(64)),
            "tensor 'b' is at offset 32, not at 64, where the one before it ends",
        ),
        (
            gguf_bytes([], [tensor("a", (8,), F32, 0), tensor("b", (8,), F32, 32)], data=bytes(63)),
            "1 of 2 tensors are whole",
        ),
        (
            gguf_bytes([], [tensor("a", (8,), F32, 0), tensor("b", (8,), F32, 64)], data=bytes(96)),
            "tensor 'b' is at offset 64, not at 32",
        ),
        (gguf_bytes([], [tensor("t", (8,), F32, 2**64 - 32)]), "not at 0"),
    ],
)
def test_it_says_what_is_wrong(parse, data: bytes, problem: str) -> None:
    assert problem in refusal(parse, data)


def test_the_elements_of_all_arrays_share_one_limit(parse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_reader, "MAX_ARRAY_ELEMENTS", 10)
    array = (UINT8, [0] * 6)
    assert "more than 4 may follow" in refusal(parse, gguf_bytes([pair("a", ARRAY, array), pair("b", ARRAY, array)]))


def test_a_header_may_not_be_huge(parse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_reader, "MAX_HEADER_BYTES", 1000)
    assert "the header is larger than 1000 bytes" in refusal(parse, gguf_bytes([pair("k", STRING, "x" * 2000)]))


@pytest.mark.parametrize("kind", ["missing", "directory", "pipe", "nul in the name"])
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("\0" if kind == "nul in the name" else "model.gguf")
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(BadInput, match=r"cannot be read|is no regular file"):
        read_header(path)


@pytest.mark.parametrize("cut", [4, 8, 20, 24, 60, 100, 150, 300])
def test_a_file_cut_anywhere_says_where_it_ends(tmp_path: Path, cut: int) -> None:
    path = tiny_gguf(tmp_path / "m.gguf")
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    with pytest.raises(BadInput, match=f"truncated at byte {cut}"):
        read_header(path)


def test_a_huge_claim_costs_no_memory(parse) -> None:
    data = gguf_bytes([string("k") + struct.pack("<IIQ", ARRAY, UINT8, gguf_reader.MAX_ARRAY_ELEMENTS)])
    tracemalloc.start()
    refusal(parse, data)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 1 << 20


# Whatever the bytes say


def header_or_refusal(path: Path, data: bytes) -> GgufHeader | None:
    path.write_bytes(data)
    try:
        header = read_header(path)
    except BadInput as refused:
        assert str(path) in str(refused)
        return None
    for each in header.tensors:
        assert header.data_start + each.offset + each.size_bytes <= len(data)
        assert each.offset % header.alignment == 0
    return header


any_path = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)


@any_path
@given(st.binary(max_size=300))
def test_any_bytes_give_a_header_or_a_refusal(tmp_path: Path, data: bytes) -> None:
    header_or_refusal(tmp_path / "m", data)
    header_or_refusal(tmp_path / "m", b"GGUF\3\0\0\0" + data)


@any_path
@given(st.data())
def test_a_damaged_file_gives_a_header_or_a_refusal(tmp_path: Path, data: st.DataObject) -> None:
    whole = bytearray(tiny_gguf(tmp_path / "m").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    header_or_refusal(tmp_path / "m", bytes(whole[: data.draw(st.integers(0, len(whole)))]))


@pytest.mark.slow
@pytest.mark.real_model
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_real_header_gives_a_header_or_a_refusal(
    tmp_path: Path, small_gguf: Path, data: st.DataObject
) -> None:
    size_bytes = small_gguf.stat().st_size
    with small_gguf.open("rb") as stream:
        head = bytearray(stream.read(read_header(small_gguf).data_start))
    near_an_end = st.integers(0, 3000) | st.integers(len(head) - 20_000, len(head) - 1)
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(near_an_end | st.integers(0, len(head) - 1))
        head[at] = data.draw(st.integers(0, 255))
    path = tmp_path / "m"
    path.write_bytes(head)
    os.truncate(path, data.draw(st.sampled_from([size_bytes, size_bytes - 1, len(head) // 2])))
    try:
        header = read_header(path)
    except BadInput:
        return
    assert all(header.data_start + each.offset + each.size_bytes <= path.stat().st_size for each in header.tensors)


text = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20)
leaf_values = st.one_of(
    st.tuples(st.just(UINT8), st.integers(0, 255)),
    st.tuples(st.just(INT64), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just(BOOL), st.integers(0, 1)),
    st.tuples(st.just(STRING), text),
    st.lists(st.text(max_size=5), max_size=80).map(lambda words: (ARRAY, (STRING, words))),
    st.lists(st.integers(0, 2**32 - 1), max_size=80).map(lambda numbers: (ARRAY, (UINT32, numbers))),
)


@any_path
@given(st.dictionaries(text.map("x{}".format), leaf_values, max_size=8))
def test_what_is_written_is_read_back(tmp_path: Path, content: dict) -> None:
    header = header_or_refusal(tmp_path / "m", gguf_bytes([pair(key, *each) for key, each in content.items()]))
    assert header is not None
    for key, (kind, written) in content.items():
        found = header.metadata[key]
        if isinstance(found, GgufArray):
            assert (found.length, list(found.head)) == (len(written[1]), written[1][: gguf.ARRAY_HEAD])
        else:
            assert found == written
            assert value(kind, found) == value(kind, written)
