"""A split GGUF stays one model of several files: in the bundle, through a delta, and on the device."""

from __future__ import annotations

from pathlib import Path

import pytest

from milton_assets.edge.bundle import Bundle
from milton_assets.edge.bundle.delta import apply_delta, create_delta
from milton_assets.edge.deployment import DeploymentFailed, EdgeTarget, Outcome, deploy
from milton_assets.edge.manifest import release_digest
from milton_assets.edge.release import verify_release
from milton_assets.vocabulary.registry import NewModel
from milton_assets.vocabulary.state import StateDir
from resources.registries import open_registry
from tests.support.bundles import ingredients
from tests.support.crashing import clock, healthy
from tests.support.edge_bundles import read_manifest, write_manifest
from tests.support.gguf_file import split_gguf

PARTS = ("model-00001-of-00002.gguf", "model-00002-of-00002.gguf")


def split_bundle(folder: Path, version: str, *, seed: int = 0) -> Bundle:
    first = split_gguf(folder / version, parts=2, seed=seed)
    added = open_registry(None, StateDir(folder / f"{version}-state")).add(NewModel(version, "org/base", gguf=first))
    return ingredients(folder, version=version).with_artefact(added.artefacts[0]).bundle(folder / "bundles")


def test_a_bundle_of_a_split_gguf_has_all_its_parts_and_their_tensors(tmp_path: Path) -> None:
    manifest = split_bundle(tmp_path, "v1").manifest
    assert [file.path for file in manifest.files if file.path.startswith("model/")] == [f"model/{p}" for p in PARTS]
    assert [table.path for table in manifest.tensor_tables] == [f"model/{part}" for part in PARTS]


def test_a_split_gguf_goes_through_a_delta_whole(tmp_path: Path) -> None:
    old, new = split_bundle(tmp_path, "v1"), split_bundle(tmp_path, "v2", seed=9)
    create_delta(old.path, new.path, tmp_path / "d")
    made = apply_delta(tmp_path / "d", old.path, tmp_path / "received")
    assert verify_release(made).ok
    for part in PARTS:
        assert (made / "model" / part).read_bytes() == (new.path / "model" / part).read_bytes()


def test_a_split_gguf_is_deployed_with_all_its_parts(tmp_path: Path, target: EdgeTarget) -> None:
    done = deploy(split_bundle(tmp_path, "v1").path, target, load_test=healthy, actor="ada", now=clock)
    assert done.outcome is Outcome.COMMITTED
    assert sorted(p.name for p in (target.path / "current" / "model").iterdir()) == list(PARTS)


@pytest.mark.parametrize("left", PARTS)
def test_one_part_of_a_split_gguf_is_not_deployed(tmp_path: Path, target: EdgeTarget, left: str) -> None:
    bundle = split_bundle(tmp_path, "v1").path
    manifest = read_manifest(bundle)
    gone = next(f"model/{part}" for part in PARTS if part != left)
    (bundle / gone).unlink()
    files = tuple(file for file in manifest.files if file.path != gone)
    changes = {
        "files": files,
        "release_digest": release_digest(files),
        "tensor_tables": tuple(table for table in manifest.tensor_tables if table.path != gone),
        "primary": f"model/{left}",
    }
    write_manifest(bundle, manifest.model_copy(update=changes))
    with pytest.raises(DeploymentFailed, match=r"part|model-0000"):
        deploy(bundle, target, load_test=healthy, actor="ada", now=clock)
    assert not (target.path / "current").exists()


@pytest.fixture
def target(tmp_path: Path) -> EdgeTarget:
    return EdgeTarget("edge", tmp_path / "target")
