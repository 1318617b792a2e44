"""Runs as Celery tasks: what `dagster_celery` lacks. A host that is cut off amid a tier: `test_cluster`."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from billiard.exceptions import WorkerLostError
from celery.contrib.testing.worker import start_worker
from celery.signals import setup_logging
from dagster import DagsterEvent, DagsterEventType, DagsterInstance, DagsterRunStatus, EventLogEntry

from milton_assets.sensors.ended import BEGUN_WITHIN, end_never_begun
from milton_assets.vocabulary.state import StateDir
from resources.celery_launcher import CeleryLauncher
from resources.dagster_private import (
    LaunchRunContext,
    ResumeRunContext,
    WorkerStatus,
    job_from_module,
    was_lost,
)
from tests.support.cluster import redis

LATER = datetime.now(UTC) + timedelta(hours=1)
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


@pytest.fixture(scope="module")
def over_redis(tmp_path_factory):
    """An instance whose runs go to a broker that workers on other hosts reach."""
    broker = redis(tmp_path_factory.mktemp("broker"))
    broker.up()
    url = f"redis://127.0.0.1:{broker.port}/0"
    settings = {
        "telemetry": {"enabled": False},
        "run_launcher": {**LAUNCHER, "config": {**LAUNCHER["config"], "broker": url, "backend": url}},
    }
    try:
        with DagsterInstance.local_temp(str(tmp_path_factory.mktemp("home")), settings) as made:
            yield made
    finally:
        broker.down()


@pytest.fixture
def run(instance, tmp_path, monkeypatch):
    monkeypatch.setenv("MILTON_STATE_DIR", str(StateDir(tmp_path).root))
    return run_of(instance)


@pytest.fixture
def run_over_redis(over_redis, tmp_path, monkeypatch):
    monkeypatch.setenv("MILTON_STATE_DIR", str(StateDir(tmp_path).root))
    made = run_of(over_redis)
    yield made
    over_redis.delete_run(made.run_id)
    with over_redis.run_launcher.celery.connection_for_read() as connection:
        connection.default_channel.queue_purge("gpu-box")


def run_of(instance):
    """A run that is to be launched to the queue `gpu-box`."""
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
    end_never_begun(instance, datetime.now(UTC))
    assert instance.get_run_by_id(run.run_id).status is DagsterRunStatus.STARTING
    end_never_begun(instance, datetime.now(UTC) + BEGUN_WITHIN + timedelta(seconds=1))
    assert was_lost(instance.get_run_by_id(run.run_id))


def test_a_run_that_waits_in_a_queue_is_left_alone(over_redis, run_over_redis):
    handed_over(over_redis, run_over_redis)
    end_never_begun(over_redis, LATER)
    assert over_redis.get_run_by_id(run_over_redis.run_id).status is DagsterRunStatus.STARTING


def test_a_run_that_a_worker_took_whose_host_was_cut_off_then_is_ended_so_that_it_is_started_again(
    over_redis, run_over_redis
):
    """Redis gives the task to whoever waits for it, and does not learn that it never got there."""
    handed_over(over_redis, run_over_redis)
    with over_redis.run_launcher.celery.connection_for_read() as connection:
        assert connection.default_channel.client.blpop("gpu-box", timeout=5)
    end_never_begun(over_redis, datetime.now(UTC))
    assert over_redis.get_run_by_id(run_over_redis.run_id).status is DagsterRunStatus.STARTING
    end_never_begun(over_redis, LATER)
    assert was_lost(over_redis.get_run_by_id(run_over_redis.run_id))
    assert "it was lost on its way to a worker" in page_of(over_redis, run_over_redis)


def test_a_run_whose_process_died_before_it_began_is_ended_so_that_it_is_started_again(over_redis, run_over_redis):
    task_id = handed_over(over_redis, run_over_redis)
    told = over_redis.run_launcher.celery.backend
    told.store_result(task_id, WorkerLostError("signal 9 (SIGKILL)"), "FAILURE")
    end_never_begun(over_redis, LATER)
    assert was_lost(over_redis.get_run_by_id(run_over_redis.run_id))
    assert "FAILURE signal 9 (SIGKILL)" in page_of(over_redis, run_over_redis)


def test_a_run_that_a_worker_says_it_has_is_left_alone(over_redis, run_over_redis):
    app, begun, may_end = over_redis.run_launcher.celery, threading.Event(), threading.Event()

    @app.task(name="takes_long")
    def takes_long():
        begun.set()
        may_end.wait(60)

    with logging_left_alone(), start_worker(app, pool="threads", perform_ping_check=False, queues=["gpu-box"]):
        over_redis.handle_new_event(starting(run_over_redis))
        task_id = takes_long.apply_async(queue="gpu-box").id
        over_redis.add_run_tags(run_over_redis.run_id, {"dagster-celery/task_id": task_id})
        try:
            assert begun.wait(30)
            end_never_begun(over_redis, LATER)
        finally:
            may_end.set()
    assert over_redis.get_run_by_id(run_over_redis.run_id).status is DagsterRunStatus.STARTING


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


@contextmanager
def logging_left_alone():
    """A worker sets the level of the root logger, for good, unless somebody says that logging is set up."""

    def is_set_up(**_):
        pass

    setup_logging.connect(is_set_up)
    try:
        yield
    finally:
        setup_logging.disconnect(is_set_up)


def handed_over(instance, run) -> str:
    """The id of the task by which workers are told of the run, which is starting from now on."""
    instance.handle_new_event(starting(run))
    instance.run_launcher.launch_run(LaunchRunContext(instance.get_run_by_id(run.run_id), workspace=None))
    return instance.get_run_by_id(run.run_id).tags["dagster-celery/task_id"]


def page_of(instance, run) -> str:
    """What the run's page says."""
    return "\n".join(entry.user_message or entry.message for entry in instance.all_logs(run.run_id))


def starting(run):
    """The event by which a run is about to be launched."""
    event = DagsterEvent(event_type_value=DagsterEventType.RUN_STARTING.value, job_name=run.job_name)
    return EventLogEntry(
        error_info=None, level=20, user_message="", run_id=run.run_id, timestamp=time.time(), dagster_event=event
    )
