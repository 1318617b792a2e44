"""A dry run: the checks that a deployment makes, on the release where it lies, with nothing changed.

What belongs here: those checks, in the order of an attempt. What does not: anything that writes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from milton_assets.edge.deployment.attempt import (
    check_deployed_manifest,
    check_same_manifest,
    nothing_before,
    release_of,
)
from milton_assets.edge.deployment.attempt_ending import require_healthy
from milton_assets.edge.deployment.capacity import check_memory, check_room, check_runtime
from milton_assets.edge.deployment.fileops import FileOps, exists
from milton_assets.edge.deployment.history import Deployment, Outcome, release_facts
from milton_assets.edge.deployment.ids import mint
from milton_assets.edge.deployment.layout import RELEASES, is_target
from milton_assets.edge.deployment.lock import is_locked
from milton_assets.edge.deployment.offloading import check_offloading
from milton_assets.edge.deployment.safeguards import Safeguards, guarded
from milton_assets.edge.deployment.session import (
    Clock,
    check_clock,
    check_owner,
    judged_at,
    no_such_target,
    read_target,
)
from milton_assets.edge.deployment.states import Operation, TargetState
from milton_assets.edge.release import Folder, ReleaseDocuments, read_documents, verify_release
from milton_assets.edge.release.disk import folder_beneath, opened
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
        with Folder(bundle, self._ops) as folder:
            documents = read_documents(folder)
            check_same_manifest(self._state, documents)
            if not self._holds(documents.manifest.release_digest):
                check_room(self._free_bytes(), documents.needed_bytes)
            self._check(folder, documents, one_name_each=False)
        return self._would(Operation.DEPLOY, documents, bundle)

    def roll_back(self) -> Deployment:
        """What `rollback` would do."""
        if self._state.name is None:
            raise no_such_target(self._target)
        previous = self._state.previous
        if previous is None:
            raise nothing_before(self._target)
        path = self._target.path / RELEASES / previous
        with Folder(path, self._ops) as folder:
            documents = read_documents(folder)
            check_deployed_manifest(path, documents, self._state.releases[previous])
            self._check(folder, documents, one_name_each=True, going_back=True)
        return self._would(Operation.ROLLBACK, documents, path)

    def _check(
        self, folder: Folder, documents: ReleaseDocuments, *, one_name_each: bool, going_back: bool = False
    ) -> None:
        guards, path = self._safeguards, folder.path
        manifest = documents.manifest
        will_load = guards.load_test is not None or guards.health is not None
        check_runtime(guards.runtime, manifest.requirements)
        check_offloading(manifest, guards.runtime, guards.gpus)
        check_memory(guards.memory, manifest.requirements.ram_bytes, will_load=will_load)
        guards.at("verify", str(path))
        verify_release(folder, one_name_each=one_name_each, on_progress=guards.on_progress).require()
        now = judged_at(self._now(), self._state.last_at, accept_clock=self._accept_clock)
        counter = None if going_back else self._state.highest_counter
        for admit in guards.policies:
            admit(path, now=now, highest_counter=counter, trial=guards.trial)
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

    def _would(self, operation: Operation, documents: ReleaseDocuments, path: Path) -> Deployment:
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
        return facts.model_copy(update=release_facts(release_of(documents)))
