"""`milton demo` and `milton registry`, as a user runs them: in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRunStatus

from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.state import StateDir
from resources.registries.json_file import add_entries, new_entry
from tests.support.gguf_file import tiny_gguf

ROOT = Path(__file__).resolve().parents[2]
MILTON = Path(sys.executable).with_name("milton")


def milton(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MILTON, *arguments],
        env={**os.environ, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )


def told(*arguments: str | Path) -> Any:
    """The JSON that a successful command prints."""
    done = milton(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(*arguments: str | Path, code: int = 1) -> str:
    """What a command that exits with `code` says on standard error, with nothing on standard output."""
    done = milton(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return tiny_gguf(tmp_path / "m.gguf", quantization=2)


def test_without_a_registry_it_says_how_to_get_one(state: StateDir) -> None:
    assert "milton demo" in refused("registry", "list")
    assert not state.root.exists()


def test_a_model_is_added_listed_shown_and_retired(state: StateDir, gguf: Path) -> None:
    added = told("registry", "add", "--version", "v1", "--gguf", gguf, "--base-model", "org/m")
    assert (added["version"], added["artefacts"][0]["sha256"]) == ("v1", sha256_file(gguf))
    listed = told("registry", "list")
    assert [(each["version"], each["status"]) for each in listed["entries"]] == [("v1", "candidate")]
    shown = told("registry", "show", "v1")
    assert shown["content_sha256"] == added["content_sha256"]
    assert shown["gguf"] == {
        "version": 3,
        "architecture": "llama",
        "quantization": "Q4_0",
        "parameters": 64,
        "tensors": 1,
        "has_chat_template": True,
    }
    assert told("registry", "retire", "v1") == {"version": "v1", "status": "retired", "changed": True}
    assert told("registry", "retire", "v1")["changed"] is False
    assert told("registry", "list")["entries"][0]["status"] == "retired"


def test_people_get_text(state: StateDir, gguf: Path) -> None:
    added = milton("registry", "add", "--version", "v1", "--gguf", gguf, "--base-model", "org/[m]")
    assert "Registered v1" in added.stdout
    assert "copy" in added.stderr
    listed = milton("registry", "list").stdout
    assert all(word in listed for word in ("v1", "candidate", "org/[m]", "Q4_0, 0 MB"))
    shown = milton("registry", "show", "v1").stdout
    assert all(word in shown for word in ("org/[m]", sha256_file(gguf), "llama, Q4_0", "a chat template"))
    assert milton("registry", "retire", "v1").stdout == "Retired v1.\n"
    assert milton("registry", "retire", "v1").stdout == "v1 was retired already.\n"


def test_the_quarantined_are_listed_with_their_reasons(state: StateDir) -> None:
    add_entries(state.registry, {"v1": new_entry("m", gguf="models/gone.gguf")})
    listed = milton("registry", "list")
    assert listed.returncode == 0
    assert "quarantined v1: the GGUF" in listed.stdout
    assert told("registry", "list")["quarantined"][0]["version"] == "v1"
    assert "model v1 is quarantined: the GGUF" in refused("registry", "show", "v1")


def test_the_best_on_past_evidence_is_named(state: StateDir, gguf: Path) -> None:
    told("registry", "add", "--version", "v1", "--gguf", gguf, "--base-model", "m")
    assert told("registry", "list")["best"] is None
    decision = {"run_id": "benchmark_20260101_000000", "verdict": "promote", "winner": "v1"}
    state.runs.mkdir(parents=True)
    (state.runs / "benchmark_20260101_000000.json").write_text(json.dumps({"decision": decision}))
    assert told("registry", "list")["best"] == decision
    listed = milton("registry", "list").stdout
    assert "Best on past evidence: v1, promoted by benchmark_20260101_000000." in listed


def test_an_empty_registry_says_what_is_next(state: StateDir) -> None:
    add_entries(state.registry, {})
    assert "The registry is empty. Next: milton demo" in milton("registry", "list").stdout


@pytest.mark.parametrize("verb", ["show", "retire"])
def test_an_unknown_version_is_answered_with_those_there_are(state: StateDir, verb: str) -> None:
    add_entries(state.registry, {"v1": new_entry("m", gguf="x")})
    assert "one of v1" in refused("registry", verb, "v2")


def test_a_version_that_is_no_slug_or_taken_is_refused(state: StateDir, gguf: Path) -> None:
    arguments = ("registry", "add", "--gguf", gguf, "--base-model", "m")
    assert "is not a slug" in refused(*arguments, "--version", "../v")
    told(*arguments, "--version", "v1")
    assert "registered already" in refused(*arguments, "--version", "v1")


def test_adding_nothing_is_a_usage_error(state: StateDir) -> None:
    assert "give --gguf FILE" in refused("registry", "add", "--version", "v", "--base-model", "m", code=2)


def test_a_directory_without_gguf_is_shown_without_one(state: StateDir, tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf/config.json").write_text("{}")
    (tmp_path / "hf/model.safetensors").write_text("weights")
    told("registry", "add", "--version", "v1", "--hf", tmp_path / "hf", "--base-model", "m")
    assert told("registry", "show", "v1")["gguf"] is None
    assert "hf-distilled" in milton("registry", "show", "v1").stdout


def test_a_half_written_registry_is_a_clear_error_and_stays(state: StateDir, gguf: Path) -> None:
    state.registry.parent.mkdir(parents=True)
    state.registry.write_text('{"models": {"v1": {')
    for command in (
        ("registry", "list"),
        ("registry", "retire", "v1"),
        ("demo",),
        ("registry", "add", "--version", "v2", "--gguf", gguf, "--base-model", "m"),
    ):
        assert "half written" in refused(*command)
    assert state.registry.read_text() == '{"models": {"v1": {'


@pytest.mark.parametrize("verb", ["list", "show", "add", "retire"])
def test_every_verb_explains_itself_with_an_example(verb: str) -> None:
    explained = milton("registry", verb, "--help")
    assert explained.returncode == 0
    assert f"Example: milton registry {verb}" in explained.stdout


def test_the_demo_leaves_a_registry_that_holds_anything(state: StateDir, gguf: Path) -> None:
    told("registry", "add", "--version", "mine", "--gguf", gguf, "--base-model", "m")
    before = state.registry.read_bytes()
    done = milton("demo")
    assert done.returncode == 0
    assert "It holds: mine" in done.stdout
    assert told("demo") == {"registry": str(state.registry), "added": [], "already_there": ["mine"]}
    assert state.registry.read_bytes() == before


@pytest.mark.slow
@pytest.mark.real_model
def test_the_demo_fills_an_empty_registry_with_three_real_models(state: StateDir, requantised_gguf: Any) -> None:
    for quantization in ("Q8_0", "Q4_0"):
        requantised_gguf(quantization)
    done = milton("demo")
    assert done.returncode == 0, done.stderr
    assert "reused" in done.stderr
    listed = told("registry", "list")
    assert {each["artefacts"][0]["quantization"] for each in listed["entries"]} == {"Q4_1", "Q8_0", "Q4_0"}
    assert listed["quarantined"] == []


def test_many_models_are_a_line_each_and_foreign_text_stays_text(state: StateDir) -> None:
    models = {f"v{n}": new_entry("org/\x1b[2Jm[/bold]", gguf=f"models/{n}.gguf") for n in range(201)}
    for number in range(201):
        tiny_gguf(state.root / f"models/{number}.gguf")
    add_entries(state.registry, models)
    done = milton("registry", "list")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 202
    assert "\x1b" not in done.stdout
    assert r"org/\x1b[2Jm[/bold]" in done.stdout
    shown = milton("registry", "show", "v7").stdout
    assert "\x1b" not in shown
    assert r"org/\x1b[2Jm[/bold]" in shown


@pytest.mark.slow
def test_a_model_that_was_registered_just_now_is_one_that_dg_launches(state: StateDir, gguf: Path) -> None:
    home = told("env")["DAGSTER_HOME"]
    told("registry", "add", "--version", "v7", "--gguf", gguf, "--base-model", "org/m")
    command = [MILTON.with_name("dg"), "launch", "--job", "benchmark_model", "--partition", "v7"]
    environment = {**os.environ, "DAGSTER_HOME": home, "MILTON_DRY_RUN": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    with DagsterInstance.from_config(home) as instance:
        (run,) = instance.get_runs()
    assert (run.status, run.tags["dagster/partition"]) == (DagsterRunStatus.SUCCESS, "v7")
