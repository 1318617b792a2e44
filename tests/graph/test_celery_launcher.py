"""Runs as Celery tasks: what `dagster_celery` lacks. A host that is cut off amid a tier: `test_cluster`."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from dagster import DagsterEvent, DagsterEventType, DagsterInstance, DagsterRunStatus, EventLogEntry

from milton_assets.sensors import HANDED_OVER_WITHIN, end_never_launched
from milton_assets.vocabulary.state import StateDir
from resources.celery_launcher import CeleryLauncher
from resources.dagster_private import (
    LaunchRunContext,
    ResumeRunContext,
    WorkerStatus,
    job_from_module,
    was_lost,
)

LAUNCHER = {
    "module": "resources.celery_launcher",
    "class": "CeleryLauncher",
    "config": {"broker": "memory://", "backend": "cache+memory://", "worker_lost_after_seconds": 0},
}


@pytest.fixture(scope="module")
def instance(tmp_path_factory):
    """An instance whose runs go to a broker in this process, to which no worker listens."""
    settings = {"telemetry": {"enabled": False}, "run_launcher": LAUNCHER}
    with DagsterInstance.local_temp(str(tmp_path_factory.mktemp("home")), settings) as made:
        yield made


@pytest.fixture
def run(instance, tmp_path, monkeypatch):
    monkeypatch.setenv("MILTON_STATE_DIR", str(StateDir(tmp_path).root))
    job = job_from_module("milton_assets.definitions", "autobench")
    made = instance.create_run_for_job(
        job.get_definition(), job_code_origin=job.get_python_origin(), tags={"dagster-celery/queue": "gpu-box"}
    )
    return instance.get_run_by_id(made.run_id)


def test_a_worker_is_told_to_resume_by_the_arguments_that_its_task_takes(instance, run):
    launcher = instance.run_launcher
    assert isinstance(launcher, CeleryLauncher)
    launcher.resume_run(ResumeRunContext(run, workspace=None, resume_attempt_number=1))
    with launcher.celery.connection_for_read() as connection:
        message = connection.SimpleQueue("gpu-box").get(timeout=5)
    _, told, _ = json.loads(message.body)
    takes = inspect.signature(launcher.celery.tasks["resume_job"].run).parameters
    assert told.keys() == takes.keys()
    assert message.headers["task"] == "resume_job"


def test_a_run_that_no_worker_says_it_works_on_is_lost(instance, run):
    instance.add_run_tags(run.run_id, {"dagster-celery/task_id": "a task that no worker has"})
    found = instance.run_launcher.check_run_worker_health(instance.get_run_by_id(run.run_id))
    assert (found.status, "lost" in found.msg) == (WorkerStatus.FAILED, True)


def test_a_run_for_whose_queue_there_is_no_worker_says_so_on_its_page(instance, run):
    instance.add_run_tags(run.run_id, {"dagster-celery/queue": "desk"})
    instance.run_launcher.launch_run(LaunchRunContext(instance.get_run_by_id(run.run_id), workspace=None))
    said = [entry.message for entry in instance.all_logs(run.run_id)]
    assert any("no worker listens to the queue desk now" in line for line in said)


def test_a_run_that_was_never_handed_over_is_ended_so_that_it_is_started_again(instance, run):
    instance.handle_new_event(starting(run))
    end_never_launched(instance, datetime.now(UTC))
    assert instance.get_run_by_id(run.run_id).status is DagsterRunStatus.STARTING
    end_never_launched(instance, datetime.now(UTC) + HANDED_OVER_WITHIN + timedelta(seconds=1))
    assert was_lost(instance.get_run_by_id(run.run_id))


def test_a_run_that_waits_in_a_queue_is_left_alone(instance, run):
    instance.handle_new_event(starting(run))
    instance.add_run_tags(run.run_id, {"dagster-celery/task_id": "waits"})
    end_never_launched(instance, datetime.now(UTC) + timedelta(hours=1))
    assert instance.get_run_by_id(run.run_id).status is DagsterRunStatus.STARTING


def test_what_a_worker_measures_with_ends_with_a_worker_that_is_killed(tmp_path):
    settings = {"telemetry": {"enabled": False}, "run_launcher": LAUNCHER}
    (tmp_path / "dagster.yaml").write_text(json.dumps(settings))
    measuring = (
        "import os, time; from resources.celery_worker import die_with_the_worker; child = os.fork(); "
        "child or die_with_the_worker(); print(child, flush=True) if child else None; time.sleep(600)"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", measuring],
        env={**os.environ, "DAGSTER_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with worker:
        child = psutil.Process(int(worker.stdout.readline()))
        time.sleep(0.2)  # it says nothing once it is bound to the worker
        worker.kill()
    try:
        assert psutil.wait_procs([child], timeout=20)[1] == []
    finally:
        for one in psutil.wait_procs([child], timeout=0)[1]:
            one.kill()


def starting(run):
    """The event by which a run is about to be launched."""
    event = DagsterEvent(event_type_value=DagsterEventType.RUN_STARTING.value, job_name=run.job_name)
    return EventLogEntry(
        error_info=None, level=20, user_message="", run_id=run.run_id, timestamp=time.time(), dagster_event=event
    )
