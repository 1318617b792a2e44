"""`milton rollout`: a release taken to many targets gradually; planned, shown, started, watched, paused, taken back.

What belongs here: the verbs' arguments and what they print. What does not: rollouts (`milton_assets.rollout`), and
putting one together with targets (`milton_assets.usecases.rollouts`).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from milton_assets.cli.common import JsonOption, answer, current_settings, say_no, text_given
from milton_assets.cli.deploy import HealthIntervalOption, LoadTestOption, check_bundle_evidence
from milton_assets.cli.which_target import ActorOption, acting
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.registry import ArtefactKind
from milton_assets.vocabulary.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console

    from milton_assets.rollout.events import Event
    from milton_assets.rollout.plan import Plan
    from milton_assets.rollout.states import Rollout

RolloutName = Annotated[str, typer.Argument(metavar="NAME", help="The rollout's name.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the rollout's journal.")]


def register(app: typer.Typer) -> None:
    """Add `rollout` and its verbs to the command line."""
    verbs = typer.Typer(help="Take a release to many targets, in waves that open by evidence.", no_args_is_help=True)
    for verb in (plan, start, status, pause, resume, abort):
        verbs.command()(verb)
    app.add_typer(verbs, name="rollout")


def plan(
    name: RolloutName,
    run: Annotated[str | None, typer.Option("--run", metavar="RUN", help="That run's bundle; else the newest.")] = None,
    bundle: Annotated[Path | None, typer.Option("--bundle", metavar="DIR", help="The bundle in this folder.")] = None,
    artifact: Annotated[ArtefactKind | None, typer.Option("--artifact", help="Which kind, when none is named.")] = None,
    target: Annotated[
        list[str] | None, typer.Option("--target", metavar="NAME", help="These targets; every one by default.")
    ] = None,
    device_class: Annotated[
        str | None, typer.Option("--class", metavar="CLASS", help="Only targets of this device class.")
    ] = None,
    wave: Annotated[
        list[str] | None,
        typer.Option("--wave", metavar="WAVE", help="3, 10%, class=pi5 or rest; by default 1, then rest."),
    ] = None,
    tolerable: Annotated[float, typer.Option("--tolerable", help="A failure rate that does not stop it.")] = 0.02,
    intolerable: Annotated[float, typer.Option("--intolerable", help="One that a wave has to exclude.")] = 0.2,
    alpha: Annotated[float, typer.Option("--alpha", help="How often it may go on wrongly.")] = 0.05,
    beta: Annotated[float, typer.Option("--beta", help="How often it may stop wrongly.")] = 0.05,
    opens: Annotated[
        str | None, typer.Option("--opens", metavar="evidence|all-well", help="What opens every next wave.")
    ] = None,
    at_once: Annotated[int, typer.Option("--at-once", min=1, help="So many targets change at a time.")] = 8,
    reach_within: Annotated[
        float, typer.Option("--reach-within", metavar="HOURS", min=0, help="How long an offline one is waited for.")
    ] = 24.0,
    attempt_within: Annotated[
        float, typer.Option("--attempt-within", metavar="HOURS", min=0, help="How long a target may take.")
    ] = 1.0,
    retries: Annotated[int, typer.Option("--retries", min=0, help="For one that failed before it changed.")] = 1,
    freeze: Annotated[
        list[str] | None, typer.Option("--freeze", metavar="TIMES", help="22:00-06:00 or sat,sun 00:00-23:59, in UTC.")
    ] = None,
    load_test: LoadTestOption = True,
    health_rounds: Annotated[
        int, typer.Option("--health-rounds", metavar="N", min=0, help="Probe each so often once it is current.")
    ] = 3,
    health_interval: HealthIntervalOption = 5.0,
    back_when_stopped: Annotated[
        bool, typer.Option("--back-when-stopped", help="Take every target back when the evidence stops it.")
    ] = False,
    late: Annotated[bool, typer.Option("--late/--no-late", help="Targets that are named later join.")] = True,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Plan a rollout and show what it will do: who, in which waves, what opens the next, what stops it.

    Nothing begins until `milton rollout start`.

    Example: milton rollout plan spring --wave 1 --wave 10% --wave rest
    """
    from milton_assets.edge.deployment.choosing import choose_bundle
    from milton_assets.rollout.planning import DEFAULT_WAVES, freeze_of, what_it_takes
    from milton_assets.usecases.rollouts import HOUR_S, Wanted, plan_rollout, reach_of

    if run is not None and bundle is not None:
        raise typer.BadParameter("give --run or --bundle, not both")
    settings = current_settings()
    if bundle is None:
        choice = choose_bundle(
            settings.state.bundles,
            kind=artifact or settings.artifact,
            run_id=run,
            device_class=device_class if device_class in settings.class_references else None,
        )
        for sentence in choice.unreadable:
            typer.echo(f"warning: passed over {sentence}", err=True)
        bundle = choice.path
    check_bundle_evidence(settings, bundle)
    made = plan_rollout(
        reach_of(settings),
        name,
        bundle,
        Wanted(
            names=tuple(target or ()),
            device_class=device_class,
            waves=tuple(wave or DEFAULT_WAVES),
            gate=_gate(tolerable, intolerable, alpha, beta),
            opens=_opens(opens),
            at_once=at_once,
            reach_within_s=reach_within * HOUR_S,
            attempt_within_s=attempt_within * HOUR_S,
            retries=retries,
            freeze=tuple(freeze_of(text) for text in freeze or ()),
            load_test=load_test,
            health_rounds=health_rounds,
            health_interval_s=health_interval,
            back_when_stopped=back_when_stopped,
            late=late and not target,
        ),
        actor=acting(actor),
    )
    takes = list(what_it_takes(made))
    told = made.model_dump(mode="json") | {"takes": takes}
    answer(told, as_json=as_json, text=lambda console: _show_plan(made, takes, console))


def start(name: RolloutName, actor: ActorOption = None, as_json: JsonOption = False) -> None:
    """Start a planned rollout and run it until it is done, or waits for a person. Exits 1 when it is not done.

    A process that dies loses nothing: `milton rollout resume NAME` goes on.

    Example: milton rollout start spring
    """
    from milton_assets.usecases import rollouts

    _ended(
        rollouts.start(rollouts.reach_of(current_settings()), name, actor=acting(actor), heard=_say), as_json=as_json
    )


def status(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One rollout; a line for each by default.")] = None,
    as_json: JsonOption = False,
) -> None:
    """How far a rollout has come: its waves, its evidence, every target that did not simply stand, and why.

    Example: milton rollout status spring
    """
    from milton_assets.usecases.rollouts import names_of, rollout_of

    state = current_settings().state
    found = [rollout_of(state, each) for each in ([name] if name else names_of(state))]
    payload = [told_of(one) for one in found]

    def show(console: Console) -> None:
        if not found:
            console.print("there are no rollouts yet; `milton rollout plan` makes one")
        for one in found:
            (show_rollout if name else _show_line)(one, console)

    answer(payload[0] if name else payload, as_json=as_json, text=show)


def pause(
    name: RolloutName, reason: ReasonOption = "asked for", actor: ActorOption = None, as_json: JsonOption = False
) -> None:
    """Have no further target begin. What has begun ends. Reaches the process that runs it, wherever that is here.

    Example: milton rollout pause spring --reason "the office is closed"
    """
    from milton_assets.usecases import rollouts

    done = rollouts.pause(rollouts.reach_of(current_settings()), name, actor=acting(actor), reason=text_given(reason))
    said = "paused" if done else "asked the process that runs it to pause"
    answer({"rollout": name, "paused": done}, as_json=as_json, text=lambda console: console.print(said))


def resume(
    name: RolloutName,
    open_next: Annotated[
        str | None, typer.Option("--open", metavar="REASON", help="Open the next wave without the evidence, for this.")
    ] = None,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a rollout that was paused, or whose process died, an abort's too. Exits 1 when it is not done then.

    Example: milton rollout resume spring --open "the canary had a broken card"
    """
    from milton_assets.usecases import rollouts

    reason = None if open_next is None else text_given(open_next)
    reach = rollouts.reach_of(current_settings())
    done = rollouts.resume(reach, name, actor=acting(actor), open_next=reason, heard=_say)
    _ended(done, as_json=as_json)


def abort(
    name: RolloutName, reason: ReasonOption = "asked for", actor: ActorOption = None, as_json: JsonOption = False
) -> None:
    """Take every target that changed back to what it served before. Exits 1 while one of them may still have it.

    Example: milton rollout abort spring --reason "answers too long"
    """
    from milton_assets.usecases import rollouts

    reach = rollouts.reach_of(current_settings())
    done = rollouts.abort(reach, name, actor=acting(actor), reason=text_given(reason), heard=_say)
    if done is None:
        text = "asked the process that runs it to take every target back"
        answer({"rollout": name, "asked": True}, as_json=as_json, text=lambda console: console.print(text))
        return
    answer(told_of(done), as_json=as_json, text=lambda console: show_rollout(done, console))
    if left := [device.name for device in done.exposed()]:
        raise say_no(f"may still have the release: {', '.join(left)}")


def told_of(state: Rollout) -> dict[str, Any]:
    """A rollout for machines."""
    from milton_assets.rollout.states import Phase

    plan = state.plan
    return {
        "rollout": plan.rollout,
        "model_version": plan.model_version,
        "release": plan.release,
        "stage": state.stage,
        "why": state.why,
        "wave": state.wave + 1,
        "waves": [
            {
                "said": wave.said,
                "limit": wave.limit,
                "opens_next": wave.opens,
                "begun": state.begun_in[number],
                "opened_at": opened.at.isoformat() if opened else None,
                "opened_because": opened.reason if opened else None,
            }
            for number, wave in enumerate(plan.waves)
            for opened in (state.opened[number] if number < len(state.opened) else None,)
        ],
        "evidence": {
            "begun": state.begun,
            "stood": state.well,
            "failed": state.failed,
            "failure_rate_is": state.rate,
            **plan.gate.model_dump(),
        },
        "exposed": len(state.exposed()),
        "exposure_bound": state.exposure_bound,
        "devices": [
            {
                "name": device.name,
                "is": device.phase,
                "since": device.since.isoformat(),
                "wave": None if device.wave is None else device.wave + 1,
                "before": device.before,
                "deployment": device.deployment,
                "reason": device.reason or ("no wave takes it yet" if device.phase is Phase.WAITING else ""),
            }
            for device in state.each()
        ],
    }


def show_rollout(state: Rollout, console: Console) -> None:
    """A rollout for people: waves, evidence, and whoever did not simply stand."""
    from milton_assets.rollout.states import Phase

    _show_line(state, console)
    for number, wave in enumerate(state.plan.waves):
        opened = state.opened[number] if number < len(state.opened) else None
        most = "" if wave.limit is None else f" of at most {wave.limit}"
        because = f"open since {opened.at:%Y-%m-%d %H:%M} UTC, {opened.reason}" if opened else "not open yet"
        told = f"  wave {number + 1} ({wave.said}): {state.begun_in[number]}{most} begun; "
        console.print(printable(told + because), markup=False, soft_wrap=True)
    gate = state.plan.gate
    console.print(
        f"  evidence: {state.well} stood, {state.failed} failed of {state.begun} begun; the failure rate is "
        f"{state.rate if state.rate != 'not yet' else 'not yet known to be'}"
        + ("" if state.rate != "not yet" else f" below {gate.intolerable:.0%} or above {gate.tolerable:.0%}"),
        markup=False,
        soft_wrap=True,
    )
    console.print(f"  exposed: {len(state.exposed())} of at most {state.exposure_bound}", markup=False)
    for device in state.each():
        if device.reason and device.phase not in {Phase.STOOD, Phase.HAD_IT}:
            text = f"  {device.name:<16} {device.phase}: {printable(device.reason)}"
            console.print(text, markup=False, soft_wrap=True)


def _show_line(state: Rollout, console: Console) -> None:
    phases = Counter(device.phase for device in state.each())
    counted = ", ".join(f"{count} {phase.replace('_', ' ')}" for phase, count in phases.items())
    plan = state.plan
    text = f"{plan.rollout}: {plan.model_version}, release {short(plan.release)}, {state.stage}; {counted}"
    console.print(printable(text), markup=False, soft_wrap=True)
    if state.why:
        console.print(printable(f"  {state.why}"), markup=False, soft_wrap=True)


def _show_plan(made: Plan, takes: list[str], console: Console) -> None:
    names = ", ".join(member.name for member in made.members[:8]) + (", …" if len(made.members) > 8 else "")
    lines = [
        f"{made.rollout}: {made.model_version}, release {short(made.release)}, to {len(made.members)} targets",
        f"  asked in this order: {names}",
        *(f"  {line}" for line in takes),
        f"  each stands after {made.health_rounds} checks of its own, {made.health_interval_s:g} s apart"
        if made.health_rounds
        else "  each stands without a check: nobody sees whether it serves well",
        f"next: milton rollout start {made.rollout}",
    ]
    for line in lines:
        console.print(printable(line), markup=False, soft_wrap=True)


def _say(event: Event, state: Rollout) -> None:
    """A line an event on standard error, so that standard output stays clean for `--json`."""
    device = getattr(event, "device", None)
    reason = getattr(event, "reason", "")
    what = f"{device}: " if device else ""
    end = f" {event.end.replace('_', ' ')}" if event.kind == "ended" else ""
    told = f"{event.at:%H:%M:%S} {what}{event.kind.replace('_', ' ')}{end}{f': {reason}' if reason else ''}"
    typer.echo(printable(told), err=True)


def _ended(state: Rollout, *, as_json: bool) -> None:
    from milton_assets.rollout.states import Stage

    answer(told_of(state), as_json=as_json, text=lambda console: show_rollout(state, console))
    if state.stage is not Stage.DONE or state.failed:
        name = state.plan.rollout
        raise say_no(
            f"the rollout {name} is {state.stage}, {state.failed} failed; next: `milton rollout status {name}`, then "
            f"`milton rollout resume {name}` or `milton rollout abort {name}`"
        )


def _gate(tolerable: float, intolerable: float, alpha: float, beta: float) -> Any:
    from milton_assets.rollout.plan import Gate
    from milton_assets.statistics.failure_rate import RateTest

    RateTest(tolerable, intolerable, alpha, beta)  # says what is wrong in our words
    return Gate(tolerable=tolerable, intolerable=intolerable, alpha=alpha, beta=beta)


def _opens(text: str | None) -> Any:
    from milton_assets.rollout.plan import Opens

    if text is None:
        return None
    if text not in set(Opens):
        raise typer.BadParameter(f"--opens is {text!r}; expected evidence or all-well")
    return Opens(text)
