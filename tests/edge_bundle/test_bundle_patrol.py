"""A release is read over and over, so many bytes at a time, and what changed in it is found and named."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from milton_assets.edge.bundle import Bundle
from milton_assets.edge.bundle.patrol import Patrol
from milton_assets.edge.manifest import MANIFEST_FILE
from milton_assets.vocabulary.errors import BadInput
from tests.support.bundles import ingredients
from tests.support.gguf_file import F32, gguf_bytes, tensor

SIZE = 4080
NAMES = ("blk.0.weight", "blk.1.weight", "blk.2.weight")
ROUND_BYTES = 1000


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    weights = tmp_path / "m.gguf"
    rows = [tensor(name, (SIZE // 4,), F32, number * (SIZE + 16)) for number, name in enumerate(NAMES)]
    weights.write_bytes(gguf_bytes([], rows, data=os.urandom(3 * SIZE + 32)))
    return ingredients(tmp_path, gguf=weights).bundle(tmp_path / "bundles")


def patrol_of(bundle: Bundle) -> Patrol:
    manifest = (bundle.path / MANIFEST_FILE).read_bytes()
    return Patrol(
        bundle.path, hashlib.sha256(manifest).hexdigest(), remembered=bundle.path.parent.parent / "patrol.json"
    )


def one_pass(patrol: Patrol, budget_bytes: int = ROUND_BYTES) -> list[str]:
    done, found = patrol.passes, []
    while patrol.passes == done:
        found += patrol.round(budget_bytes)
    return found


def change(bundle: Bundle, tensor_number: int) -> None:
    offset = bundle.manifest.tensor_tables[0].tensors[tensor_number].offset_bytes
    with (bundle.path / bundle.manifest.primary).open("r+b") as stream:
        stream.seek(offset + 7)
        byte = stream.read(1)
        stream.seek(offset + 7)
        stream.write(bytes([byte[0] ^ 1]))


def test_a_whole_release_has_no_findings_however_often_it_is_read(bundle: Bundle) -> None:
    patrol = patrol_of(bundle)
    assert one_pass(patrol) + one_pass(patrol) == []


def test_a_round_reads_no_more_than_it_is_told_to(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda handle, size, at: read.append(size) or pread(handle, size, at))
    patrol = patrol_of(bundle)
    rounds = []
    while not patrol.passes:
        read.clear()
        patrol.round(ROUND_BYTES)
        rounds.append(sum(read))
    assert max(rounds) <= ROUND_BYTES
    assert sum(rounds) == bundle.manifest.payload_bytes


@pytest.mark.parametrize("number", range(3))
def test_the_tensor_that_changed_is_named(bundle: Bundle, number: int) -> None:
    change(bundle, number)
    (found,) = one_pass(patrol_of(bundle))
    assert found == f"{bundle.manifest.primary}, tensor {NAMES[number]} is not what was deployed"


def test_bytes_that_are_changed_through_another_name_are_found(bundle: Bundle, tmp_path: Path) -> None:
    weights = bundle.path / bundle.manifest.primary
    outside = tmp_path / "outside"
    outside.hardlink_to(weights)
    raw = bytearray(outside.read_bytes())
    raw[-1] ^= 1
    outside.write_bytes(raw)
    found = one_pass(patrol_of(bundle))
    assert any("has 2 hard links" in one for one in found)
    assert f"{bundle.manifest.primary}, tensor {NAMES[2]} is not what was deployed" in found


def test_a_device_that_is_switched_off_goes_on_where_it_was(bundle: Bundle) -> None:
    total = bundle.manifest.payload_bytes
    change(bundle, 2)
    found: list[str] = []
    # Each round by another process, and of at least one piece: a pass is over all the same.
    for _ in range(total // SIZE + len(bundle.manifest.files) + 8):
        found += patrol_of(bundle).round(SIZE + 4000)
    assert f"{bundle.manifest.primary}, tensor {NAMES[2]} is not what was deployed" in found


def test_a_place_that_cannot_be_read_means_the_start(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "patrol.json").write_text('{"next": "soon"}')
    assert one_pass(patrol_of(bundle)) == []


@pytest.mark.parametrize("damage", ["missing", "longer", "link"])
def test_a_file_that_is_no_longer_there_as_it_was_is_told(bundle: Bundle, tmp_path: Path, damage: str) -> None:
    weights = bundle.path / bundle.manifest.primary
    if damage == "longer":
        with weights.open("ab") as stream:
            stream.write(b"\0")
    else:
        weights.rename(tmp_path / "elsewhere")
    if damage == "link":
        weights.symlink_to(tmp_path / "elsewhere")
    said = {"missing": "is missing", "longer": "bytes, listed are", "link": "link"}[damage]
    assert any(bundle.manifest.primary in one and said in one for one in one_pass(patrol_of(bundle)))


def test_another_manifest_is_told_whatever_it_says(bundle: Bundle) -> None:
    patrol = patrol_of(bundle)
    manifest = bundle.path / MANIFEST_FILE
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    (found,) = patrol.round(ROUND_BYTES)
    assert "another manifest than the one that was deployed" in found


def test_a_round_of_nothing_is_refused(bundle: Bundle) -> None:
    with pytest.raises(BadInput, match="at least 1"):
        patrol_of(bundle).round(0)
