"""`make ui`: the web UI and the daemon come up, show the graph, and leave nothing behind on Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from resources.servers.process import free_port
from tests.support.processes import left_behind
from tests.support.workplace import Workplace, broken

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 150.0
QUERY = """{ repositoriesOrError { ... on RepositoryConnection { nodes {
  jobs { name runs(limit: 5) { runId repositoryOrigin { repositoryLocationName } } }
  sensors { name sensorState { status } } schedules { name } } } } }"""
pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(400)]


@pytest.fixture
def conducted(wp: Workplace, tmp_path: Path) -> Workplace:
    """The workplace of a campaign that was conducted before the UI came up, over a model that fails every call."""
    wp.register("v1", broken)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "MILTON_STATE_DIR": str(wp.state.root),
        "MILTON_WATCH_MACHINE": "0",
        "DAGSTER_MODULE_NAME": "tests.support.served_module",
        "MILTON_PROFILE": "smoke",
        "MILTON_POLICY": "smoke",
        "SCRIPTED_SERVER": wp.server.base_url,
    }
    milton = Path(sys.executable).with_name("milton")
    command = [milton, "autobench"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return wp


@pytest.fixture
def ui(conducted: Workplace, tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The UI's address and the process of `make ui`."""
    assert shutil.which("make"), "the suite needs make"
    port = free_port()
    log = (tmp_path / "ui.log").open("wb")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MILTON_STATE_DIR": str(conducted.state.root)}
    command = ["make", "-o", f"{sys.prefix}/.installed", f"VENV={sys.prefix}", f"PORT={port}", "ui"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        yield f"http://127.0.0.1:{port}", process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()


def graph_of(address: str) -> dict:
    """What the UI knows of the graph, as soon as it answers."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            answer = httpx.post(f"{address}/graphql", json={"query": QUERY}, timeout=30).json()
        except (httpx.TransportError, json.JSONDecodeError):  # not there yet, or not whole yet
            time.sleep(1)
            continue
        if nodes := ((answer.get("data") or {}).get("repositoriesOrError") or {}).get("nodes"):
            return nodes[0]
        time.sleep(1)
    pytest.fail(f"{address} did not answer within {DEADLINE_S} s")


def test_the_ui_shows_the_graph_and_earlier_campaigns_and_ctrl_c_ends_it(ui, wp):
    address, process = ui
    graph = graph_of(address)
    assert {"autobench", "benchmark_model", "promote", "deploy"} <= {job["name"] for job in graph["jobs"]}
    running = {s["name"] for s in graph["sensors"] if s["sensorState"]["status"] == "RUNNING"}
    assert {"registry_sensor", "promote_after_success", "deploy_when_bundled"} <= running
    assert [schedule["name"] for schedule in graph["schedules"]] == ["every_six_hours"]
    runs = {job["name"]: job["runs"] for job in graph["jobs"]}
    for job in ("autobench", "benchmark_model", "promote"):
        assert [run["repositoryOrigin"] for run in runs[job]] == [{"repositoryLocationName": "milton_assets"}]
    os.killpg(process.pid, signal.SIGINT)
    process.wait(60)
    assert left_behind(str(wp.state.root)) == []
