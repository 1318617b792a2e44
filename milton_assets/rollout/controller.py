"""The controller: what a rollout does next, and what the answers of devices mean. The same for real and simulated ones.

    controller = Controller(journal, now)
    for task in controller.tick(now()): ...            # whoever has devices does it, at any pace and in any order
    controller.hear(task, answer, now())

What belongs here: from a state and the time to tasks, from answers to events. What does not: devices (`devices`,
`simulate`), threads (`running`), which events are legal (`states`).

Whatever changes a device is in the journal before it is asked for. What is kept here beside the journal, which tasks
are out and when a device is asked again, is lost with the process and not missed: the next one asks each device anew.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from milton_assets.edge.deployment.ids import mint
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
    NotBack,
    Offline,
    Paused,
    Stopped,
    Unfit,
    WaveOpened,
    WentBack,
    reason_of,
)
from milton_assets.rollout.plan import Opens
from milton_assets.rollout.states import CHANGING, OPEN_PHASES, Device, Phase, Rollout, Stage
from milton_assets.statistics.failure_rate import Rate


class Keeps(Protocol):
    """What keeps a rollout's events: its journal."""

    @property
    def state(self) -> Rollout:
        """What the events so far mean."""
        ...

    def append(self, event: Event) -> None:
        """Keep the event, durably, before anything is done because of it. Raises `IllegalEvent`."""
        ...


class Verb(StrEnum):
    """What is asked of a device: what it serves; to take the release; how that ended; to go back."""

    LOOK = "look"
    DEPLOY = "deploy"
    ASK = "ask"
    GO_BACK = "go_back"


@dataclass(frozen=True)
class Task:
    """Something to ask of a device; `deployment` is the attempt's id where there is one, `number` the task's own."""

    number: int
    verb: Verb
    device: str
    deployment: str | None = None


@dataclass(frozen=True)
class Away:
    """The device was not reached."""

    reason: str


@dataclass(frozen=True)
class Cannot:
    """The device answered that it cannot, or what it answered cannot be used."""

    reason: str


@dataclass(frozen=True)
class Serves:
    """What the device serves, None for nothing."""

    release: str | None


@dataclass(frozen=True)
class Said:
    """What came of an order: None when the device said that it was done, else what went wrong. Only a hint: the
    device's journal is asked next."""

    problem: str | None


@dataclass(frozen=True)
class Entry:
    """An attempt, as the device's own journal has it. `outcome` as in `edge.deployment.Outcome`; `health_rounds` how
    many checks of the health window it kept, `serving` what the device serves now."""

    outcome: str
    release: str | None
    health_rounds: int
    reason: str | None
    serving: str | None


@dataclass(frozen=True)
class Tells:
    """What the device's journal says of the attempt: None where it never heard of it."""

    entry: Entry | None


Answer = Away | Cannot | Serves | Said | Tells


class Controller:
    """Runs one rollout. Not for several threads at once; `journal` is its alone."""

    def __init__(self, journal: Keeps) -> None:
        self._journal = journal
        self._last_wave: int | None = None
        self._out: dict[str, tuple[Task, datetime]] = {}
        self._numbers = itertools.count()
        self._known = 0
        self._changing: dict[str, None] = {}
        self._again: dict[str, None] = {}
        self._fresh: dict[str, None] = {}
        self._away: dict[str, None] = {}
        self._to_tell: set[str] = set()
        self._said: dict[str, Said] = {}
        self._ask_at: dict[str, datetime] = {}

    @property
    def state(self) -> Rollout:
        """What the journal so far means."""
        return self._journal.state

    @property
    def is_idle(self) -> bool:
        """Whether nothing more happens without a person: it is over, or paused or stopped and nobody is changing."""
        state = self.state
        return state.stage in {Stage.DONE, Stage.ABORTED, Stage.PLANNED} or (
            state.stage in {Stage.PAUSED, Stage.STOPPED} and not state.changing and not self._out
        )

    def stay_in_the_open_wave(self, now: datetime) -> None:
        """Open what the evidence opens by now; from then on no device begins in a later wave, though one may open."""
        while event := self._next_event(now):
            self._journal.append(event)
        self._last_wave = self.state.wave

    @property
    def _is_beyond(self) -> bool:
        """Whether a wave is open that this controller is not to run."""
        return self._last_wave is not None and self.state.wave > self._last_wave

    def only_waits(self, now: datetime) -> bool:
        """Whether nothing is out and nobody is changing, and all that is left, if anything, is for later: another wave,
        the end of a freeze, a device that is away. Said after a `tick` that had no task. A device that is to be tried
        again is waited for: that is soon."""
        state = self.state
        if self._out or state.changing:
            return False
        retries = (device.phase is Phase.WAITING and device.not_before is not None for device in state.each())
        return self._is_beyond or state.plan.frozen_until(now) is not None or not any(retries)

    def tick(self, now: datetime) -> list[Task]:
        """Decide what is decided by now, and say what to ask of devices; each task is to be answered by `hear`."""
        self._give_up_on_tasks(now)
        while event := self._next_event(now):
            self._journal.append(event)
        tasks = list(self._tasks(now))
        for task in tasks:
            self._out[task.device] = (task, now)
            for open_ones in (self._again, self._fresh, self._away):
                open_ones.pop(task.device, None)
        return tasks

    def hear(self, task: Task, answer: Answer, now: datetime) -> None:
        """What came of a task. An answer that comes after its device was given up on changes nothing."""
        if self._out.get(task.device, (None,))[0] != task:
            return
        del self._out[task.device]
        device = self.state.devices[task.device]
        self._ask_at[device.name] = now + self._pause(device, now)
        if task.deployment is None or device.deployment == task.deployment:
            for event in self._meaning(device, task, answer, now):
                self._journal.append(event)
        self._file(self.state.devices[device.name], was_asked=True)

    # What is decided

    def _next_event(self, now: datetime) -> Event | None:
        """What the state calls for, beside what single devices do."""
        state = self.state
        if state.stage in {Stage.RUNNING, Stage.PAUSED} and state.rate is Rate.LARGE:
            gate = state.plan.gate
            return Stopped(
                at=now,
                reason=f"{state.failed} of {state.begun} devices failed: a failure rate of {gate.tolerable:.0%} or "
                f"less is excluded, with an error of {gate.beta:.0%}",
            )
        if state.stage is Stage.STOPPED and state.plan.back_when_stopped:
            return Aborted(at=now, reason=state.why)
        if state.stage not in {Stage.RUNNING, Stage.ABORTING}:
            return None
        if state.is_settled():
            return Finished(at=now)
        if state.stage is Stage.ABORTING or state.is_last_wave:
            return None
        if self._is_beyond:
            return None
        if reason := state.opens_because():
            return WaveOpened(at=now, wave=state.wave + 1, reason=reason)
        if state.is_through() and not self._out:
            return Paused(at=now, reason=why_not_open(state))
        return None

    def _give_up_on_tasks(self, now: datetime) -> None:
        """End what nobody answers: every state of a device has a deadline."""
        allowed = timedelta(seconds=self.state.plan.attempt_within_s)
        for name, (task, since) in list(self._out.items()):
            device = self.state.devices[name]
            began = device.since if device.phase in CHANGING else since
            if now - began >= allowed:
                self.hear(task, Away(f"no answer within {allowed.total_seconds():g} s"), now)

    # What is asked

    def _tasks(self, now: datetime) -> Iterator[Task]:
        """What to ask of devices now."""
        state = self.state
        if state.stage is Stage.PLANNED or state.finished_at is not None:
            return
        self._file_new_ones()
        for device in self._those_changing():
            if self._may_be_asked(device, now):
                yield self._of_a_changing_one(device)
        looking = sum(task.verb is Verb.LOOK for task, _ in self._out.values())
        places = state.plan.at_once - state.changing - looking
        if state.stage is Stage.ABORTING:
            back = (one for one in state.each() if one.is_to_go_back and one.phase not in CHANGING)
            for device in itertools.islice((one for one in back if self._may_be_asked(one, now)), max(0, places)):
                yield self._task(Verb.LOOK, device)
        elif state.stage is Stage.RUNNING and not self._is_beyond and state.plan.frozen_until(now) is None:
            limit = state.open_wave.limit
            room = len(state.order) if limit is None else limit - state.begun_in[state.wave] - looking
            yield from self._looks_at_open_ones(places, room, now)

    def _looks_at_open_ones(self, places: int, room: int, now: datetime) -> Iterator[Task]:
        """Looks at so many devices that may begin, of which `room` in a place that nobody has yet. Whoever was not
        asked yet goes before who was away."""
        devices = self.state.devices
        for name in itertools.chain(self._again, self._fresh, self._away):
            if places <= 0:
                return
            device = devices[name]
            if (
                (room > 0 or device.wave is not None)
                and self.state.may_begin(device)
                and self._may_be_asked(device, now)
            ):
                places, room = places - 1, room - (device.wave is None)
                yield self._task(Verb.LOOK, device)

    def _may_be_asked(self, device: Device, now: datetime) -> bool:
        return device.name not in self._out and self._is_due(device, now)

    def _file_new_ones(self) -> None:
        """File the devices that this controller has not looked at: all of them at first, later those that joined."""
        state = self.state
        for name in state.order[self._known :]:
            self._file(state.devices[name], was_asked=False)
        self._known = len(state.order)

    def _file(self, device: Device, *, was_asked: bool) -> None:
        """Put the device among those that something is done to, or that may still begin, so that of ten thousand only
        those are looked at that something may come of."""
        if device.phase in CHANGING:
            self._changing[device.name] = None
        elif device.phase is Phase.OFFLINE:
            self._away[device.name] = None
        elif device.phase is Phase.WAITING:
            (self._again if was_asked or device.wave is not None else self._fresh)[device.name] = None

    def _those_changing(self) -> list[Device]:
        devices = self.state.devices
        self._changing = {name: None for name in self._changing if devices[name].phase in CHANGING}
        return [devices[name] for name in self._changing]

    def _task(self, verb: Verb, device: Device, deployment: str | None = None) -> Task:
        return Task(next(self._numbers), verb, device.name, deployment)

    def _of_a_changing_one(self, device: Device) -> Task:
        begun = device.phase is Phase.BEGUN
        if device.name in self._to_tell:
            self._to_tell.remove(device.name)
            return self._task(Verb.DEPLOY if begun else Verb.GO_BACK, device, device.deployment)
        return self._task(Verb.ASK if begun else Verb.LOOK, device, device.deployment)

    def _is_due(self, device: Device, now: datetime) -> bool:
        ask_at, not_before = self._ask_at.get(device.name), device.not_before
        return (ask_at is None or now >= ask_at) and (not_before is None or now >= not_before)

    def _pause(self, device: Device, now: datetime) -> timedelta:
        """How long until the device is asked again. One that was away for hours is not missed for minutes: a tenth of
        that time is waited, but never beyond its deadline."""
        plan = self.state.plan
        away = now - device.since if device.phase is Phase.OFFLINE else timedelta()
        left = timedelta(seconds=plan.reach_within_s) - away
        every = timedelta(seconds=plan.ask_every_s)
        return max(every, min(away / 10, left))

    def _tell(self, device: Device) -> None:
        """Have the device told with the next tick, and forget what it said of an attempt before."""
        self._to_tell.add(device.name)
        self._said.pop(device.name, None)
        self._ask_at.pop(device.name, None)

    # What answers mean

    def _meaning(self, device: Device, task: Task, answer: Answer, now: datetime) -> Iterator[Event]:
        if task.verb in {Verb.DEPLOY, Verb.GO_BACK}:
            # Whatever it said, and if it said nothing, its journal is asked next.
            self._said[device.name] = answer if isinstance(answer, Said) else Said(_problem(answer))
            self._ask_at.pop(device.name, None)
            if isinstance(answer, Away):
                yield from self._silence(device, answer.reason, now)
        elif device.phase is Phase.BEGUN:
            yield from self._end_of_attempt(device, answer, now)
        elif self.state.stage is Stage.ABORTING:
            if device.is_to_go_back:
                yield from self._on_the_way_back(device, answer, now)
        elif device.phase in OPEN_PHASES:
            yield from self._first_look(device, answer, now)

    def _first_look(self, device: Device, answer: Answer, now: datetime) -> Iterator[Event]:
        state = self.state
        if isinstance(answer, Away):
            if device.phase is Phase.WAITING:
                yield Offline(at=now, device=device.name, reason=reason_of(answer.reason))
            elif now - device.since >= timedelta(seconds=state.plan.reach_within_s):
                waited = f"not reached within {state.plan.reach_within_s:g} s: {answer.reason}"
                yield GivenUp(at=now, device=device.name, reason=reason_of(waited))
        elif not isinstance(answer, Serves):
            yield Unfit(at=now, device=device.name, reason=reason_of(_problem(answer)))
        elif answer.release == state.plan.release and device.wave is None:
            yield HadIt(at=now, device=device.name)
        elif (
            state.stage is Stage.RUNNING
            and not self._is_beyond
            and state.may_begin(device)
            and state.changing < state.plan.at_once
            and state.plan.frozen_until(now) is None
        ):
            deployment = mint(now)
            before = device.before if device.wave is not None else answer.release
            yield Began(at=now, device=device.name, deployment=deployment, before=before)
            self._tell(device)
        else:
            self._ask_at.pop(device.name, None)

    def _end_of_attempt(self, device: Device, answer: Answer, now: datetime) -> Iterator[Event]:
        assert device.deployment is not None  # noqa: S101 - it has begun
        if not isinstance(answer, Tells):
            yield from self._silence(device, _problem(answer), now)
            return
        said = self._said.get(device.name)
        if answer.entry is None and said is None:
            # Nobody of this process has told it yet: it is told now, under the id that the journal has.
            self._tell(device)
            return
        if answer.entry is not None and answer.entry.outcome == "in_progress":
            yield from self._silence(device, "its attempt has not ended", now)
            return
        end, reason, serving = judged(self.state, answer.entry, said)
        yield Ended(
            at=now,
            device=device.name,
            deployment=device.deployment,
            end=end,
            reason=reason_of(reason),
            serving=serving,
        )

    def _silence(self, device: Device, why: str, now: datetime) -> Iterator[Event]:
        """Nothing yet from a device that is changing: that is its end once its deadline has passed."""
        allowed_s = self.state.plan.attempt_within_s
        if now - device.since < timedelta(seconds=allowed_s):
            return
        reason = reason_of(f"no end within {allowed_s:g} s: {why}")
        if device.phase is Phase.GOING_BACK:
            yield NotBack(at=now, device=device.name, reason=reason)
        elif device.deployment is not None:
            yield Ended(
                at=now, device=device.name, deployment=device.deployment, end=End.SILENT, reason=reason, serving=None
            )

    def _on_the_way_back(self, device: Device, answer: Answer, now: datetime) -> Iterator[Event]:
        state = self.state
        if not isinstance(answer, Serves):
            if device.phase is Phase.GOING_BACK:
                yield from self._silence(device, _problem(answer), now)
                return
            since = max(device.since, state.aborted_at or now)
            if isinstance(answer, Cannot) or now - since >= timedelta(seconds=state.plan.reach_within_s):
                yield NotBack(at=now, device=device.name, reason=reason_of(_problem(answer)))
        elif answer.release != state.plan.release:
            reason = "it went back" if device.phase is Phase.GOING_BACK else "it does not serve the release any more"
            yield WentBack(at=now, device=device.name, reason=reason, serving=answer.release)
        elif device.before is None:
            yield NotBack(at=now, device=device.name, reason="it served nothing before the rollout")
        elif device.phase is not Phase.GOING_BACK:
            if state.changing < state.plan.at_once:
                yield GoingBack(at=now, device=device.name, deployment=mint(now))
                self._tell(device)
        elif (said := self._said.get(device.name)) is None:
            self._tell(device)
        elif device.returns <= state.plan.retries:
            yield GoingBack(at=now, device=device.name, deployment=mint(now))
            self._tell(device)
        else:
            reason = said.problem or "it said that it went back, and serves the release still"
            yield NotBack(at=now, device=device.name, reason=reason_of(reason))


def judged(state: Rollout, entry: Entry | None, said: Said | None) -> tuple[End, str, str | None]:
    """How the attempt ended that the device's journal has as `entry`, why, and what the device serves now.

    It stood where the journal says so: this release, committed after every check of its health window, in service.
    `said` is what the device answered; where the journal says otherwise, the journal counts.
    """
    release, rounds = state.plan.release, state.plan.health_rounds
    if entry is None:
        if said is not None and said.problem is None:
            return End.NOT_AS_SAID, "it said that the release stands, and its journal does not know the attempt", None
        return End.FAILED, said.problem or "" if said is not None else "it does not know the attempt", None
    serving = entry.serving
    if entry.outcome == "committed":
        if entry.release != release:
            return End.NOT_AS_SAID, f"its journal has another release in that attempt: {entry.release}", serving
        if entry.health_rounds < rounds:
            return (
                End.NOT_AS_SAID,
                f"its journal has {entry.health_rounds} of {rounds} checks of the health window",
                serving,
            )
        if serving != release:
            return End.WENT_BACK, f"it stood and does not serve the release any more, but {serving}", serving
        return End.STOOD, f"committed after {entry.health_rounds} checks of its health window", serving
    reason = entry.reason or f"its journal says {entry.outcome}"
    if said is not None and said.problem is None:
        reason = f"{reason} (it said that the release stands)"
    if serving == release:
        return End.NOT_AS_SAID, f"{reason}; it serves the release all the same", serving
    return End.WENT_BACK if entry.outcome == "rolled_back" else End.FAILED, reason, serving


def why_not_open(state: Rollout) -> str:
    """Why the next wave does not open although nothing more can come of this one."""
    number, wave, gate = state.wave + 1, state.open_wave, state.plan.gate
    counted = f"{state.well} of {state.begun} devices stood, {state.failed} failed"
    if wave.opens is Opens.ALL_WELL:
        return f"wave {number} is through and {counted}; the next one opens when every device stood"
    needed = gate.test.trials_to_show_small(state.failed)
    return (
        f"wave {number} is through and {counted}: that does not exclude a failure rate of {gate.intolerable:.0%} with "
        f"an error of {gate.alpha:.0%}, which takes {needed} devices with so many failures"
    )


def _problem(answer: Answer) -> str:
    """What an answer that is no answer says."""
    if isinstance(answer, Away | Cannot):
        return answer.reason
    return f"its answer fits no question ({type(answer).__name__})"
