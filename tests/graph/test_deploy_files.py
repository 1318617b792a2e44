"""What `deploy/` ships holds together: every variable is given, every queue has a worker, every command is there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml
from dagster import DagsterInstance

from milton_assets.settings import load_settings
from resources.celery_launcher import CeleryLauncher

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
SERVICES = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
HOSTS = {name: service for name, service in SERVICES.items() if "build" in service}


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_is_given_every_variable_that_dagster_yaml_names(name):
    wanted = set(re.findall(r"env: (\w+)", (DEPLOY / "dagster.yaml").read_text()))
    assert wanted <= HOSTS[name]["environment"].keys()


@pytest.mark.parametrize("name", HOSTS)
def test_a_hosts_command_is_installed(name):
    assert (Path(sys.executable).parent / HOSTS[name]["command"][0]).exists()


def test_every_queue_has_a_worker_and_every_worker_a_pool_of_its_own(tmp_path):
    (tmp_path / "milton.yaml").symlink_to(DEPLOY / "milton.yaml")
    queues = load_settings({"MILTON_STATE_DIR": str(tmp_path)}).queues
    workers = {name: host for name, host in HOSTS.items() if host["command"][0] == "celery"}
    assert {host["command"][host["command"].index("-Q") + 1] for host in workers.values()} == set(queues.values())
    assert len({host["environment"]["MILTON_ACCELERATOR_POOL"] for host in workers.values()}) == len(workers)


def test_the_launcher_and_what_becomes_of_lost_runs_are_as_the_file_says(tmp_path, monkeypatch):
    for name, value in HOSTS["daemon"]["environment"].items():
        monkeypatch.setenv(name, value)
    # Only the storage, which a Postgres has to be there for, is another.
    settings = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    storage = settings.pop("storage")
    assert storage["custom"]["config"]["postgres_db"]["scheme"] == "postgresql+psycopg2"
    with DagsterInstance.local_temp(str(tmp_path), settings) as instance:
        assert isinstance(instance.run_launcher, CeleryLauncher)
        assert instance.run_launcher.broker == "redis://redis:6379/0"
        assert (instance.run_retries_enabled, instance.run_retries_retry_on_asset_or_op_failure) == (True, False)
        assert instance.run_monitoring_max_resume_run_attempts == 0
