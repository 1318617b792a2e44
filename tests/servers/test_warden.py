"""The warden by itself: exit statuses, and what makes it end what it guards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil
import pytest

from resources.servers import warden

SLEEP = (sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
)


@contextmanager
def guarded(
    *command: str, grace_s: float = 5.0, parent: int | None = None, limit_bytes: int = 0
) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [sys.executable, warden.__file__, str(parent or os.getpid()), str(grace_s), str(limit_bytes), *command]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as guard:
        yield guard


def up(guard: subprocess.Popen[bytes]) -> psutil.Process:
    """The guarded process, once it is running its program."""
    assert guard.stdout
    assert guard.stdout.readline() == b"up\n"
    (child,) = psutil.Process(guard.pid).children()
    return child


TALKATIVE = """
import sys, time
for number in range(48):
    print(f'line {number}'.ljust(1 << 20), flush=True)
print('up', flush=True)
time.sleep(600)
"""


def said_much(output: IO[bytes]) -> int:
    """The bytes on the disk of an output that a program wrote 48 MiB to, once it has, and the warden has looked."""
    command = [sys.executable, warden.__file__, str(os.getpid()), "5.0", "0", sys.executable, "-c", TALKATIVE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, start_new_session=True) as guard:
        until = time.monotonic() + 60
        while os.fstat(output.fileno()).st_size < 48 << 20 and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(2 * warden.OUTPUT_INTERVAL_S)
        assert guard.stdin
        guard.stdin.close()
    return os.fstat(output.fileno()).st_blocks * 512


def test_what_a_program_said_long_ago_is_forgotten_where_nobody_can_empty_it() -> None:
    with tempfile.TemporaryFile("ab+") as output:
        assert said_much(output) <= warden.MOST_OUTPUT_BYTES
        output.seek(-200, os.SEEK_END)
        assert output.read().endswith(b"up\n")


def test_a_log_that_has_a_name_is_kept_whole() -> None:
    with tempfile.NamedTemporaryFile("ab+") as output:
        assert said_much(output) >= 48 << 20


def test_the_programs_exit_status_is_its_own() -> None:
    with guarded(sys.executable, "-c", "import sys; sys.exit(7)") as guard:
        assert guard.wait(60) == 7


def test_a_program_ended_by_a_signal_gives_128_and_its_number() -> None:
    with guarded(*SLEEP) as guard:
        up(guard).send_signal(signal.SIGKILL)
        assert guard.wait(60) == 128 + signal.SIGKILL


GREEDY = """
import subprocess, sys, time
print('up', flush=True)
if sys.argv[1] == 'child':
    subprocess.run([sys.executable, '-c', sys.argv[2]])
held = [bytearray(b'x') * (1 << 20) for _ in range(400)]
time.sleep(600)
"""
HOLDS_MUCH = "import time; held = [bytearray(b'x') * (1 << 20) for _ in range(400)]; time.sleep(600)"


@pytest.mark.parametrize("who", ["itself", "child"])
def test_a_program_that_holds_too_much_memory_is_ended_and_it_says_so(who: str) -> None:
    with guarded(sys.executable, "-c", GREEDY, who, HOLDS_MUCH, grace_s=60.0, limit_bytes=200_000_000) as guard:
        up(guard)
        assert guard.wait(60) == warden.TOO_MUCH_MEMORY
        assert guard.stderr
        assert b"of memory, allowed are 0.2 GB" in guard.stderr.read()


def test_a_program_within_its_memory_is_left_alone(tmp_path: Path) -> None:
    mapped = tmp_path / "weights"
    mapped.write_bytes(b"w" * 300_000_000)
    reads = "import mmap, sys; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)"
    reads += "; n = sum(m[i] for i in range(0, len(m), 4096)); import time; time.sleep(1.0)"
    with guarded(sys.executable, "-c", reads, str(mapped), limit_bytes=200_000_000) as guard:
        assert guard.wait(60) == 0


def test_a_program_that_cannot_be_started_gives_127_and_why() -> None:
    with guarded("/no/such/program") as guard:
        assert guard.wait(60) == 127
        assert guard.stderr
        assert b"cannot start /no/such/program: No such file" in guard.stderr.read()


def test_closing_its_standard_input_ends_the_program() -> None:
    with guarded(*SLEEP) as guard:
        child = up(guard)
        assert guard.stdin
        guard.stdin.close()
        assert guard.wait(60) == 128 + signal.SIGTERM
        assert not child.is_running()


def test_words_on_its_standard_input_do_not() -> None:
    with guarded(*SLEEP) as guard:
        child = up(guard)
        assert guard.stdin
        guard.stdin.write(b"hello\n")
        guard.stdin.flush()
        time.sleep(0.2)
        assert child.is_running()
        guard.terminate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda s: s.name)
def test_a_signal_ends_the_program(number: signal.Signals) -> None:
    with guarded(*SLEEP) as guard:
        child = up(guard)
        guard.send_signal(number)
        assert guard.wait(60) == 128 + signal.SIGTERM
        assert not child.is_running()


def test_having_another_parent_than_it_was_told_ends_the_program() -> None:
    with guarded(*SLEEP, parent=1) as guard:
        assert guard.wait(60) == 128 + signal.SIGTERM


def test_a_program_that_ignores_the_signal_is_killed_after_the_grace() -> None:
    with guarded(*STUBBORN, grace_s=0.3) as guard:
        up(guard)
        began = time.monotonic()
        guard.terminate()
        assert guard.wait(60) == 128 + signal.SIGKILL
        assert time.monotonic() - began >= 0.3


def test_descendants_that_hide_are_ended() -> None:
    hide = (
        "import subprocess; from subprocess import DEVNULL; "
        f"hidden = subprocess.Popen({list(STUBBORN)!r}, stdout=DEVNULL, start_new_session=True); "
        "print(hidden.pid, flush=True)"
    )
    with guarded(sys.executable, "-c", hide) as guard:
        assert guard.stdout
        hidden = int(guard.stdout.readline())
        assert guard.wait(60) == 0
        assert not psutil.pid_exists(hidden)
