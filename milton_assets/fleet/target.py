"""The one protocol by which everybody speaks to an edge target, wherever it is, and what is said.

    target.deploy(bundle, DeployRequest(actor="ada"))
    target.health().problems

What belongs here: the protocol, what is asked (requests, which are data and cross any wire) and what is answered beyond
what the engine's own nouns tell. What does not: how any target does it (`local`).

A target raises what the engine raises: `DeploymentFailed` with the entry when an attempt did not stand,
`NeverDeployed` when there is nothing to tell yet, `TargetGone` when it is not where it was, `NotOurs` to whoever would
change another state folder's, `TargetBusy`, `NotATarget`, `JournalDamaged`, `ClockSetBack` and
`DiskFailed` when no attempt could begin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from milton_assets.edge.deployment import Collection, Deployment, Outcome, ProbeReport, TargetStatus, Verification
from milton_assets.edge.deployment.admission import DevicePolicy
from milton_assets.edge.deployment.ids import DeploymentId
from milton_assets.edge.deployment.states import CounterReset
from milton_assets.edge.deployment.trust import SignedList, TrustTold
from milton_assets.edge.serving.health_journal import EventKind, HealthEvent
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.inventory import Inventory
from milton_assets.vocabulary.keys import Slug
from milton_assets.vocabulary.progress import OnProgress, silent


class Request(BaseModel):
    """What every change has in common: who asks, and how many seconds to wait for another deployer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    actor: str = Field(min_length=1)
    wait_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)


class RecoverRequest(Request):
    """Settle what a crash left behind; with `adopt`, take the target over from the state folder it belongs to."""

    adopt: bool = False


class RollbackRequest(Request):
    """Go back, and how the release is tried: served once before it is current, then watched for `health_rounds`.

    `deployment` is the caller's own id for the attempt, by which a lost answer is asked for; None takes a new one.
    `confirm_within_s` is how long after the activation the caller has to come back, or the device goes back: None is
    what the kind of target does (one elsewhere waits, one on this machine does not), 0 waits for nobody.
    """

    load_test: bool = True
    health_rounds: int = Field(default=3, ge=0)
    health_interval_s: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    dry_run: bool = False
    deployment: DeploymentId | None = None
    confirm_within_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class DeployRequest(RollbackRequest):
    """Take a bundle into service. `device_policy` is asked besides the target's own; see `edge.deployment.deploy`."""

    accept_clock: bool = False
    device_policy: DevicePolicy | None = None


class CollectRequest(Request):
    """Free releases, but keep so many to roll back to."""

    keep: int = Field(default=0, ge=0)
    dry_run: bool = False


class Health(BaseModel):
    """What a target's status and its last probe say: whether it serves, what, since when, and whether it is well.

    `since` is when the release in service was committed, `probed_at` when the last probe of that release ended, `probe`
    what it answered. `well` is None where the release in service was never probed; `problems` are sentences; `events`
    what happened lately while it served (`edge.serving`), oldest first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: Slug
    model_version: Slug | None
    release: Sha256 | None
    since: AwareDatetime | None
    probed_at: AwareDatetime | None
    probe: ProbeReport | None
    well: bool | None
    problems: tuple[str, ...]
    events: tuple[HealthEvent, ...] = ()


class Target(Protocol):
    """One edge target. `url` says where it is; its scheme found the implementation."""

    @property
    def name(self) -> str:
        """The name by which people and partitions know it."""
        ...

    @property
    def url(self) -> str:
        """Where it is."""
        ...

    def deploy(self, bundle: Path, request: DeployRequest, *, on_progress: OnProgress = silent) -> Deployment:
        """Take the bundle in the folder `bundle` of this machine into service; its history entry, committed."""
        ...

    def rollback(self, request: RollbackRequest, *, on_progress: OnProgress = silent) -> Deployment:
        """Go back to the release before the one in service; its history entry, committed."""
        ...

    def status(self) -> TargetStatus:
        """What it serves and could go back to. Raises `NeverDeployed`."""
        ...

    def verify(self, release: str | None = None, *, on_progress: OnProgress = silent) -> Verification:
        """Read one of its releases whole, on the device, and hold it against what was deployed; None is the one in
        service. Raises `NeverDeployed`."""
        ...

    def documents(self, release: str) -> Mapping[str, bytes]:
        """What the chain behind that release is followed by (`CHAIN_DOCUMENTS`), by name and as it lies there; what
        cannot be read is left out. Whoever asks holds them against the manifest."""
        ...

    def history(self) -> tuple[Deployment, ...]:
        """Every attempt, oldest first; empty when there was none."""
        ...

    def recover(self, request: RecoverRequest) -> tuple[str, ...]:
        """Settle what a crash left behind; what had to be done, a sentence each. Raises `NeverDeployed`."""
        ...

    def collect(self, request: CollectRequest) -> Collection:
        """Free the releases that are neither in service nor last known good. Raises `NeverDeployed`."""
        ...

    def inventory(self) -> Inventory:
        """What the device is. Changes nothing."""
        ...

    def learn_keys(self, chain: Sequence[SignedList]) -> TrustTold:
        """Have it take the key lists that it does not know yet, if it believes them; whom it believes then.

        Nothing to take asks only. Raises `NotBelieved`, and `BadInput` where it has no device policy.
        """
        ...

    def health(self) -> Health:
        """Whether what it serves is well, as status and last probe say. Raises `NeverDeployed`."""
        ...


def is_here(target: Target) -> bool:
    """Whether it lies on this machine, so that a path it tells is a path here."""
    return urlsplit(target.url).scheme == "file"


@runtime_checkable
class KeepsPolicy(Protocol):
    """A target whose device policy can be read and given from here: its owner sits at this machine."""

    def device_policy(self) -> DevicePolicy | None:
        """The policy that binds whoever deploys; None when it has none."""
        ...

    def guard(self, policy: DevicePolicy) -> None:
        """Give it that policy. Raises `BadInput` when it has one: its owner's file is never overwritten."""
        ...

    def counter_order(self, counter: int) -> bytes:
        """The order that takes its highest counter back to `counter`, to be signed by a key that it trusts."""
        ...

    def reset_counter(self, order: bytes, signature: bytes, *, actor: str) -> CounterReset:
        """Carry out such an order; see `edge.deployment.reset_counter`."""
        ...

    @property
    def policy_path(self) -> Path:
        """Where the policy lies."""
        ...


LATEST_EVENTS = 40
"""So many of a target's events are told with its health."""
_BEGINNINGS = frozenset({EventKind.STARTED, EventKind.SWAPPED})


def health_of(
    status: TargetStatus,
    history: tuple[Deployment, ...],
    events: tuple[HealthEvent, ...] = (),
    standing: tuple[str, ...] = (),
) -> Health:
    """The health that `status`, `history`, the events and the standing problems of one target amount to.

    What needed a person since the gateway last began, or last brought a model up, is a problem.
    """
    active = status.active
    tried = [d for d in history if active and d.release == active.digest]
    probes = [(d, d.health[-1] if d.health else d.load_test) for d in tried]
    probed = next(((d, probe) for d, probe in reversed(probes) if probe is not None), None)
    problems = [*status.problems, *standing]
    if probed is not None and probed[1] is not None:
        problems += probed[1].problems
    # A check that fails is told as the reason of the rollback, which leaves this release where another attempt had it.
    judged = next((d for d, probe in reversed(probes) if probe or d.outcome is Outcome.ROLLED_BACK), None)
    if judged is not None and judged.outcome is Outcome.ROLLED_BACK and judged.reason:
        problems.append(f"{judged.id} put it into service again and took it back: {judged.reason}")
    began = max((n for n, event in enumerate(events) if event.kind in _BEGINNINGS), default=-1)
    problems += [event.said for event in events[began + 1 :] if event.needs_person]
    return Health(
        target=status.target,
        model_version=active.model_version if active else None,
        release=active.digest if active else None,
        since=_since(active.digest, history) if active else None,
        probed_at=probed[0].finished_at if probed else None,
        probe=probed[1] if probed else None,
        well=False if problems else (None if probed is None else True),
        problems=tuple(problems),
        events=events[-LATEST_EVENTS:],
    )


def _since(release: str, history: tuple[Deployment, ...]) -> AwareDatetime | None:
    """When the release that is in service now came into it: after the latest attempt that left another one there."""
    since = None
    for deployment in history:
        if deployment.now_serving != release:
            since = None
        elif since is None and deployment.finished_at is not None:
            since = deployment.finished_at
    return since
