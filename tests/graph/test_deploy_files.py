"""What `deploy/` ships holds together: every variable is given, every queue has a worker, every command is there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from dagster import DagsterInstance

from milton_assets.settings import load_settings
from resources.celery_launcher import CeleryLauncher
from tests.support import helm

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
SERVICES = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
COMPOSE = shutil.which("docker-compose")
WITHOUT_COMPOSE = pytest.mark.skipif(COMPOSE is None, reason="docker-compose is not installed")
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


@WITHOUT_COMPOSE
def test_docker_compose_takes_the_file_and_every_host_of_it():
    said = subprocess.run(
        [str(COMPOSE), "-f", DEPLOY / "compose.yaml", "config"], check=True, capture_output=True, timeout=60
    )
    assert yaml.safe_load(said.stdout)["services"].keys() == SERVICES.keys()


@pytest.fixture(scope="module")
def pods():
    """What helm makes of the chart, by name."""
    made = helm.rendered(DEPLOY / "helm")
    for document in made:
        helm.check(document)
    return {f"{document['kind']} {document['metadata']['name']}": document for document in made}


def container(pods, name):
    """The one container of that workload, its environment by name."""
    (only,) = pods[name]["spec"]["template"]["spec"]["containers"]
    return {**only, "env": {variable["name"]: variable for variable in only["env"]}}


def test_helm_finds_nothing_wrong_with_the_chart():
    assert "0 chart(s) failed" in helm.helm("lint", "--strict", DEPLOY / "helm")


def test_a_document_that_kubernetes_would_refuse_is_refused(pods):
    wrong = {**pods["Deployment milton-daemon"], "spec": {"replica": 1}}
    with pytest.raises(jsonschema.ValidationError):
        helm.check(wrong)


def test_every_pod_is_given_every_variable_and_runs_a_command_that_is_installed(pods):
    wanted = set(re.findall(r"env: (\w+)", (DEPLOY / "dagster.yaml").read_text()))
    hosts = [name for name in pods if name.startswith(("Deployment", "StatefulSet"))]
    assert len(hosts) == 4
    for name in hosts:
        told = container(pods, name)
        assert wanted <= told["env"].keys()
        assert (Path(sys.executable).parent / told["command"][0]).exists()


def test_every_queue_of_the_chart_has_a_worker_and_every_pod_a_pool_of_its_own(pods, tmp_path):
    (tmp_path / "milton.yaml").write_text(pods["ConfigMap milton-settings"]["data"]["milton.yaml"])
    queues = load_settings({"MILTON_STATE_DIR": str(tmp_path)}).queues
    workers = [container(pods, name) for name in pods if name.startswith("StatefulSet")]
    listens = {told["command"][told["command"].index("-Q") + 1] for told in workers}
    assert listens == set(queues.values())
    for told in workers:
        assert told["env"]["HOST"]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
        assert told["env"]["MILTON_ACCELERATOR_POOL"]["value"] == "accelerator-$(HOST)"


def test_the_chart_and_the_compose_file_send_runs_to_the_same_queues(pods):
    settings = yaml.safe_load(pods["ConfigMap milton-settings"]["data"]["milton.yaml"])
    assert settings == yaml.safe_load((DEPLOY / "milton.yaml").read_text())
