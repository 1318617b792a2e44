"""Which kinds of model files work, and which are refused with what reason: each row of docs/compatibility.md."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from milton_assets.edge.bundle.source import find_source
from milton_assets.vocabulary.artefact_files import artefact_files
from milton_assets.vocabulary.digest import sha256_bytes, sha256_file, sha256_listing
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import Artefact, NewModel, RegistryEntry
from milton_assets.vocabulary.state import StateDir
from resources.registries import open_registry
from resources.registries.json_file import new_entry
from resources.servers.identity import digest_of
from tests.support.gguf_file import F32, STRING, UINT32, gguf_bytes, pair, split_gguf, tensor, tiny_gguf

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 5000000000\n"


def add(state: StateDir, allow_code: tuple[str, ...] = (), **model: Path) -> RegistryEntry:
    return open_registry(None, state, allow_code=allow_code).add(NewModel("v1", "org/base", **model))


def read_reason(state: StateDir, **declared: str) -> str:
    """Why the registry's reader sets aside an entry that names a path below the state folder."""
    state.registry.parent.mkdir(parents=True, exist_ok=True)
    state.registry.write_text(json.dumps({"models": {"v1": new_entry("m", **declared)}}))
    (set_aside,) = open_registry(None, state).read().quarantined
    return set_aside.reason


def kind_of_gguf(path: Path, kind: str | None, *, architecture: str = "llama", key: str | None = None) -> Path:
    pairs = [pair("general.architecture", STRING, architecture)]
    if kind is not None:
        pairs.append(pair("general.type", STRING, kind))
    if key is not None:
        pairs.append(pair(key, UINT32, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gguf_bytes(pairs, [tensor("blk.0.weight", (64,), F32, 0)], data=bytes(256)))
    return path


def hugging_face(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


# GGUF


def test_a_gguf_works_and_keeps_its_name(state: StateDir, tmp_path: Path) -> None:
    entry = add(state, gguf=tiny_gguf(tmp_path / "My model.Q4_0.gguf", quantization=2))
    assert Path(entry.artefacts[0].path).name == "My model.Q4_0.gguf"
    assert entry.artefacts[0].chat_template_sha256 == sha256_bytes(b"{{ messages }}")


def test_a_split_gguf_is_one_artefact_of_all_its_parts(state: StateDir, tmp_path: Path) -> None:
    first = split_gguf(tmp_path / "downloads", parts=3)
    artefact = add(state, gguf=first).artefacts[0]
    parts = sorted((tmp_path / "downloads").iterdir())
    assert artefact.sha256 == sha256_listing({part.name: sha256_file(part) for part in parts})
    assert artefact.size_bytes == sum(part.stat().st_size for part in parts)
    assert digest_of(Path(artefact.path)) == artefact.sha256
    assert [file.path for file in find_source(artefact).files] == [f"model/{part.name}" for part in parts]


def test_damage_to_a_later_part_changes_the_digest(state: StateDir, tmp_path: Path) -> None:
    first = split_gguf(tmp_path / "m", parts=2)
    artefact = add(state, gguf=first).artefacts[0]
    second = Path(artefact.path).with_name("model-00002-of-00002.gguf")
    second.write_bytes(second.read_bytes()[:-1] + b"!")
    assert digest_of(Path(artefact.path)) != artefact.sha256


def without_a_part(folder: Path) -> Path:
    first = split_gguf(folder, parts=3)
    first.with_name("model-00002-of-00003.gguf").unlink()
    return first


def part_two(folder: Path) -> Path:
    return split_gguf(folder, parts=2).with_name("model-00002-of-00002.gguf")


def renamed(folder: Path) -> Path:
    return split_gguf(folder, parts=2).rename(folder / "model.gguf")


def of_another_model(folder: Path) -> Path:
    first = split_gguf(folder, parts=2)
    shutil.copy(split_gguf(folder / "other", parts=3), first.with_name("model-00002-of-00002.gguf"))
    return first


def wrong_suffix(folder: Path) -> Path:
    return tiny_gguf(folder / "model.bin")


GGUFS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a split GGUF without a part": (
        without_a_part,
        r"there is no model-00002-of-00003\.gguf.*llama-gguf-split --merge",
    ),
    "the second part": (part_two, r"part 2 of 2.*first part"),
    "a part under another name": (renamed, r"part 1 of 2.*llama-gguf-split --merge"),
    "a part of another model": (of_another_model, r"part 1 of 3"),
    "an adapter": (lambda f: kind_of_gguf(f / "m.gguf", "adapter"), "merge the adapter"),
    "an adapter without a type": (lambda f: kind_of_gguf(f / "m.gguf", None, key="adapter.lora.alpha"), "merge"),
    "a projector": (lambda f: kind_of_gguf(f / "m.gguf", "mmproj"), "the projector belongs to"),
    "an older projector": (lambda f: kind_of_gguf(f / "m.gguf", None, architecture="clip"), "'mmproj'"),
    "an importance matrix": (lambda f: kind_of_gguf(f / "m.gguf", "imatrix"), "llama-quantize --imatrix"),
    "a GGUF that ends in .bin": (wrong_suffix, r"does not end in \.gguf"),
}


@pytest.mark.parametrize("kind", GGUFS)
def test_a_gguf_that_is_no_whole_model_is_refused_at_every_door(kind: str, state: StateDir, tmp_path: Path) -> None:
    make, why = GGUFS[kind]
    with pytest.raises(BadInput, match=why):
        add(state, gguf=make(tmp_path / "m"))
    assert not state.registry.exists()
    there = make(state.root / "models/mine")
    with pytest.raises(BadInput, match=why):
        raise BadInput(read_reason(state, gguf=str(there.relative_to(state.root))))
    with pytest.raises(BadInput):
        find_source(Artefact(kind="gguf", path=str(there), size_bytes=1, sha256="0" * 64))


# Hugging Face directories


def test_a_hugging_face_directory_works(state: StateDir, tmp_path: Path) -> None:
    assert add(state, hf=hugging_face(tmp_path / "hf")).artefacts[0].size_bytes > 0


def test_a_snapshot_of_the_hugging_face_cache_works(state: StateDir, tmp_path: Path) -> None:
    repository = tmp_path / "models--org--name"
    (repository / "blobs").mkdir(parents=True)
    (repository / "blobs/aa").write_text("{}")
    (repository / "blobs/bb").write_bytes(b"weights")
    snapshot = repository / "snapshots/0123"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").symlink_to("../../blobs/aa")
    (snapshot / "model.safetensors").symlink_to("../../blobs/bb")
    placed = Path(add(state, hf=snapshot).artefacts[0].path)
    assert (placed / "model.safetensors").read_bytes() == b"weights"
    assert not (placed / "model.safetensors").is_symlink()


def pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text(LFS)


def missing_shard(folder: Path) -> None:
    shards = {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))


def config_alone(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def dangling(folder: Path) -> None:
    (folder / "vocab.txt").symlink_to("../../blobs/cc")


def unfinished(folder: Path) -> None:
    (folder / "model-2.safetensors.incomplete").write_bytes(b"half")


def secret_link(folder: Path) -> None:
    key = folder.parent / "id_ed25519"
    key.write_text("PRIVATE KEY")
    (folder / "notes.txt").symlink_to(key)


def linked_folder(folder: Path) -> None:
    (folder / "more").symlink_to(folder.parent)


def pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def remote_code(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"auto_map": {"AutoModelForCausalLM": "modeling.Evil"}}))


DIRECTORIES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a Git LFS pointer": (pointer, r"Git LFS pointer.*git lfs pull"),
    "a missing shard": (missing_shard, r"names model-00002-of-00002\.safetensors, which is missing"),
    "config.json alone": (config_alone, "holds no weights"),
    "no config.json": (no_config, r"no config\.json"),
    "a dangling link": (dangling, "cc, which is missing"),
    "an unfinished download": (unfinished, r"model-2\.safetensors\.incomplete"),
    "a link to a private key": (secret_link, "out of the model"),
    "a link to a folder": (linked_folder, "link to a folder"),
    "pickled weights": (pickle, r"pytorch_model\.bin.*MILTON_ALLOW_MODEL_CODE"),
    "remote code": (remote_code, r"auto_map in config\.json.*MILTON_ALLOW_MODEL_CODE"),
}


@pytest.mark.parametrize("kind", DIRECTORIES)
def test_a_directory_that_is_no_whole_safe_model_is_refused_in_add_and_reader(
    kind: str, state: StateDir, tmp_path: Path
) -> None:
    spoil, why = DIRECTORIES[kind]
    folder = hugging_face(tmp_path / "hf")
    spoil(folder)
    with pytest.raises(BadInput, match=why):
        add(state, hf=folder)
    assert not state.registry.exists()
    assert not any(path.is_file() for path in state.root.rglob("*") if not path.name.endswith(".lock"))
    spoil(hugging_face(state.root / "models/mine"))
    with pytest.raises(BadInput, match=why):
        raise BadInput(read_reason(state, hf="models/mine"))


@pytest.mark.parametrize("spoil", [pickle, remote_code])
def test_code_is_accepted_for_the_version_that_is_named(
    spoil: Callable[[Path], None], state: StateDir, tmp_path: Path
) -> None:
    folder = hugging_face(tmp_path / "hf")
    spoil(folder)
    with pytest.raises(BadInput, match="MILTON_ALLOW_MODEL_CODE"):
        add(state, allow_code=("v2",), hf=folder)
    assert add(state, allow_code=("v1",), hf=folder).version == "v1"


# What a refusal leaves


def test_a_failed_add_does_not_spend_the_version(state: StateDir, tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        add(state, gguf=kind_of_gguf(tmp_path / "bad.gguf", "mmproj"))
    assert add(state, gguf=tiny_gguf(tmp_path / "good.gguf")).version == "v1"


def test_parts_are_found_through_links_by_the_name_of_the_link(tmp_path: Path) -> None:
    blobs = split_gguf(tmp_path / "blobs", parts=2)
    snapshot = tmp_path / "snapshots/1"
    snapshot.mkdir(parents=True)
    for number, blob in enumerate(sorted(blobs.parent.iterdir()), 1):
        (snapshot / f"m-{number:05}-of-00002.gguf").symlink_to(blob.rename(blob.with_name(f"{number}")))
    assert list(artefact_files(snapshot / "m-00001-of-00002.gguf")) == [
        "m-00001-of-00002.gguf",
        "m-00002-of-00002.gguf",
    ]
