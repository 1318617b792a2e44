"""Runs as Celery tasks on workers of several hosts, and what becomes of a run whose worker died.

    run_launcher:
      module: resources.celery_launcher
      class: CeleryLauncher

What belongs here: what `dagster_celery.launcher.CeleryRunLauncher` lacks. What does not: the worker's side
(`resources.celery_worker`), which queue a run goes to (the setting `queues`), and starting a lost run again, which is
the daemon's (`run_retries`).

To `dagster_celery` 0.29 a task that was started runs until it says otherwise, so a run whose worker was killed stayed
STARTED, with its pool's place, until somebody cancelled it. Here the worker is asked: one that does not answer, or
works on something else, for `worker_lost_after_seconds` has lost the run. Celery's default pool answers while it works.
A run for whose queue no worker is there says so on its page. One that is starting and that nobody will begin is found
(`never_begun`): who was to hand it over was killed, the worker's host was cut off as it took the task, or the process
died before the run began. `resume_run` there gives the task an argument of another name than it takes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from celery.states import READY_STATES
from dagster import DagsterRun, Field
from dagster_celery.config import TASK_RESUME_JOB_NAME
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_QUEUE_TAG, DAGSTER_CELERY_TASK_ID_TAG
from dagster_celery.tasks import create_resume_job_task

from resources.dagster_private import (
    CheckRunHealthResult,
    LaunchRunContext,
    ResumeRunContext,
    WorkerStatus,
    packed_resume_args,
)

QUEUES_KNOWN_FOR_S = 10.0
"""How long it is remembered which queues have workers: a campaign launches hundreds of runs at once."""

ANSWERS_WITHIN_S = 3.0
"""How long a worker is given to answer what it is working on."""

ASKED_FOR_AT_MOST_S = 30.0
"""How long all workers are asked for a task at most before it counts as lost: a sensor's tick waits for it."""


class CeleryLauncher(CeleryRunLauncher):
    """`CeleryRunLauncher` that notices when a worker is gone."""

    def __init__(self, *, worker_lost_after_seconds: int = 30, **given: Any) -> None:
        super().__init__(**given)
        self._lost_after_s = worker_lost_after_seconds
        self._missed_since: dict[str, float] = {}
        self._served: tuple[float, frozenset[str]] | None = None

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """`CeleryRunLauncher`'s, and after how many seconds of silence a worker counts as gone."""
        told = super().config_type()
        if not isinstance(told, dict):
            raise TypeError(f"CeleryRunLauncher's configuration is a {type(told).__name__}, expected a dict")
        return {
            **told,
            "worker_lost_after_seconds": Field(
                int,
                is_required=False,
                default_value=30,
                description="A worker that is silent so long has lost its run.",
            ),
        }

    def launch_run(self, context: LaunchRunContext) -> None:
        """Launch the run on a worker of its queue; where there is none now, its page says that it waits for one."""
        super().launch_run(context)
        queue = self._queue_of(context.dagster_run)
        if queue not in self._queues_with_workers():
            self._instance.report_engine_event(
                f"no worker listens to the queue {queue} now: the run waits for one, half a day at most; "
                f"`celery -A resources.celery_worker worker -Q {queue} …` starts one",
                context.dagster_run,
            )

    def was_handed_over(self, run: DagsterRun) -> bool:
        """Whether a queue was told of the run; else who was about to do so is gone, or is at it now."""
        return DAGSTER_CELERY_TASK_ID_TAG in run.tags

    def terminate(self, run_id: str) -> bool:
        """End the run on its worker; one that was never handed over is over at once."""
        run = self._instance.get_run_by_id(run_id)
        if run is not None and not self.was_handed_over(run):
            self._instance.report_run_canceled(run, message="no worker was told of it")
            return True
        return super().terminate(run_id)

    def _queues_with_workers(self) -> frozenset[str]:
        now = time.monotonic()
        if self._served is None or now - self._served[0] > QUEUES_KNOWN_FOR_S:
            answers = self.celery.control.inspect(timeout=ANSWERS_WITHIN_S).active_queues() or {}
            self._served = now, frozenset(queue["name"] for queues in answers.values() for queue in queues)
        return self._served[1]

    def resume_run(self, context: ResumeRunContext) -> None:
        """Resume the run on a worker of its queue."""
        task = self.celery.tasks.get(TASK_RESUME_JOB_NAME) or create_resume_job_task(self.celery)
        self._launch_celery_task_run(
            run=context.dagster_run,
            task_signature=task.si(resume_job_args_packed=packed_resume_args(context, self._instance)),
            routing_key=TASK_RESUME_JOB_NAME,
        )

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Whether the run's worker is still at it, asked of the worker itself."""
        if not self.was_handed_over(run):  # it runs, but who launched it was killed before it noted where
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        found = super().check_run_worker_health(run)
        if found.status in {WorkerStatus.SUCCESS, WorkerStatus.FAILED} or self._is_at_it(run):
            self._missed_since.pop(run.run_id, None)
            return found
        now = time.monotonic()
        silent_s = now - self._missed_since.setdefault(run.run_id, now)
        if silent_s < self._lost_after_s:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        self._missed_since.pop(run.run_id)
        worker = self._worker_of(run) or "the worker"
        return CheckRunHealthResult(
            WorkerStatus.FAILED, f"{worker} has not said for {silent_s:.0f} s that it works on this run: it was lost"
        )

    def never_begun(self, starting: Iterable[DagsterRun]) -> Mapping[str, str]:
        """Of runs that have been starting for minutes those that nobody will begin, and why, by their ids.

        A run that waits in its queue, or that a worker says it has, is none of them. Takes seconds when there are some.
        """
        found: dict[str, str] = {}
        sought: dict[str, str] = {}
        waiting: dict[str, int] = {}
        for run in starting:
            if not self.was_handed_over(run):
                found[run.run_id] = "the daemon was killed before it handed this run to a worker"
                continue
            task_id = run.tags[DAGSTER_CELERY_TASK_ID_TAG]
            task = self.celery.AsyncResult(task_id)
            if task.state in READY_STATES:
                found[run.run_id] = f"its task ended before the run began: {task.state} {task.result!s:.300}"
                continue
            if (queue := self._queue_of(run)) not in waiting:  # hundreds of runs may wait in one
                waiting[queue] = self._waiting_in(queue)
            if not waiting[queue]:
                sought[task_id] = run.run_id
        for task_id in self._lost(sought):
            self.celery.control.revoke(task_id)  # by now it could only be begun a second time
            found[sought[task_id]] = "neither a queue nor a worker has this run: it was lost on its way to a worker"
        return found

    def _lost(self, task_ids: Iterable[str]) -> set[str]:
        """Those of the tasks that no worker says it has, though all are asked for as long as a worker may be silent."""
        lost, asking = set(task_ids), self.celery.control.inspect(timeout=ANSWERS_WITHIN_S)
        until = time.monotonic() + min(self._lost_after_s, ASKED_FOR_AT_MOST_S)
        while lost:
            for answers in (asking.active(), asking.reserved()):
                lost -= {task["id"] for tasks in (answers or {}).values() for task in tasks}
            if time.monotonic() > until:
                break
        return lost

    def _waiting_in(self, queue: str) -> int:
        """How many tasks wait in the queue for a worker to take them."""
        with self.celery.connection_for_read() as connection, connection.channel() as channel:
            try:
                return int(channel.queue_declare(queue=queue, passive=True).message_count)
            except connection.channel_errors:  # brokers forget a queue in which nothing waits
                return 0

    def _queue_of(self, run: DagsterRun) -> str:
        return str(run.tags.get(DAGSTER_CELERY_QUEUE_TAG, self.default_queue))

    def _worker_of(self, run: DagsterRun) -> str | None:
        """The worker that said that it had started the run's task."""
        told = self.celery.AsyncResult(run.tags[DAGSTER_CELERY_TASK_ID_TAG]).info
        return str(told["hostname"]) if isinstance(told, Mapping) and "hostname" in told else None

    def _is_at_it(self, run: DagsterRun) -> bool:
        worker = self._worker_of(run)
        if worker is None:
            return False
        answers = self.celery.control.inspect(destination=[worker], timeout=ANSWERS_WITHIN_S).active() or {}
        task_id = run.tags[DAGSTER_CELERY_TASK_ID_TAG]
        return any(task["id"] == task_id for task in answers.get(worker, ()))
