"""Adding to the registry and retiring from it: foreign fields untouched, all or nothing, one writer at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.locks import locked
from milton_assets.vocabulary.registry import RegistryMissing, RegistryUnreadable
from milton_assets.vocabulary.state import StateDir
from resources.registries import open_registry
from resources.registries.json_file import _editing, add_entries, new_entry, retire
from tests.support.gguf_file import tiny_gguf

FOREIGN = (
    '{"schema": 7, "models": {"z": {"status": "candidate", "b": 1, "a": [1.5, null, "é"], "run": NaN},\n'
    '  "bad": 3}, "owner": {"team": "x"}}'
)


def write(state: StateDir, text: str) -> None:
    state.registry.parent.mkdir(parents=True, exist_ok=True)
    state.registry.write_text(text)


def models(state: StateDir) -> dict[str, Any]:
    return json.loads(state.registry.read_text())["models"]


def order(value: Any) -> Any:
    """The value with objects as lists of pairs, so that their order counts, and NaN equal to itself."""
    if isinstance(value, dict):
        return [(key, order(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        return [order(inner) for inner in value]
    return repr(value)


def test_adding_makes_the_file_when_there_is_none(state: StateDir) -> None:
    entry = new_entry("m", gguf="models/x.gguf", extra={"note": 1})
    add_entries(state.registry, {"v1": entry})
    assert models(state) == {"v1": entry}


def test_foreign_fields_and_their_order_stay_as_they_were(state: StateDir) -> None:
    write(state, FOREIGN)
    add_entries(state.registry, {"new": new_entry("m", gguf="x.gguf")})
    document = json.loads(state.registry.read_text())
    added = document["models"].pop("new")
    assert added["base_model"] == "m"
    assert order(document) == order(json.loads(FOREIGN))
    assert "é" in state.registry.read_text()


def test_an_escaped_file_stays_escaped(state: StateDir) -> None:
    write(state, '{"models": {"a": {"name": "\\ud83d\\ude00 \\ud800"}}}')
    add_entries(state.registry, {"new": new_entry("m", gguf="x.gguf")})
    assert state.registry.read_text().isascii()
    assert models(state)["a"] == {"name": "\U0001f600 \ud800"}


def test_retiring_sets_the_status_and_nothing_else(state: StateDir) -> None:
    write(state, FOREIGN)
    assert retire(state.registry, "z") is True
    expected = json.loads(FOREIGN)
    expected["models"]["z"]["status"] = "retired"
    assert order(json.loads(state.registry.read_text())) == order(expected)


def test_retiring_twice_changes_nothing_more(state: StateDir) -> None:
    add_entries(state.registry, {"v1": new_entry("m", gguf="x.gguf")})
    retire(state.registry, "v1")
    before = state.registry.read_bytes(), state.registry.stat().st_ino
    assert retire(state.registry, "v1") is False
    assert (state.registry.read_bytes(), state.registry.stat().st_ino) == before


def test_a_version_that_is_taken_is_refused_also_when_quarantined(state: StateDir) -> None:
    write(state, FOREIGN)
    with pytest.raises(BadInput, match="bad is registered already"):
        add_entries(state.registry, {"new": new_entry("m", gguf="x.gguf"), "bad": new_entry("m", gguf="x.gguf")})
    assert state.registry.read_text() == FOREIGN


@pytest.mark.parametrize(
    ("version", "entry", "problem"),
    [
        ("../v", new_entry("m", gguf="x.gguf"), "is not a slug"),
        ("v", {"base_model": "m"}, "created_at: Field required"),
        ("v", {**new_entry("m", gguf="x.gguf"), "status": "best"}, "status"),
    ],
)
def test_what_would_be_quarantined_is_not_added(
    state: StateDir, version: str, entry: dict[str, Any], problem: str
) -> None:
    with pytest.raises(BadInput, match=problem):
        add_entries(state.registry, {version: entry})
    assert not state.registry.exists()


def test_what_is_not_there_cannot_be_retired(state: StateDir) -> None:
    with pytest.raises(RegistryMissing):
        retire(state.registry, "v")
    assert not state.registry.parent.exists()
    write(state, FOREIGN)
    with pytest.raises(BadInput, match="one of z, bad"):
        retire(state.registry, "v")
    with pytest.raises(BadInput, match="the entry of bad is a number"):
        retire(state.registry, "bad")
    assert state.registry.read_text() == FOREIGN


@pytest.mark.parametrize("raw", ['{"models": {"v1": {', "[]", '{"models": 3}', '{"models": {}, "models": {}}'])
def test_nothing_is_written_over_a_file_that_does_not_hold(state: StateDir, raw: str) -> None:
    write(state, raw)
    with pytest.raises(RegistryUnreadable):
        add_entries(state.registry, {"v": new_entry("m", gguf="x.gguf")})
    with pytest.raises(RegistryUnreadable):
        retire(state.registry, "v1")
    assert state.registry.read_text() == raw


def test_text_that_cannot_be_written_back_leaves_the_file(state: StateDir) -> None:
    raw = '{"models": {"é": "\\ud800"}}'
    write(state, raw)
    with pytest.raises(RegistryUnreadable, match="cannot be written back"):
        add_entries(state.registry, {"v": new_entry("m", gguf="x.gguf")})
    assert state.registry.read_text() == raw


def test_the_files_mode_is_kept(state: StateDir) -> None:
    write(state, '{"models": {}}')
    state.registry.chmod(0o660)
    add_entries(state.registry, {"v": new_entry("m", gguf="x.gguf")})
    assert state.registry.stat().st_mode & 0o777 == 0o660


def test_a_link_to_the_registry_stays_a_link(state: StateDir, tmp_path: Path) -> None:
    shared = tmp_path / "shared.json"
    shared.write_text('{"models": {}}')
    state.registry.parent.mkdir(parents=True)
    state.registry.symlink_to(shared)
    add_entries(state.registry, {"v": new_entry("m", gguf="x.gguf")})
    assert state.registry.is_symlink()
    assert "v" in json.loads(shared.read_text())["models"]


def test_no_half_written_file_is_left_beside_it(state: StateDir) -> None:
    add_entries(state.registry, {"v": new_entry("m", gguf="x.gguf")})
    retire(state.registry, "v")
    assert {path.name for path in state.registry.parent.iterdir()} == {"registry.json", ".registry.json.lock"}


def test_a_writer_waits_for_the_other_and_says_so_when_it_takes_too_long(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resources.registries.json_file.LOCK_TIMEOUT_S", 0.1)
    write(state, '{"models": {}}')
    with (
        locked(state.registry.with_name(".registry.json.lock")),
        pytest.raises(BadInput, match="locked by another process"),
    ):
        add_entries(state.registry, {"v": new_entry("m", gguf="x.gguf")})


def test_what_another_program_wrote_meanwhile_is_not_overwritten(state: StateDir) -> None:
    write(state, '{"models": {}}')
    theirs = '{"models": {"theirs": {}}}'
    with pytest.raises(BadInput, match="another program changed"), _editing(state.registry) as document:
        document["models"]["ours"] = {}
        write(state, theirs)
    assert state.registry.read_text() == theirs


@pytest.mark.slow
def test_writers_at_once_lose_nothing(state: StateDir) -> None:
    program = (
        "import sys; from pathlib import Path; from resources.registries.json_file import add_entries, new_entry\n"
        "for n in range(20): add_entries(Path(sys.argv[1]), {f'{sys.argv[2]}-{n}': new_entry('m', gguf='x.gguf')})"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(state.registry), name]) for name in ("a", "b", "c")]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(open_registry(None, state).read().quarantined) == 60


@pytest.mark.slow
def test_of_two_that_add_one_version_at_once_one_wins_and_the_other_is_told(state: StateDir, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from milton_assets.vocabulary.errors import BadInput\n"
        "from milton_assets.vocabulary.registry import NewModel; from milton_assets.vocabulary.state import StateDir\n"
        "from resources.registries import open_registry\n"
        "store = open_registry(None, StateDir(Path(sys.argv[1])))\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "try: store.add(NewModel(version='v1', base_model='m', gguf=Path(sys.argv[2])))\n"
        "except BadInput as error: sys.exit(str(error))"
    )
    files = [tmp_path / f"{name}.gguf" for name in ("a", "b")]
    for seed, file in enumerate(files):
        tiny_gguf(file, seed=seed)
    pipe = subprocess.PIPE
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(state.root), str(file)], stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        for file in files
    ]
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    told = [writer.communicate("go\n", timeout=60)[1] for writer in writers]
    assert sorted(writer.returncode for writer in writers) == [0, 1]
    won = next(file for file, writer in zip(files, writers, strict=True) if writer.returncode == 0)
    assert "v1" in "".join(told)
    (artefact,) = open_registry(None, state).entry("v1").artefacts
    assert artefact.sha256 == sha256_file(won)
