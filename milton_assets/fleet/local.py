"""A target on this machine: the engine (`edge.deployment`) in a folder.

What belongs here: saying what the protocol asks in the engine's words. What does not: the engine, and what it is given
to work with (`LocalMeans`, which `milton_assets.usecases.targets` puts together).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from milton_assets.edge.deployment import (
    Collection,
    Deployment,
    FileOps,
    HealthWindow,
    LoadTest,
    TargetStatus,
    collect_garbage,
    counter_order,
    deploy,
    history,
    recover_target,
    reset_counter,
    rollback,
    status,
)
from milton_assets.edge.deployment.admission import DevicePolicy, admission, load_device_policy, write_device_policy
from milton_assets.edge.deployment.layout import POLICY_FILE, is_target
from milton_assets.edge.deployment.states import CounterReset
from milton_assets.fleet.target import CollectRequest, DeployRequest, Health, Request, RollbackRequest, health_of
from milton_assets.vocabulary.edge_target import EdgeTarget
from milton_assets.vocabulary.inventory import Inventory
from milton_assets.vocabulary.progress import OnProgress, silent


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class LocalMeans:
    """What a target on this machine works with: `load_test` makes the probe that releases are held against,
    `inventory` tells what the machine is whose disk holds that folder, `now` is its clock."""

    load_test: Callable[[], LoadTest]
    inventory: Callable[[Path], Inventory]
    now: Callable[[], datetime] = _now


@dataclass(frozen=True)
class LocalTarget:
    """The target in the folder `place.path`; implements `Target` and `KeepsPolicy`."""

    place: EdgeTarget
    means: LocalMeans

    @property
    def name(self) -> str:
        """The target's name."""
        return self.place.name

    @property
    def url(self) -> str:
        """The folder as a `file:` URL."""
        return self.place.path.as_uri()

    def deploy(self, bundle: Path, request: DeployRequest, *, on_progress: OnProgress = silent) -> Deployment:
        """See `Target`."""
        policy = request.device_policy
        return deploy(
            bundle,
            self.place,
            load_test=self.means.load_test() if request.load_test else None,
            health=self._watch(request),
            admit=None if policy is None else admission(policy),
            actor=request.actor,
            now=self.means.now,
            wait_s=request.wait_s,
            dry_run=request.dry_run,
            accept_clock=request.accept_clock,
            on_progress=on_progress,
        )

    def rollback(self, request: RollbackRequest, *, on_progress: OnProgress = silent) -> Deployment:
        """See `Target`."""
        return rollback(
            self.place,
            load_test=self.means.load_test() if request.load_test else None,
            health=self._watch(request),
            actor=request.actor,
            now=self.means.now,
            wait_s=request.wait_s,
            dry_run=request.dry_run,
            on_progress=on_progress,
        )

    def status(self) -> TargetStatus:
        """See `Target`."""
        return status(self.place)

    def history(self) -> tuple[Deployment, ...]:
        """See `Target`."""
        return history(self.place)

    def recover(self, request: Request) -> tuple[str, ...]:
        """See `Target`."""
        return recover_target(self.place, actor=request.actor, now=self.means.now, wait_s=request.wait_s)

    def collect(self, request: CollectRequest) -> Collection:
        """See `Target`."""
        return collect_garbage(
            self.place,
            actor=request.actor,
            now=self.means.now,
            keep=request.keep,
            dry_run=request.dry_run,
            wait_s=request.wait_s,
        )

    def inventory(self) -> Inventory:
        """See `Target`."""
        return self.means.inventory(self.place.path)

    def health(self) -> Health:
        """See `Target`."""
        return health_of(self.status(), self.history())

    @property
    def policy_path(self) -> Path:
        """See `KeepsPolicy`."""
        return self.place.path / POLICY_FILE

    def device_policy(self) -> DevicePolicy | None:
        """See `KeepsPolicy`."""
        return load_device_policy(self.policy_path) if os.path.lexists(self.policy_path) else None

    def guard(self, policy: DevicePolicy) -> None:
        """See `KeepsPolicy`. Raises `NotATarget` for a folder that is in use for something else."""
        is_target(FileOps(), self.place.path)
        write_device_policy(self.policy_path, policy)

    def counter_order(self, counter: int) -> bytes:
        """See `KeepsPolicy`."""
        return counter_order(self.place, counter, self.means.now())

    def reset_counter(self, order: bytes, signature: bytes, *, actor: str) -> CounterReset:
        """See `KeepsPolicy`."""
        return reset_counter(self.place, order, signature, actor=actor, now=self.means.now)

    def _watch(self, request: RollbackRequest) -> HealthWindow | None:
        if not request.health_rounds:
            return None
        return HealthWindow(self.means.load_test(), request.health_rounds, request.health_interval_s)
