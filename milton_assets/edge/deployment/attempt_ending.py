"""How an attempt ends, whatever ends it: told to the journal first, and only then to the caller.

What belongs here: what the two halves of an attempt (`attempt`, `activation`) share. What does not: either half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from milton_assets.edge.deployment.history import Deployment, Outcome
from milton_assets.edge.deployment.recovery import clear_staging
from milton_assets.edge.deployment.session import Session
from milton_assets.edge.deployment.states import Failed, ProbeReport
from milton_assets.edge.disk_errors import explained
from milton_assets.vocabulary.errors import MiltonError


class DeploymentFailed(MiltonError):
    """An attempt that did not stand. `deployment` is its history entry, `__cause__` what went wrong."""

    deployment: Deployment


class ProbeFailed(MiltonError):
    """A served release broke its health contract."""


def require_healthy(report: ProbeReport, what: str) -> ProbeReport:
    """Return the report when it names no problem; raise `ProbeFailed` with its problems otherwise."""
    if report.problems:
        raise ProbeFailed(
            f"{what} failed: {'; '.join(report.problems)}",
            expected="the health contract in the release's manifest",
            remedy="see why the model does not serve here, then deploy a release that does",
        )
    return report


class JournalledAttempt:
    """The attempt `deployment_id` of a target in hand, and its end: told to the journal before anyone hears of it."""

    def __init__(self, session: Session, deployment_id: str) -> None:
        self._session = session
        self._ops = session.ops
        self._journal = session.journal
        self._id = deployment_id

    @contextmanager
    def _on_failure(self, settle: Callable[[BaseException], None]) -> Iterator[None]:
        """Whatever happens in the `with` block, a Ctrl-C too, is settled before anyone hears of it.

        A Ctrl-C may come while a record becomes durable, so the journal says how far the attempt has come.
        """
        try:
            yield
        except BaseException as error:
            with self._even_if_the_disk_fails("a record that was interrupted could not be made durable"):
                self._journal.catch_up()
            settle(error)
            if isinstance(error, MiltonError | OSError):
                raise self._failed(error) from error
            raise

    def _failed(self, error: MiltonError | OSError) -> DeploymentFailed:
        told = explained(error) if isinstance(error, OSError) else error
        deployment = self._entry()
        verb = "was rolled back" if deployment.outcome is Outcome.ROLLED_BACK else "failed"
        failed = DeploymentFailed(f"{self._id} {verb}: {told.problem}", expected=told.expected, remedy=told.remedy)
        failed.deployment = deployment
        return failed

    def _entry(self) -> Deployment:
        return self._session.deployment(self._id).model_copy(update={"notes": tuple(self._session.notes)})

    def _now(self) -> datetime:
        return self._session.now()

    def _fail(self, error: BaseException) -> None:
        """End the attempt before anything in service changed."""
        reason, interrupted = reason_of(error)
        with self._even_if_the_disk_fails("the failure could not be recorded, the next run will"):
            clear_staging(self._session)
            self._journal.append(Failed(at=self._now(), deployment=self._id, reason=reason, interrupted=interrupted))
        self._session.mirror()

    @contextmanager
    def _even_if_the_disk_fails(self, note: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._session.note(f"{note}: {explained(error).problem}")


def reason_of(error: BaseException) -> tuple[str, bool]:
    """Why an attempt ended, for the journal, and whether someone interrupted it."""
    if isinstance(error, OSError):
        return explained(error).problem, False
    if isinstance(error, MiltonError):
        return str(error), False
    if isinstance(error, Exception):
        return f"{type(error).__name__}: {error}", False
    return f"interrupted ({type(error).__name__})", True
