"""The safetensors header, read as hostile input, and the directories that hold such files."""

from __future__ import annotations

import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.edge.release import verify_release
from milton_assets.edge.release.safetensors import MAX_HEADER_BYTES, read_tensors
from milton_assets.vocabulary.errors import BadInput
from tests.support.bundles import hf_artefact, hf_folder, ingredients

A = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
B = {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]}


def safetensors(header: Any, data: bytes = bytes(26), *, length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


def written(folder: Path, raw: bytes) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(raw)
    return path


def test_tensors_come_in_the_order_of_their_offsets(tmp_path: Path) -> None:
    header = {"__metadata__": {"format": "pt"}, "b": B, "a": A}
    first, second = read_tensors(written(tmp_path, safetensors(header)))
    start = 8 + len(json.dumps(header))
    assert (first.name, first.shape, first.offset_bytes, first.size_bytes) == ("a", (2, 3), start, 24)
    assert (second.name, second.dtype, second.offset_bytes, second.size_bytes) == ("b", "BF16", start + 24, 2)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "header would have"),
        (b"\xff" * 8, "header would have"),
        (safetensors({}, b"", length=100), "header would have"),
        (safetensors(b"not json"), "no valid JSON"),
        (safetensors(b"[" * 50_000), "nested too deeply"),
        (safetensors(b'{"a": 1, "a": 1}'), "appears twice"),
        (safetensors([]), "no object"),
        (safetensors({"a": 1}), "no dtype, shape"),
        (safetensors({"a": {**A, "more": 1}}), "no dtype, shape"),
        (safetensors({"": A}), "name of 0"),
        (safetensors({"x" * 600: A}), "name of 600"),
        (safetensors({"a": {**A, "dtype": "F31"}}), "unknown dtype"),
        (safetensors({"a": {**A, "dtype": ["F32"]}}), "unknown dtype"),
        (safetensors({"a": {**A, "shape": [-2, -3]}}), "has the shape"),
        (safetensors({"a": {**A, "shape": [True, 6]}}), "has the shape"),
        (safetensors({"a": {**A, "shape": [1] * 9}}), "has the shape"),
        (safetensors({"a": {**A, "data_offsets": [0]}}), "has the offsets"),
        (safetensors({"a": {**A, "data_offsets": [24, 0]}}), "does not have -24 bytes"),
        (safetensors({"a": {**A, "shape": [2**40, 2**40]}}), "does not have 24 bytes"),
        (safetensors(b'{"\\ud800": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}'), "surrogate pair"),
        (safetensors({"a": A, "b": {**B, "data_offsets": [22, 24]}}), "overlaps another"),
        (safetensors({"a": A, "b": {**B, "data_offsets": [26, 28]}}), "hole"),
        (safetensors({"a": A}), "end at byte"),
        (safetensors({"a": A, "b": B}, bytes(20)), "end at byte"),
    ],
)
def test_a_header_a_loader_could_trip_over_is_refused(tmp_path: Path, raw: bytes, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        read_tensors(written(tmp_path, raw))


def test_a_huge_header_is_not_read(tmp_path: Path) -> None:
    path = written(tmp_path, (MAX_HEADER_BYTES + 1).to_bytes(8, "little"))
    os.truncate(path, MAX_HEADER_BYTES + 100)
    with pytest.raises(BadInput, match="more than"):
        read_tensors(path)


@pytest.mark.parametrize("filling", [b"[],", b"{},", b"1,"])
def test_a_header_that_would_be_many_times_its_size_in_memory_is_refused_before_it_is_parsed(
    tmp_path: Path, filling: bytes
) -> None:
    header = b'{"a": [' + filling * (MAX_HEADER_BYTES // len(filling) - 10) + b"0]}"
    path = written(tmp_path, safetensors(header))
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match="more than 100000 tensors have"):
            read_tensors(path)
        assert tracemalloc.get_traced_memory()[1] < 2 * MAX_HEADER_BYTES
    finally:
        tracemalloc.stop()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadInput, match="no regular file"):
        read_tensors(tmp_path / "pipe")
    with pytest.raises(BadInput, match="cannot be read"):
        read_tensors(tmp_path / "none")


@given(st.binary(max_size=200))
def test_any_bytes_are_either_tensors_or_bad_input(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    for content in (raw, safetensors(raw, b"")):
        try:
            read_tensors(written(folder, content))
        except BadInput:
            continue


def test_a_directory_with_safetensors_has_a_digest_per_tensor(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "hf")
    data = bytes(range(26))
    written(folder, safetensors({"a": A, "b": B}, data))
    model = ingredients(tmp_path).with_artefact(hf_artefact(folder))
    bundle = model.bundle(tmp_path / "bundles")
    (table,) = bundle.manifest.tensor_tables
    assert [(t.name, t.blake3) for t in table.tensors] == [
        ("a", blake3(data[:24]).hexdigest()),
        ("b", blake3(data[24:]).hexdigest()),
    ]
    assert verify_release(bundle.path).ok


def test_a_directory_with_a_broken_safetensors_is_refused(tmp_path: Path) -> None:
    folder = hf_folder(tmp_path / "hf")
    written(folder, safetensors({"a": A}))
    model = ingredients(tmp_path).with_artefact(hf_artefact(folder))
    with pytest.raises(BadInput, match="no usable safetensors"):
        model.bundle(tmp_path / "bundles")
