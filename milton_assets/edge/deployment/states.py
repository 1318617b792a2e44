"""The state machine of an edge target: which record may follow which, and what the journal so far means.

What belongs here: the journal's records as nouns, and the pure function `step(state, record) -> state` that carries
the whole safety argument. What does not: files, locks, clocks and models; whoever does those may only do what a
record allows next.

The rules:

 1. The first record creates the target; none other does.
 2. One attempt at a time. It starts, is accepted (which release, which bundle), is verified *as written*, may be load
    tested, is installed under `releases/`, is activated, may be health checked, and is committed. No step is skipped
    but the two that say "may".
 3. Before `activating`, an attempt ends by `failed`: nothing the target serves has changed.
 4. From `activating` until `committed`, an attempt ends by `rolled_back`, to the release that was active before or to
    the last known good one, and to nothing else.
 5. After `committed` nothing undoes the attempt. What remains to be done (moving a link, reporting) is repeated until
    it is done; its failure is a note.
 6. A release becomes the last known good one when it is committed *proved*: a load test or a health check of that
    attempt passed on this target.
 7. A rollback goes to the release before the active one in the lineage, and shortens the lineage by one.
 8. What is active or last known good is never collected, nor is anything while an attempt is in flight.
 9. The highest counter only grows, but for an order that takes it back; each order does so once.
10. Whose the target is may be recorded at any time; it changes nothing that is served.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from milton_assets.edge.deployment.growing import GrowingSet
from milton_assets.edge.deployment.ids import DeploymentId
from milton_assets.edge.relative_path import RelativePath
from milton_assets.vocabulary.digest import Sha256
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.keys import RunId, Slug
from milton_assets.vocabulary.ownership import Owner

JOURNAL_VERSION: Final = 2
"""Version 2 writes its lines as RFC 8785 has it, and says so in the first. Another version is not read."""


class IllegalTransition(MiltonError):
    """A record that must not follow the ones before it: a journal nobody of ours wrote, or a fault of ours."""


class Operation(StrEnum):
    """What an attempt tries: take a bundle into service, or go back to the release before."""

    DEPLOY = "deploy"
    ROLLBACK = "rollback"


class Phase(StrEnum):
    """How far the attempt in flight has come."""

    STARTED = "started"
    ACCEPTED = "accepted"
    VERIFIED = "verified"
    LOAD_TESTED = "load_tested"
    INSTALLED = "installed"
    ACTIVATING = "activating"
    ACTIVATED = "activated"
    HEALTH_CHECKED = "health_checked"


class _Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Release(_Noun):
    """A release as the journal knows it: enough to serve it and to trace it without reading its manifest.

    `digest` is the manifest's release digest and the folder's name; `primary` the model's path in that folder.
    """

    digest: Sha256
    bundle: str
    model_version: Slug
    run_id: RunId
    counter: int = Field(ge=1)
    primary: RelativePath
    manifest_sha256: Sha256
    decision_sha256: Sha256
    evidence_sha256: Sha256


class TargetCreated(_Noun):
    """The target came to be, under this name."""

    kind: Literal["target_created"] = "target_created"
    journal_version: Literal[2] = JOURNAL_VERSION
    at: AwareDatetime
    name: Slug


class Owned(_Noun):
    """The target is that state folder's from now on: its first one's, a moved one's, or one's that adopted it."""

    kind: Literal["owned"] = "owned"
    at: AwareDatetime
    actor: str
    owner: Owner


class Started(_Noun):
    """Someone began an attempt. `bundle` is where the bundle lay, relative to the state folder if it was inside; None
    for a rollback."""

    kind: Literal["started"] = "started"
    at: AwareDatetime
    deployment: DeploymentId
    operation: Operation
    actor: str
    bundle: str | None = None


class Accepted(_Noun):
    """The attempt is for this release."""

    kind: Literal["accepted"] = "accepted"
    at: AwareDatetime
    deployment: DeploymentId
    release: Release


class Verified(_Noun):
    """Every file of the release was read back from the target's disk and has its digest."""

    kind: Literal["verified"] = "verified"
    at: AwareDatetime
    deployment: DeploymentId
    files: int
    size_bytes: int
    reused: bool


class ProbeReport(_Noun):
    """What a served release answered. `problems` is empty when it kept its health contract."""

    load_s: float
    output_tokens_per_s: float | None
    answers: tuple[str, ...]
    answer_sha256: tuple[Sha256, ...]
    problems: tuple[str, ...] = ()


class LoadTested(_Noun):
    """The staged release was served and kept its health contract."""

    kind: Literal["load_tested"] = "load_tested"
    at: AwareDatetime
    deployment: DeploymentId
    report: ProbeReport


class Installed(_Noun):
    """The release lies whole under `releases/`."""

    kind: Literal["installed"] = "installed"
    at: AwareDatetime
    deployment: DeploymentId


class Activating(_Noun):
    """`current` is about to point to the attempt's release."""

    kind: Literal["activating"] = "activating"
    at: AwareDatetime
    deployment: DeploymentId
    from_release: Sha256 | None
    fallback: Sha256 | None


class Activated(_Noun):
    """`current` points to the attempt's release, durably."""

    kind: Literal["activated"] = "activated"
    at: AwareDatetime
    deployment: DeploymentId


class HealthChecked(_Noun):
    """The active release kept its health contract in one round of the health window."""

    kind: Literal["health_checked"] = "health_checked"
    at: AwareDatetime
    deployment: DeploymentId
    round: int = Field(ge=1)
    rounds: int = Field(ge=1)
    report: ProbeReport


class Committed(_Noun):
    """The attempt is done and stands."""

    kind: Literal["committed"] = "committed"
    at: AwareDatetime
    deployment: DeploymentId
    proved: bool


class RolledBack(_Noun):
    """The activation was undone; `current` points to `to` (None: to nothing, as before the first release)."""

    kind: Literal["rolled_back"] = "rolled_back"
    at: AwareDatetime
    deployment: DeploymentId
    to: Sha256 | None
    reason: str
    interrupted: bool = False


class Failed(_Noun):
    """The attempt ended before it changed what the target serves."""

    kind: Literal["failed"] = "failed"
    at: AwareDatetime
    deployment: DeploymentId
    reason: str
    interrupted: bool = False


class Collected(_Noun):
    """These releases were freed."""

    kind: Literal["collected"] = "collected"
    at: AwareDatetime
    actor: str
    releases: tuple[Sha256, ...] = Field(min_length=1)
    freed_bytes: int


class CounterReset(_Noun):
    """A key that the device trusts took its highest counter back: bundles from `counter` on are taken again."""

    kind: Literal["counter_reset"] = "counter_reset"
    at: AwareDatetime
    actor: str
    from_counter: int
    counter: int = Field(ge=0)
    signer: str
    order_sha256: Sha256


AttemptRecord = (
    Started
    | Accepted
    | Verified
    | LoadTested
    | Installed
    | Activating
    | Activated
    | HealthChecked
    | Committed
    | RolledBack
    | Failed
)
Record = TargetCreated | Owned | AttemptRecord | Collected | CounterReset
RECORDS: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="kind")])


class InFlight(_Noun):
    """The attempt that has begun and not ended."""

    deployment: DeploymentId
    operation: Operation
    phase: Phase = Phase.STARTED
    release: Release | None = None
    from_release: Sha256 | None = None
    fallback: Sha256 | None = None
    proved: bool = False

    @property
    def may_have_swapped(self) -> bool:
        """Whether `current` may already point to the attempt's release."""
        return self.phase in {Phase.ACTIVATING, Phase.ACTIVATED, Phase.HEALTH_CHECKED}


class TargetState(BaseModel):
    """What the journal so far means. `current` and `last-known-good` are to point where this says.

    `lineage` is the releases a rollback walks back through, the active one last; `highest_counter` the highest
    bundle counter ever committed, unless an order took it back, and `counter_orders` the digests of those orders;
    `last_at` the latest time any record bears.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: str | None = None
    owner: Owner | None = None
    releases: dict[str, Release] = Field(default_factory=dict)
    lineage: tuple[Sha256, ...] = ()
    known_good: Sha256 | None = None
    highest_counter: int = 0
    counter_orders: frozenset[str] = frozenset()
    deployments: GrowingSet = Field(default_factory=GrowingSet)
    in_flight: InFlight | None = None
    last_at: AwareDatetime | None = None

    @property
    def active(self) -> str | None:
        """The release in service, None before the first."""
        return self.lineage[-1] if self.lineage else None

    @property
    def previous(self) -> str | None:
        """The release a rollback goes to."""
        return self.lineage[-2] if len(self.lineage) > 1 else None

    @property
    def protected(self) -> frozenset[str]:
        """Releases that must not be collected."""
        return frozenset(digest for digest in (self.active, self.known_good) if digest)


_NEXT: dict[Phase, tuple[type[AttemptRecord], ...]] = {
    Phase.STARTED: (
        Accepted,
        Failed,
    ),
    Phase.ACCEPTED: (
        Verified,
        Failed,
    ),
    Phase.VERIFIED: (
        LoadTested,
        Installed,
        Failed,
    ),
    Phase.LOAD_TESTED: (
        Installed,
        Failed,
    ),
    Phase.INSTALLED: (
        Activating,
        Failed,
    ),
    Phase.ACTIVATING: (
        Activated,
        RolledBack,
    ),
    Phase.ACTIVATED: (
        HealthChecked,
        Committed,
        RolledBack,
    ),
    Phase.HEALTH_CHECKED: (
        HealthChecked,
        Committed,
        RolledBack,
    ),
}


def step(state: TargetState, record: Record) -> TargetState:
    """The state after `record`. Raises `IllegalTransition` when the rules above forbid it."""
    last_at = record.at if state.last_at is None else max(state.last_at, record.at)
    return _apply(state, record).model_copy(update={"last_at": last_at})


def _apply(state: TargetState, record: Record) -> TargetState:
    if isinstance(record, TargetCreated):
        _require(state.name is None, record, "the target exists already")
        return state.model_copy(update={"name": record.name})
    _require(state.name is not None, record, "the target was never created")
    if isinstance(record, Owned):
        return state.model_copy(update={"owner": record.owner})
    if isinstance(record, Started):
        return _start(state, record)
    if isinstance(record, Collected):
        return _collect(state, record)
    if isinstance(record, CounterReset):
        return _reset_counter(state, record)
    flight = _flight(state, record)
    if isinstance(record, Failed):
        return state.model_copy(update={"in_flight": None})
    if isinstance(record, Committed):
        return _commit(state, record, flight)
    if isinstance(record, RolledBack):
        return _roll_back(state, record, flight)
    return state.model_copy(update={"in_flight": _advance(state, record, flight)})


def _require(condition: bool, record: Record, why: str) -> None:
    if not condition:
        raise IllegalTransition(f"the journal must not say {record.kind!r} here: {why}")


def _start(state: TargetState, record: Started) -> TargetState:
    _require(state.in_flight is None, record, "another attempt is in flight")
    _require(record.deployment not in state.deployments, record, f"{record.deployment} was used before")
    return state.model_copy(
        update={
            "deployments": state.deployments.with_(record.deployment),
            "in_flight": InFlight(deployment=record.deployment, operation=record.operation),
        }
    )


def _collect(state: TargetState, record: Collected) -> TargetState:
    _require(state.in_flight is None, record, "an attempt is in flight")
    gone = frozenset(record.releases)
    _require(not gone & state.protected, record, "a release is active or last known good")
    return state.model_copy(
        update={
            "releases": {digest: r for digest, r in state.releases.items() if digest not in gone},
            "lineage": tuple(digest for digest in state.lineage if digest not in gone),
        }
    )


def _reset_counter(state: TargetState, record: CounterReset) -> TargetState:
    _require(state.in_flight is None, record, "an attempt is in flight")
    _require(record.from_counter == state.highest_counter, record, "the highest counter is another")
    _require(record.counter < state.highest_counter, record, "it takes nothing back")
    _require(record.order_sha256 not in state.counter_orders, record, "the order was carried out before")
    return state.model_copy(
        update={
            "highest_counter": record.counter,
            "counter_orders": state.counter_orders | {record.order_sha256},
        }
    )


def _flight(state: TargetState, record: AttemptRecord) -> InFlight:
    flight = state.in_flight
    if flight is None:
        raise IllegalTransition(f"the journal must not say {record.kind!r} here: no attempt is in flight")
    _require(record.deployment == flight.deployment, record, f"{flight.deployment} is in flight")
    _require(type(record) in _NEXT[flight.phase], record, f"the attempt is {flight.phase}")
    return flight


def _advance(state: TargetState, record: AttemptRecord, flight: InFlight) -> InFlight:
    changes: dict[str, object] = {"phase": Phase(record.kind)}
    if isinstance(record, Accepted):
        if flight.operation is Operation.ROLLBACK:
            _require(record.release.digest == state.previous, record, "a rollback goes to the release before")
        changes["release"] = record.release
    elif isinstance(record, Activating):
        _require(record.from_release == state.active, record, "from_release is not the active release")
        _require(
            record.fallback == (state.known_good or state.active), record, "the fallback is not the last known good"
        )
        changes |= {"from_release": record.from_release, "fallback": record.fallback}
    elif isinstance(record, LoadTested | HealthChecked):
        _require(not record.report.problems, record, "its report names problems")
        changes["proved"] = True
    return flight.model_copy(update=changes)


def _release(flight: InFlight, record: Record) -> Release:
    if flight.release is None:
        raise IllegalTransition(f"the journal must not say {record.kind!r} here: no release was accepted")
    return flight.release


def _commit(state: TargetState, record: Committed, flight: InFlight) -> TargetState:
    release = _release(flight, record)
    _require(record.proved == flight.proved, record, "'proved' is not what the attempt showed")
    if flight.operation is Operation.ROLLBACK:
        lineage = state.lineage[:-1]
    elif state.active == release.digest:
        lineage = state.lineage
    else:
        lineage = (*state.lineage, release.digest)
    return state.model_copy(
        update={
            "in_flight": None,
            "releases": {**state.releases, release.digest: release},
            "lineage": lineage,
            "known_good": release.digest if record.proved else state.known_good,
            "highest_counter": max(state.highest_counter, release.counter),
        }
    )


def _roll_back(state: TargetState, record: RolledBack, flight: InFlight) -> TargetState:
    _require(record.to in {flight.from_release, flight.fallback}, record, "neither the release before nor known good")
    return state.model_copy(update={"in_flight": None, "lineage": _back_to(state.lineage, record.to)})


def _back_to(lineage: tuple[str, ...], release: str | None) -> tuple[str, ...]:
    """The lineage with `release` last: cut after its latest place, or with it alone put on top when it has none."""
    if release is None:
        return ()
    if release in lineage:
        return lineage[: len(lineage) - lineage[::-1].index(release)]
    return (*lineage, release)
