"""Reading the registry: entries judged alone, files that as a whole do not hold, digests that are remembered."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from milton_assets.vocabulary.digest import sha256_bytes, sha256_file, sha256_listing
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.progress import Progress
from milton_assets.vocabulary.registry import ArtefactKind, EntryStatus, Registry, RegistryMissing, RegistryUnreadable
from milton_assets.vocabulary.state import StateDir
from resources.registries import open_registry
from resources.registries.json_file import new_entry
from tests.support.gguf_file import gguf_bytes, tiny_gguf

WHEN = datetime(2026, 1, 11, 14, 25, tzinfo=UTC)
GGUF = "models/quantized/v1/model-q4_0.gguf"


def write(state: StateDir, content: Any) -> None:
    state.registry.parent.mkdir(parents=True, exist_ok=True)
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    state.registry.write_bytes(raw)


def read(state: StateDir, *, extra_roots: tuple[Path, ...] = (), **options: Any) -> Registry:
    return open_registry(None, state, artefact_roots=extra_roots).read(**options)


def entry(**changes: Any) -> dict[str, Any]:
    return {**new_entry("org/model", gguf=GGUF, created_at=WHEN), **changes}


@pytest.fixture
def reason(state: StateDir) -> Callable[[Any], str]:
    """Why an entry is quarantined, read beside a good one that must go on."""

    def _reason(content: Any, version: str = "bad") -> str:
        tiny_gguf(state.root / GGUF)
        write(state, {"models": {version: content, "good": entry()}})
        registry = read(state)
        assert set(registry.entries) == {"good"}
        (quarantined,) = registry.quarantined
        assert quarantined.version == version
        with pytest.raises(BadInput):
            open_registry(None, state).entry(version)
        return quarantined.reason

    return _reason


# What it reads


def test_an_entry_carries_what_the_registry_says_and_what_is_on_disk(state: StateDir) -> None:
    gguf = tiny_gguf(state.root / GGUF, quantization=2)
    raw = entry(trainer={"epochs": 3})
    write(state, {"models": {"v1": raw}})
    registry = read(state)
    found = registry.entries["v1"]
    assert (found.version, found.base_model, found.created_at, found.status) == (
        "v1",
        "org/model",
        WHEN,
        EntryStatus.CANDIDATE,
    )
    assert found.raw == raw
    artefact = found.artefact(ArtefactKind.GGUF)
    assert artefact.path == str(gguf)
    assert (artefact.size_bytes, artefact.sha256, artefact.quantization) == (
        gguf.stat().st_size,
        sha256_file(gguf),
        "Q4_0",
    )
    assert registry.sha256 == sha256_bytes(state.registry.read_bytes())
    assert registry.quarantined == registry.pending == ()
    assert open_registry(None, state).entry("v1") == found


def test_a_part_of_the_metrics_that_is_null_is_as_good_as_absent(state: StateDir) -> None:
    tiny_gguf(state.root / GGUF)
    raw = entry()
    raw["metrics"]["distillation"] = None
    write(state, {"models": {"v1": raw}})
    registry = read(state)
    assert registry.quarantined == ()
    assert [artefact.kind for artefact in registry.entries["v1"].artefacts] == [ArtefactKind.GGUF]


def test_a_directorys_digest_is_over_the_sorted_names_and_digests(state: StateDir) -> None:
    folder = state.root / "models/distilled/v1"
    (folder / "sub").mkdir(parents=True)
    for name, text in {"config.json": "{}", "model.safetensors": "weights", "sub/vocab.txt": "words"}.items():
        (folder / name).write_text(text)
    write(state, {"models": {"v1": new_entry("m", hf="models/distilled/v1", created_at=WHEN)}})
    artefact = read(state).entries["v1"].artefact(ArtefactKind.HF_DISTILLED)
    names = ["config.json", "model.safetensors", "sub/vocab.txt"]
    assert artefact.sha256 == sha256_listing({name: sha256_file(folder / name) for name in names})
    assert artefact.size_bytes == len("{}weightswords")


def test_an_entry_with_a_directory_alone_says_that_it_has_no_gguf(state: StateDir) -> None:
    folder = state.root / "models/distilled/v1"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_text("weights")
    write(state, {"models": {"v1": new_entry("m", hf="models/distilled/v1")}})
    with pytest.raises(BadInput, match="--artifact hf-distilled"):
        read(state).entries["v1"].artefact(ArtefactKind.GGUF)


def test_candidates_are_the_unretired_oldest_first(state: StateDir) -> None:
    tiny_gguf(state.root / GGUF)
    models = {
        "c": entry(created_at="2026-03-01T00:00:00Z"),
        "b": entry(created_at="2026-01-01T00:00:00+01:00"),
        "a": entry(created_at="2026-03-01T00:00:00Z"),
        "old": entry(status="retired"),
    }
    write(state, {"models": models})
    assert [each.version for each in read(state).candidates()] == ["b", "a", "c"]


def test_a_retired_entrys_files_may_be_gone(state: StateDir) -> None:
    write(state, {"models": {"old": entry(status="retired")}})
    registry = read(state)
    assert registry.entries["old"].artefacts == ()
    assert registry.quarantined == ()


def test_an_empty_registry_holds_nothing(state: StateDir) -> None:
    write(state, {"models": {}})
    assert read(state).entries == {}


def test_the_content_digest_follows_the_file_and_the_entry(state: StateDir) -> None:
    def content() -> str:
        write(state, {"models": {"v1": entry(**changes)}})
        return read(state).entries["v1"].content_sha256

    changes: dict[str, Any] = {}
    tiny_gguf(state.root / GGUF)
    first = content()
    assert content() == first
    tiny_gguf(state.root / GGUF, seed=1)
    second = content()
    changes = {"note": "again"}
    assert len({first, second, content()}) == 3


# What is quarantined


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([], "the entry is an array"),
        ("v1", "the entry is a string"),
        (None, "the entry is nothing"),
        (7, "the entry is a number"),
        ({}, "base_model: Field required"),
        (entry(base_model=""), "base_model: String should have at least 1 character"),
        (entry(base_model=3), "base_model: Input should be a valid string"),
        (entry(created_at="yesterday"), "created_at"),
        (entry(created_at="2026-01-11T14:25:00"), "created_at: Input should have timezone info"),
        (entry(status="done"), "status: Input should be 'candidate' or 'retired'"),
        (entry(metrics=[]), "metrics"),
        (entry(metrics={"compression": {"gguf_path": 4}}), "metrics.compression.gguf_path"),
        (entry(metrics={"compression": {"gguf_path": ""}}), "metrics.compression.gguf_path"),
        (entry(metrics={}), "the entry names no artefact"),
        (entry(metrics={"compression": {"gguf_path": "models/gone.gguf"}}), "gone.gguf is missing"),
        (entry(metrics={"compression": {"gguf_path": "models"}}), "models is a directory"),
        (entry(metrics={"compression": {"gguf_path": "../outside.gguf"}}), "leads to"),
        (entry(metrics={"compression": {"gguf_path": "/etc/hostname"}}), "leads to /etc/hostname"),
        (entry(metrics={"compression": {"gguf_path": "a\0b"}}), "holds a null character"),
        (entry(metrics={"compression": {"gguf_path": "x" * 300}}), "too long"),
        (entry(metrics={"distillation": {"model_path": "models/gone"}}), "gone is missing"),
        (entry(metrics={"distillation": {"model_path": GGUF}}), "is a file"),
        (entry(metrics={"distillation": {"model_path": "models"}}), "no config.json"),
        (entry(note="\ud800"), "a text holds half of a surrogate pair"),
    ],
)
def test_a_bad_entry_is_quarantined_with_its_reason_and_the_others_go_on(
    reason: Callable[..., str], content: Any, problem: str
) -> None:
    assert problem in reason(content)


@pytest.mark.parametrize("version", ["", "..", "a/b", ".hidden", "a..b", "naïve", "x" * 129, "a b", "-v"])
def test_a_key_that_is_no_slug_is_quarantined(reason: Callable[..., str], version: str) -> None:
    assert "is not a slug" in reason(entry(), version)


def test_a_key_of_half_a_character_is_quarantined_printably(state: StateDir) -> None:
    write(state, b'{"models": {"\\ud800": {}}}')
    (quarantined,) = read(state).quarantined
    assert quarantined.version == "\\ud800"
    quarantined.reason.encode()


def test_an_integer_that_no_double_holds_hurts_only_its_entry(reason: Callable[[Any], str]) -> None:
    found = reason(entry(trainer={"seed": 2**53 + 1}))
    assert found.startswith("the entry cannot be pinned by digest (the integer 9007199254740993 is more than")
    assert "next: write it as a string" in found


@pytest.mark.parametrize("number", ["1e999", "NaN", "-Infinity"])
def test_a_number_json_does_not_have_hurts_only_its_entry(state: StateDir, number: str) -> None:
    tiny_gguf(state.root / GGUF)
    text = json.dumps({"models": {"bad": entry(loss=0), "good": entry()}}).replace('"loss": 0', f'"loss": {number}')
    write(state, text.encode())
    registry = read(state)
    assert set(registry.entries) == {"good"}
    assert "cannot be pinned by digest" in registry.quarantined[0].reason


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "truncated at byte 0"),
        (tiny_gguf, "truncated"),
        (b"PK\3\4 a zip, not a model", "not b'GGUF'"),
        (gguf_bytes(), "holds no tensors"),
    ],
)
def test_a_gguf_that_does_not_parse_is_quarantined(
    state: StateDir, reason: Callable[..., str], data: Any, problem: str
) -> None:
    path = state.root / "models/bad.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(tiny_gguf(path).read_bytes()[:-1] if callable(data) else data)
    assert problem in reason(entry(metrics={"compression": {"gguf_path": "models/bad.gguf"}}))


def test_a_link_out_of_the_state_folder_is_quarantined(
    state: StateDir, tmp_path: Path, reason: Callable[..., str]
) -> None:
    outside = tiny_gguf(tmp_path / "outside.gguf")
    (state.root / "models").mkdir(parents=True)
    (state.root / "models/link.gguf").symlink_to(outside)
    assert f"leads to {outside}" in reason(entry(metrics={"compression": {"gguf_path": "models/link.gguf"}}))


def test_a_loop_of_links_is_quarantined(state: StateDir, reason: Callable[..., str]) -> None:
    (state.root / "models").mkdir(parents=True)
    (state.root / "models/loop").symlink_to("loop")
    assert reason(entry(metrics={"compression": {"gguf_path": "models/loop"}}))


def test_a_pipe_among_a_directorys_files_is_quarantined_without_waiting(
    state: StateDir, reason: Callable[..., str]
) -> None:
    folder = state.root / "models/distilled/v1"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    os.mkfifo(folder / "pipe")
    assert "no regular file" in reason(new_entry("m", hf="models/distilled/v1"))


def test_a_link_out_of_a_directory_is_quarantined(state: StateDir, tmp_path: Path, reason: Callable[..., str]) -> None:
    folder = state.root / "models/distilled/v1"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (tmp_path / "secret").write_text("key")
    (folder / "model.safetensors").symlink_to(tmp_path / "secret")
    assert "out of the model" in reason(new_entry("m", hf="models/distilled/v1"))


def test_a_directory_of_too_many_files_is_quarantined(
    state: StateDir, reason: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("milton_assets.vocabulary.artefact_files.MAX_DIRECTORY_FILES", 2)
    folder = state.root / "models/distilled/v1"
    folder.mkdir(parents=True)
    for name in ("config.json", "a", "b"):
        (folder / name).write_text("{}")
    assert "more than 2 files" in reason(new_entry("m", hf="models/distilled/v1"))


def test_a_deeply_nested_entry_hurts_only_itself(state: StateDir) -> None:
    tiny_gguf(state.root / GGUF)
    deep = "[" * 600 + "]" * 600
    text = json.dumps({"models": {"deep": entry(note=0), "good": entry()}}).replace('"note": 0', f'"note": {deep}')
    write(state, text.encode())
    assert "good" in read(state).entries


def test_a_file_outside_is_welcome_below_a_configured_root(state: StateDir, tmp_path: Path) -> None:
    store = tmp_path / "store"
    gguf = tiny_gguf(store / "m.gguf")
    write(state, {"models": {"v1": new_entry("m", gguf=str(gguf))}})
    roots = (store, Path("/srv/models"))
    assert read(state).quarantined
    assert read(state, extra_roots=roots).entries["v1"].artefacts[0].path == str(gguf)


def test_an_unknown_version_is_answered_with_those_there_are(state: StateDir) -> None:
    write(state, {"models": {"v1": {}, "v2": {}}})
    with pytest.raises(BadInput, match="one of v1, v2"):
        open_registry(None, state).entry("v3")


# Files that as a whole do not hold


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "is no JSON"),
        (b'{"models": {"v1": {"base_mo', "is no JSON"),
        (b"\xff\xfe\x00", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b'{"models": {"v1": {}, "v1": {}}}', "the key 'v1' appears twice"),
        (b'{"models": {"v1": {"a": 1, "a": 2}}}', "the key 'a' appears twice"),
        (b"[]", "holds an array"),
        (b"null", "holds nothing"),
        (b"{}", "holds models: nothing"),
        (b'{"models": []}', "holds models: an array"),
        (b'{"models": true}', "holds models: a boolean"),
    ],
)
def test_a_file_that_does_not_hold_is_a_clear_error_and_stays_as_it_is(
    state: StateDir, raw: bytes, problem: str
) -> None:
    write(state, raw)
    with pytest.raises(RegistryUnreadable, match=problem) as raised:
        read(state)
    assert str(state.registry) in str(raised.value)
    assert "left as it is" in str(raised.value)
    assert state.registry.read_bytes() == raw


def test_no_file_is_an_error_of_its_own_that_says_what_to_do(state: StateDir) -> None:
    with pytest.raises(RegistryMissing, match="milton demo"):
        read(state)


def test_a_directory_in_the_files_place_is_a_clear_error(state: StateDir) -> None:
    state.registry.mkdir(parents=True)
    with pytest.raises(RegistryUnreadable, match="cannot be read"):
        read(state)


def test_a_file_too_large_to_be_a_registry_is_not_taken_in(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resources.registries.json_file.MAX_REGISTRY_BYTES", 100)
    write(state, b" " * 101)
    with pytest.raises(RegistryUnreadable, match="larger than 100 bytes"):
        read(state)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
entry_fields = st.dictionaries(
    st.sampled_from(["base_model", "created_at", "status", "metrics", "x"]), json_values, max_size=4
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.dictionaries(st.text(max_size=12), json_values | entry_fields.map(lambda f: {**entry(), **f}), max_size=4))
def test_whatever_stands_in_it_each_entry_is_read_or_quarantined(state: StateDir, models: dict[str, Any]) -> None:
    tiny_gguf(state.root / GGUF)
    write(state, {"models": models})
    registry = read(state)
    assert len(registry.entries) + len(registry.quarantined) == len(models)
    assert all(each.reason for each in registry.quarantined)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,models1 ', max_size=60).map(str.encode))
def test_any_bytes_are_a_registry_or_a_clear_error(state: StateDir, raw: bytes) -> None:
    write(state, raw)
    try:
        read(state)
    except RegistryUnreadable:
        assert state.registry.read_bytes() == raw


# Digests that are remembered


@pytest.fixture
def settled(state: StateDir) -> Path:
    """A registered GGUF whose last change is long ago by every clock the cache looks at."""
    gguf = tiny_gguf(state.root / GGUF)
    write(state, {"models": {"v1": entry()}})
    os.utime(gguf, (1e9, 1e9))
    return gguf


def wait_until_settled(path: Path) -> None:
    time.sleep(max(0.0, path.stat().st_ctime + 2.05 - time.time()))


@pytest.mark.slow
def test_an_unchanged_file_is_not_hashed_again(state: StateDir, settled: Path) -> None:
    wait_until_settled(settled)
    first = read(state)
    remembered = json.loads(state.digest_cache.read_text())
    false_digest = "0" * 64
    remembered[state.tell(settled)]["sha256"] = false_digest
    state.digest_cache.write_text(json.dumps(remembered))
    assert first.entries["v1"].artefacts[0].sha256 == sha256_file(settled)
    assert read(state).entries["v1"].artefacts[0].sha256 == false_digest
    state.digest_cache.unlink()
    assert read(state).entries["v1"].artefacts[0].sha256 == sha256_file(settled)


@pytest.mark.slow
def test_a_file_changed_behind_an_old_date_is_hashed_again(state: StateDir, settled: Path) -> None:
    wait_until_settled(settled)
    read(state)
    tiny_gguf(settled, seed=9)
    os.utime(settled, (1e9, 1e9))
    assert read(state).entries["v1"].artefacts[0].sha256 == sha256_file(settled)


@pytest.mark.slow
def test_the_cache_forgets_files_that_are_gone(state: StateDir, settled: Path) -> None:
    other = tiny_gguf(state.root / "models/quantized/v2/model-q8_0.gguf")
    wait_until_settled(other)
    read(state)
    settled.unlink()
    write(state, {"models": {"v2": new_entry("m", gguf="models/quantized/v2/model-q8_0.gguf")}})
    read(state)
    assert list(json.loads(state.digest_cache.read_text())) == [state.tell(other)]


@pytest.mark.slow
def test_a_folder_that_was_moved_is_not_hashed_again(state: StateDir, settled: Path) -> None:
    wait_until_settled(settled)
    read(state)
    remembered = state.digest_cache.read_bytes()
    assert bytes(state.root) not in remembered
    moved = StateDir(state.root.rename(state.root.with_name("moved")))
    false = remembered.replace(sha256_file(moved.root / state.tell(settled)).encode(), b"0" * 64)
    moved.digest_cache.write_bytes(false)
    assert read(moved).entries["v1"].artefacts[0].sha256 == "0" * 64


def test_a_file_that_just_changed_is_hashed_but_not_remembered(state: StateDir) -> None:
    gguf = tiny_gguf(state.root / GGUF)
    write(state, {"models": {"v1": entry()}})
    assert read(state).entries["v1"].artefacts[0].sha256 == sha256_file(gguf)
    assert not state.digest_cache.exists()


@pytest.mark.parametrize("content", ["{", '{"a": 1}', "[]", '{"a": {"identity": {}, "sha256": "x"}}'])
def test_a_broken_cache_only_costs_time(state: StateDir, content: str, caplog: pytest.LogCaptureFixture) -> None:
    gguf = tiny_gguf(state.root / GGUF)
    write(state, {"models": {"v1": entry()}})
    state.digest_cache.parent.mkdir(parents=True)
    state.digest_cache.write_text(content)
    assert read(state).entries["v1"].artefacts[0].sha256 == sha256_file(gguf)
    assert "hashed again" in caplog.text


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_only_costs_time(
    state: StateDir, settled: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wait_until_settled(settled)
    state.cache.touch()  # a file in the folder's place
    assert read(state).entries["v1"].artefacts[0].sha256 == sha256_file(settled)
    assert "could not be remembered" in caplog.text


def test_of_a_large_file_it_is_said_that_it_is_hashed(state: StateDir) -> None:
    gguf = tiny_gguf(state.root / GGUF)
    os.truncate(gguf, 600_000_000)  # sparse: no space, and half a second of hashing
    write(state, {"models": {"v1": entry()}})
    steps: list[Progress] = []
    read(state, on_progress=steps.append)
    assert steps == [Progress("hash", 0, 600, f"MB of {gguf}, once")]


def test_a_file_that_changes_while_it_is_read_is_quarantined(state: StateDir) -> None:
    gguf = tiny_gguf(state.root / GGUF)
    os.truncate(gguf, 600_000_000)
    write(state, {"models": {"v1": entry()}})
    registry = read(state, on_progress=lambda _: os.truncate(gguf, 600_000_001))
    assert "changed while it was read" in registry.quarantined[0].reason


def test_out_of_time_the_rest_is_pending_and_the_first_still_gets_on(state: StateDir) -> None:
    for version in ("a", "b", "c"):
        tiny_gguf(state.root / f"models/{version}.gguf")
    write(state, {"models": {v: new_entry("m", gguf=f"models/{v}.gguf") for v in ("a", "b", "c")}})
    registry = read(state, hash_budget_s=0)
    assert (set(registry.entries), registry.pending) == ({"a"}, ("b", "c"))


@pytest.mark.slow
def test_repeated_readings_out_of_time_finish_in_the_end(state: StateDir) -> None:
    for version in ("a", "b"):
        tiny_gguf(state.root / f"models/{version}.gguf")
    wait_until_settled(state.root / "models/b.gguf")
    write(state, {"models": {v: new_entry("m", gguf=f"models/{v}.gguf") for v in ("a", "b")}})
    assert read(state, hash_budget_s=0).pending == ("b",)
    assert read(state, hash_budget_s=0).pending == ()
