"""Files: old or new, never half; one holder of a lock; no path leaves its folder."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.files import entries, fsync_dir, inside, write_atomic
from milton_assets.vocabulary.locks import locked


@pytest.mark.parametrize(("data", "raw"), [("é", "é".encode()), (b"\0\xff", b"\0\xff"), ("", b"")])
def test_text_and_bytes_are_written_as_they_are(tmp_path: Path, data: str | bytes, raw: bytes) -> None:
    path = tmp_path / "new/folder/file"
    write_atomic(path, data)
    assert path.read_bytes() == raw


def test_a_folder_that_cannot_be_listed_is_not_an_empty_one(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).touch()
    assert [path.name for path in entries(tmp_path)] == ["a", "b"]
    assert entries(tmp_path / "absent") == []
    with pytest.raises(NotADirectoryError):
        entries(tmp_path / "a")


def test_writing_again_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    for text in ("old", "new"):
        write_atomic(tmp_path / "file", text)
    assert (tmp_path / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()  # a folder cannot be replaced by a file
    (tmp_path / "file/kept").touch()
    with pytest.raises(IsADirectoryError):
        write_atomic(tmp_path / "file", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file/kept").exists()


def test_no_space_left_leaves_the_old_file() -> None:
    # A file system of its own needs rights; a limit on file size fails a write in the same place.
    program = (
        "import resource, signal, sys, tempfile; from pathlib import Path\n"
        "from milton_assets.vocabulary.files import write_atomic\n"
        "folder = Path(tempfile.mkdtemp()); write_atomic(folder / 'f', 'old')\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "try: write_atomic(folder / 'f', 'n' * 100)\n"
        "except OSError as error: print(error.errno, (folder / 'f').read_text(), len(list(folder.iterdir())))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert told.stdout.split() == [str(errno.EFBIG), "old", "1"]


def write_in_turns(path: Path) -> None:
    letter = 0
    while True:
        letter = 1 - letter
        write_atomic(path, b"ab"[letter : letter + 1] * 300_000)


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for delay_ms in range(0, 60, 5):
        writer = multiprocessing.get_context("fork").Process(target=write_in_turns, args=(path,))
        writer.start()
        deadline = time.monotonic() + 30
        while not path.exists():
            assert time.monotonic() < deadline
        time.sleep(delay_ms / 1000)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        content = path.read_bytes()
        assert len(content) == 300_000
        assert len(set(content)) == 1


def test_a_lock_keeps_others_out_until_it_is_let_go(tmp_path: Path) -> None:
    lock = tmp_path / "folder/lock"
    with (
        locked(lock),
        pytest.raises(BadInput, match=r"locked by another process for 0\.05 s"),
        locked(lock, timeout_s=0.05),
    ):
        pass
    with locked(lock, timeout_s=0):
        pass
    assert lock.exists()


def test_a_lock_is_let_go_when_its_holder_dies(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from milton_assets.vocabulary.locks import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "lock")], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    holder.kill()
    holder.wait()
    with locked(tmp_path / "lock", timeout_s=5):
        pass
    holder.stdout.close()


def test_syncing_what_is_no_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        fsync_dir(tmp_path / "file")


@pytest.mark.parametrize("relative", ["a", "a/../b", ".", "", "a/./b", "...", "a/..b"])
def test_a_path_inside_is_returned_resolved(tmp_path: Path, relative: str) -> None:
    assert inside(tmp_path, relative) == (tmp_path / relative).resolve()


@pytest.mark.parametrize("relative", ["..", "../x", "a/../../x", "/etc/passwd", "/", "a\0b"])
def test_a_path_outside_is_refused(tmp_path: Path, relative: str) -> None:
    with pytest.raises(BadInput, match=r"leaves its folder|leads nowhere"):
        inside(tmp_path, relative)


def test_a_link_does_not_lead_outside(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path)
    with pytest.raises(BadInput, match="leaves its folder"):
        inside(folder, "out/x")


def test_a_sibling_that_shares_the_beginning_of_the_name_is_outside(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="leaves its folder"):
        inside(tmp_path / "state", "../state-of-others/x")


parts = st.lists(st.sampled_from(["..", ".", "", "a", "b", "/", "..a", "~"]) | st.text(max_size=5), max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts.map("/".join))
def test_no_path_leaves_its_folder(tmp_path: Path, relative: str) -> None:
    try:
        path = inside(tmp_path, relative)
    except BadInput:
        return
    assert path.is_relative_to(tmp_path)
