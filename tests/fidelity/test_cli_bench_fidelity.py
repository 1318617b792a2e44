"""`milton bench fidelity` as a user meets it: a subprocess against a server on a socket."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.forced_model import model, pages
from tests.support.gguf_file import tiny_gguf
from tests.support.scripted_server import ScriptedServer, scripted_server

EXIT_NO = 1
EXIT_USAGE = 2


def milton(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = "from milton_assets.cli.app import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, "bench", "fidelity", *arguments], capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def llama_cpp() -> Iterator[ScriptedServer]:
    """A server that says of itself that it is llama.cpp, and answers as one."""
    listed: dict[str, Any] = {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "llamacpp"}]}
    about = {"/v1/models": listed, "/props": {"total_slots": 1}}
    with scripted_server("unused", pages=about, posts=pages(model(1))) as server:
        yield server


def test_without_a_reference_perplexity_is_told_and_the_answer_is_no(llama_cpp: ScriptedServer) -> None:
    done = milton("--base-url", llama_cpp.base_url, "--model", "m", "--smoke", "--json")
    assert done.returncode == EXIT_NO, done.stderr
    said = json.loads(done.stdout)
    figures = {metric["name"]: metric for metric in said["metrics"]}
    assert figures["perplexity"]["status"] == "ok"
    assert figures["kl_to_reference"]["why"] == "no reference was given; --reference names one"
    assert len(said["samples"]) == figures["perplexity"]["n"] == 72
    assert "passages.jsonl" in said["provenance"]["goldens"]


def test_people_get_a_table_and_are_told_how_far_it_is(llama_cpp: ScriptedServer) -> None:
    done = milton("--base-url", llama_cpp.base_url, "--model", "m", "--smoke", "--places", "3")
    assert "perplexity" in done.stdout
    assert "fidelity 6/6" in done.stderr


def test_a_text_of_ones_own_is_read(llama_cpp: ScriptedServer, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("A passage of so many words as are looked at here.\n\nAnother passage of about as many words.\n")
    done = milton("--base-url", llama_cpp.base_url, "--model", "m", "--dataset", str(mine), "--json")
    rows = json.loads(done.stdout)["samples"]
    assert {row["passage_id"] for row in rows} == {"passage-000001", "passage-000002"}


def test_another_server_is_skipped_with_its_name() -> None:
    with scripted_server("unused", models=["m"]) as server:
        done = milton("--base-url", server.base_url, "--model", "m", "--json")
    assert done.returncode == EXIT_NO
    assert "does not tell what its model expects" in json.loads(done.stdout)["metrics"][0]["why"]


@pytest.mark.slow
@pytest.mark.real_model
def test_a_reference_is_served_beside_the_model(llama_cpp: ScriptedServer, small_gguf: Path) -> None:
    """The model reads words, and the real one tokens: they cannot be compared, which is said."""
    where = ("--base-url", llama_cpp.base_url, "--model", "m", "--smoke", "--json")
    done = milton(*where, "--reference", str(small_gguf))
    (why,) = {m["why"] for m in json.loads(done.stdout)["metrics"] if m["name"] == "kl_to_reference"}
    assert why.startswith("the tokenizers differ: passage tide-tables"), done.stderr


def test_a_model_is_not_held_against_its_own_weights(tmp_path: Path) -> None:
    gguf = tiny_gguf(tmp_path / "made.gguf")
    listed = {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "llamacpp"}]}
    about = {"/v1/models": listed, "/props": {"total_slots": 1, "model_path": str(gguf)}}
    with scripted_server("unused", pages=about, posts=pages(model(1))) as server:
        where = ("--base-url", server.base_url, "--model", "m", "--smoke", "--places", "1", "--json")
        done = milton(*where, "--reference", str(shutil.copy(gguf, tmp_path / "same.gguf")))
    assert done.returncode == EXIT_NO, done.stderr
    (why,) = {m["why"] for m in json.loads(done.stdout)["metrics"] if m["name"] == "kl_to_reference"}
    assert why == "same.gguf, the reference, has the same weights"


def test_a_reference_that_is_not_there_is_a_wrong_use() -> None:
    done = milton("--base-url", "http://127.0.0.1:9", "--model", "m", "--reference", "nowhere.gguf")
    assert done.returncode == EXIT_USAGE
