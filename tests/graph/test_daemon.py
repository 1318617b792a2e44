"""The daemon's way, through a real daemon on SQLite: from the registry to a device with nobody's help."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from milton_assets.cli.environment import install_dagster_yaml
from milton_assets.selection.summary import read_summary
from tests.support.processes import left_behind
from tests.support.workplace import competent

ROOT = Path(__file__).resolve().parents[2]
DAEMON = Path(sys.executable).with_name("dagster-daemon")
DEADLINE_S = 500.0
pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(700)]


def test_a_registered_model_goes_from_the_sensor_to_a_deployment(wp, tmp_path):
    install_dagster_yaml(wp.state.dagster)
    wp.register("v1", competent())
    environment = {
        "PATH": f"{DAEMON.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "DAGSTER_HOME": str(wp.state.dagster),
        "MILTON_STATE_DIR": str(wp.state.root),
        "MILTON_WATCH_MACHINE": "0",
        "MILTON_PROFILE": "smoke",
        "MILTON_POLICY": "smoke",
        "SCRIPTED_SERVER": wp.server.base_url,
        **{k: v for k, v in os.environ.items() if k.startswith("COV")},
    }
    log = tmp_path / "daemon.log"
    current = wp.state.deployments / "local" / "current"
    with log.open("wb") as out:
        command = [DAEMON, "run", "-m", "tests.support.served_module", "-d", str(ROOT)]
        daemon = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
        try:
            deadline = time.monotonic() + DEADLINE_S
            while not (current.exists() and read_summary(wp.state.runs).deployments):
                assert daemon.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                time.sleep(1)
        finally:
            os.killpg(daemon.pid, signal.SIGINT)
            daemon.wait(60)
    summary = read_summary(wp.state.runs)
    assert summary.decision.winner == "v1"
    assert [told.target for told in summary.deployments] == ["local"]
    traced = subprocess.run([DAEMON.with_name("milton"), "trace"], env=environment, capture_output=True, text=True)
    assert traced.returncode == 0, traced.stdout + traced.stderr
    assert left_behind(str(wp.state.root)) == []
