"""One pass over a file: what the sinks see, how errors come back, and how much memory it takes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from milton_assets.edge.bundle.streaming import (
    CHUNK_BYTES,
    CHUNKS_IN_FLIGHT,
    Region,
    RegionDigests,
    digest_descriptor,
    pump,
)


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big"
    path.write_bytes(os.urandom(CHUNK_BYTES * (CHUNKS_IN_FLIGHT + 3) + 17))
    return path


def test_every_sink_sees_every_byte_once_and_in_order(big: Path) -> None:
    raw = big.read_bytes()
    here, apart, also = bytearray(), hashlib.sha256(), bytearray()
    with big.open("rb") as stream:
        done = pump(stream.fileno(), here=[here.extend], apart=[apart.update, also.extend])
    assert done == len(raw)
    assert here == also == raw
    assert apart.hexdigest() == hashlib.sha256(raw).hexdigest()


def test_progress_counts_bytes_up_to_the_size(big: Path) -> None:
    seen: list[int] = []
    with big.open("rb") as stream:
        size, digest = digest_descriptor(stream.fileno(), on_bytes=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == size == big.stat().st_size
    assert digest == hashlib.sha256(big.read_bytes()).hexdigest()


@pytest.mark.parametrize("where", ["here", "apart"])
def test_an_error_of_a_sink_comes_back_and_no_thread_stays(big: Path, where: str) -> None:
    def full(_: memoryview) -> None:
        raise OSError(28, "No space left on device")

    with big.open("rb") as stream, pytest.raises(OSError, match="No space left"):
        pump(stream.fileno(), **{where: [full]})


_ONE_PASS = """
import hashlib, os, resource, sys
from milton_assets.edge.bundle.streaming import RegionDigests, pump
with open(sys.argv[1], "rb") as stream:
    pump(stream.fileno(), apart=[hashlib.sha256().update, RegionDigests([])])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open(sys.argv[2], "rb") as stream:
    pump(stream.fileno(), apart=[hashlib.sha256().update, RegionDigests([])])
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path, big: Path) -> None:
    huge = tmp_path / "huge"
    with huge.open("wb") as stream:
        stream.truncate(300 << 20)
    grown = subprocess.run(
        [sys.executable, "-c", _ONE_PASS, big, huge], capture_output=True, text=True, check=True, timeout=120
    )
    assert int(grown.stdout) < 16 << 10  # KiB


@given(
    sizes=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=8),
    tail=st.integers(0, 30),
    cuts=st.lists(st.integers(0, 500), max_size=10),
)
def test_region_digests_do_not_depend_on_how_the_bytes_arrive(
    sizes: list[tuple[int, int]], tail: int, cuts: list[int]
) -> None:
    regions, position = [], 0
    for gap, size in sizes:
        regions.append(Region(position + gap, position + gap + size))
        position += gap + size
    raw = bytes(index * 31 % 251 for index in range(position + tail))
    sink = RegionDigests(regions)
    edges = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    for start, end in pairwise(edges):
        sink(memoryview(raw)[start:end])
    digests, rest = sink.finish()
    assert digests == [blake3(raw[region.start : region.end]).hexdigest() for region in regions]
    inside = {index for region in regions for index in range(region.start, region.end)}
    assert rest == blake3(bytes(byte for index, byte in enumerate(raw) if index not in inside)).hexdigest()


def test_a_file_that_ends_inside_a_region_is_an_error() -> None:
    sink = RegionDigests([Region(2, 10)])
    sink(memoryview(b"12345"))
    with pytest.raises(ValueError, match="ended at byte 5"):
        sink.finish()
