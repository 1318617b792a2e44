"""Registering a model: its files brought into the state folder, complete or absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from milton_assets.settings import load_settings
from milton_assets.vocabulary.artefact_files import artefact_files
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.progress import Progress
from milton_assets.vocabulary.registry import ArtefactKind, EntryStatus, NewModel, RegistryEntry
from milton_assets.vocabulary.state import StateDir
from resources.model_files import place_file, place_files
from resources.registries import open_registry
from resources.registry_resource import RegistryResource
from tests.support.gguf_file import tiny_gguf


def hugging_face(folder: Path) -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub/model.safetensors").write_text("weights")
    return folder


def register_model(state: StateDir, version: str, **model: Any) -> RegistryEntry:
    store = open_registry(None, state, artefact_roots=load_settings().artefact_roots)
    return store.add(NewModel(version, **model))


def registered(state: StateDir) -> dict[str, dict]:
    return json.loads(state.registry.read_text())["models"]


def files(state: StateDir) -> set[str]:
    return {path.relative_to(state.root).as_posix() for path in state.root.rglob("*") if path.is_file()}


def test_a_gguf_is_copied_into_the_state_folder_and_registered_relatively(state: StateDir, tmp_path: Path) -> None:
    source = tiny_gguf(tmp_path / "m.gguf", quantization=2)
    entry = register_model(state, "v1", base_model="org/m", gguf=source)
    place = state.root / "models/quantized/v1/m.gguf"
    assert place.read_bytes() == source.read_bytes()
    assert place.stat().st_ino != source.stat().st_ino
    assert registered(state)["v1"]["metrics"] == {"compression": {"gguf_path": "models/quantized/v1/m.gguf"}}
    assert (entry.version, entry.status, entry.base_model) == ("v1", EntryStatus.CANDIDATE, "org/m")


def test_a_directory_is_copied_with_what_is_below_it(state: StateDir, tmp_path: Path) -> None:
    entry = register_model(state, "v1", base_model="m", hf=hugging_face(tmp_path / "hf"))
    folder = Path(entry.artefact(ArtefactKind.HF_DISTILLED).path)
    assert folder == state.root / "models/distilled/v1"
    assert (folder / "sub/model.safetensors").read_text() == "weights"


def test_with_link_both_names_are_one_file(state: StateDir, tmp_path: Path) -> None:
    source = tiny_gguf(tmp_path / "m.gguf")
    hf = hugging_face(tmp_path / "hf")
    entry = register_model(state, "v1", base_model="m", gguf=source, hf=hf, link=True)
    gguf, folder = (Path(entry.artefact(kind).path) for kind in (ArtefactKind.GGUF, ArtefactKind.HF_DISTILLED))
    assert gguf.stat().st_ino == source.stat().st_ino
    assert (folder / "config.json").stat().st_ino == (hf / "config.json").stat().st_ino


def test_files_in_the_state_folder_are_registered_where_they_are(state: StateDir) -> None:
    source = tiny_gguf(state.root / "models/mine/m.gguf")
    register_model(state, "v1", base_model="m", gguf=source)
    assert registered(state)["v1"]["metrics"]["compression"]["gguf_path"] == "models/mine/m.gguf"
    assert [name for name in files(state) if name.endswith(".gguf")] == ["models/mine/m.gguf"]


def test_files_below_a_configured_root_are_registered_by_their_full_path(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny_gguf(tmp_path / "store/m.gguf")
    monkeypatch.setenv("MILTON_ARTEFACT_ROOTS", str(tmp_path / "store"))
    register_model(state, "v1", base_model="m", gguf=source)
    assert registered(state)["v1"]["metrics"]["compression"]["gguf_path"] == str(source)


def test_a_taken_version_is_refused_before_anything_is_copied(state: StateDir, tmp_path: Path) -> None:
    register_model(state, "v1", base_model="m", gguf=tiny_gguf(tmp_path / "a.gguf", quantization=2))
    before = files(state), state.registry.read_bytes()
    with pytest.raises(BadInput, match="registered already"):
        register_model(state, "v1", base_model="m", gguf=tiny_gguf(tmp_path / "b.gguf", quantization=7))
    assert (files(state), state.registry.read_bytes()) == before


def test_when_one_part_does_not_hold_none_is_left(state: StateDir, tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    with pytest.raises(BadInput, match=r"no config\.json"):
        register_model(state, "v1", base_model="m", gguf=tiny_gguf(tmp_path / "m.gguf"), hf=tmp_path / "hf")
    assert files(state) == set()


def test_when_registering_fails_what_was_placed_is_removed(state: StateDir, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="base_model"):
        register_model(
            state, "v1", base_model="", gguf=tiny_gguf(tmp_path / "m.gguf"), hf=hugging_face(tmp_path / "hf")
        )
    assert files(state) == set()


def test_a_gguf_that_does_not_parse_is_refused(state: StateDir, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(BadInput, match="truncated"):
        register_model(state, "v1", base_model="m", gguf=tmp_path / "m.gguf")


def test_files_of_an_unregistered_version_are_not_overwritten(state: StateDir, tmp_path: Path) -> None:
    there = tiny_gguf(state.root / "models/quantized/v1/model-f32.gguf", seed=5)
    before = there.read_bytes()
    with pytest.raises(BadInput, match="exists already"):
        register_model(state, "v1", base_model="m", gguf=tiny_gguf(tmp_path / "m.gguf"))
    assert there.read_bytes() == before


def test_without_room_nothing_is_copied(state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.model_files._MARGIN_BYTES", 1 << 62)
    with pytest.raises(BadInput, match="MB free"):
        register_model(state, "v1", base_model="m", gguf=tiny_gguf(tmp_path / "m.gguf"))
    assert files(state) == set()


def test_a_link_that_cannot_be_made_says_to_copy(tmp_path: Path) -> None:
    # /proc is another file system on every Linux.
    with pytest.raises(BadInput, match="leave out --link"):
        place_file(Path("/proc/version"), tmp_path / "v", lambda _: None, link=True)
    assert list(tmp_path.iterdir()) == []


def test_copying_tells_how_far_it_is(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(2_000_000))
    steps: list[Progress] = []
    place_file(source, tmp_path / "target", steps.append)
    assert steps == [Progress("copy", 2, 2, "MB of source")]


def test_a_copy_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    source = hugging_face(tmp_path / "hf")

    def stop(step: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place_files(artefact_files(source), tmp_path / "out/target", stop)
    assert list((tmp_path / "out").iterdir()) == []


# As a Dagster resource


def test_the_resource_reads_the_registry_below_its_state_folder(state: StateDir, tmp_path: Path) -> None:
    entry = register_model(state, "v1", base_model="m", gguf=tiny_gguf(tmp_path / "m.gguf"))
    resource = RegistryResource.from_settings(load_settings({"MILTON_STATE_DIR": str(state.root)}))
    assert resource.read().candidates() == (entry,)
    assert resource.entry("v1") == entry
    assert resource.read(hash_budget_s=0).entries == {"v1": entry}
    with pytest.raises(BadInput, match="not in the registry"):
        resource.entry("v2")


def test_the_resource_takes_further_roots_from_the_environment(state: StateDir, tmp_path: Path) -> None:
    environment = {"MILTON_STATE_DIR": str(state.root), "MILTON_ARTEFACT_ROOTS": "/srv/a:/srv/b"}
    assert RegistryResource.from_settings(load_settings(environment)).artefact_roots == ["/srv/a", "/srv/b"]


@pytest.mark.parametrize("settings", [{"state_root": "state"}, {"state_root": "/s", "artefact_roots": ["models"]}])
def test_the_resource_takes_no_relative_folder(settings: dict) -> None:
    with pytest.raises(BadInput, match="relative"):
        RegistryResource(**settings)
