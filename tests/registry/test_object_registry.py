"""A registry in an object store: what it names is judged where it lies, and fetched by its digest when it is wanted,
once a host, and no further than it may go."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from milton_assets.cli.app import build_app
from milton_assets.vocabulary.digest import sha256_bytes, sha256_file
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.hf_directory import LFS_POINTER
from milton_assets.vocabulary.registry import ArtefactKind, NewModel, RegistryMissing, RegistryReadOnly
from milton_assets.vocabulary.state import StateDir
from resources.registries import open_registry
from resources.registries.artefact_cache import ArtefactCache
from resources.registries.json_file import new_entry
from resources.registries.object_store import ObjectRegistry
from tests.support.gguf_file import split_gguf, tiny_gguf
from tests.support.object_store import Given, object_store

GIVEN = Given()


@pytest.fixture(scope="module")
def bucket():
    with object_store(GIVEN) as made:
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
    (artefact,) = open_on(tmp_path / "box").entry("v1").artefacts
    assert artefact.sha256 == sha256_bytes(weights)
    assert artefact.path == str(tmp_path / "box" / "cache" / "artefacts" / artefact.sha256 / "model.gguf")
    (folder / "v1" / "model.gguf").unlink()
    assert open_on(tmp_path / "box").entry("v1").artefacts == (artefact,)


def test_a_fetching_that_was_interrupted_goes_on_where_it_ended(folder, weights, open_on, tmp_path):
    half = len(weights) // 2
    register(folder, weights, stored=bytes(half) + weights[half:])
    part = tmp_path / "box" / "cache" / "artefacts" / f".{sha256_bytes(weights)}.part" / "model.gguf"
    part.parent.mkdir(parents=True)
    part.write_bytes(weights[:half])
    assert open_on(tmp_path / "box").entry("v1").artefacts[0].sha256 == sha256_bytes(weights)


def test_what_was_fetched_of_another_file_that_lay_there_before_does_not_spoil_this_one(
    folder, weights, open_on, tmp_path
):
    register(folder, weights)
    part = tmp_path / "box" / "cache" / "artefacts" / f".{sha256_bytes(weights)}.part" / "model.gguf"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"an upload by mistake, corrected since")
    assert open_on(tmp_path / "box").entry("v1").artefacts[0].sha256 == sha256_bytes(weights)


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ("v1/model.gguf", "comes without a digest"),
        ("v1/model.bin#sha256=" + "0" * 64, "does not end in .gguf"),
        ("../v1/model.gguf#sha256=" + "0" * 64, "leaves the registry's folder"),
        ("v1/other.gguf#sha256=" + "0" * 64, "is missing"),
    ],
    ids=["no digest", "no GGUF", "elsewhere", "absent"],
)
def test_what_is_not_the_named_file_in_the_registrys_folder_is_quarantined(
    folder, weights, open_on, tmp_path, named, reason
):
    register(folder, weights, named=named)
    found = open_on(tmp_path / "box").read()
    assert found.candidates() == ()
    assert reason in found.quarantined[0].reason
    assert not list((tmp_path / "box").rglob("*.gguf"))


def test_a_file_of_another_digest_is_refused_when_it_is_wanted_and_not_kept(folder, weights, open_on, tmp_path):
    register(folder, weights, named="v1/model.gguf#sha256=" + "0" * 64)
    assert [entry.version for entry in open_on(tmp_path / "box").read().candidates()] == ["v1"]
    with pytest.raises(BadInput, match="has the digest"):
        open_on(tmp_path / "box").entry("v1")
    assert not list((tmp_path / "box").rglob("*.gguf"))


@pytest.fixture
def upload(folder, state):
    """Puts a directory, or the GGUF files beside the first part, into the registry's folder, and names it there."""

    def put(model: Path) -> str:
        files = model.rglob("*") if model.is_dir() else model.parent.glob("*.gguf")
        for file in files:
            if file.is_file():
                (folder / "v1" / file.relative_to(model.parent).as_posix()).write_bytes(file.read_bytes())
        printed = CliRunner().invoke(build_app(), ["registry", "digest", str(model)], catch_exceptions=False)
        return f"v1/{printed.stdout.strip()}"

    return put


def enter(folder, **declared: str) -> None:
    (folder / "registry.json").write_text(json.dumps({"models": {"v1": new_entry("org/base", **declared)}}))


def distilled(folder: Path) -> Path:
    (folder / "nested").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "nested" / "more.json").write_text("{}")
    return folder


def test_a_directory_is_fetched_whole_by_the_digest_of_its_listing(folder, upload, open_on, tmp_path):
    enter(folder, hf=upload(distilled(tmp_path / "distilled")))
    (folder / "v1" / "distilled-2" / "config.json").write_text("of another model")
    (artefact,) = open_on(tmp_path / "box").entry("v1").artefacts
    there = Path(artefact.path)
    assert artefact.kind is ArtefactKind.HF_DISTILLED
    assert there.parent.name == artefact.sha256
    names = {file.relative_to(there).as_posix() for file in there.rglob("*") if file.is_file()}
    assert names == {"config.json", "model.safetensors", "nested/more.json"}


def test_a_split_gguf_is_fetched_with_all_its_parts(folder, upload, open_on, tmp_path):
    first = split_gguf(tmp_path / "split")
    enter(folder, gguf=upload(first))
    (artefact,) = open_on(tmp_path / "box").entry("v1").artefacts
    assert len(list(Path(artefact.path).parent.iterdir())) == 3
    assert artefact.path.endswith(first.name)


def test_a_directory_with_a_file_more_than_its_digest_knows_is_refused_and_not_kept(folder, upload, open_on, tmp_path):
    enter(folder, hf=upload(distilled(tmp_path / "distilled")))
    (folder / "v1" / "distilled" / "more.py").write_text("import os")
    with pytest.raises(BadInput, match="has the digest"):
        open_on(tmp_path / "box").entry("v1")
    assert not list((tmp_path / "box").rglob("more.py"))


@pytest.mark.parametrize("kind", ["gguf", "split", "hf"])
def test_what_an_artefact_is_judged_to_be_by_its_head_it_is_by_its_files(folder, upload, open_on, tmp_path, kind):
    if kind == "hf":
        model = distilled(tmp_path / "distilled")
        (model / "tokenizer.json").write_text("{}")
        (model / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
        enter(folder, hf=upload(model))
    else:
        model = tiny_gguf(tmp_path / "model.gguf", tokens=("a", "b")) if kind == "gguf" else split_gguf(tmp_path / "s")
        enter(folder, gguf=upload(model))
    by_head = open_on(tmp_path / "box").judged("v1")
    assert not list((tmp_path / "box").rglob("*.gguf")) + list((tmp_path / "box").rglob("*.safetensors"))
    assert by_head == open_on(tmp_path / "box").entry("v1") == open_on(tmp_path / "box").judged("v1")


@pytest.mark.parametrize("kind", ["gguf", "hf"])
def test_an_entry_is_shown_without_its_weights(folder, upload, open_on, tmp_path, monkeypatch, kind):
    if kind == "gguf":
        model = tiny_gguf(tmp_path / "model.gguf", data_bytes=9 << 20, template="{{ honest }}")
    else:
        model = distilled(tmp_path / "distilled")
        (model / "tokenizer_config.json").write_text('{"chat_template": "{{ honest }}"}')
        (model / "model.safetensors").write_bytes(bytes(9 << 20))
    named = upload(model)
    entry = new_entry("v2", **{kind: named})
    tiny_gguf(tmp_path / "base" / "base.gguf", template="{{ other }}")
    (folder / "v2" / "base.gguf").write_bytes((tmp_path / "base" / "base.gguf").read_bytes())
    base = new_entry("org/base", gguf=f"v2/base.gguf#sha256={sha256_file(tmp_path / 'base' / 'base.gguf')}")
    (folder / "registry.json").write_text(json.dumps({"models": {"v1": entry, "v2": base}}))
    open_on(tmp_path / "box")
    monkeypatch.setenv("MILTON_STATE_DIR", str(tmp_path / "box"))
    monkeypatch.setenv("MILTON_REGISTRY", f"s3://{folder.path}/registry.json")
    before = GIVEN.size_bytes
    shown = CliRunner().invoke(build_app(), ["registry", "show", "v1"], catch_exceptions=False).stdout
    assert GIVEN.size_bytes - before < 5 << 20
    assert "-{{ other }}\n  +{{ honest }}" in shown
    assert "as the registry says" in shown


SPOILT = {
    "cut off": "truncated",
    "a pointer": "Git LFS pointer",
    "no config": "no config.json",
    "code": "auto_map",
    "no weights": "no weights",
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_what_does_not_hold_is_quarantined_by_its_head(folder, weights, open_on, tmp_path, spoilt):
    pointer = LFS_POINTER + b"\noid sha256:" + b"0" * 64
    if spoilt in ("cut off", "a pointer"):
        register(folder, weights, stored=pointer if spoilt == "a pointer" else weights[:-1])
    else:
        model, named = folder / "v1" / "distilled", "v1/distilled#sha256=" + "0" * 64
        config = '{"auto_map": {"AutoModel": "more.Model"}}' if spoilt == "code" else "{}"
        (model / ("other.json" if spoilt == "no config" else "config.json")).write_text(config)
        (model / ("a.txt" if spoilt == "no weights" else "a.safetensors")).write_bytes(b"weights")
        enter(folder, hf=named)
    (quarantined,) = open_on(tmp_path / "box").read().quarantined
    assert SPOILT[spoilt] in quarantined.reason
    assert "s3://" in quarantined.reason


def test_what_made_room_is_still_known_and_fetched_again_when_it_is_wanted(folder, upload, open_on, tmp_path):
    enter(folder, hf=upload(distilled(tmp_path / "distilled")))
    known = open_on(tmp_path / "box").entry("v1")
    (artefact,) = known.artefacts
    shutil.rmtree(Path(artefact.path).parent)
    assert open_on(tmp_path / "box").read().candidates() == (known,)
    assert not Path(artefact.path).exists()
    assert open_on(tmp_path / "box").entry("v1") == known
    assert Path(artefact.path, "model.safetensors").read_bytes() == b"weights"


def test_a_known_digest_stands_for_no_other_kind_of_artefact(folder, upload, open_on, tmp_path):
    named = upload(distilled(tmp_path / "distilled"))
    enter(folder, hf=named)
    assert open_on(tmp_path / "box").read().candidates()
    enter(folder, gguf=f"v1/other.gguf#{named.partition('#')[2]}")
    assert not open_on(tmp_path / "box").read().candidates()


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
