"""Rollouts over the targets that there are: planned, run on, paused, taken back; the same for graph and command line.

    plan = plan_rollout(reach, "spring", bundle, Wanted(), actor="ada")
    state = start(reach, "spring", actor="ada")           # the command line: until it is over
    state = take_turn(reach, "spring", actor="ada")       # the graph: the wave that is open

What belongs here: putting a rollout together with targets, bundles and the state folder. What does not: what a rollout
does (`milton_assets.rollout`), and how it is asked for and shown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from milton_assets.edge.release import read_manifest
from milton_assets.fleet.targets import Targets
from milton_assets.rollout.arms_kept import is_comparison
from milton_assets.rollout.controller import Keeps
from milton_assets.rollout.devices import Devices
from milton_assets.rollout.events import Aborted, Event, Paused, Planned, Resumed, Started, WaveOpened
from milton_assets.rollout.journal import Asked, RolloutBusy, Watched, ask, created, opened, read_plan, read_rollout
from milton_assets.rollout.plan import Freeze, Gate, Member, Opens, Plan
from milton_assets.rollout.planning import DEFAULT_WAVES, freeze_of, in_order, waves_of
from milton_assets.rollout.running import run
from milton_assets.rollout.states import IllegalEvent, Rollout, Stage
from milton_assets.settings import RolloutSettings, Settings
from milton_assets.statistics.failure_rate import RateTest
from milton_assets.usecases.aliases import name_champion
from milton_assets.usecases.compose import evidence_store_of, registry_of, targets_of
from milton_assets.usecases.shared_history import hand_on_history
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import SLUG, check_key, class_of
from milton_assets.vocabulary.registry import RegistryStore
from milton_assets.vocabulary.state import StateDir

Heard = Callable[[Event, Rollout], None]
DEFAULT_GATE = Gate()
HOUR_S = 3600.0


@dataclass(frozen=True)
class Reach:
    """What rollouts are put together with: the state folder, the targets that there are now, which of them are named
    in the settings, the registry, and what hands on the histories of targets, by name, to other hosts."""

    state: StateDir
    targets: Callable[[], Targets]
    named: Callable[[], Collection[str]]
    registry: Callable[[], RegistryStore]
    hand_on: Callable[[Targets, Sequence[str]], None]

    def joining(self) -> Iterator[Member]:
        """Who may join a rollout that is under way: the targets that are named."""
        targets, named = self.targets(), self.named()
        return (member for member in members_of(targets) if member.name in named)


def reach_of(settings: Settings) -> Reach:
    """What the settings describe."""

    def hand_on(targets: Targets, names: Sequence[str]) -> None:
        if settings.evidence_url is not None and names:
            store = evidence_store_of(settings)
            for name in names:
                hand_on_history(store, targets, name)

    return Reach(
        settings.state,
        lambda: targets_of(settings),
        lambda: settings.targets,
        lambda: registry_of(settings),
        hand_on,
    )


@dataclass(frozen=True)
class Wanted:
    """What a person wants of a plan; see `rollout.plan.Plan` and `rollout.planning.waves_of`.

    `names` are the targets, every one that there is where none is named; `device_class` leaves out those of another.
    """

    names: tuple[str, ...] = ()
    device_class: str | None = None
    waves: tuple[str, ...] = DEFAULT_WAVES
    gate: Gate = DEFAULT_GATE
    opens: Opens | None = None
    at_once: int = 8
    reach_within_s: float = 86_400.0
    attempt_within_s: float = 3_600.0
    retries: int = 1
    ask_every_s: float = 30.0
    freeze: tuple[Freeze, ...] = ()
    load_test: bool = True
    health_rounds: int = 3
    health_interval_s: float = 5.0
    back_when_stopped: bool = False
    late: bool = True


def members_of(targets: Targets, device_class: str | None = None) -> Iterator[Member]:
    """The targets that there are, as devices of a rollout; their class is their label."""
    for name in targets.names():
        if device_class in {None, targets.device_class(name)}:
            yield Member(name=name, labels=frozenset({targets.device_class(name)}))


def wanted_of(
    usual: RolloutSettings,
    names: Sequence[str],
    device_class: str,
    *,
    health_rounds: int = 3,
    health_interval_s: float = 5.0,
) -> Wanted:
    """What the settings want of a rollout to those targets of the class; those that are named later join.

    Raises `BadInput` for what is no plan.
    """
    RateTest(usual.tolerable, usual.intolerable, usual.alpha, usual.beta)  # says what is wrong in our words
    gate = Gate.model_validate(usual.model_dump(include=set(Gate.model_fields)))
    opens = None if usual.opens is None else Opens(usual.opens)
    return Wanted(
        names=tuple(names),
        device_class=device_class,
        waves=usual.waves,
        gate=gate,
        opens=opens,
        at_once=usual.at_once,
        reach_within_s=usual.reach_within_hours * HOUR_S,
        attempt_within_s=usual.attempt_within_hours * HOUR_S,
        retries=usual.retries,
        freeze=tuple(freeze_of(text) for text in usual.freeze),
        health_rounds=health_rounds,
        health_interval_s=health_interval_s,
        back_when_stopped=usual.back_when_stopped,
    )


def check_usual(usual: RolloutSettings, device_class: str) -> None:
    """Raise `BadInput` where the settings want what is no rollout to targets of that class, however many there are."""
    wanted = wanted_of(usual, (), device_class)
    waves_of(wanted.waves, [Member(name="any", labels=frozenset({device_class}))], wanted.gate)


def plan_rollout(reach: Reach, name: str, bundle: Path, wanted: Wanted, *, actor: str) -> Plan:
    """Plan a rollout of the bundle and keep the plan; nothing begins.

    Raises `BadInput` for what is no plan, a name that is taken, and a fleet without a device.
    """
    check_key(name, "rollout's name")
    manifest = read_manifest(bundle)
    there = list(members_of(reach.targets(), wanted.device_class))
    if unknown := set(wanted.names) - {member.name for member in there}:
        raise BadInput(
            f"there is no target {', '.join(sorted(unknown))}",
            expected=", ".join(member.name for member in there) or "a target",
            remedy="`milton target list` shows them",
        )
    members = [member for member in there if not wanted.names or member.name in wanted.names]
    if not members:
        raise BadInput(
            "there is no device to take a release to",
            expected="targets in milton.yaml" + (f" of class {wanted.device_class}" if wanted.device_class else ""),
            remedy="`milton target add NAME URL` makes a device a target",
        )
    late = {label for member in members for label in member.labels} if wanted.late else set()
    plan = Plan(
        rollout=name,
        release=manifest.release_digest,
        model_version=manifest.model_version,
        run_id=manifest.run_id,
        bundle=reach.state.tell(bundle),
        members=in_order(members, name),
        waves=waves_of(wanted.waves, members, wanted.gate, wanted.opens),
        gate=wanted.gate,
        at_once=wanted.at_once,
        reach_within_s=wanted.reach_within_s,
        attempt_within_s=wanted.attempt_within_s,
        retries=wanted.retries,
        ask_every_s=wanted.ask_every_s,
        freeze=wanted.freeze,
        load_test=wanted.load_test,
        health_rounds=wanted.health_rounds,
        health_interval_s=wanted.health_interval_s,
        back_when_stopped=wanted.back_when_stopped,
        late=tuple(sorted(late)),
    )
    with created(folder_of(reach.state, name)) as journal:
        journal.append(Planned(at=_now(), actor=actor, plan=plan))
    return plan


def folder_of(state: StateDir, name: str) -> Path:
    """Where a rollout lies."""
    return state.rollouts / check_key(name, "rollout's name")


def names_of(state: StateDir) -> list[str]:
    """The rollouts that were planned, the oldest first."""
    there = [path for path in state.rollouts.iterdir() if SLUG.fullmatch(path.name)] if state.rollouts.is_dir() else []
    return [path.name for path in sorted(there, key=lambda path: path.stat().st_ctime_ns)]


def rollout_of(state: StateDir, name: str) -> Rollout:
    """A rollout as its journal has it now, whoever runs it. Raises `BadInput` where there is none."""
    found = read_rollout(folder_of(state, name)).state
    assert found is not None  # noqa: S101 - `read_rollout` has refused an empty one
    return found


def silent(event: Event, state: Rollout) -> None:
    """Nothing is told."""


def rollouts_of_run(state: StateDir, run_id: str) -> list[str]:
    """The rollouts of that run's bundle, the oldest first."""
    return [name for name in names_of(state) if read_plan(folder_of(state, name)).run_id == run_id]


def start(reach: Reach, name: str, *, actor: str, heard: Heard = silent) -> Rollout:
    """Start the rollout and run it until nothing more happens without a person. Raises `BadInput` when it has started,
    `RolloutBusy` while another process runs it."""
    return _run(reach, name, [Started(at=_now(), actor=actor)], actor=actor, heard=heard)


def take_turn(reach: Reach, name: str, *, actor: str, heard: Heard = silent) -> Rollout:
    """Start the rollout, or go on with it, through the wave that is open and no longer than something can be done.

    Whoever dies meanwhile is followed by another turn. Raises `BadInput` where a person has to decide first or nothing
    is left, `RolloutBusy` while another process runs it.
    """
    state = rollout_of(reach.state, name)
    if state.stage is Stage.PAUSED:
        raise BadInput(
            f"the rollout {name} is paused: {state.why}",
            expected="one that nobody has to decide on",
            remedy=f"`milton rollout resume {name}`, or `milton rollout abort {name}`",
        )
    if state.stage is not Stage.PLANNED:
        _require_left(state)
    first = [Started(at=_now(), actor=actor)] if state.stage is Stage.PLANNED else []
    return _run(reach, name, first, actor=actor, heard=heard, one_turn=True)


def resume(reach: Reach, name: str, *, actor: str, open_next: str | None = None, heard: Heard = silent) -> Rollout:
    """Go on with a rollout that was paused, or whose process died.

    `open_next`: open the next wave without the evidence, for that reason. Raises `BadInput` where nothing is left to go
    on with.
    """
    state = rollout_of(reach.state, name)
    _require_left(state)
    events: list[Event] = []
    if state.stage is Stage.PAUSED:
        events.append(Resumed(at=_now(), actor=actor))
    if open_next is not None:
        events.append(WaveOpened(at=_now(), wave=state.wave + 1, reason=open_next, actor=actor))
    return _run(reach, name, events, actor=actor, heard=heard)


def _require_left(state: Rollout) -> None:
    """Raise `BadInput` where nothing is left to go on with."""
    name = state.plan.rollout
    if state.stage in {Stage.PLANNED, Stage.STOPPED, Stage.DONE, Stage.ABORTED}:
        next_step = {Stage.PLANNED: f"milton rollout start {name}", Stage.STOPPED: f"milton rollout abort {name}"}
        raise BadInput(
            f"the rollout {name} is {state.stage}" + (f": {state.why}" if state.why else ""),
            expected="one that is paused, or whose process died",
            remedy=next_step.get(state.stage),
        )


def pause(reach: Reach, name: str, *, actor: str | None, reason: str) -> bool:
    """Have no device begin any more. Whether that is done; False where the process that runs it was asked to.

    Raises `BadInput` for one that is not under way.
    """
    folder = folder_of(reach.state, name)
    try:
        with opened(folder) as journal:
            _append(journal, Paused(at=_now(), reason=reason, actor=actor))
    except RolloutBusy:
        ask(folder, Asked(abort=False, actor=actor or "another rollout", reason=reason))
        return False
    return True


def let_go_first(reach: Reach, name: str) -> list[str]:
    """Pause the earlier rollouts to devices of this one, since none is to get an older release after a newer one; their
    names."""
    plan = read_plan(folder_of(reach.state, name))
    ours, paused = {member.name for member in plan.members}, []
    for other in names_of(reach.state):
        if other == name or ours.isdisjoint(member.name for member in read_plan(folder_of(reach.state, other)).members):
            continue
        if rollout_of(reach.state, other).stage is Stage.RUNNING:
            pause(reach, other, actor=None, reason=f"the rollout {name} takes another release to the same devices")
            paused.append(other)
    return paused


def abort(reach: Reach, name: str, *, actor: str, reason: str, heard: Heard = silent) -> Rollout | None:
    """Take every device that changed back to where it was. None where the process that runs it was asked to.

    Raises `BadInput` for one that was taken back already.
    """
    folder = folder_of(reach.state, name)
    try:
        state = rollout_of(reach.state, name)
        is_new = state.stage is not Stage.ABORTING
        events: list[Event] = [Aborted(at=_now(), reason=reason, actor=actor)] if is_new else []
        return _run(reach, name, events, actor=actor, heard=heard)
    except RolloutBusy:
        ask(folder, Asked(abort=True, actor=actor, reason=reason))
        return None


def _run(
    reach: Reach, name: str, first: Sequence[Event], *, actor: str, heard: Heard, one_turn: bool = False
) -> Rollout:
    targets, folder = reach.targets(), folder_of(reach.state, name)
    with opened(folder) as kept:
        journal = Watched(kept, heard)
        for event in first:
            _append(journal, event)
        plan = journal.state.plan
        devices = Devices(targets.named, plan, reach.state.place(plan.bundle), actor)
        began = _now()
        done = run(journal, devices.do, folder=folder, members=reach.joining, one_turn=one_turn)
    reach.hand_on(targets, [one.name for one in done.each() if one.deployment is not None and one.since >= began])
    if done.stage is Stage.DONE and done.well and not is_comparison(folder):
        name_champion(reach.registry(), plan.model_version, lambda _: None, class_of(plan.run_id))
    return done


_ASKED: dict[str, tuple[str, dict[Stage, str]]] = {
    "started": ("one that was planned and has not started", {Stage.STOPPED: "abort"}),
    "paused": ("one that is running", {Stage.PLANNED: "start", Stage.STOPPED: "abort"}),
    "aborted": ("one that was not taken back", {}),
    "wave_opened": ("one with another wave to open, whose failures do not exclude a tolerable rate", {}),
}
"""What each of a person's wishes expects of a rollout, and which verb goes on from another stage of it."""
_GOES_ON = {Stage.RUNNING, Stage.PAUSED, Stage.ABORTING}


def _append(journal: Keeps, event: Event) -> None:
    """Append what a person asked for. Raises `BadInput` where the rollout has come too far for it, or not so far."""
    try:
        journal.append(event)
    except IllegalEvent as error:
        state = journal.state
        if event.kind not in _ASKED:
            raise
        name, (expected, verbs) = state.plan.rollout, _ASKED[event.kind]
        verb = verbs.get(state.stage) or ("resume" if state.stage in _GOES_ON else None)
        raise BadInput(
            f"the rollout {name} is {state.stage}" + (f": {state.why}" if state.why else ""),
            expected=expected,
            remedy=f"`milton rollout {verb} {name}`" if verb else f"`milton rollout status {name}` tells how it ended",
        ) from error


def _now() -> datetime:
    return datetime.now(UTC)
