"""Putting an installed release into service, watching it, and committing to it or going back.

What belongs here: the second half of an attempt, from `activating` to `committed` or `rolled_back`. What does not:
everything before (`attempt`), and where this half runs (`guard`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from milton_assets.edge.deployment.admission import PROVED, admission_of
from milton_assets.edge.deployment.attempt_ending import JournalledAttempt, ProbeFailed, reason_of, require_healthy
from milton_assets.edge.deployment.confirmation import await_confirmation
from milton_assets.edge.deployment.history import Deployment
from milton_assets.edge.deployment.layout import RELEASES, Link, point
from milton_assets.edge.deployment.recovery import clear_staging, settle_links
from milton_assets.edge.deployment.safeguards import Safeguards
from milton_assets.edge.deployment.session import Session
from milton_assets.edge.deployment.states import (
    Activated,
    Activating,
    Committed,
    HealthChecked,
    IllegalTransition,
    InFlight,
    Release,
    RolledBack,
)
from milton_assets.edge.release import ReleaseDocuments
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.errors import MiltonError


@dataclass(frozen=True)
class Ready:
    """A release whose bytes were read back from the target: where they lie, and whether they still have to move."""

    release: Release
    documents: ReleaseDocuments
    folder: Path
    staged: bool


class Activation(JournalledAttempt):
    """The second half of the attempt `deployment_id`, whose release is installed."""

    def __init__(self, session: Session, safeguards: Safeguards, deployment_id: str, ready: Ready) -> None:
        super().__init__(session, deployment_id)
        self._safeguards = safeguards
        self.deployment_id = deployment_id
        self.ready = ready

    def run(self) -> Deployment:
        """Swap, watch, commit. Raises `DeploymentFailed` when it had to go back, or what interrupted it."""
        with self._on_failure(self.settle):
            self._swap(self.ready.release)
            activated_at = time.monotonic()
            self._watch(self.ready)
            if within_s := self._safeguards.confirm_within_s:
                self._safeguards.at("confirm")
                await_confirmation(self._session.folder, self._id, activated_at=activated_at, within_s=within_s)
            self._safeguards.at("commit")
            self._journal.append(Committed(at=self._now(), deployment=self._id, proved=self._flight().proved))
        self.finish()
        return self._entry()

    def _flight(self) -> InFlight:
        flight = self._session.state.in_flight
        if flight is None:
            raise IllegalTransition(f"{self._id} is not in flight")
        return flight

    def _swap(self, release: Release) -> None:
        self._safeguards.at("activate", short(release.digest))
        state = self._session.state
        fallback = state.known_good or state.active
        self._journal.append(
            Activating(at=self._now(), deployment=self._id, from_release=state.active, fallback=fallback)
        )
        point(self._ops, self._session.folder, Link.CURRENT, release.digest)
        self._journal.append(Activated(at=self._now(), deployment=self._id))

    def _watch(self, ready: Ready) -> None:
        window = self._safeguards.health
        if window is None:
            return
        serving = self._session.target.path / Link.CURRENT / ready.release.primary
        for number in range(1, window.rounds + 1):
            if number > 1:
                time.sleep(window.interval_s)
            self._safeguards.at("health", f"round {number} of {window.rounds}")
            report = window.probe(serving, ready.release.model_version, ready.documents.manifest.health)
            require_healthy(report, f"health check {number} of {window.rounds}")
            self._journal.append(
                HealthChecked(at=self._now(), deployment=self._id, round=number, rounds=window.rounds, report=report)
            )

    def settle(self, error: BaseException) -> None:
        """End the attempt as far as it got: back, or merely failed. Once it is committed, it stands."""
        flight = self._session.state.in_flight
        if flight is None:
            self.finish()
        elif flight.may_have_swapped:
            self._undo(flight, error)
        else:
            self._fail(error)

    def _undo(self, flight: InFlight, error: BaseException) -> None:
        """Back to the last known good release when the new one broke its contract, else to the one before.

        A known good release that the device no longer admits (its key was revoked) is passed over: then the target
        serves what it served before, which is no worse than not having tried.
        """
        reason, interrupted = reason_of(error)
        to = flight.fallback if isinstance(error, ProbeFailed) else flight.from_release
        if to is not None and to != flight.from_release and (refused := self._refusal(to)):
            reason = f"{reason}; the last known good release {short(to)} was passed over: {refused}"
            to = flight.from_release
        with self._even_if_the_disk_fails("the rollback is not complete, the next run will complete it"):
            point(self._ops, self._session.folder, Link.CURRENT, to)
            self._journal.append(
                RolledBack(at=self._now(), deployment=self._id, to=to, reason=reason, interrupted=interrupted)
            )
        self._session.mirror()

    def _refusal(self, release: str) -> str | None:
        """Why the device's own policy, as it is now, does not let it go back to that release; None when it does."""
        target = self._session.target
        folder = target.path / RELEASES / release
        try:
            admission_of(target)(folder, now=self._now(), highest_counter=None, trial=PROVED)
        except (MiltonError, OSError) as error:
            return str(error)
        return None

    def finish(self) -> None:
        """What is left after the commit. It is repeated by every later run, so a failure here is only noted."""
        with self._even_if_the_disk_fails("the deployment stands; the next run will tidy up"):
            settle_links(self._session)
            clear_staging(self._session)
        self._session.mirror()
