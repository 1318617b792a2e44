"""The state machine of a rollout: which event may follow which, and what the journal so far means.

What belongs here: the pure function `step(state, event) -> state`, which carries the whole argument. What does not:
devices, clocks, files and threads; whoever has those may only do what an event allows next.

The rules:

 1. The first event plans the rollout; none other does. It starts once.
 2. A device begins only while the rollout runs, outside every freeze, in the open wave, where that wave takes it and
    fewer than its limit have begun in it, and while fewer than `at_once` devices are changing. So at every instant the
    devices that ever had the release from this rollout are at most what the waves opened so far allow.
 3. A device that failed before it changed anything may begin again, in the place that it has already, `retries` times.
    Every other end of an attempt is the device's end: it went back, it did not do as it said, or it fell silent.
 4. A wave opens when what its predecessor asks for is known, or when a person says so; never once the evidence says
    that the failure rate is intolerable.
 5. The rollout stops when, and only when, the evidence says that.
 6. A device that began is in the evidence from then on, as begun; what it counts for is `RateTest`'s affair. One that
    was never reached, had the release already, or could not be changed is not: nothing was tried there.
 7. After `aborted` nothing begins. Every device that may have the release goes back, and ends as back or as not back,
    with its reason.
 8. The rollout is finished when every device has an end that any wave takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from milton_assets.rollout.events import (
    Aborted,
    Began,
    End,
    Ended,
    Event,
    Finished,
    GivenUp,
    GoingBack,
    HadIt,
    Joined,
    NotBack,
    Offline,
    Paused,
    Planned,
    Resumed,
    Started,
    Stopped,
    Unfit,
    WaveOpened,
    WentBack,
)
from milton_assets.rollout.plan import Member, Opens, Plan, Wave
from milton_assets.rollout.table import Table
from milton_assets.statistics.failure_rate import Rate
from milton_assets.vocabulary.errors import MiltonError


class IllegalEvent(MiltonError):
    """An event that must not follow the ones before it: a journal nobody of ours wrote, or a fault of ours."""


class Stage(StrEnum):
    """How far a rollout has come."""

    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    ABORTING = "aborting"
    DONE = "done"
    ABORTED = "aborted"


class Phase(StrEnum):
    """How far a device has come."""

    WAITING = "waiting"
    OFFLINE = "offline"
    BEGUN = "begun"
    STOOD = "stood"
    FAILED = "failed"
    GIVEN_UP = "given_up"
    UNFIT = "unfit"
    HAD_IT = "had_it"
    GOING_BACK = "going_back"
    BACK = "back"
    NOT_BACK = "not_back"


OPEN_PHASES = frozenset({Phase.WAITING, Phase.OFFLINE})
"""A device in one of these may still begin."""
CHANGING = frozenset({Phase.BEGUN, Phase.GOING_BACK})
"""Something is being done to the device."""
_UNKNOWN_ENDS = frozenset({End.NOT_AS_SAID, End.SILENT})


class Device(NamedTuple):
    """A device of a rollout. `since` is when it came into its phase, `wave` the one in which it first began.

    `before` is what it served before the rollout, `serving` what it served when its journal was last read; `reason`
    says how it came into its phase. `not_before` is when it may be tried again, `returns` how often it was
    told to go back.
    """

    member: Member
    since: datetime
    phase: Phase = Phase.WAITING
    wave: int | None = None
    attempts: int = 0
    returns: int = 0
    deployment: str | None = None
    before: str | None = None
    serving: str | None = None
    end: End | None = None
    reason: str = ""
    not_before: datetime | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return self.member.name

    @property
    def may_have_it(self) -> bool:
        """Whether it may serve the release because of this rollout."""
        if self.phase is Phase.FAILED:
            return self.end in _UNKNOWN_ENDS
        return self.phase in {Phase.BEGUN, Phase.STOOD, Phase.GOING_BACK, Phase.NOT_BACK}

    @property
    def is_to_go_back(self) -> bool:
        """Whether an abort has still to take it back."""
        return self.may_have_it and self.phase is not Phase.NOT_BACK


class Opened(NamedTuple):
    """When a wave opened, and why."""

    at: datetime
    reason: str


@dataclass(frozen=True)
class Rollout:
    """What the journal so far means. `wave` is the open one, counted from 0; `order` that in which devices are asked.

    `begun_in` counts the devices that have begun, by wave; `well` and `failed` those of them whose end is known,
    `changing` those to which something is being done, `undecided` those that may still begin, `to_go_back` those that
    an abort has to take back. `why` says how it came into its stage.
    """

    plan: Plan
    planned_at: datetime
    last_at: datetime
    devices: Table[Device]
    order: tuple[str, ...]
    stage: Stage = Stage.PLANNED
    wave: int = 0
    begun_in: tuple[int, ...] = ()
    well: int = 0
    failed: int = 0
    changing: int = 0
    undecided: int = 0
    to_go_back: int = 0
    why: str = ""
    opened: tuple[Opened, ...] = ()
    aborted_at: datetime | None = None
    finished_at: datetime | None = None
    events: int = field(default=1)

    @property
    def begun(self) -> int:
        """How many devices have ever begun: those that the release was ever tried on."""
        return sum(self.begun_in)

    @property
    def open_wave(self) -> Wave:
        """The wave that is open."""
        return self.plan.waves[self.wave]

    @property
    def is_last_wave(self) -> bool:
        """Whether no further wave is to open."""
        return self.wave == len(self.plan.waves) - 1

    @property
    def rate(self) -> Rate:
        """What the evidence says of the failure rate."""
        return self.plan.gate.test.verdict(begun=self.begun, well=self.well, failed=self.failed)

    @property
    def exposure_bound(self) -> int:
        """How many devices may have the release now, by the waves opened so far."""
        takes = (self._bound_of(wave) for wave in self.plan.waves[: self.wave + 1])
        return 0 if self.stage is Stage.PLANNED else min(sum(takes), len(self.order))

    def _bound_of(self, wave: Wave) -> int:
        if wave.limit is not None:
            return wave.limit
        return sum(wave.takes(self.devices[name].member) for name in self.order) if wave.label else len(self.order)

    def each(self) -> Iterator[Device]:
        """Every device, in order."""
        return (self.devices[name] for name in self.order)

    def exposed(self) -> tuple[Device, ...]:
        """The devices that may serve the release because of this rollout."""
        return tuple(device for device in self.each() if device.may_have_it)

    def has_room(self) -> bool:
        """Whether another device may begin in the open wave."""
        limit = self.open_wave.limit
        return limit is None or self.begun_in[self.wave] < limit

    def may_begin(self, device: Device) -> bool:
        """Whether the device may begin, as far as waves go: in its own place again, or where there is room."""
        if device.phase not in OPEN_PHASES:
            return False
        return device.wave is not None or (self.has_room() and self.open_wave.takes(device.member))

    def is_through(self) -> bool:
        """Whether nothing more can come of the open wave: nobody changes, and nobody can begin in it."""
        return not self.changing and not any(self.may_begin(device) for device in self.each())

    def is_settled(self) -> bool:
        """Whether every device has its end; in the last wave, every one that some wave takes."""
        if self.stage is Stage.ABORTING:
            return not self.to_go_back
        if self.changing:
            return False
        return not self.undecided or (self.is_last_wave and self.is_through())

    def opens_because(self) -> str | None:
        """Why the next wave may open; None while it may not."""
        if self.is_last_wave or self.rate is Rate.LARGE:
            return None
        if self.open_wave.opens is Opens.EVIDENCE:
            if self.rate is not Rate.SMALL:
                return None
            gate = self.plan.gate
            return (
                f"{self.well} of {self.begun} devices stood: a failure rate of {gate.intolerable:.0%} or more is "
                f"excluded, with an error of {gate.alpha:.0%}"
            )
        if self.well == self.begun > 0 and self.is_through():
            return f"all {self.well} devices so far stood" if self.well > 1 else "the one device so far stood"
        return None


def planned(event: Planned) -> Rollout:
    """The state after the first event."""
    devices: Table[Device] = Table()
    for member in event.plan.members:
        devices = devices.with_(member.name, Device(member, event.at))
    return Rollout(
        plan=event.plan,
        planned_at=event.at,
        last_at=event.at,
        devices=devices,
        order=tuple(member.name for member in event.plan.members),
        begun_in=(0,) * len(event.plan.waves),
        undecided=len(event.plan.members),
    )


def step(state: Rollout | None, event: Event) -> Rollout:
    """The state after `event`. Raises `IllegalEvent` when the rules above forbid it."""
    if state is None or isinstance(event, Planned):
        if state is None and isinstance(event, Planned):
            return planned(event)
        raise IllegalEvent(f"the journal must not say {event.kind!r} here: a rollout is planned once, first of all")
    after = _apply(state, event)
    return replace(after, last_at=max(state.last_at, event.at), events=state.events + 1)


def _require(condition: bool, event: Event, why: str) -> None:
    if not condition:
        raise IllegalEvent(f"the journal must not say {event.kind!r} here: {why}")


def _apply(state: Rollout, event: Event) -> Rollout:
    if isinstance(event, Offline | GivenUp | HadIt | Unfit | Began | Ended | GoingBack | WentBack | NotBack):
        _require(event.device in state.devices, event, f"{event.device} is not of this rollout")
        return _of_a_device(state, event, state.devices[event.device])
    return _of_the_rollout(state, event)


def _of_the_rollout(state: Rollout, event: Event) -> Rollout:
    stage = state.stage
    if isinstance(event, Started):
        _require(stage is Stage.PLANNED, event, f"the rollout is {stage}")
        return replace(state, stage=Stage.RUNNING, opened=(Opened(event.at, "the rollout started"),))
    if isinstance(event, Joined):
        return _join(state, event)
    if isinstance(event, WaveOpened):
        return _open(state, event)
    if isinstance(event, Paused):
        _require(stage is Stage.RUNNING, event, f"the rollout is {stage}")
        return replace(state, stage=Stage.PAUSED, why=event.reason)
    if isinstance(event, Resumed):
        _require(stage is Stage.PAUSED, event, f"the rollout is {stage}")
        return replace(state, stage=Stage.RUNNING, why="")
    if isinstance(event, Stopped):
        _require(stage in {Stage.RUNNING, Stage.PAUSED}, event, f"the rollout is {stage}")
        _require(state.rate is Rate.LARGE, event, "the evidence does not say so")
        return replace(state, stage=Stage.STOPPED, why=event.reason)
    if isinstance(event, Aborted):
        _require(stage not in {Stage.ABORTING, Stage.ABORTED}, event, f"the rollout is {stage}")
        return replace(state, stage=Stage.ABORTING, why=event.reason, aborted_at=event.at, finished_at=None)
    _require(isinstance(event, Finished), event, "nothing else is left")
    _require(stage in {Stage.RUNNING, Stage.ABORTING}, event, f"the rollout is {stage}")
    _require(state.is_settled(), event, "some device has no end yet")
    ended = Stage.ABORTED if stage is Stage.ABORTING else Stage.DONE
    return replace(state, stage=ended, finished_at=event.at)


def _join(state: Rollout, event: Joined) -> Rollout:
    _require(state.stage in {Stage.PLANNED, Stage.RUNNING, Stage.PAUSED}, event, f"the rollout is {state.stage}")
    _require(event.member.name not in state.devices, event, f"{event.member.name} is of this rollout already")
    _require(bool(event.member.labels & set(state.plan.late)), event, "the plan lets no such device join")
    return replace(
        state,
        devices=state.devices.with_(event.member.name, Device(event.member, event.at)),
        order=(*state.order, event.member.name),
        undecided=state.undecided + 1,
    )


def _open(state: Rollout, event: WaveOpened) -> Rollout:
    _require(state.stage is Stage.RUNNING, event, f"the rollout is {state.stage}")
    _require(event.wave == state.wave + 1 < len(state.plan.waves), event, "it is not the next wave")
    _require(state.rate is not Rate.LARGE, event, "the failure rate is not tolerable")
    _require(event.actor is not None or state.opens_because() is not None, event, "nothing opens it yet")
    return replace(state, wave=event.wave, opened=(*state.opened, Opened(event.at, event.reason)))


DeviceEvent = Offline | GivenUp | HadIt | Unfit | Began | Ended | GoingBack | WentBack | NotBack


def _of_a_device(state: Rollout, event: DeviceEvent, device: Device) -> Rollout:
    if isinstance(event, Began):
        return _begin(state, event, device)
    if isinstance(event, Ended):
        return _end(state, event, device)
    if isinstance(event, GoingBack | WentBack | NotBack):
        return _go_back(state, event, device)
    _require(device.phase in OPEN_PHASES, event, f"{device.name} is {device.phase}")
    if isinstance(event, Offline):
        _require(device.phase is Phase.WAITING, event, f"{device.name} is {device.phase}")
        return _with(state, device._replace(phase=Phase.OFFLINE, since=event.at, reason=event.reason))
    if isinstance(event, GivenUp):
        _require(device.phase is Phase.OFFLINE, event, f"{device.name} is {device.phase}")
        return _leave(state, device._replace(phase=Phase.GIVEN_UP, since=event.at, reason=event.reason))
    if isinstance(event, HadIt):
        reason = "it served the release before the rollout came to it"
        return _leave(state, device._replace(phase=Phase.HAD_IT, since=event.at, reason=reason))
    return _leave(state, device._replace(phase=Phase.UNFIT, since=event.at, reason=event.reason))


def _with(state: Rollout, device: Device) -> Rollout:
    """The state with the device as it is now, counted."""
    old = state.devices[device.name]
    return replace(
        state,
        devices=state.devices.with_(device.name, device),
        changing=state.changing + (device.phase in CHANGING) - (old.phase in CHANGING),
        undecided=state.undecided + (device.phase in OPEN_PHASES) - (old.phase in OPEN_PHASES),
        to_go_back=state.to_go_back + device.is_to_go_back - old.is_to_go_back,
    )


def _leave(state: Rollout, device: Device) -> Rollout:
    """A device leaves without having changed; one whose attempt before had failed, failed with that."""
    if device.wave is None:
        return _with(state, device)
    return replace(_with(state, device._replace(phase=Phase.FAILED)), failed=state.failed + 1)


def _begin(state: Rollout, event: Began, device: Device) -> Rollout:
    plan = state.plan
    _require(state.stage is Stage.RUNNING, event, f"the rollout is {state.stage}")
    _require(plan.frozen_until(event.at) is None, event, "it is a time in which no device begins")
    _require(device.phase in OPEN_PHASES, event, f"{device.name} is {device.phase}")
    _require(device.not_before is None or event.at >= device.not_before, event, "it is to be tried again later")
    _require(state.may_begin(device), event, f"{device.name} has no place in the open wave")
    _require(state.changing < plan.at_once, event, f"{plan.at_once} devices are changing")
    is_new = device.wave is None
    begun_in = tuple(n + (is_new and wave == state.wave) for wave, n in enumerate(state.begun_in))
    device = device._replace(
        phase=Phase.BEGUN,
        since=event.at,
        wave=state.wave if is_new else device.wave,
        attempts=device.attempts + 1,
        deployment=event.deployment,
        before=event.before,
        serving=event.before,
        end=None,
        reason="",
    )
    return replace(_with(state, device), begun_in=begun_in)


def _end(state: Rollout, event: Ended, device: Device) -> Rollout:
    _require(device.phase is Phase.BEGUN, event, f"{device.name} is {device.phase}")
    _require(device.deployment == event.deployment, event, f"{device.deployment} is its attempt")
    stood, failed, phase, not_before = 0, 0, Phase.FAILED, None
    if event.end is End.STOOD:
        _require(event.serving == state.plan.release, event, "it does not serve the release")
        stood, phase = 1, Phase.STOOD
    elif event.end is End.FAILED and device.attempts <= state.plan.retries and state.stage is not Stage.ABORTING:
        phase, not_before = Phase.WAITING, event.at + timedelta(seconds=state.plan.retry_after_s)
    else:
        failed = 1
    device = device._replace(
        phase=phase,
        since=event.at,
        end=event.end,
        reason=event.reason,
        serving=event.serving,
        not_before=not_before,
    )
    return replace(_with(state, device), well=state.well + stood, failed=state.failed + failed)


def _go_back(state: Rollout, event: GoingBack | WentBack | NotBack, device: Device) -> Rollout:
    _require(state.stage is Stage.ABORTING, event, f"the rollout is {state.stage}")
    _require(device.may_have_it, event, f"{device.name} does not have the release from this rollout")
    _require(device.phase not in {Phase.BEGUN, Phase.NOT_BACK}, event, f"{device.name} is {device.phase}")
    if isinstance(event, GoingBack):
        is_again = device.phase is Phase.GOING_BACK
        _require(device.returns <= state.plan.retries, event, f"{device.name} was told so {device.returns} times")
        _require(is_again or state.changing < state.plan.at_once, event, f"{state.plan.at_once} devices are changing")
        return _with(
            state,
            device._replace(
                phase=Phase.GOING_BACK, since=event.at, deployment=event.deployment, returns=device.returns + 1
            ),
        )
    if isinstance(event, WentBack):
        _require(event.serving != state.plan.release, event, "it serves the release")
        device = device._replace(phase=Phase.BACK, serving=event.serving)
    else:
        device = device._replace(phase=Phase.NOT_BACK)
    return _with(state, device._replace(since=event.at, reason=event.reason))
