"""A simulated fleet: the real state machines, of the rollout and of each device, over a simulated link and clock.

    fleet = Fleet(plan, Rates(offline=0.2, failing=0.05), seed=1)
    events = simulate(fleet)

What belongs here: devices that crash, are offline, slow, corrupt, lying or flapping; their link; the clock; and a
journal in memory that may die at any event. What does not: a rule of a rollout or of a device: those are the real ones.

A device is `edge.deployment.states`: every attempt writes the records of a real target's journal, through the real
`step`, and what is told of an attempt is derived from those records.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from milton_assets.edge.deployment import states as device_states
from milton_assets.edge.deployment.history import Outcome
from milton_assets.edge.deployment.states import Record, Release, TargetState
from milton_assets.rollout.controller import Answer, Away, Controller, Entry, Said, Serves, Task, Tells, Verb
from milton_assets.rollout.events import Event, Planned, Started
from milton_assets.rollout.plan import Plan
from milton_assets.rollout.states import Rollout, Stage, step
from milton_assets.rollout.turns import next_turn
from milton_assets.vocabulary.digest import sha256_bytes

BEGINS_AT = datetime(2026, 1, 11, 12, 0, tzinfo=UTC)
_TIMEOUT_S = 10.0
_LONGEST = timedelta(days=30)
_REPORT = device_states.ProbeReport(
    load_s=1.0, output_tokens_per_s=50.0, answers=("4",), answer_sha256=(sha256_bytes(b"4"),)
)


class Habit(StrEnum):
    """What is special about a device."""

    WELL = "well"
    OFFLINE = "offline"  # away, for hours or for ever
    FAILING = "failing"  # the release does not keep its health contract there
    CRASHING = "crashing"  # loses power in the middle of its first attempt
    SLOW = "slow"  # twenty times as slow
    CORRUPT = "corrupt"  # what arrives is damaged
    LYING = "lying"  # says that it stood, and has done nothing
    FLAPPING = "flapping"  # its link comes and goes


@dataclass(frozen=True)
class Rates:
    """Which share of the devices has which habit; the rest is well."""

    offline: float = 0.0
    failing: float = 0.0
    crashing: float = 0.0
    slow: float = 0.0
    corrupt: float = 0.0
    lying: float = 0.0
    flapping: float = 0.0

    def habit(self, draw: float) -> Habit:
        """The habit of a device that drew that number from [0, 1)."""
        for habit in (h for h in Habit if h is not Habit.WELL):
            share = float(getattr(self, habit.value))
            if draw < share:
                return habit
            draw -= share
        return Habit.WELL


class Killed(BaseException):
    """The controller's process is gone. No `Exception`: nobody may catch it."""


class Kept:
    """A journal in memory. It dies with `Killed` at the event number `kill_at`, `late` once that is kept."""

    def __init__(self, kill_at: int | None = None, *, late: bool = False) -> None:
        self.events: list[Event] = []
        self._state: Rollout | None = None
        self.kill_at = kill_at
        self.late = late
        self.watch: Callable[[Rollout], None] | None = None

    @property
    def state(self) -> Rollout:
        """What the events so far mean."""
        if self._state is None:
            raise LookupError("nothing is planned")
        return self._state

    def append(self, event: Event) -> None:
        """See `controller.Keeps`."""
        dies = len(self.events) == self.kill_at
        if dies and not self.late:
            self.kill_at = None
            raise Killed
        self._state = step(self._state, event)
        self.events.append(event)
        if self.watch:
            self.watch(self._state)
        if dies:
            self.kill_at = None
            raise Killed


class Clock:
    """A simulated clock, and what is to happen at which time."""

    def __init__(self) -> None:
        self.now = BEGINS_AT
        self._due: list[tuple[datetime, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """Have that happen in so many seconds."""
        heapq.heappush(self._due, (self.now + timedelta(seconds=seconds), next(self._order), what))

    def advance(self, at_least_s: float, idle_s: float) -> None:
        """Go on to the next thing to happen (in `idle_s` seconds where nothing is), and do what is due by then."""
        step_s = timedelta(seconds=at_least_s)
        idle = self.now + timedelta(seconds=idle_s)
        target = max(self.now + step_s, min(self._due[0][0], idle) if self._due else idle)
        while self._due and self._due[0][0] <= target:
            self.now, _, what = heapq.heappop(self._due)
            what()
        self.now = target


@dataclass
class Device:
    """A simulated device. `state` is its journal's meaning, by the real state machine of a target."""

    name: str
    habit: Habit
    clock: Clock
    release: Release
    rounds: int
    random: random.Random
    state: TargetState = field(default_factory=TargetState)
    records: list[Record] = field(default_factory=list)
    outcomes: dict[str, Entry] = field(default_factory=dict)
    away_until: datetime | None = None
    crashed: bool = False
    power: int = 0

    def write(self, record: Record) -> None:
        """Add a record to its journal. Raises `IllegalTransition` as a real one does."""
        self.state = device_states.step(self.state, record)
        self.records.append(record)

    def begin_with(self, release: Release) -> None:
        """Have that release in service from the start."""
        self.write(device_states.TargetCreated(at=self.clock.now, name=self.name))
        for record in self._steps("deploy_20260101_000000_000_000000", release, device_states.Operation.DEPLOY):
            self.write(record)

    def is_online(self) -> bool:
        """Whether it can be reached now."""
        if self.away_until is not None and self.clock.now < self.away_until:
            return False
        if self.habit is Habit.FLAPPING:
            minute = int(self.clock.now.timestamp() // 40)
            return random.Random(f"{self.name}{minute}").random() < 0.5  # noqa: S311 - a simulation
        return True

    def serving(self) -> str | None:
        """The release in service, which `current` points to: the new one from the activation on."""
        flight = self.state.in_flight
        if flight is not None and flight.phase in {device_states.Phase.ACTIVATED, device_states.Phase.HEALTH_CHECKED}:
            return flight.release.digest if flight.release else None
        return self.state.active

    def entry(self, deployment: str) -> Entry | None:
        """What its journal says of that attempt."""
        mine = [one for one in self.records if getattr(one, "deployment", None) == deployment]
        if not mine:
            return None
        last = mine[-1]
        outcome, reason = Outcome.IN_PROGRESS, None
        if isinstance(last, device_states.Committed):
            outcome = Outcome.COMMITTED
        elif isinstance(last, device_states.RolledBack):
            outcome, reason = Outcome.ROLLED_BACK, last.reason
        elif isinstance(last, device_states.Failed):
            outcome, reason = Outcome.FAILED, last.reason
        accepted = next((one.release.digest for one in mine if isinstance(one, device_states.Accepted)), None)
        rounds = sum(isinstance(one, device_states.HealthChecked) for one in mine)
        return Entry(outcome, accepted, rounds, reason, self.serving())

    # What it is told to do

    def deploy(self, deployment: str, answer: Callable[[Answer], None]) -> None:
        """Take the release into service, as its habit lets it."""
        if self.habit is Habit.LYING:
            self.clock.after(self._pace(), lambda: answer(Said(None)))
            return
        self._attempt(deployment, list(self._faulty_steps(deployment)), answer)

    def go_back(self, deployment: str, answer: Callable[[Answer], None]) -> None:
        """Go back to the release before."""
        previous = self.state.previous
        if previous is None:
            self.clock.after(1.0, lambda: answer(Said("there is nothing before it")))
            return
        release = self.state.releases[previous]
        self._attempt(deployment, list(self._steps(deployment, release, device_states.Operation.ROLLBACK)), answer)

    def _attempt(self, deployment: str, steps: list[Record], answer: Callable[[Answer], None]) -> None:
        if self.state.in_flight is not None:
            self.clock.after(0.1, lambda: answer(Said("another deployer is working on it")))
            return
        if deployment in self.state.deployments:
            self.clock.after(0.1, lambda: answer(Said("it knows the attempt already")))
            return
        fails_at = self.random.randrange(1, len(steps)) if self.habit is Habit.CRASHING and not self.crashed else None
        power = self.power

        def go_on(number: int) -> None:
            if power != self.power:
                return
            if number == fails_at:
                self._lose_power(deployment)
                self.clock.after(_TIMEOUT_S, lambda: answer(Away("the connection was lost")))
                return
            self.write(steps[number].model_copy(update={"at": self.clock.now}))
            if number + 1 < len(steps):
                self.clock.after(self._pace(), lambda: go_on(number + 1))
            else:
                problem = getattr(steps[number], "reason", None)
                answer(Said(problem) if self.is_online() else Away("the connection was lost"))

        go_on(0)

    def _lose_power(self, deployment: str) -> None:
        """Off for some minutes; afterwards it settles what was cut off, as a real one does at its start."""
        self.crashed = True
        self.power += 1
        self.away_until = self.clock.now + timedelta(seconds=self.random.uniform(60, 600))

        def recover() -> None:
            flight = self.state.in_flight
            if flight is None:
                return
            said = {"at": self.clock.now, "deployment": deployment, "reason": "interrupted", "interrupted": True}
            if flight.may_have_swapped:
                self.write(device_states.RolledBack(to=flight.fallback, **said))
            else:
                self.write(device_states.Failed(**said))

        self.clock.after((self.away_until - self.clock.now).total_seconds(), recover)

    def _pace(self) -> float:
        return self.random.uniform(1, 4) * (20 if self.habit is Habit.SLOW else 1)

    def _faulty_steps(self, deployment: str) -> Iterator[Record]:
        steps = self._steps(deployment, self.release, device_states.Operation.DEPLOY)
        said = {"at": self.clock.now, "deployment": deployment}
        for record in steps:
            if self.habit is Habit.CORRUPT and isinstance(record, device_states.Verified):
                yield device_states.Failed(reason="model.gguf is not what its digest says", **said)
                return
            if self.habit is Habit.FAILING and isinstance(record, device_states.HealthChecked):
                yield device_states.RolledBack(reason="it answers wrongly", to=self.state.active, **said)
                return
            yield record

    def _steps(self, deployment: str, release: Release, operation: device_states.Operation) -> Iterator[Record]:
        said = {"at": self.clock.now, "deployment": deployment}
        yield device_states.Started(operation=operation, actor="rollout", **said)
        yield device_states.Accepted(release=release, **said)
        yield device_states.Verified(files=1, size_bytes=1, reused=False, **said)
        yield device_states.Installed(**said)
        active, good = self.state.active, self.state.known_good
        yield device_states.Activating(from_release=active, fallback=good or active, **said)
        yield device_states.Activated(**said)
        for number in range(1, self.rounds + 1):
            yield device_states.HealthChecked(round=number, rounds=self.rounds, report=_REPORT, **said)
        yield device_states.Committed(proved=self.rounds > 0, **said)


def release_named(name: str, counter: int = 1) -> Release:
    """A release for simulated devices."""
    digest = sha256_bytes(name.encode())
    return Release(
        digest=digest,
        bundle=f"bundle_{name}",
        model_version=name,
        run_id="benchmark_20260111_142500",
        counter=counter,
        primary="model.gguf",
        manifest_sha256=digest,
        decision_sha256=digest,
        evidence_sha256=digest,
    )


class Fleet:
    """The simulated devices of a plan, whose release they are to take. The same `seed` makes the same fleet."""

    def __init__(self, plan: Plan, rates: Rates, *, seed: int) -> None:
        self.plan = plan
        self.clock = Clock()
        self.before = release_named("before")
        self.after = release_named(plan.model_version, counter=2)
        if self.after.digest != plan.release:
            raise ValueError("the plan's release is not `release_named` of its model version")
        self.devices = {member.name: self._device(member.name, rates, seed) for member in plan.members}

    def _device(self, name: str, rates: Rates, seed: int) -> Device:
        chance = random.Random(f"{seed}:{name}")  # noqa: S311 - a simulation
        habit = rates.habit(chance.random())
        device = Device(name, habit, self.clock, self.after, self.plan.health_rounds, chance)
        device.begin_with(self.before)
        if habit is Habit.OFFLINE:
            hours = chance.choice([0.1, 1.0, 1e4])
            device.away_until = self.clock.now + timedelta(hours=hours)
        return device

    def serving_the_release(self) -> set[str]:
        """The devices that serve the release now."""
        return {name for name, device in self.devices.items() if device.serving() == self.after.digest}

    def do(self, task: Task, answer: Callable[[Answer], None]) -> None:
        """Do a task; `answer` is called with what comes of it, in simulated time."""
        device = self.devices[task.device]
        if not device.is_online():
            self.clock.after(_TIMEOUT_S, lambda: answer(Away("no route to host")))
            return
        deployment = task.deployment or ""
        if task.verb is Verb.DEPLOY:
            device.deploy(deployment, answer)
        elif task.verb is Verb.GO_BACK:
            device.go_back(deployment, answer)
        else:
            told: Answer = Serves(device.serving()) if task.verb is Verb.LOOK else Tells(device.entry(deployment))
            self.clock.after(0.2, lambda: answer(told))


def simulate(
    fleet: Fleet,
    journal: Kept | None = None,
    *,
    on_tick: Callable[[Rollout], None] | None = None,
    on_turn: Callable[[Rollout], None] | None = None,
) -> Kept:
    """Run the fleet's plan to its end, or until it waits for a person; its journal. A controller that is killed is
    followed by another one, which has nothing but the journal. With `on_turn`, called after each, it is run a turn at a
    time, as the graph does (`turns`)."""
    journal = journal or Kept()
    while True:
        try:
            if not journal.events:
                journal.append(Planned(at=fleet.clock.now, actor="simulation", plan=fleet.plan))
            if journal.state.stage is Stage.PLANNED:
                journal.append(Started(at=fleet.clock.now, actor="simulation"))
            _run(fleet, journal, on_tick, one_turn=on_turn is not None)
            if on_turn is None:
                return journal
            on_turn(journal.state)
            due = next_turn(journal.state, fleet.clock.now, fleet.clock.now)
            if due is None:
                return journal
            fleet.clock.advance(max(0.0, (due - fleet.clock.now).total_seconds()), 0.0)
        except Killed:
            continue


def _run(fleet: Fleet, journal: Kept, on_tick: Callable[[Rollout], None] | None, *, one_turn: bool) -> None:
    controller = Controller(journal)
    if one_turn:
        controller.stay_in_the_open_wave(fleet.clock.now)
    heard: list[tuple[Task, Answer]] = []
    while True:
        tasks = controller.tick(fleet.clock.now)
        for task in tasks:
            fleet.do(task, lambda answer, task=task: heard.append((task, answer)))  # type: ignore[misc]
        if on_tick:
            on_tick(journal.state)
        if controller.is_idle or (one_turn and not tasks and controller.only_waits(fleet.clock.now)):
            return
        if fleet.clock.now - BEGINS_AT > _LONGEST:
            raise RuntimeError(f"the rollout has not ended after {_LONGEST}")
        fleet.clock.advance(1.0, fleet.plan.ask_every_s)
        for task, answer in heard:
            controller.hear(task, answer, fleet.clock.now)
        heard.clear()
