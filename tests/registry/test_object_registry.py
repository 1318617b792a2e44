"""A registry in an object store: what it names is fetched by its digest, once a host, and no further than it may go."""

from __future__ import annotations

import json
import os

import pytest

from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import NewModel, RegistryMissing, RegistryReadOnly
from milton_assets.vocabulary.state import StateDir
from resources.registries import open_registry
from resources.registries.json_file import new_entry
from resources.registries.object_store import ArtefactCache, ObjectRegistry
from tests.support.gguf_file import tiny_gguf
from tests.support.object_store import object_store


@pytest.fixture(scope="module")
def bucket():
    with object_store() as made:
        yield made


@pytest.fixture
def folder(bucket, tmp_path):
    return bucket / tmp_path.name


@pytest.fixture
def weights(tmp_path) -> bytes:
    tiny_gguf(tmp_path / "model.gguf")
    return (tmp_path / "model.gguf").read_bytes()


@pytest.fixture
def open_on(folder, monkeypatch, bucket):
    """The registry as a host of that state folder opens it; where the server is, a host's environment says."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.fs.endpoint_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return lambda state: open_registry(f"s3://{folder.path}/registry.json", StateDir(state))


def register(folder, weights: bytes, *, named: str | None = None, stored: bytes | None = None) -> None:
    (folder / "v1" / "model.gguf").write_bytes(weights if stored is None else stored)
    entry = new_entry("org/base", gguf=named or f"v1/model.gguf#sha256={sha256_bytes(weights)}")
    (folder / "registry.json").write_text(json.dumps({"models": {"v1": entry}}))


def test_weights_are_fetched_by_their_digest_and_kept(folder, weights, open_on, tmp_path):
    register(folder, weights)
    (entry,) = open_on(tmp_path / "box").read().candidates()
    (artefact,) = entry.artefacts
    assert artefact.sha256 == sha256_bytes(weights)
    assert artefact.path == str(tmp_path / "box" / "cache" / "artefacts" / artefact.sha256 / "model.gguf")
    (folder / "v1" / "model.gguf").unlink()
    assert open_on(tmp_path / "box").entry("v1").artefacts == (artefact,)


def test_a_fetching_that_was_interrupted_goes_on_where_it_ended(folder, weights, open_on, tmp_path):
    half = len(weights) // 2
    register(folder, weights, stored=bytes(half) + weights[half:])
    part = tmp_path / "box" / "cache" / "artefacts" / f".{sha256_bytes(weights)}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(weights[:half])
    assert open_on(tmp_path / "box").entry("v1").artefacts[0].sha256 == sha256_bytes(weights)


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ("v1/model.gguf", "names no GGUF with its digest"),
        ("../v1/model.gguf#sha256=" + "0" * 64, "leaves the registry's folder"),
        ("v1/model.gguf#sha256=" + "0" * 64, "has the digest"),
        ("v1/other.gguf#sha256=" + "0" * 64, "is missing"),
    ],
    ids=["no digest", "elsewhere", "another file", "absent"],
)
def test_what_is_not_the_named_file_in_the_registrys_folder_is_quarantined(
    folder, weights, open_on, tmp_path, named, reason
):
    register(folder, weights, named=named)
    found = open_on(tmp_path / "box").read()
    assert found.candidates() == ()
    assert reason in found.quarantined[0].reason
    assert not list((tmp_path / "box").rglob("*.gguf"))


def test_an_alias_that_one_host_set_is_seen_by_another(folder, weights, open_on, tmp_path):
    register(folder, weights)
    open_on(tmp_path / "a").set_alias("champion", "v1")
    open_on(tmp_path / "b").set_alias("challenger", "v1")
    open_on(tmp_path / "b").set_alias("challenger", None)
    assert open_on(tmp_path / "a").aliases() == {"champion": "v1"}
    with pytest.raises(BadInput, match="v9"):
        open_on(tmp_path / "a").set_alias("champion", "v9")


def test_nothing_but_aliases_is_written_from_here(folder, weights, open_on, tmp_path):
    with pytest.raises(RegistryMissing):
        open_on(tmp_path / "box").read()
    register(folder, weights)
    with pytest.raises(RegistryReadOnly):
        open_on(tmp_path / "box").retire("v1")
    with pytest.raises(RegistryReadOnly):
        open_on(tmp_path / "box").add(NewModel(version="v2", base_model="org/base"))


def test_what_was_used_longest_ago_makes_room(folder, tmp_path):
    files = {name: name.encode() * 1000 for name in ("a", "b", "c")}
    for name, content in files.items():
        (folder / f"{name}.gguf").write_bytes(content)
    cache = ArtefactCache(tmp_path / "cache", most_bytes=2500)
    paths = {}
    for age, name in enumerate(("a", "b")):
        paths[name] = cache.fetched(folder / f"{name}.gguf", sha256_bytes(files[name]))
        os.utime(paths[name].parent, (age, age))
    cache.fetched(folder / "a.gguf", sha256_bytes(files["a"]))
    cache.fetched(folder / "c.gguf", sha256_bytes(files["c"]))
    assert (paths["a"].exists(), paths["b"].exists()) == (True, False)
    with pytest.raises(BadInput, match="room"):
        ArtefactCache(tmp_path / "small", most_bytes=10).fetched(folder / "a.gguf", sha256_bytes(files["a"]))


def test_only_a_json_file_is_a_registry(tmp_path):
    with pytest.raises(BadInput, match="names no JSON file"):
        open_registry("s3://bucket/models", StateDir(tmp_path))
    assert isinstance(open_registry("s3://bucket/r.json", StateDir(tmp_path)), ObjectRegistry)
