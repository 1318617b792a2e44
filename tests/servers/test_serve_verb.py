"""`milton serve` and `milton bench … --gguf`: the server that somebody who begins does not have yet."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from resources.servers.process import free_port
from tests.support import toy_server
from tests.support.gguf_file import tiny_gguf
from tests.support.shell import milton, told

CALL = "import sys; from milton_assets.cli.app import main; sys.argv[0] = 'milton'; main()"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder whose settings name the toy server as `llama-server`."""
    program = tmp_path / "llama-server"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {toy_server.__file__} "$@"\n')
    program.chmod(0o755)
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "milton.yaml").write_text(f"server: {{binary: {program}}}\n")
    return folder


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return tiny_gguf(tmp_path / "toy.gguf")


@contextmanager
def serving(state: Path, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", CALL, "serve", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"MILTON_STATE_DIR": str(state)},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_file_is_served_where_it_was_asked_for_until_ctrl_c(state: Path, toy: Path) -> None:
    port = free_port()
    with serving(state, "--gguf", toy, "--port", str(port), "--json") as process:
        at = json.loads(process.stdout.readline())  # type: ignore[union-attr]
        assert (at["base_url"], at["model"]) == (f"http://127.0.0.1:{port}", "toy")
        assert httpx.get(f"{at['base_url']}/v1/models", trust_env=False).json()["data"][0]["id"] == "toy"
        below = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in complaint) == (0, False)
    _, left = psutil.wait_procs(below, timeout=10)
    assert left == []


def test_a_registered_version_is_served_by_its_name(state: Path, toy: Path) -> None:
    told("registry", "add", "--version", "toy", "--base-model", "m", "--gguf", toy, MILTON_STATE_DIR=state)
    with serving(state, "toy", "--port", str(free_port())) as process:
        line = process.stdout.readline()  # type: ignore[union-attr]
    assert line.startswith("toy is served at http://127.0.0.1:")
    assert "Ctrl-C stops it" in line


def test_a_server_that_dies_is_told_with_its_last_words(state: Path, toy: Path) -> None:
    with serving(state, "--gguf", toy, "--port", str(free_port()), "--json") as process:
        at = json.loads(process.stdout.readline())  # type: ignore[union-attr]
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{at['base_url']}/crash", trust_env=False)
        _, complaint = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "out of patience" in complaint
    assert "Traceback" not in complaint


def test_a_port_that_is_taken_is_said_so(state: Path, toy: Path) -> None:
    with serving(state, "--gguf", toy, "--port", str(port := free_port())) as process:
        process.stdout.readline()  # type: ignore[union-attr]
        second = milton("serve", "--gguf", toy, "--port", str(port), MILTON_STATE_DIR=state)
    assert second.returncode == 1
    assert f"nothing can listen at 127.0.0.1:{port}" in second.stderr
    assert "choose another one" in second.stderr


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("serve",), "name a VERSION of the registry"),
        (("serve", "v1", "--gguf", "/x.gguf"), "name a VERSION of the registry"),
        (("bench", "inference"), "--base-url, or a file with --gguf"),
        (
            ("bench", "reasoning", "--base-url", "http://127.0.0.1:9", "--gguf", "/x"),
            "--base-url, or a file with --gguf",
        ),
        (("bench", "reasoning", "--base-url", "http://127.0.0.1:9"), "it needs --model"),
    ],
    ids=["nothing to serve", "two to serve", "nothing to measure", "two to measure", "a server without a model"],
)
def test_what_is_to_be_served_or_measured_is_named_once(state: Path, arguments: tuple[str, ...], found: str) -> None:
    done = milton(*arguments, MILTON_STATE_DIR=state, COLUMNS="200")
    assert (done.returncode, found in done.stderr) == (2, True), done.stderr


def test_a_file_that_is_no_model_is_refused_before_a_server_starts(state: Path, tmp_path: Path) -> None:
    (tmp_path / "page.gguf").write_text("<html>")
    done = milton("serve", "--gguf", tmp_path / "page.gguf", MILTON_STATE_DIR=state)
    assert (done.returncode, "GGUF" in done.stderr) == (1, True)
    assert "starting a server" not in done.stderr


@pytest.mark.slow
@pytest.mark.real_model
def test_a_file_is_measured_without_a_server_of_ones_own(tmp_path: Path, small_gguf: Path) -> None:
    options = ("--requests", "3", "--max-tokens", "8", "--json")
    done = milton("bench", "inference", "--gguf", small_gguf, *options, MILTON_STATE_DIR=tmp_path)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert (measured["requests"], measured["success_rate"]) == (3, 1.0)
    assert measured["fingerprint"]["server"]["launched_by_us"] is True
