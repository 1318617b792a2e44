"""The whole life of a bundle with real weights: made, packed, damaged, mended, replaced by a delta."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from milton_assets.edge.bundle import (
    apply_delta,
    create_delta,
    default_signer,
    pack_bundle,
    repair_bundle,
    scrub_bundle,
    unpack_bundle,
    verify_bundle,
)
from milton_assets.edge.bundle.keys import init_keys, load_public_key
from milton_assets.edge.bundle.sshsig import fingerprint
from tests.support.bundles import ingredients

pytestmark = [pytest.mark.slow, pytest.mark.real_model]


def test_a_real_model_survives_the_road(
    small_gguf: Path, requantised_gguf: Callable[[str], Path], tmp_path: Path
) -> None:
    keys = init_keys(tmp_path / "keys")
    ours = {fingerprint(load_public_key(keys.public))}
    sign = default_signer(keys.folder)
    old = ingredients(tmp_path, version="shipped", gguf=small_gguf).bundle(tmp_path / "bundles", sign=sign)
    assert old.manifest.quantization == "Q4_1"
    assert old.manifest.requirements.runtime.endswith("architecture llama")
    assert len(old.manifest.tensor_tables[0].tensors) == 272

    there = unpack_bundle(pack_bundle(old.path, tmp_path / "old.tar"), tmp_path / "device", trusted=ours)
    tensor = old.manifest.tensor_tables[0].tensors[100]
    with (there / old.manifest.primary).open("r+b") as stream:
        stream.seek(tensor.offset_bytes + tensor.size_bytes // 2)
        stream.write(b"\x00\xff\x00\xff")
    (damage,) = scrub_bundle(there).damages
    assert damage.tensors == (tensor.name,)
    assert repair_bundle(there, old.path).fetched_bytes == tensor.size_bytes

    requantised = requantised_gguf("Q4_0")
    new = ingredients(tmp_path, version="requantised", gguf=requantised).bundle(tmp_path / "bundles", sign=sign)
    report = create_delta(old.path, new.path, tmp_path / "delta")
    assert report.pays
    assert verify_bundle(apply_delta(tmp_path / "delta", there, tmp_path / "device", trusted=ours), trusted=ours).ok

    patch = ["zstd", "-q", "-3", "--long=28", f"--patch-from={small_gguf}", requantised, "-o", tmp_path / "patch"]
    try:
        subprocess.run(patch, check=True)
    except FileNotFoundError:
        return  # the comparison needs the zstd program; everything else was shown
    assert report.size_bytes < (tmp_path / "patch").stat().st_size
