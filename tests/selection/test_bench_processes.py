"""A bench on every core leaves no process behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(what: object, *, seconds: float = 60.0) -> None:
    assert callable(what)
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_bench_that_is_ended_leaves_no_process_behind(number: signal.Signals) -> None:
    bench = subprocess.Popen(
        [sys.executable, "-m", "benches.selection.chains", "--table", "chains"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    try:
        until(lambda: len(children(bench.pid)) == len(os.sched_getaffinity(0)))
        workers = children(bench.pid)
        bench.send_signal(number)
        assert bench.wait(20) == -number
        until(lambda: not any(map(runs, workers)))
    finally:
        bench.kill()
        bench.wait()
