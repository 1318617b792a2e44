"""What the operating system refuses is explained by every verb: what, where, and what to do next."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MILTON = Path(sys.executable).with_name("milton")


def milton(*words: str, state: Path, out: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(state.parent), "MILTON_STATE_DIR": str(state)}
    environment |= {k: v for k, v in os.environ.items() if k.startswith("COV")}
    command = [MILTON, *words]
    return subprocess.run(command, env=environment, stdout=out, stderr=subprocess.PIPE, text=True, check=False)


@pytest.fixture
def impossible(tmp_path: Path) -> Path:
    """A state folder that cannot be made, even by root: a file stands in its way."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "state"


@pytest.mark.parametrize("verb", [("env",), ("keys", "init"), ("config", "init")], ids=" ".join)
def test_a_folder_that_cannot_be_made_is_named_with_what_helps(impossible, verb):
    done = milton(*verb, state=impossible)
    assert done.returncode == 1
    assert done.stderr.startswith(f"milton: `milton {' '.join(verb)}` could not go on: Not a directory ({impossible}")
    assert "next: move the file away that stands where a folder is needed" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_campaign_explains_it_too(impossible, tmp_path):
    done = milton("autobench", state=impossible)
    assert done.returncode == 1
    assert "Not a directory" in done.stderr
    assert "next: move the file away" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", [("env", "--json"), ("config", "show")], ids=" ".join)
def test_an_answer_that_nothing_takes_is_said_to_be_lost(tmp_path, verb):
    with Path("/dev/full").open("w") as full:
        done = milton(*verb, state=tmp_path / "state", out=full.fileno())
    assert done.returncode == 1
    assert "could not be written: No space left on device (standard output)" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_reader_that_left_is_told_nothing(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    done = milton("config", "show", "--json", state=tmp_path / "state", out=writing)
    os.close(writing)
    assert done.returncode == 1
    assert done.stderr == ""
