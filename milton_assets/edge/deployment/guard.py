"""The target's own process: it activates a release, watches it and commits to it or goes back, whoever dies meanwhile.

What belongs here: handing an activation over to that process, and the process itself. What does not: what is done in
it (`activation`).

The deployer (a person's shell, Dagster, a remote session) may be killed, or lose its connection, while a release is
being watched. So the watch is not its business: the guard runs in a session of its own, shares the target's lock (the
same open file, so that the lock lives as long as either of them) and needs nobody. The deployer only looks on. Should
the guard die, the deployer undoes the activation; should both, the next to take the target in hand does.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from tempfile import TemporaryFile
from types import FrameType

from milton_assets.edge.deployment.activation import Activation, Ready
from milton_assets.edge.deployment.attempt_ending import DeploymentFailed, JournalledAttempt
from milton_assets.edge.deployment.fileops import FileOps
from milton_assets.edge.deployment.history import Deployment, Outcome
from milton_assets.edge.deployment.journal import JOURNAL_FILE, Journal, read_journal
from milton_assets.edge.deployment.layout import GUARD_LOG
from milton_assets.edge.deployment.safeguards import HealthWindow, Safeguards
from milton_assets.edge.deployment.session import Session
from milton_assets.edge.deployment.states import HealthChecked
from milton_assets.edge.release.disk import opened
from milton_assets.vocabulary.edge_target import EdgeTarget
from milton_assets.vocabulary.errors import BadInput, MiltonError

_POLL_S = 0.1
_LAST_CHARACTERS = 2000


class GuardDied(MiltonError):
    """The target's guard ended without finishing its work."""


@dataclass(frozen=True)
class Handover:
    """What the guard is given."""

    target: EdgeTarget
    deployment_id: str
    ready: Ready
    window: HealthWindow
    ops: FileOps
    confirm_within_s: float = 0.0


class Guarded(JournalledAttempt):
    """An activation in the hands of the target's guard, as its deployer sees it."""

    def __init__(self, session: Session, safeguards: Safeguards, window: HealthWindow, activation: Activation) -> None:
        super().__init__(session, activation.deployment_id)
        self._safeguards = safeguards
        self._window = window
        self._activation = activation

    def run(self) -> Deployment:
        """Hand over, look on, and tell how it ended. Raises `DeploymentFailed`, or what interrupted it."""
        with self._on_failure(self._activation.settle):
            job = self._packed()
            guard = self._start(job)
        try:
            self._look_on(guard)
        except BaseException:
            # Ctrl-C here means: undo it. The guard does that on SIGTERM, and we wait until it has.
            guard.terminate()
            guard.wait()
            self._take_back(guard)
            raise
        self._take_back(guard)
        return self._told()

    def _packed(self) -> bytes:
        handover = Handover(
            self._session.target,
            self._id,
            self._activation.ready,
            self._window,
            self._ops,
            self._safeguards.confirm_within_s,
        )
        try:
            job = pickle.dumps(handover)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise _cannot_be_handed_over(str(error)) from None
        if b"__main__" in job:
            raise _cannot_be_handed_over("it is defined in the script that runs, which another process cannot import")
        return job

    def _start(self, job: bytes) -> subprocess.Popen[bytes]:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with (
            TemporaryFile() as told,
            opened(self._ops, self._ops.open_append(GUARD_LOG, self._session.folder)) as log,
        ):
            self._ops.truncate(log, 0)
            told.write(job)
            told.seek(0)
            return subprocess.Popen(
                [sys.executable, "-c", f"from {__name__} import main; main()"],
                stdin=told,
                stdout=log,
                stderr=log,
                pass_fds=(self._session.lock,),
                start_new_session=True,
                env=environment,
            )

    def _look_on(self, guard: subprocess.Popen[bytes]) -> None:
        seen = size_bytes = 0
        self._safeguards.at("activate", "by the target's guard")
        is_running = True
        while is_running:
            time.sleep(_POLL_S)
            is_running = guard.poll() is None
            if (grown_to := self._journal_bytes()) == size_bytes:
                continue
            size_bytes = grown_to
            records = read_journal(self._ops, self._session.folder).records
            rounds = sum(isinstance(r, HealthChecked) and r.deployment == self._id for r in records)
            for passed in range(seen + 1, rounds + 1):
                self._safeguards.at("health", f"round {passed} of {self._window.rounds} passed")
            seen = rounds

    def _journal_bytes(self) -> int:
        return os.stat(JOURNAL_FILE, dir_fd=self._session.folder).st_size

    def _take_back(self, guard: subprocess.Popen[bytes]) -> None:
        self._journal.reload()
        flight = self._session.state.in_flight
        if flight is not None and flight.deployment == self._id:
            said = (self._session.target.path / GUARD_LOG).read_text(errors="replace")[-_LAST_CHARACTERS:].strip()
            error = GuardDied(f"the target's guard ended with {guard.returncode}" + (f": {said}" if said else ""))
            self._activation.settle(error)
            raise self._failed(error) from error

    def _told(self) -> Deployment:
        entry = self._entry()
        if entry.outcome is Outcome.COMMITTED:
            self._activation.finish()
            return self._entry()
        verb = "was rolled back" if entry.outcome is Outcome.ROLLED_BACK else "failed"
        failed = DeploymentFailed(f"{self._id} {verb}: {entry.reason}")
        failed.deployment = entry
        raise failed


def _cannot_be_handed_over(why: str) -> BadInput:
    return BadInput(
        f"the health probe cannot be handed to the target's guard: {why}",
        expected="a probe made of importable classes and functions",
        remedy="define it in a module, or watch from this process with HealthWindow(detached=False)",
    )


def activate(session: Session, safeguards: Safeguards, deployment_id: str, ready: Ready) -> Deployment:
    """Activate an installed release: in the target's guard when it is to be watched detached, else right here."""
    activation = Activation(session, safeguards, deployment_id, ready)
    window = safeguards.health
    if window is None or not window.detached:
        return activation.run()
    return Guarded(session, safeguards, window, activation).run()


def main() -> None:
    """The guard: read the handover from standard input and carry it out."""
    signal.signal(signal.SIGTERM, _interrupted)
    job: Handover = pickle.load(sys.stdin.buffer)  # noqa: S301 - from the deployer that started us, in a file nobody else has
    with opened(job.ops, job.ops.open_folder(job.target.path)) as folder:
        session = Session(job.target, job.ops, folder, Journal(job.ops, folder), _now, lock=-1)
        safeguards = Safeguards(health=replace(job.window, detached=False), confirm_within_s=job.confirm_within_s)
        try:
            Activation(session, safeguards, job.deployment_id, job.ready).run()
        except DeploymentFailed:
            return  # the journal says so, and whoever looks on reads it there


def _now() -> datetime:
    return datetime.now(UTC)


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
