"""MLflow's model registry as a registry, against a real `mlflow server` on SQLite."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import (
    CHALLENGER,
    CHAMPION,
    ArtefactKind,
    EntryStatus,
    NewModel,
    RegistryMissing,
    RegistryStore,
    RegistryUnreadable,
)
from milton_assets.vocabulary.state import StateDir
from resources.registries import open_registry
from resources.registries.mlflow_api import MlflowApi
from tests.support.gguf_file import split_gguf, tiny_gguf

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("mlflow")]


@pytest.fixture
def store(mlflow_server: str, state: StateDir, request: pytest.FixtureRequest) -> RegistryStore:
    """A registered model of the test's own."""
    return open_registry(f"mlflow+http://{mlflow_server}/#{request.node.name}", state)


def test_a_version_is_added_fetched_and_digested(store: RegistryStore, state: StateDir, tmp_path: Path) -> None:
    source = tiny_gguf(tmp_path / "model-q4.gguf", quantization=2)
    entry = store.add(NewModel(None, "org/base", gguf=source))
    artefact = entry.artefact(ArtefactKind.GGUF)
    assert (entry.version[-3:], entry.base_model, entry.status) == ("-v1", "org/base", EntryStatus.CANDIDATE)
    assert (artefact.sha256, artefact.size_bytes, artefact.quantization) == (
        sha256_file(source),
        source.stat().st_size,
        "Q4_0",
    )
    assert Path(artefact.path).name == "model-q4.gguf"
    assert state.cache in Path(artefact.path).parents
    assert store.read().candidates() == (entry,)


def test_a_split_model_is_one_version_of_all_its_parts(store: RegistryStore, tmp_path: Path) -> None:
    first = split_gguf(tmp_path, parts=3)
    entry = store.add(NewModel(None, "org/base", gguf=first))
    artefact = entry.artefacts[0]
    assert artefact.size_bytes == sum(path.stat().st_size for path in tmp_path.glob("*.gguf"))
    assert len(list(Path(artefact.path).parent.glob("*.gguf"))) == 3


def test_a_directory_is_fetched_with_what_is_below_it(store: RegistryStore, tmp_path: Path) -> None:
    folder = tmp_path / "hf"
    (folder / "sub").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "sub/vocab.json"):
        (folder / name).write_text("{}")
    entry = store.add(NewModel(None, "org/base", hf=folder))
    path = Path(entry.artefact(ArtefactKind.HF_DISTILLED).path)
    assert sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()) == [
        *("config.json", "model.safetensors", "sub/vocab.json")
    ]


def test_aliases_are_mlflows_own_and_move(store: RegistryStore, mlflow_server: str, tmp_path: Path) -> None:
    versions = [
        store.add(NewModel(None, "b", gguf=tiny_gguf(tmp_path / f"m{n}.gguf", seed=n))).version for n in range(2)
    ]
    store.set_alias(CHALLENGER, versions[1])
    store.set_alias(CHAMPION, versions[0])
    assert store.aliases() == {CHALLENGER: versions[1], CHAMPION: versions[0]}
    store.set_alias(CHAMPION, versions[1])
    store.set_alias(CHALLENGER, None)
    assert store.aliases() == {CHAMPION: versions[1]}
    assert MlflowApi(f"http://{mlflow_server}", store.uri.partition("#")[2]).aliases() == {CHAMPION: "2"}


def test_a_retired_version_is_no_candidate_and_its_digest_stays(store: RegistryStore, tmp_path: Path) -> None:
    entry = store.add(NewModel(None, "b", gguf=tiny_gguf(tmp_path / "m.gguf")))
    assert store.retire(entry.version)
    assert not store.retire(entry.version)
    assert store.read().candidates() == ()
    retired = store.registered()[entry.version]
    assert {**retired, "status": "candidate"} == entry.raw


def test_a_broken_off_download_goes_on_where_it_stopped(store: RegistryStore, state: StateDir, tmp_path: Path) -> None:
    entry = store.add(NewModel(None, "b", gguf=tiny_gguf(tmp_path / "m.gguf", data_bytes=40_000)))
    there = Path(entry.artefacts[0].path)
    whole = there.read_bytes()
    part = there.parent.parent / "parts" / there.name
    # Other bytes than the server's in the part: they are kept, so it went on behind them.
    part.write_bytes(whole[:-30_000])
    there.unlink()
    assert store.entry(entry.version).artefacts == entry.artefacts
    assert there.read_bytes() == whole
    part.write_bytes(b"X" * 30_000)
    there.unlink()
    with pytest.raises(BadInput, match="no usable GGUF"):
        store.entry(entry.version)


def test_files_of_another_digest_than_the_tags_are_quarantined(
    store: RegistryStore, mlflow_server: str, tmp_path: Path
) -> None:
    entry = store.add(NewModel(None, "b", gguf=tiny_gguf(tmp_path / "m.gguf")))
    MlflowApi(f"http://{mlflow_server}", store.uri.partition("#")[2]).set_tag("1", "milton.sha256", "0" * 64)
    (set_aside,) = store.read().quarantined
    assert set_aside.version == entry.version
    assert "milton.sha256" in set_aside.reason


def test_without_time_versions_are_pending_and_the_rest_is_fetched_later(
    store: RegistryStore, state: StateDir, tmp_path: Path
) -> None:
    for seed in range(3):
        store.add(NewModel(None, "b", gguf=tiny_gguf(tmp_path / f"m{seed}.gguf", seed=seed)))
    assert len(store.read(hash_budget_s=0).entries) >= 1
    assert len(store.read().entries) == 3


def test_a_model_that_does_not_hold_makes_no_version(store: RegistryStore, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(BadInput, match="truncated"):
        store.add(NewModel(None, "b", gguf=tmp_path / "m.gguf"))
    assert store.registered() == {}


def test_mlflow_numbers_versions_itself(store: RegistryStore, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="leave --version out"):
        store.add(NewModel("v7", "b", gguf=tiny_gguf(tmp_path / "m.gguf")))


def test_a_model_that_is_not_registered_is_missing(store: RegistryStore) -> None:
    with pytest.raises(RegistryMissing):
        store.aliases()


def test_the_command_line_knows_only_the_uri(
    mlflow_server: str, state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILTON_REGISTRY", f"mlflow+http://{mlflow_server}/#cli%20model")
    source = tiny_gguf(tmp_path / "m.gguf")
    milton = Path(sys.executable).with_name("milton")

    def told(*arguments: str) -> dict:
        done = subprocess.run([milton, "registry", *arguments, "--json"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    version = told("add", "--base-model", "org/m", "--gguf", str(source))["version"]
    assert version.startswith("cli-model-")
    assert [entry["version"] for entry in told("list")["entries"]] == [version]
    assert told("retire", version)["changed"]
    assert told("show", version)["status"] == "retired"


def test_a_server_that_is_not_there_is_said_so(state: StateDir) -> None:
    with pytest.raises(RegistryUnreadable, match="does not answer"):
        open_registry("mlflow+http://127.0.0.1:9/#m", state).read()


def test_a_server_that_is_none_of_mlflows_is_said_so(mlflow_server: str, state: StateDir) -> None:
    with pytest.raises(RegistryUnreadable):
        open_registry(f"mlflow+http://{mlflow_server}/elsewhere#m", state).read()
