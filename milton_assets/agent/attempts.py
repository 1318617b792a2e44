"""Attempts that outlive the connection they were asked for over.

    attempts.begin(job)                 # in a process of its own; asked again, it begins nothing twice
    attempts.state("deploy_…")          # running, done with its result, or unknown

What belongs here: starting such a process, telling how it stands, and its result, once it has one. What does not: what
an attempt does (`milton_assets.edge.deployment`), and what is told over the wire (`serving`).

The id is the caller's, and the journal knows an attempt by it. So whoever lost an answer asks again: the result file
answers, or else the journal, which is the truth whatever died. A process of its own session has no terminal and no
connection that could end it, and where the user lingers it belongs to no login (`outliving`).
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from milton_assets.agent.outliving import outliving
from milton_assets.edge.deployment import Deployment, DeploymentFailed, NeverDeployed, Outcome
from milton_assets.edge.deployment.confirmation import confirmed
from milton_assets.edge.deployment.ids import DeploymentId, check_deployment_id
from milton_assets.edge.deployment.states import Phase
from milton_assets.fleet.local import LocalTarget
from milton_assets.fleet.messages import Standing
from milton_assets.fleet.target import DeployRequest, RecoverRequest, RollbackRequest
from milton_assets.fleet.telling import told
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.files import write_atomic
from milton_assets.vocabulary.progress import Progress
from milton_assets.vocabulary.strict_json import parse_json

KEPT = 20
"""So many attempts' files are kept; the journal keeps what they came to for ever."""
_JOB, _RESULT, _LOG, _LOCK, _PROGRESS = "job.json", "result.json", "log", "lock", "progress"


class Job(BaseModel):
    """What an attempt is to do. `connection` is the one over which it was asked for; `release` what is deployed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    deployment: DeploymentId
    connection: str
    deploy: DeployRequest | None = None
    rollback: RollbackRequest | None = None
    release: Sha256 | None = None


@dataclass(frozen=True)
class Attempts:
    """The attempts whose files lie in `root`, on `target`. `program` runs one: it is given the attempt's id."""

    root: Path
    target: LocalTarget
    program: Sequence[str]

    def begin(self, job: Job) -> None:
        """Start the attempt, unless it was begun. Raises `BadInput` for a job without a verb."""
        if (job.deploy is None) == (job.rollback is None):
            raise BadInput("an attempt of no verb or two", expected="`deploy` or `rollback`")
        folder = self._folder(job.deployment)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _LOCK).open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # it runs
            if (folder / _RESULT).exists() or self._entry(job.deployment) is not None:
                return
            write_atomic(folder / _JOB, job.model_dump_json())
            before, why_not = outliving()
            with (folder / _LOG).open("ab") as log:
                if why_not:
                    log.write(f"it may end with this login: {why_not}\n".encode())
                    log.flush()
                # The lock is the child's from here on: it lives as long as the attempt does.
                subprocess.Popen(
                    [*before, *self.program, job.deployment],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(lock.fileno(),),
                    start_new_session=True,
                    cwd="/",
                )
        self._drop_old(job.deployment)

    def job(self, deployment: str) -> Job:
        """What that attempt is to do. Raises `BadInput`."""
        path = self._folder(deployment) / _JOB
        try:
            return Job.model_validate(parse_json(path.read_bytes(), str(path)))
        except (OSError, ValidationError) as error:
            raise BadInput(f"{path} is no attempt: {error!s:.300}", expected="one that was begun here") from None

    def run(self, deployment: str, bundle: Callable[[str], Path]) -> None:
        """Carry that attempt out, in this process; `bundle` finds the folder of an offered release."""
        job, folder = self.job(deployment), self._folder(deployment)

        def on_progress(step: Progress) -> None:
            (folder / _PROGRESS).write_text(step.note)

        try:
            if job.deploy is not None:
                request = job.deploy.model_copy(update={"deployment": deployment})
                if job.release is None:
                    raise BadInput("a deployment of no release", expected="the digest of an offered one")
                done = self.target.deploy(bundle(job.release), request, on_progress=on_progress)
            else:
                asked = job.rollback or RollbackRequest(actor="agent")
                done = self.target.rollback(
                    asked.model_copy(update={"deployment": deployment}), on_progress=on_progress
                )
            standing = Standing(state="done", entry=done)
        except MiltonError as error:
            standing = Standing(state="done", error=told(error))
        write_atomic(folder / _RESULT, standing.model_dump_json())

    def standing(self, deployment: str) -> Standing:
        """How that attempt stands. What a crash left behind is settled first, so that the journal can tell."""
        folder = self._folder(deployment)
        with suppress(FileNotFoundError):
            return Standing.model_validate_json((folder / _RESULT).read_bytes())
        if self._runs(deployment):
            return self._running(deployment)
        with suppress(FileNotFoundError):  # it may have ended meanwhile
            return Standing.model_validate_json((folder / _RESULT).read_bytes())
        entry = self._entry(deployment)
        if entry is not None and entry.outcome is Outcome.IN_PROGRESS:
            self.target.recover(RecoverRequest(actor="agent", wait_s=60))
            entry = self._entry(deployment)
        if entry is None:
            return Standing(state="unknown")
        return _ended(entry)

    def _running(self, deployment: str) -> Standing:
        try:
            step = (self._folder(deployment) / _PROGRESS).read_text()[:200]
        except FileNotFoundError:
            step = ""
        return Standing(state="running", step=step, wants_confirmation=self._wants_confirmation(deployment))

    def _wants_confirmation(self, deployment: str) -> bool:
        job = self.job(deployment)
        if not (job.deploy or job.rollback or RollbackRequest(actor="agent")).confirm_within_s:
            return False
        try:
            flight = self.target.status().in_flight
        except MiltonError:
            return False
        if flight is None or flight.deployment != deployment:
            return False
        is_activated = flight.phase in {Phase.ACTIVATED, Phase.HEALTH_CHECKED}
        return is_activated and not confirmed(self.target.place, deployment)

    def _runs(self, deployment: str) -> bool:
        """Whether its process lives, or the target's guard goes on without it."""
        try:
            with (self._folder(deployment) / _LOCK).open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            pass
        except BlockingIOError:
            return True
        try:
            status = self.target.status()
        except NeverDeployed:
            return False
        return status.locked and status.in_flight is not None and status.in_flight.deployment == deployment

    def _entry(self, deployment: str) -> Deployment | None:
        return next((one for one in self.target.history() if one.id == deployment), None)

    def _folder(self, deployment: str) -> Path:
        return self.root / check_deployment_id(deployment)

    def _drop_old(self, current: str) -> None:
        others = sorted(path for path in self.root.iterdir() if path.name != current)
        for path in others[: -KEPT or None]:
            if not self._runs(path.name):
                shutil.rmtree(path, ignore_errors=True)


def _ended(entry: Deployment) -> Standing:
    if entry.outcome is Outcome.COMMITTED:
        return Standing(state="done", entry=entry)
    verb = "was rolled back" if entry.outcome is Outcome.ROLLED_BACK else "failed"
    failed = DeploymentFailed(f"{entry.id} {verb}: {entry.reason}")
    failed.deployment = entry
    return Standing(state="done", error=told(failed))
