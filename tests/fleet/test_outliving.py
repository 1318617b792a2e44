"""Whether a user's service manager keeps what a login starts: asked only where it stays, and never assumed."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

import pytest

from milton_assets.agent import outliving


@pytest.fixture
def lingering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This user lingers; the `systemd-run` that will be found."""
    (tmp_path / "linger").mkdir()
    (tmp_path / "linger" / getpass.getuser()).touch()
    monkeypatch.setattr(outliving, "_LINGERING", tmp_path / "linger")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    program = tmp_path / "systemd-run"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    return program


def test_nobody_is_asked_where_the_manager_would_end_with_the_login(lingering, tmp_path):
    (tmp_path / "linger" / getpass.getuser()).unlink()
    assert outliving.outliving() == ((), None)


def test_the_manager_of_a_user_who_lingers_takes_it(lingering):
    words, why_not = outliving.outliving()
    assert (*words[2:5], why_not) == ("systemd-run", "--user", "--scope", None)


def test_a_manager_that_does_not_take_it_is_named_with_what_it_said(lingering):
    lingering.write_text("#!/bin/sh\necho 'Failed to connect to bus: No medium found' >&2\nexit 1\n")
    assert outliving.outliving() == (
        (),
        "this user's service manager does not take it: Failed to connect to bus: No medium found",
    )
