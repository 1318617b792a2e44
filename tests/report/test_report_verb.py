"""`milton report`: where it writes, what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from milton_assets.vocabulary.digest import sha256_file
from milton_assets.vocabulary.state import StateDir
from tests.support.reported import case, decided, model
from tests.support.selection import RUN_ID


@pytest.fixture
def home(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path / "state")
    decided(state, [model("a", [case("c1", right=True)], cove=1.0), model("b", [case("c1", right=False)], cove=0.0)])
    return state


def milton(home: StateDir, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home.root), "MILTON_STATE_DIR": str(home.root)}
    program = Path(sys.executable).with_name("milton")
    return subprocess.run(
        [program, *words], cwd=home.root.parent, env=environment, capture_output=True, text=True, check=False
    )


def test_the_page_is_written_to_the_current_folder_and_told_with_its_digest(home: StateDir) -> None:
    done = milton(home, "report", "--json")
    told = json.loads(done.stdout)
    assert told["path"] == str(home.root.parent / f"{RUN_ID}.html")
    assert told["sha256"] == sha256_file(Path(told["path"]))


def test_markdown_goes_to_standard_output(home: StateDir) -> None:
    done = milton(home, "report", "--format", "md")
    assert done.returncode == 0 and done.stdout.startswith("## PROMOTE a")


def test_two_models_and_a_trend_are_pages_too(home: StateDir) -> None:
    both = milton(home, "report", "--compare", "a", "b", "--output", "both.html")
    assert "Flips against a" in (home.root.parent / "both.html").read_text(), both.stderr
    done = milton(home, "report", "--trend", "cove_pass_rate", "--format", "md")
    assert "| a |" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--compare", "a", RUN_ID), "are not of one kind"),
        (("--compare", "a", "c"), "c is no candidate"),
        (("--target", "local"), "nothing was ever deployed"),
        ((RUN_ID, "--target", "local"), "one of them"),
    ],
    ids=["model-and-run", "unknown-model", "no-target", "run-and-target"],
)
def test_what_cannot_be_told_is_refused(home: StateDir, words: tuple[str, ...], says: str) -> None:
    done = milton(home, "report", *words)
    assert done.returncode in {1, 2}
    assert says in " ".join(done.stderr.replace("│", " ").split())
