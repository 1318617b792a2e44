"""Locks: one holder, or any number of those who share; waiting ends when it should."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from milton_assets.vocabulary.locks import acquire, locked


@contextmanager
def opened(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "lock"
    found.touch()
    return found


def test_a_second_holder_is_refused_at_once(path: Path) -> None:
    with opened(path) as one, opened(path) as two:
        assert acquire(one, wait_s=0)
        began = time.monotonic()
        assert not acquire(two, wait_s=0)
        assert time.monotonic() - began < 1


def test_closing_the_file_lets_the_next_one_in(path: Path) -> None:
    with opened(path) as one:
        assert acquire(one, wait_s=0)
    with opened(path) as two:
        assert acquire(two, wait_s=0)


def test_those_who_share_hold_it_together_and_nobody_holds_it_alone(path: Path) -> None:
    with opened(path) as one, opened(path) as two, opened(path) as three:
        assert acquire(one, wait_s=0, shared=True)
        assert acquire(two, wait_s=0, shared=True)
        assert not acquire(three, wait_s=0)


def test_a_folder_can_be_locked(tmp_path: Path) -> None:
    with opened(tmp_path) as one, opened(tmp_path) as two:
        assert acquire(one, wait_s=0)
        assert not acquire(two, wait_s=0)


@pytest.mark.parametrize("wait_s", [None, 60.0])
def test_whoever_waits_gets_it_when_it_is_free(path: Path, wait_s: float | None) -> None:
    with opened(path) as two:
        one = os.open(path, os.O_RDONLY)
        assert acquire(one, wait_s=0)
        threading.Timer(0.2, os.close, [one]).start()
        assert acquire(two, wait_s=wait_s)


def test_the_lock_of_a_killed_process_is_free(path: Path) -> None:
    holding = "import sys, time; from pathlib import Path; from milton_assets.vocabulary.locks import locked\n"
    holding += "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", holding, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with opened(path) as handle:
            assert not acquire(handle, wait_s=0)
            holder.kill()
            assert acquire(handle, wait_s=60)


def test_the_folder_of_a_lock_file_is_made(tmp_path: Path) -> None:
    with locked(tmp_path / "new" / "lock"):
        assert (tmp_path / "new" / "lock").is_file()
