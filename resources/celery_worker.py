"""What a worker runs: the instance's own Celery app, so that broker and queues are named once, in dagster.yaml.

    celery -A resources.celery_worker worker -Q gpu-box -n gpu-box@%h -c 1 --disable-prefetch

What belongs here: the app and its tasks. What does not: launching (`resources.celery_launcher`). It is for workers
alone: importing it opens the instance of DAGSTER_HOME.

A worker's process that runs a task dies with the worker: else what it measures would go on, beside the run that was
started again elsewhere. What it serves models with dies with it by itself (`resources.servers.warden`).
A run waits for an object store that is away (`resources.object_store_patience`).
"""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Any

from celery.signals import worker_process_init
from dagster import DagsterInstance
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task

from milton_assets.vocabulary.errors import BadInput
from resources.celery_launcher import CeleryLauncher
from resources.object_store_patience import wait_for_the_object_store

_PR_SET_PDEATHSIG = 1


def _launcher() -> CeleryLauncher:
    found = DagsterInstance.get().run_launcher
    if not isinstance(found, CeleryLauncher):
        raise BadInput(
            f"the instance in DAGSTER_HOME launches runs by {type(found).__name__}",
            expected="run_launcher: resources.celery_launcher.CeleryLauncher",
            remedy="take deploy/dagster.yaml for the daemon's host and every worker",
        )
    return found


@worker_process_init.connect
def die_with_the_worker(**_: Any) -> None:
    """Have the kernel end this process when the worker that started it ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() == 1:  # it ended before
        os._exit(1)


wait_for_the_object_store()
app = _launcher().celery
create_execute_job_task(app)
create_resume_job_task(app)
