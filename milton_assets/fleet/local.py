"""A target on this machine: the engine (`edge.deployment`) in a folder.

What belongs here: saying what the protocol asks in the engine's words. What does not: the engine, and what it is given
to work with (`LocalMeans`, which `milton_assets.usecases.targets` puts together).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from milton_assets.edge.canary.plan import CanaryPlan
from milton_assets.edge.canary.starting import (
    CanaryRequest,
    CanaryTold,
    WholeRequest,
    start_canary,
    stop_canary,
    told_of,
    watch_whole,
)
from milton_assets.edge.deployment import (
    Collection,
    Deployment,
    FileOps,
    HealthWindow,
    LoadTest,
    NeverDeployed,
    ServedLoadTest,
    TargetStatus,
    Verification,
    collect_garbage,
    counter_order,
    deploy,
    deployed_documents,
    recover_target,
    reset_counter,
    rollback,
    status,
    verify_deployed,
)
from milton_assets.edge.deployment.admission import (
    DevicePolicy,
    admission,
    load_device_policy,
    policy_in,
    write_device_policy,
)
from milton_assets.edge.deployment.heard import heard
from milton_assets.edge.deployment.history import read_mirror
from milton_assets.edge.deployment.journal import JOURNAL_FILE
from milton_assets.edge.deployment.layout import HEALTH_FILE, POLICY_FILE, is_target
from milton_assets.edge.deployment.report import history
from milton_assets.edge.deployment.session import check_owner, no_such_target, read_target
from milton_assets.edge.deployment.standing import standing_problems
from milton_assets.edge.deployment.states import CounterReset, TargetState
from milton_assets.edge.deployment.trust import SignedList, TrustTold, learn
from milton_assets.edge.manifest import HealthContract
from milton_assets.edge.serving.health_journal import HealthJournal
from milton_assets.fleet.keys import bring_keys
from milton_assets.fleet.marks import gone, write_mark
from milton_assets.fleet.measuring import Bench, ContractRequest, MeasuredHere, Weights, measured_here
from milton_assets.fleet.target import CollectRequest, DeployRequest, Health, RecoverRequest, RollbackRequest, health_of
from milton_assets.fleet.trying import Pairing, TryingHere
from milton_assets.vocabulary.edge_target import EdgeTarget
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.inventory import Inventory
from milton_assets.vocabulary.ownership import asking_owner, owner_of
from milton_assets.vocabulary.progress import OnProgress, silent
from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.tuning import Axes, Chosen

T = TypeVar("T")


def _check_goldens(goldens: bytes | None) -> None:
    if goldens is not None:
        from milton_assets.tiers.reasoning.marking import marks_of  # nobody else here takes its time to load

        marks_of(goldens)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class LocalMeans:
    """What a target on this machine works with: `load_test` makes the probe that releases are held against,
    `inventory` tells what the machine is whose disk holds that folder, `now` is its clock, `bench` makes what
    candidates are measured with."""

    load_test: Callable[[], LoadTest]
    inventory: Callable[[Path], Inventory]
    now: Callable[[], datetime] = _now
    bench: Callable[[], Bench] | None = None


@dataclass(frozen=True)
class LocalTarget:
    """The target in the folder `place.path`, spoken to from `state`; implements `Target`, `KeepsPolicy` and
    `RunsCanaries`."""

    place: EdgeTarget
    state: StateDir
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
        self._refuse_if_gone()
        if not request.dry_run:
            bring_keys(self, self.state, on_progress)
            self.was_heard()
        device = self.inventory()
        return self._changed(
            lambda place: deploy(
                bundle,
                place,
                load_test=self._load_test(request) if request.load_test else None,
                health=self._watch(request),
                admit=None if policy is None else admission(policy),
                actor=request.actor,
                now=self.means.now,
                wait_s=request.wait_s,
                dry_run=request.dry_run,
                accept_clock=request.accept_clock,
                on_progress=on_progress,
                deployment_id=request.deployment,
                confirm_within_s=request.confirm_within_s or 0.0,
                runtime=device.runtime,
                gpus=device.gpus,
            ),
            dry_run=request.dry_run,
        )

    def rollback(self, request: RollbackRequest, *, on_progress: OnProgress = silent) -> Deployment:
        """See `Target`."""
        return self._changed(
            lambda place: rollback(
                place,
                load_test=self._load_test(request) if request.load_test else None,
                health=self._watch(request),
                actor=request.actor,
                now=self.means.now,
                wait_s=request.wait_s,
                dry_run=request.dry_run,
                on_progress=on_progress,
                deployment_id=request.deployment,
                confirm_within_s=request.confirm_within_s or 0.0,
            ),
            dry_run=request.dry_run,
        )

    def status(self) -> TargetStatus:
        """See `Target`."""
        with self._explaining_that_it_is_gone():
            return status(self._seen())

    def verify(self, release: str | None = None, *, on_progress: OnProgress = silent) -> Verification:
        """See `Target`."""
        with self._explaining_that_it_is_gone():
            return verify_deployed(self._seen(), now=self.means.now, release=release, on_progress=on_progress)

    def documents(self, release: str) -> Mapping[str, bytes]:
        """See `Target`."""
        return deployed_documents(self.place, release)

    def history(self) -> tuple[Deployment, ...]:
        """See `Target`."""
        return history(self._seen()) or read_mirror(self.place)

    def recover(self, request: RecoverRequest) -> tuple[str, ...]:
        """See `Target`."""
        return self._changed(
            lambda place: recover_target(
                place, actor=request.actor, now=self.means.now, wait_s=request.wait_s, adopt=request.adopt
            )
        )

    def collect(self, request: CollectRequest) -> Collection:
        """See `Target`."""
        return self._changed(
            lambda place: collect_garbage(
                place,
                actor=request.actor,
                now=self.means.now,
                keep=request.keep,
                dry_run=request.dry_run,
                wait_s=request.wait_s,
            ),
            dry_run=request.dry_run,
        )

    def inventory(self) -> Inventory:
        """See `Target`."""
        return self.means.inventory(self.place.path)

    def health(self) -> Health:
        """See `Target`."""
        events = HealthJournal(self.place.path / HEALTH_FILE).events()
        return health_of(self.status(), self.history(), events, standing_problems(self.place.path, self.means.now()))

    def canary_start(
        self, bundle: Path, request: CanaryRequest, *, goldens: bytes | None = None, on_progress: OnProgress = silent
    ) -> CanaryPlan:
        """See `RunsCanaries`."""
        self._refuse_if_gone()
        _check_goldens(goldens)
        return self._changed(
            lambda place: start_canary(
                bundle, place, request, now=self.means.now, goldens=goldens, on_progress=on_progress
            )
        )

    def canary_watch(self, request: WholeRequest, *, goldens: bytes | None = None) -> CanaryPlan:
        """See `RunsCanaries`."""
        self._refuse_if_gone()
        _check_goldens(goldens)
        return self._changed(lambda place: watch_whole(place, request, now=self.means.now, goldens=goldens))

    def canary_told(self, canary: str | None = None) -> CanaryTold:
        """See `RunsCanaries`."""
        with self._explaining_that_it_is_gone():
            if not is_target(FileOps(), self.place.path):
                raise no_such_target(self.place)
        return told_of(self.place.path, canary)

    def canary_stop(self, canary: str | None = None, *, actor: str) -> CanaryTold:
        """See `RunsCanaries`."""

        def stop(place: EdgeTarget) -> CanaryTold:
            check_owner(place, read_target(place, FileOps()).state)
            return stop_canary(place.path, canary, actor=actor, now=self.means.now)

        return self._changed(stop)

    def learn_keys(self, chain: Sequence[SignedList]) -> TrustTold:
        """See `Target`."""
        policy = self.device_policy()
        if policy is None:
            raise BadInput(
                f"the target {self.name} has no device policy: it asks for no signature",
                expected="a target whose policy names the keys that it believes first",
                remedy=f"`milton device-policy init --target {self.name}` gives it one",
            )
        return learn(self.place.path, chain, keys=policy.trusted_keys, required=policy.required_signatures).told()

    def was_heard(self) -> None:
        """A controller spoke to it. What cannot be kept is no reason not to answer."""
        with suppress(MiltonError, OSError):  # a policy that does not hold, or a full disk, is told with the health
            policy = policy_in(self.place.path)
            heard(self.place.path, self.means.now(), limit_hours=policy.max_silence_hours if policy else None)

    @property
    def policy_path(self) -> Path:
        """See `KeepsPolicy`."""
        return self.place.path / POLICY_FILE

    def device_policy(self) -> DevicePolicy | None:
        """See `KeepsPolicy`."""
        return load_device_policy(self.policy_path) if os.path.lexists(self.policy_path) else None

    def guard(self, policy: DevicePolicy) -> None:
        """See `KeepsPolicy`. Raises `NotATarget` for a folder that is in use for something else."""
        ops = FileOps()
        place = self._owned()
        self._refuse_if_gone()
        state = read_target(place, ops).state if is_target(ops, place.path) else TargetState()
        check_owner(place, state)
        write_device_policy(self.policy_path, policy)
        write_mark(self.state, place, self.means.now())

    def _changed(self, change: Callable[[EdgeTarget], T], *, dry_run: bool = False) -> T:
        """What `change` makes of the target, as its owner; afterwards it is marked as being where it is."""
        if dry_run:
            with self._explaining_that_it_is_gone():
                return change(self._seen())
        place = self._owned()
        try:
            with self._explaining_that_it_is_gone():
                return change(place)
        finally:
            if (place.path / JOURNAL_FILE).exists():
                write_mark(self.state, place, self.means.now())

    def _seen(self) -> EdgeTarget:
        """The target for whoever only looks."""
        return self.place if self._is_inside() else replace(self.place, owner=asking_owner(self.state.root))

    def _owned(self) -> EdgeTarget:
        """The target for whoever changes it; the state folder gets its id, so that others can tell whose it is."""
        owner = owner_of(self.state.root)
        return self.place if self._is_inside() else replace(self.place, owner=owner)

    def _is_inside(self) -> bool:
        return self.state.holds(self.place.path)

    def _refuse_if_gone(self) -> None:
        if not any(os.path.lexists(self.place.path / name) for name in (JOURNAL_FILE, POLICY_FILE)) and (
            error := gone(self.state, self.place)
        ):
            raise error

    @contextmanager
    def _explaining_that_it_is_gone(self) -> Iterator[None]:
        try:
            yield
        except NeverDeployed:
            self._refuse_if_gone()
            raise

    def counter_order(self, counter: int) -> bytes:
        """See `KeepsPolicy`."""
        return counter_order(self.place, counter, self.means.now())

    def reset_counter(self, order: bytes, signature: bytes, *, actor: str) -> CounterReset:
        """See `KeepsPolicy`."""
        return reset_counter(self.place, order, signature, actor=actor, now=self.means.now)

    def measuring(
        self, weights: Weights, model: str, *, on_progress: OnProgress = silent
    ) -> AbstractContextManager[MeasuredHere]:
        """See `Measures`."""
        return measured_here(self._bench(), self.state.root, weights.path, model, weights.sha256)

    def contract(
        self, weights: Weights, request: ContractRequest, *, on_progress: OnProgress = silent
    ) -> HealthContract:
        """See `Measures`."""
        return self._bench().contract(weights.path, request)

    def axes(self, draft: Path | None = None) -> Axes:
        """See `TriesSettings`."""
        return self._trying().axes(draft)

    def settings_changed(self, chosen: Chosen, draft: Path | None = None) -> Mapping[str, Any]:
        """See `TriesSettings`."""
        return self._trying().settings_changed(chosen, draft)

    def trying(
        self, pairing: Pairing, *, on_progress: OnProgress = silent
    ) -> AbstractContextManager[tuple[MeasuredHere, MeasuredHere]]:
        """See `TriesSettings`."""
        return self._trying().trying(pairing, on_progress=on_progress)

    def _trying(self) -> TryingHere:
        return TryingHere(self._bench(), self.state.root)

    def _bench(self) -> Bench:
        if self.means.bench is None:
            raise BadInput(f"nothing is measured on {self.name}", expected="a target that was given a model server")
        return self.means.bench()

    def _load_test(self, request: RollbackRequest) -> LoadTest:
        """The probe, which may borrow the memory of what serves here; a dry run changes nothing and does not."""
        probe = self.means.load_test()
        if isinstance(probe, ServedLoadTest) and not request.dry_run:
            return replace(probe, target=self.place.path)
        return probe

    def _watch(self, request: RollbackRequest) -> HealthWindow | None:
        if not request.health_rounds:
            return None
        return HealthWindow(self._load_test(request), request.health_rounds, request.health_interval_s)
