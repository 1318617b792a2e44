"""The whole life of a bundle with real weights: made, packed, damaged, mended, replaced by a delta."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from milton_assets.cli.app import build_app
from milton_assets.edge.bundle import (
    default_signer,
    pack_bundle,
    repair_bundle,
    scrub_bundle,
    unpack_bundle,
)
from milton_assets.edge.bundle.delta import apply_delta, create_delta
from milton_assets.edge.bundle.keys import init_keys, load_public_key
from milton_assets.edge.release import read_manifest, verify_release
from milton_assets.edge.release.sshsig import fingerprint
from milton_assets.vocabulary.state import StateDir
from resources.edge_server import EdgeServer
from tests.support.bundles import ingredients
from tests.support.decided_run import decided

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
    assert verify_release(apply_delta(tmp_path / "delta", there, tmp_path / "device", trusted=ours), trusted=ours).ok

    patch = ["zstd", "-q", "-3", "--long=28", f"--patch-from={small_gguf}", requantised, "-o", tmp_path / "patch"]
    try:
        subprocess.run(patch, check=True)
    except FileNotFoundError:
        return  # the comparison needs the zstd program; everything else was shown
    assert report.size_bytes < (tmp_path / "patch").stat().st_size


def test_the_command_line_measures_the_contract_that_it_then_deploys_under(small_gguf: Path, state: StateDir) -> None:
    decided(state, gguf=small_gguf)
    app = build_app()
    made = CliRunner().invoke(app, ["bundle", "create", "--json"])
    assert made.exit_code == 0, made.output
    health = read_manifest(Path(json.loads(made.stdout)["path"])).health
    assert health.served_with == EdgeServer().settings(small_gguf)
    assert all(probe.answer_sha256 for probe in health.probes)
    done = CliRunner().invoke(app, ["deploy", "--json", "--health-rounds", "1"])
    assert done.exit_code == 0, done.output
    deployment = json.loads(done.stdout)
    assert deployment["load_test"]["answer_sha256"] == [probe.answer_sha256 for probe in health.probes]
    assert len(deployment["health"]) == 1
