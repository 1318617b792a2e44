"""A dry run: the checks that a deployment makes, on the release where it lies, with nothing changed.

What belongs here: those checks, in the order of an attempt. What does not: anything that writes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from milton_assets.edge.deployment.attempt import check_same_manifest, nothing_before, release_of
from milton_assets.edge.deployment.capacity import check_memory, check_room
from milton_assets.edge.deployment.fileops import FileOps, exists, folder_beneath, opened
from milton_assets.edge.deployment.headers import check_headers
from milton_assets.edge.deployment.history import Deployment, Outcome, release_facts
from milton_assets.edge.deployment.ids import mint
from milton_assets.edge.deployment.layout import RELEASES, is_target
from milton_assets.edge.deployment.lock import is_locked
from milton_assets.edge.deployment.safeguards import Safeguards, guarded
from milton_assets.edge.deployment.sealed import Sealed, check_folder, open_bundle, read_sealed
from milton_assets.edge.deployment.session import (
    Clock,
    check_clock,
    check_owner,
    judged_at,
    no_such_target,
    read_target,
)
from milton_assets.edge.deployment.settling import require_healthy
from milton_assets.edge.deployment.states import Operation, TargetState
from milton_assets.vocabulary.edge_target import EdgeTarget


class Rehearsal:
    """One dry run. Its methods raise what the attempt would raise, unwrapped."""

    def __init__(
        self, target: EdgeTarget, safeguards: Safeguards, *, actor: str, now: Clock, accept_clock: bool, ops: FileOps
    ) -> None:
        self._target = target
        self._notes: list[str] = []
        self._safeguards = replace(safeguards, on_progress=guarded(safeguards.on_progress, self._notes.append))
        self._actor = actor
        self._now = now
        self._ops = ops
        self._accept_clock = accept_clock
        self._state = read_target(target, ops).state if is_target(ops, target.path) else TargetState()
        check_owner(target, self._state)
        if not accept_clock:
            check_clock(self._state, now())
        if is_locked(target.path):
            self._notes.append("another deployer holds the target now")
        if self._state.in_flight is not None:
            self._notes.append(
                f"{self._state.in_flight.deployment} was cut off or is running; it would be settled first"
            )

    def deploy(self, bundle: Path) -> Deployment:
        """What `deploy` would do with this bundle."""
        with opened(self._ops, open_bundle(self._ops, bundle)) as folder:
            sealed = read_sealed(self._ops, folder, str(bundle))
            check_same_manifest(self._state, sealed)
            if not self._holds(sealed.manifest.release_digest):
                check_room(self._free_bytes(), sealed.needed_bytes)
            self._check(folder, sealed, bundle, links_allowed=True)
        return self._would(Operation.DEPLOY, sealed, bundle)

    def roll_back(self) -> Deployment:
        """What `rollback` would do."""
        if self._state.name is None:
            raise no_such_target(self._target)
        previous = self._state.previous
        if previous is None:
            raise nothing_before(self._target)
        path = self._target.path / RELEASES / previous
        with opened(self._ops, self._ops.open_folder(path)) as folder:
            sealed = read_sealed(self._ops, folder, str(path))
            self._check(folder, sealed, path, links_allowed=False)
        return self._would(Operation.ROLLBACK, sealed, path)

    def _check(self, folder: int, sealed: Sealed, path: Path, *, links_allowed: bool) -> None:
        guards = self._safeguards
        manifest = sealed.manifest
        will_load = guards.load_test is not None or guards.health is not None
        check_memory(guards.memory, manifest.requirements.ram_bytes, will_load=will_load)
        guards.at("verify", str(path))
        check_folder(
            self._ops,
            folder,
            sealed,
            str(path),
            from_disk=False,
            on_progress=guards.on_progress,
            links_allowed=links_allowed,
        )
        check_headers(path, manifest)
        now = judged_at(self._now(), self._state.last_at, accept_clock=self._accept_clock)
        for admit in guards.policies:
            admit(path, now=now, highest_counter=self._state.highest_counter, trial=guards.trial)
        if guards.load_test is not None:
            guards.at("load test", manifest.primary)
            report = guards.load_test(path / manifest.primary, manifest.model_version, manifest.health)
            require_healthy(report, "the load test")

    def _holds(self, digest: str) -> bool:
        if self._state.name is None:
            return False
        with opened(self._ops, self._ops.open_folder(self._target.path)) as folder:
            if not exists(RELEASES, folder):
                return False
            with folder_beneath(self._ops, folder, (RELEASES,)) as releases:
                return exists(digest, releases)

    def _free_bytes(self) -> int:
        nearest = next(path for path in (self._target.path, *self._target.path.parents) if path.is_dir())
        with opened(self._ops, self._ops.open_folder(nearest)) as folder:
            return self._ops.free_bytes(folder)

    def _would(self, operation: Operation, sealed: Sealed, path: Path) -> Deployment:
        at = self._now()
        facts = Deployment(
            id=mint(at, self._state.deployments),
            operation=operation,
            target=self._target.name,
            target_path=str(self._target.path),
            actor=self._actor,
            started_at=at,
            finished_at=self._now(),
            outcome=Outcome.WOULD_COMMIT,
            reason="dry run: everything was checked, nothing was changed",
            bundle_path=str(path),
            from_release=self._state.active,
            now_serving=self._state.active,
            notes=tuple(self._notes),
        )
        return facts.model_copy(update=release_facts(release_of(sealed)))
