"""A release to several devices of a class: one run a wave, asked for by the sensors, and the same by the conductor."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from dagster import (
    AssetKey,
    DagsterRunStatus,
    RunsFilter,
)

from milton_assets.definitions import build_defs
from milton_assets.edge.bundle.keys import init_keys
from milton_assets.edge.deployment import DevicePolicy
from milton_assets.rollout.states import Phase, Rollout, Stage
from milton_assets.selection.summary import read_summary
from milton_assets.settings import load_settings
from milton_assets.usecases import rollouts
from milton_assets.usecases.compose import targets_of
from milton_assets.usecases.rollouts import Reach, Wanted, plan_rollout, reach_of, rollout_of
from tests.support.edge_bundles import make_bundle
from tests.support.workplace import Workplace, competent, failure_of

pytestmark = pytest.mark.slow
NAMES = ("attic", "bath", "cellar")
ROOT = Path(__file__).resolve().parents[2]


def name_targets(wp: Workplace, folder: Path, *names: str) -> None:
    """Name these targets in milton.yaml, and load the graph anew."""
    settings = {
        "targets": {name: str(folder / name) for name in names},
        "device_classes": {"local": {"rollout": {"waves": [1, 1, "rest"], "retries": 0}}},
    }
    wp.state.root.mkdir(parents=True, exist_ok=True)
    (wp.state.root / "milton.yaml").write_text(json.dumps(settings))
    environment = {"MILTON_STATE_DIR": str(wp.state.root), "MILTON_PROFILE": "smoke", "MILTON_POLICY": "smoke"}
    wp.defs = build_defs(
        environment=environment | {"MILTON_WATCH_MACHINE": "0"},
        overrides={key: wp.defs.resources[key] for key in ("model_server", "edge_runtime")},
    )


@pytest.fixture
def shop(wp: Workplace, tmp_path: Path) -> Workplace:
    """A workplace with three targets of the class `local`, whose rollouts have the waves 1, 1 and the rest."""
    name_targets(wp, tmp_path / "devices", *NAMES)
    return wp


def reach(wp: Workplace) -> Reach:
    return reach_of(load_settings({"MILTON_STATE_DIR": str(wp.state.root)}))


def planned(wp: Workplace, version: str = "v1") -> None:
    """A rollout `spring` of a bundle that nobody decided on, unprobed, planned as the command line plans one."""
    wanted = Wanted(waves=("1", "rest"), retries=0, load_test=False, health_rounds=0)
    plan_rollout(reach(wp), "spring", make_bundle(wp.state.bundles, version), wanted, actor="ada")
    wp.instance.add_dynamic_partitions("rollouts", ["spring"])


def spring(wp: Workplace) -> Rollout:
    return rollout_of(wp.state, "spring")


def serving(wp: Workplace) -> Counter[str]:
    there = targets_of(load_settings({"MILTON_STATE_DIR": str(wp.state.root)})).all()
    return Counter(str(target.health().model_version) for target in there)


def asked(wp: Workplace, cursor: str | None = None) -> list[str | None]:
    """The rollouts of which the sensor asks for the next run."""
    return [request.partition_key for request in wp.ask("go_on_with_rollouts", cursor).run_requests or ()]


def asked_elsewhere(wp: Workplace) -> list[str | None]:
    """As `asked`, by a daemon whose host has not the rollouts' journals."""
    away = wp.state.rollouts.rename(wp.state.root / "on another host")
    try:
        return asked(wp)
    finally:
        away.rename(wp.state.rollouts)


def test_a_run_takes_one_wave_and_the_sensor_asks_for_the_next_until_it_is_done(shop: Workplace) -> None:
    planned(shop)
    shop.instance.add_dynamic_partitions("rollouts", ["no such/rollout", "unplanned"])  # by a hand in the UI
    assert asked(shop) == ["spring"]
    first = shop.run("roll_out", "spring")
    assert first.success, failure_of(first)
    assert (spring(shop).wave, spring(shop).begun, spring(shop).stage) == (1, 1, Stage.RUNNING)
    assert asked(shop) == ["spring"]
    second = shop.run("roll_out", "spring")
    assert (spring(shop).stage, serving(shop)) == (Stage.DONE, Counter(v1=3))
    assert asked(shop) == []
    (check,) = second.get_asset_check_evaluations()
    assert check.passed
    page = second.asset_materializations_for_node("rollout")[0].metadata["page"].value
    assert "v1 to 3 devices: done" in Path(str(page)).read_text()


def test_a_target_that_is_named_later_joins_the_wave_that_is_open(shop: Workplace, tmp_path: Path) -> None:
    planned(shop)
    assert shop.run("roll_out", "spring").success
    name_targets(shop, tmp_path / "devices", *NAMES, "den")
    assert shop.run("roll_out", "spring").success
    assert (spring(shop).stage, serving(shop)) == (Stage.DONE, Counter(v1=4))
    assert (spring(shop).devices["den"].wave, spring(shop).devices["den"].phase) == (1, Phase.STOOD)


def test_a_rollout_that_waits_for_a_person_fails_its_check_with_the_reason_and_is_not_asked_for(
    shop: Workplace,
) -> None:
    planned(shop)
    canary = spring(shop).order[0]
    keys = init_keys(shop.state.keys)
    target = targets_of(load_settings({"MILTON_STATE_DIR": str(shop.state.root)})).named(canary)
    target.guard(DevicePolicy(trusted_keys=(keys.public.read_text().strip(),)))  # type: ignore[attr-defined]
    done = shop.run("roll_out", "spring")
    assert done.success, failure_of(done)
    (check,) = done.get_asset_check_evaluations()
    assert not check.passed
    assert canary in str(check.metadata["failed"].value)
    assert "0 of 1 devices stood, 1 failed" in str(check.metadata["why"].value)
    assert asked(shop) == []
    assert "`milton rollout resume spring`" in failure_of(shop.run("roll_out", "spring"))
    state = rollouts.resume(reach(shop), "spring", actor="ada", open_next="its policy is a mistake")
    assert (state.stage, state.well) == (Stage.DONE, 2)


KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
from dagster import DagsterInstance
from milton_assets.definitions import build_defs

journal, events = Path(sys.argv[2]), int(sys.argv[3])

def watch():
    while len(journal.read_bytes().splitlines()) < events:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)

defs = build_defs()
threading.Thread(target=watch, daemon=True).start()
with DagsterInstance.local_temp(sys.argv[1], {"telemetry": {"enabled": False}}) as instance:
    defs.resolve_job_def("roll_out").execute_in_process(instance=instance, partition_key="spring")
"""


def test_a_run_that_was_killed_is_followed_by_another_and_no_device_is_told_twice(
    shop: Workplace, tmp_path: Path
) -> None:
    planned(shop)
    journal = shop.state.rollouts / "spring" / "journal.jsonl"
    began = 3  # planned, started, began
    command = [sys.executable, "-c", KILLED, str(tmp_path / "dagster"), str(journal), str(began)]
    environment = {"MILTON_STATE_DIR": str(shop.state.root), "PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    (run,) = shop.instance.get_runs(RunsFilter(job_name="roll_out"))
    assert not run.is_finished
    assert asked(shop) == []  # for all that the sensor knows it is under way
    shop.instance.report_run_failed(run)  # as Dagster's run monitoring does
    assert asked(shop) == []  # a run that failed is not followed at once
    while spring(shop).stage is Stage.RUNNING:
        assert shop.run("roll_out", "spring").success
    assert (spring(shop).stage, serving(shop)) == (Stage.DONE, Counter(v1=3))
    there = targets_of(load_settings({"MILTON_STATE_DIR": str(shop.state.root)}))
    assert {name: len(there.named(name).history()) for name in NAMES} == dict.fromkeys(NAMES, 1)


def test_the_daemons_way_deploys_a_decision_to_several_targets_by_a_rollout(shop: Workplace) -> None:
    shop.register("v1", competent())
    assert shop.run("benchmark_model", "v1").success
    run_id = "benchmark_20260101_000000"
    promoted = shop.run("promote", run_id)
    assert promoted.success
    (request,) = shop.ask("deploy_when_bundled").run_requests
    name = f"{run_id}-local"
    assert (request.job_name, request.partition_key) == ("roll_out", name)
    first = shop.run("roll_out", name, config=request.run_config)
    assert first.success, failure_of(first)
    assert (rollout_of(shop.state, name).begun, len(read_summary(shop.state.runs, run_id).deployments)) == (1, 1)
    for _ in range(2):
        assert asked(shop) == asked_elsewhere(shop) == [name]
        assert shop.run("roll_out", name).success
    assert asked(shop) == asked_elsewhere(shop) == []
    summary = read_summary(shop.state.runs, run_id)
    assert sorted(done.target for done in summary.deployments) == list(NAMES)
    assert serving(shop) == Counter(v1=3)
    page = shop.state.place(summary.report.path)
    link = f'<a href="../../rollouts/{name}/page.html">{name}</a>: v1 to 3 devices: done'
    assert link in page.read_text()
    assert (page.parent / f"../../rollouts/{name}/page.html").exists()
    noted = shop.instance.fetch_materializations(AssetKey("deployment"), limit=10).records
    assert sorted(str(record.partition_key) for record in noted) == list(NAMES)


def test_the_conductor_runs_a_wave_a_run_and_never_a_run_a_device(shop: Workplace) -> None:
    shop.register("v1", competent())
    result = shop.conduct()
    assert result.success, failure_of(result)
    summary = read_summary(shop.state.runs)
    jobs = Counter(run.job_name for run in shop.instance.get_runs())
    assert jobs == Counter(autobench=1, benchmark_model=1, promote=1, roll_out=3)
    assert {run.status for run in shop.instance.get_runs()} == {DagsterRunStatus.SUCCESS}
    state = rollout_of(shop.state, f"{summary.run_id}-local")
    assert (state.stage, {device.phase for device in state.each()}) == (Stage.DONE, {Phase.STOOD})
    assert sorted(done.target for done in summary.deployments) == list(NAMES)
    assert asked(shop) == []
