"""Whoever dies, and whenever: the device serves a whole release, and both sides tell the same of it once they meet.

The processes are real: the controller, the agent's session, the attempt, the target's guard. A reboot is all of the
device's processes killed at once, its disk as it was; killing the agent's session is what both sides see when the link
is cut. `MILTON_ALL_KILLS=6` kills each of them at each step six times, each time at another instant: 324 cases.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from milton_assets.edge.deployment.history import read_mirror
from milton_assets.edge.release import verify_release
from milton_assets.fleet.target import DeployRequest, RecoverRequest
from milton_assets.vocabulary.edge_target import EdgeTarget, mirror_file
from tests.support.agents import device
from tests.support.edge_bundles import make_bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
ROOT = Path(__file__).parents[2]
STEPS = (
    "offered",
    "started",
    "verified",
    "load_tested",
    "installed",
    "activating",
    "activated",
    "health_checked",
    "committed",
)
VICTIMS = ("controller", "agent", "attempt", "guard", "device", "all")
SOME = [
    ("offered", "device"),
    ("activating", "all"),
    ("activated", "controller"),
    ("health_checked", "device"),
    ("committed", "attempt"),
]
ROUNDS = int(os.environ.get("MILTON_ALL_KILLS", "0"))
CASES = [(*case, n) for case in itertools.product(STEPS, VICTIMS) for n in range(ROUNDS)] or [(*one, 0) for one in SOME]
LATEST_S = 0.3
ATTEMPT = "deploy_20260111_142500_000_abcdef"


def processes(home: Path) -> Iterator[tuple[int, str]]:
    """Process id and command line of all that run on the device whose HOME this is."""
    wanted = f"MILTON_STATE_DIR={home / 'state'}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name), (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()


def kill(victim: str, home: Path, controller: subprocess.Popen[bytes]) -> None:
    words = {"agent": " serve", "attempt": " attempt ", "guard": "deployment.guard", "device": "", "all": ""}
    if victim in {"controller", "all"}:
        controller.kill()
    if victim != "controller":
        for pid, command in list(processes(home)):
            if words[victim] in command:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def reached(step: str, home: Path) -> bool:
    if step == "offered":
        return any((home / "state" / "agent" / "kitchen" / "incoming").glob("*/model"))
    journal = home / "state" / "deployments" / "kitchen" / "journal.jsonl"
    lines = [line for line in journal.read_text(errors="replace").splitlines() if ATTEMPT in line]
    return any(f'"kind":"{step}"' in line for line in lines)


@pytest.mark.parametrize(
    ("step", "victim", "turn"), CASES, ids=[f"{victim} at {step} {turn}" for step, victim, turn in CASES]
)
def test_a_whole_release_is_served_and_both_sides_agree(tmp_path, step, victim, turn):
    kitchen, home = device(tmp_path, confirm_within_s=0.0), tmp_path / "device"
    first, second = (make_bundle(tmp_path / "b", f"v{n}", counter=n, weights=None) for n in (1, 2))
    kitchen.deploy(first, DeployRequest(actor="setup", health_rounds=0))
    command = [sys.executable, "-m", "tests.support.deploying_controller", tmp_path, second, ATTEMPT]
    controller = subprocess.Popen([str(part) for part in command], cwd=ROOT, start_new_session=True)
    until = time.monotonic() + 100
    while not reached(step, home) and controller.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.005)
    if turn:
        time.sleep(random.Random(f"{step} {victim} {turn}").uniform(0, LATEST_S))
    kill(victim, home, controller)
    controller.wait(timeout=180)
    # Whatever still works on the device ends by itself: nobody has to come.
    until = time.monotonic() + 60
    while any(" attempt " in command or "deployment.guard" in command for _, command in processes(home)):
        assert time.monotonic() < until
        time.sleep(0.1)

    current = (home / "state" / "deployments" / "kitchen" / "current").resolve()
    served = verify_release(current).require()
    assert served.model_version in {"v1", "v2"}

    kitchen.recover(RecoverRequest(actor="ada", wait_s=30))
    told = {one.id: one for one in kitchen.history()}
    status = kitchen.status()
    assert status.problems == ()
    assert status.active is not None
    ours = told.get(ATTEMPT)
    stands = ours is not None and ours.outcome == "committed"
    assert status.active.model_version == ("v2" if stands else "v1")
    assert ours is None or ours.outcome != "in_progress"
    if (tmp_path / "verdict.json").exists():
        verdict = json.loads((tmp_path / "verdict.json").read_text())
        assert "error" not in verdict or ours is None, verdict
        assert ours is None or verdict["outcome"] == ours.outcome
    mirrored = read_mirror(EdgeTarget("kitchen", Path("/"), mirror_file(kitchen.state, "kitchen"), kitchen.state))
    assert {one.id: (one.outcome, one.journal_sha256) for one in mirrored} == {
        one.id: (one.outcome, one.journal_sha256) for one in told.values()
    }
