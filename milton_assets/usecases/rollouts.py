"""Rollouts over the targets that there are: planned, run on, paused, taken back; the same for graph and command line.

    plan = plan_rollout(settings, "spring", bundle, Wanted())
    state = go_on(settings, "spring", actor="ada")

What belongs here: putting a rollout together with targets, bundles and the state folder. What does not: what a rollout
does (`milton_assets.rollout`), and how it is asked for and shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from milton_assets.edge.release import read_manifest
from milton_assets.fleet.targets import Targets
from milton_assets.rollout.devices import Devices
from milton_assets.rollout.events import Aborted, Event, Paused, Planned, Resumed, Started, WaveOpened
from milton_assets.rollout.journal import Asked, RolloutBusy, Watched, ask, created, opened, read_rollout
from milton_assets.rollout.plan import Freeze, Gate, Member, Opens, Plan
from milton_assets.rollout.planning import DEFAULT_WAVES, in_order, waves_of
from milton_assets.rollout.running import run
from milton_assets.rollout.states import Rollout, Stage
from milton_assets.settings import Settings
from milton_assets.usecases.aliases import name_champion
from milton_assets.usecases.compose import registry_of, targets_of
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import SLUG, check_key
from milton_assets.vocabulary.state import StateDir

Heard = Callable[[Event, Rollout], None]
DEFAULT_GATE = Gate()


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


def plan_rollout(settings: Settings, name: str, bundle: Path, wanted: Wanted, *, actor: str) -> Plan:
    """Plan a rollout of the bundle and keep the plan; nothing begins.

    Raises `BadInput` for what is no plan, a name that is taken, and a fleet without a device.
    """
    check_key(name, "rollout's name")
    manifest = read_manifest(bundle)
    there = list(members_of(targets_of(settings), wanted.device_class))
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
    late = {label for member in members for label in member.labels} if wanted.late and not wanted.names else set()
    plan = Plan(
        rollout=name,
        release=manifest.release_digest,
        model_version=manifest.model_version,
        run_id=manifest.run_id,
        bundle=settings.state.tell(bundle),
        members=in_order(members, name),
        waves=waves_of(wanted.waves, members, wanted.gate, wanted.opens),
        gate=wanted.gate,
        at_once=wanted.at_once,
        reach_within_s=wanted.reach_within_s,
        attempt_within_s=wanted.attempt_within_s,
        retries=wanted.retries,
        freeze=wanted.freeze,
        load_test=wanted.load_test,
        health_rounds=wanted.health_rounds,
        health_interval_s=wanted.health_interval_s,
        back_when_stopped=wanted.back_when_stopped,
        late=tuple(sorted(late)),
    )
    with created(folder_of(settings.state, name)) as journal:
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


def _silent(event: Event, state: Rollout) -> None:
    """Nothing is told."""


def start(settings: Settings, name: str, *, actor: str, heard: Heard = _silent) -> Rollout:
    """Start the rollout and run it until nothing more happens without a person. Raises `IllegalEvent` when it has
    started, `RolloutBusy` while another process runs it."""
    return _run(settings, name, [Started(at=_now(), actor=actor)], actor=actor, heard=heard)


def resume(
    settings: Settings, name: str, *, actor: str, open_next: str | None = None, heard: Heard = _silent
) -> Rollout:
    """Go on with a rollout that was paused, or whose process died.

    `open_next`: open the next wave without the evidence, for that reason. Raises `BadInput` where nothing is left to go
    on with.
    """
    state = rollout_of(settings.state, name)
    if state.stage in {Stage.PLANNED, Stage.STOPPED, Stage.DONE, Stage.ABORTED}:
        next_step = {Stage.PLANNED: f"milton rollout start {name}", Stage.STOPPED: f"milton rollout abort {name}"}
        raise BadInput(
            f"the rollout {name} is {state.stage}" + (f": {state.why}" if state.why else ""),
            expected="one that is paused, or whose process died",
            remedy=next_step.get(state.stage),
        )
    events: list[Event] = []
    if state.stage is Stage.PAUSED:
        events.append(Resumed(at=_now(), actor=actor))
    if open_next is not None:
        events.append(WaveOpened(at=_now(), wave=state.wave + 1, reason=open_next, actor=actor))
    return _run(settings, name, events, actor=actor, heard=heard)


def pause(settings: Settings, name: str, *, actor: str, reason: str) -> bool:
    """Have no device begin any more. Whether that is done; False where the process that runs it was asked to."""
    folder = folder_of(settings.state, name)
    try:
        with opened(folder) as journal:
            journal.append(Paused(at=_now(), reason=reason, actor=actor))
    except RolloutBusy:
        ask(folder, Asked(abort=False, actor=actor, reason=reason))
        return False
    return True


def abort(settings: Settings, name: str, *, actor: str, reason: str, heard: Heard = _silent) -> Rollout | None:
    """Take every device that changed back to where it was. None where the process that runs it was asked to."""
    folder = folder_of(settings.state, name)
    try:
        state = rollout_of(settings.state, name)
        is_new = state.stage is not Stage.ABORTING
        events: list[Event] = [Aborted(at=_now(), reason=reason, actor=actor)] if is_new else []
        return _run(settings, name, events, actor=actor, heard=heard)
    except RolloutBusy:
        ask(folder, Asked(abort=True, actor=actor, reason=reason))
        return None


def _run(settings: Settings, name: str, first: Sequence[Event], *, actor: str, heard: Heard) -> Rollout:
    targets, folder = targets_of(settings), folder_of(settings.state, name)
    with opened(folder) as kept:
        journal = Watched(kept, heard)
        for event in first:
            journal.append(event)
        plan = journal.state.plan
        devices = Devices(targets.named, plan, settings.state.place(plan.bundle), actor)
        done = run(journal, devices.do, folder=folder, members=lambda: members_of(targets_of(settings)))
    if done.stage is Stage.DONE and done.well:
        name_champion(registry_of(settings), plan.model_version, lambda _: None)
    return done


def _now() -> datetime:
    return datetime.now(UTC)
