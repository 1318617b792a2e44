"""`milton rollout` and `milton fleet`, as a shell calls them, over several targets that milton.yaml names."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from milton_assets.vocabulary.state import StateDir
from tests.support.edge_bundles import make_bundle
from tests.support.shell import UNPROBED, begun, milton, told
from tests.support.targets import let_serve, targets_of

pytestmark = pytest.mark.slow
NAMES = ("attic", "bath", "cellar")


@pytest.fixture
def devices(state: StateDir, tmp_path: Path) -> Path:
    """Three targets that serve `v1`, and a bundle of `v2`."""
    lines = "".join(f"  {name}: {tmp_path / 'devices' / name}\n" for name in NAMES)
    state.root.mkdir(parents=True, exist_ok=True)
    (state.root / "milton.yaml").write_text(f"targets:\n{lines}")
    old = make_bundle(state.bundles, "v1")
    targets = targets_of(state, {name: str(tmp_path / "devices" / name) for name in NAMES})
    for name in NAMES:
        let_serve(targets.named(name), old)
    make_bundle(state.bundles, "v2", counter=2)
    return tmp_path / "devices"


def serving() -> list[str]:
    return [row["model_version"] for row in told("fleet")["targets"]]


def test_a_rollout_is_planned_shown_started_and_taken_back(devices: Path) -> None:
    shown = milton("rollout", "plan", "spring", *UNPROBED)
    assert shown.returncode == 0, shown.stderr
    assert "v2" in shown.stdout
    assert "wave 1 (1): at most 1 device" in shown.stdout
    assert "next: milton rollout start spring" in shown.stdout
    assert "wave 2 (rest): 0 begun; not open yet" in milton("rollout", "status", "spring").stdout
    assert serving() == ["v1"] * 3

    done = told("rollout", "start", "spring", "--actor", "ada")
    assert (done["stage"], done["evidence"]["stood"], done["exposed"]) == ("done", 3, 3)
    assert serving() == ["v2"] * 3
    assert "3 of 3 serve v2" in milton("fleet").stdout
    assert "the one device so far stood" in milton("rollout", "status", "spring").stdout

    taken = told("rollout", "abort", "spring", "--reason", "answers too long")
    assert (taken["stage"], taken["why"], taken["exposed"]) == ("aborted", "answers too long", 0)
    assert serving() == ["v1"] * 3


def test_a_fleet_is_watched_until_no_rollout_is_under_way(devices: Path) -> None:
    told("rollout", "plan", "spring", *UNPROBED)
    watching = subprocess.Popen(
        [Path(sys.executable).with_name("milton"), "fleet", "--live"], stdout=subprocess.PIPE, text=True
    )
    told("rollout", "start", "spring")
    said, _ = watching.communicate(timeout=60)
    assert watching.returncode == 0
    assert "3 of 3 serve v2" in said


def test_a_damaged_device_fails_with_its_reason_and_a_person_lets_it_go_on(devices: Path) -> None:
    plan = told("rollout", "plan", "spring", *UNPROBED, "--retries", "0")
    first = plan["members"][0]["name"]
    # The canary refuses unsigned bundles; its own journal says so.
    assert milton("keys", "init").returncode == 0
    told("device-policy", "init", "--target", first, "--min-health-rounds", "0")
    started = milton("rollout", "start", "spring", "--json")
    assert started.returncode == 1
    state = json.loads(started.stdout)
    assert (state["stage"], state["evidence"]["failed"]) == ("paused", 1)
    assert "milton rollout resume spring" in started.stderr
    listed = milton("fleet").stdout
    assert f"{first}" in listed
    assert "failed:" in listed
    resumed = milton("rollout", "resume", "spring", "--open", "it was given a policy by mistake", "--json")
    assert json.loads(resumed.stdout)["stage"] == "done"
    assert sorted(serving()) == ["v1", "v2", "v2"]


def test_what_cannot_be_done_is_said_with_what_can(devices: Path) -> None:
    assert "there is no rollout autumn" in milton("rollout", "start", "autumn").stderr
    assert "there is no target nowhere" in milton("rollout", "plan", "spring", "--target", "nowhere").stderr
    assert "`10x` is no wave" in milton("rollout", "plan", "spring", "--wave", "10x").stderr.replace("'", "`")
    told("rollout", "plan", "spring", *UNPROBED)
    assert "there is a rollout spring already" in milton("rollout", "plan", "spring", *UNPROBED).stderr
    resumed = milton("rollout", "resume", "spring")
    assert resumed.returncode == 1
    assert "milton rollout start spring" in resumed.stderr
    assert [one["stage"] for one in told("rollout", "status")] == ["planned"]
    paused = milton("rollout", "pause", "spring").stderr
    assert "the rollout spring is planned. expected: one that is running. next: `milton rollout start spring`" in paused
    told("rollout", "abort", "spring")
    for verb, expected in (("start", "one that was planned and has not started"), ("abort", "one that was not taken")):
        said = milton("rollout", verb, "spring").stderr
        assert f"the rollout spring is aborted: asked for. expected: {expected}" in said


def events_of(state: StateDir) -> int:
    return (state.rollouts / "spring" / "journal.jsonl").read_bytes().count(b"\n")


def test_a_controller_killed_after_every_event_of_its_journal_comes_to_the_same_end(
    state: StateDir, devices: Path
) -> None:
    told("rollout", "plan", "spring", *UNPROBED, "--target", "attic", "--target", "bath")
    verb, kills = "start", 0
    while True:
        before = events_of(state)
        process = begun("rollout", verb, "spring")
        while process.poll() is None and events_of(state) == before:
            time.sleep(0.002)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
        if told("rollout", "status", "spring")["stage"] == "done":
            break
        verb = "resume" if events_of(state) > 1 else "start"
        assert kills < 20
    assert kills >= 4
    assert serving() == ["v2", "v2", "v1"]
    for name in ("attic", "bath"):
        entries = [one for one in told("history", "--target", name) if one["model_version"] == "v2"]
        assert entries[-1]["outcome"] == "committed"
        assert told("status", "--target", name)[0]["problems"] == []
