"""A folder of GGUF files as a registry: versions by file name, retirements and aliases kept beside."""

from __future__ import annotations

from pathlib import Path

import pytest

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import check_key
from milton_assets.vocabulary.registry import (
    CHAMPION,
    NewModel,
    RegistryMissing,
    RegistryReadOnly,
    RegistryStore,
)
from milton_assets.vocabulary.state import StateDir
from resources.registries import open_registry
from resources.registries.folder import version_of
from tests.support.gguf_file import split_gguf, tiny_gguf


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "gguf").mkdir()
    return tmp_path / "gguf"


@pytest.fixture
def store(folder: Path, state: StateDir) -> RegistryStore:
    return open_registry(f"folder://{folder}", state)


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("model.Q4_0.gguf", "model.Q4_0"),
        ("org/repo/model.gguf", "org.repo.model"),
        ("big-00001-of-00003.gguf", "big"),
        ("models--org--name/snapshots/0123456789abcdef/m.gguf", "org.name.01234567.m"),
        ("hub/models--org--name/snapshots/0123456789abcdef/sub/m.gguf", "hub.org.name.01234567.sub.m"),
        ("my model.gguf", "my-model-24a6a9e6"),
        ("模型.gguf", "model-81e09fd5"),
    ],
)
def test_a_version_is_named_by_its_own_path(name: str, version: str) -> None:
    assert version_of(name) == version_of(name)
    assert version_of(name).partition("-")[0] == version.partition("-")[0]
    check_key(version_of(name))
    if " " not in name and name.isascii():
        assert version_of(name) == version


def test_names_that_a_slug_cannot_tell_apart_stay_apart() -> None:
    assert version_of("a b.gguf") != version_of("a-b.gguf") != version_of("a_b.gguf")
    assert len(version_of("x" * 300 + ".gguf")) <= 128


def test_files_split_files_and_cache_snapshots_are_versions(store: RegistryStore, folder: Path) -> None:
    tiny_gguf(folder / "plain.gguf", quantization=2)
    split_gguf(folder, parts=3, name="big")
    blob = tiny_gguf(folder / "models--org--name/blobs/aa")
    link = folder / "models--org--name/snapshots/0123456789/m.gguf"
    link.parent.mkdir(parents=True)
    link.symlink_to(Path("../../blobs") / blob.name)
    registry = store.read()
    assert registry.quarantined == ()
    assert set(registry.entries) == {"plain", "big", "org.name.01234567.m"}
    assert registry.entries["plain"].artefacts[0].quantization == "Q4_0"
    assert registry.entries["big"].artefacts[0].size_bytes == sum(p.stat().st_size for p in folder.glob("big-*.gguf"))
    assert store.entry("big") == registry.entries["big"]


def test_what_is_no_model_is_quarantined_and_the_others_go_on(
    store: RegistryStore, folder: Path, tmp_path: Path
) -> None:
    tiny_gguf(folder / "good.gguf")
    (folder / "cut.gguf").write_bytes(b"GGUF")
    (folder / "gone.gguf").symlink_to("nowhere")
    (folder / "out.gguf").symlink_to(tiny_gguf(tmp_path / "elsewhere.gguf"))
    split_gguf(folder, parts=2, name="half").unlink()
    registry = store.read()
    assert set(registry.entries) == {"good"}
    assert {each.version for each in registry.quarantined} == {"cut", "gone", "out", "half"}


def test_a_new_file_renames_no_version(store: RegistryStore, folder: Path) -> None:
    tiny_gguf(folder / "a.gguf")
    before = set(store.registered())
    tiny_gguf(folder / "sub/a.gguf")
    assert before < set(store.registered())


def test_retiring_and_aliases_are_kept_in_the_state_folder(store: RegistryStore, folder: Path) -> None:
    tiny_gguf(folder / "a.gguf")
    raw = store.entry("a").raw
    before = set(folder.rglob("*"))
    assert store.retire("a")
    assert not store.retire("a")
    store.set_alias(CHAMPION, "a")
    assert store.read().candidates() == ()
    assert {**store.registered()["a"], "status": "candidate"} == raw
    assert store.aliases() == {CHAMPION: "a"}
    store.set_alias(CHAMPION, None)
    assert store.aliases() == {}
    assert set(folder.rglob("*")) == before


def test_nothing_is_added_to_a_folder(store: RegistryStore, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RegistryReadOnly, match="put the file below"):
        store.add(NewModel("v1", "m", gguf=tiny_gguf(tmp_path / "m.gguf")))


def test_a_folder_that_is_not_there_is_missing(state: StateDir, tmp_path: Path) -> None:
    with pytest.raises(RegistryMissing):
        open_registry(f"folder://{tmp_path}/nowhere", state).read()


@pytest.mark.parametrize(
    "uri", ["folder://host/x", "ftp://x/y", "folder:relative", "mlflow+http://h/", "mlflow+http://u:pw@h/#m"]
)
def test_a_uri_of_no_registry_is_refused_without_its_password(uri: str, state: StateDir) -> None:
    with pytest.raises(BadInput) as refused:
        open_registry(uri, state)
    assert "pw" not in str(refused.value)


def test_a_json_file_elsewhere_counts_paths_from_its_folder(state: StateDir, tmp_path: Path) -> None:
    shared = tmp_path / "shared/registry.json"
    store = open_registry(f"file://{shared}", state)
    entry = store.add(NewModel("v1", "m", gguf=tiny_gguf(tmp_path / "m.gguf")))
    assert Path(entry.artefacts[0].path) == tmp_path / "shared/models/quantized/v1/m.gguf"
    assert open_registry(str(shared), state).read().entries == {"v1": entry}
