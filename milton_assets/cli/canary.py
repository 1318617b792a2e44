"""`milton canary`: compare a release with the one in service, by the requests of a device's own users.

What belongs here: the verbs' arguments and what they print. What does not: the comparison (`milton_assets.edge.canary`)
and splitting requests, which the device's gateway does (`milton-serve`).
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from milton_assets.cli.common import JsonOption, answer, current_settings, progress_on_stderr, say_no
from milton_assets.cli.deploy import check_bundle_evidence
from milton_assets.cli.which_target import ActorOption, TargetOption, TargetPathOption, acting, place_of
from milton_assets.vocabulary.registry import ArtefactKind
from milton_assets.vocabulary.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console

    from milton_assets.edge.canary.plan import CanaryPlan
    from milton_assets.edge.canary.starting import CanaryTold
    from milton_assets.edge.canary.verdict import CanaryVerdict, Finding, Judgement
    from milton_assets.fleet.canaries import KeptVerdict
    from milton_assets.rollout.arms_kept import FleetVerdict, KeptFleetVerdict
    from milton_assets.usecases.fleet_canaries import Standing, WantedArms
    from milton_assets.usecases.rollouts import Reach

CanaryOption = Annotated[
    str | None, typer.Option("--canary", metavar="ID", help="Which canary; by default the latest on the target.")
]


OverOption = Annotated[
    list[str] | None,
    typer.Option("--over", metavar="NAME", help="Whole devices are the arms: this one and the others named so."),
]
FleetOption = Annotated[
    str | None, typer.Option("--fleet", metavar="ID", help="A canary over a fleet, whose arms are whole devices.")
]


def register(app: typer.Typer) -> None:
    """Add `canary` and its verbs."""
    verbs = typer.Typer(help="Compare a release with the one in service, by users' own requests.", no_args_is_help=True)
    verbs.command()(start)
    verbs.command()(status)
    verbs.command()(stop)
    verbs.command()(resume)
    app.add_typer(verbs, name="canary")


def _share(text: str) -> float:
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,4})?)(%?)", text)
    value = math.nan if match is None else float(match[1]) / (100 if match[2] else 1)
    if not 0 < value < 1:
        raise typer.BadParameter(f"{text!r} is no share, such as 10% or 0.1")
    return value


def _times(text: str) -> float:
    match = re.fullmatch(r"\d{1,3}(?:\.\d{1,4})?", text)
    if match is None or float(text) < 1:
        raise typer.BadParameter(f"{text!r} is no factor of 1 and more, such as 1.2")
    return float(text)


def start(
    against: Annotated[
        str, typer.Option("--against", help="What it is compared with: `current`, the release in service.")
    ] = "current",
    share: Annotated[str, typer.Option("--share", metavar="SHARE", help="The challenger's share of requests.")] = "10%",
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="The challenger is that run's bundle; else the newest.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", metavar="DIR", help="The challenger is the bundle in this folder.")
    ] = None,
    artifact: Annotated[
        ArtefactKind | None, typer.Option("--artifact", help="Which kind of bundle, when none is named.")
    ] = None,
    target: TargetOption = None,
    target_path: TargetPathOption = None,
    over: OverOption = None,
    device_class: Annotated[
        str | None,
        typer.Option("--class", metavar="CLASS", help="Whole devices are the arms: every target of this class."),
    ] = None,
    each: Annotated[
        int, typer.Option("--each", metavar="N", min=1, help="Of whole devices: so many requests of each tell.")
    ] = 200,
    sticky: Annotated[
        str | None,
        typer.Option("--sticky", metavar="HEADER", help="Whoever sends the same value of it stays with one release."),
    ] = None,
    sticky_for: Annotated[
        float, typer.Option("--sticky-for", metavar="SECONDS", min=1, help="For so long; then it is drawn anew.")
    ] = 3600.0,
    failures: Annotated[
        str,
        typer.Option("--failures", metavar="SHARE", help="More failures than this, and it goes back."),
    ] = "5%",
    errors: Annotated[
        str,
        typer.Option("--errors", metavar="SHARE", help="So many more errors are within the margin."),
    ] = "2%",
    slower: Annotated[
        str, typer.Option("--slower", metavar="TIMES", help="So many times slower is within it.")
    ] = "1.2",
    longer: Annotated[
        str,
        typer.Option("--longer", metavar="TIMES", help="Answers so much longer, or shorter, are within."),
    ] = "1.5",
    goldens: Annotated[
        str | None,
        typer.Option(
            "--goldens",
            metavar="PATH|shipped",
            help="Golden questions of the reasoning tier: where users ask one, the answers are marked and compared.",
        ),
    ] = None,
    wrong: Annotated[
        str,
        typer.Option("--wrong", metavar="SHARE", help="So many more wrong answers to golden questions are within."),
    ] = "5%",
    assume_memory: Annotated[
        bool, typer.Option("--assume-memory", help="Take it that both models fit into the device's memory.")
    ] = False,
    shadow: Annotated[
        bool,
        typer.Option("--shadow", help="Record users' requests and ask both later, one at a time, while nobody asks."),
    ] = False,
    requests: Annotated[
        int, typer.Option("--requests", metavar="N", min=10, max=10_000, help="Of a shadow: record so many at most.")
    ] = 500,
    redact: Annotated[
        list[str] | None,
        typer.Option("--redact", metavar="REGEX", help="Of a shadow: what else is not to be recorded."),
    ] = None,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have the target's gateway give a share of its users' requests to a challenger, until the evidence decides.

    The challenger never becomes current by it: once the verdict is promote, `milton deploy` takes it into service.

    With --class or --over whole devices are the arms: a share of them, drawn, gets the challenger by a rollout.

    Example: milton canary start --target kitchen --against current --share 10%
    """
    from milton_assets.edge.canary.plan import Margins, Recording
    from milton_assets.edge.canary.recording import patterns
    from milton_assets.edge.canary.starting import CanaryRequest
    from milton_assets.edge.deployment.choosing import choose_bundle
    from milton_assets.usecases.canaries import canaries_on

    if against != "current":
        raise typer.BadParameter("a challenger is compared with `current`", param_hint="--against")
    if run is not None and bundle is not None:
        raise typer.BadParameter("give --run or --bundle, not both")
    settings = current_settings()
    fleet = bool(over) or device_class is not None
    if fleet and (target is not None or target_path is not None or shadow or sticky is not None):
        raise typer.BadParameter("--over and --class take whole devices, and neither --target, --sticky nor --shadow")
    place = None if fleet else place_of(target, target_path)[1]
    if bundle is None:
        decided_for = settings.class_decided_for(place.name if place is not None else (over or [""])[0])
        if device_class is not None:
            decided_for = device_class if device_class in settings.class_references else None
        bundle = choose_bundle(
            settings.state.bundles, kind=artifact or settings.artifact, run_id=run, device_class=decided_for
        ).path
    if redact and not shadow:
        raise typer.BadParameter("only a shadow records anything", param_hint="--redact")
    patterns(redact or ())
    check_bundle_evidence(settings, bundle)
    margins = Margins(
        failures=_share(failures),
        errors=_share(errors),
        slower=_times(slower),
        longer=_times(longer),
        wrong=_share(wrong),
    )
    sheet = None
    if goldens is not None:
        from milton_assets.usecases.golden_questions import golden_sheet

        sheet = golden_sheet(settings, goldens)
    if place is None:
        from milton_assets.usecases.fleet_canaries import WantedArms

        wanted = WantedArms(share=_share(share), requests=each, margins=margins, goldens=sheet)
        _start_over(bundle, wanted, over, device_class, actor=acting(actor), as_json=as_json)
        return
    request = CanaryRequest(
        actor=acting(actor),
        share=_share(share),
        sticky_header=None if sticky is None else sticky.lower(),
        sticky_s=sticky_for,
        margins=margins,
        assume_memory=assume_memory,
        recording=Recording(requests=requests, redact=tuple(redact or ())) if shadow else None,
    )
    plan = canaries_on(place).canary_start(bundle, request, goldens=sheet, on_progress=progress_on_stderr())
    answer(
        plan.model_dump(mode="json"),
        as_json=as_json,
        text=lambda console: console.print(_begun(plan), markup=False, soft_wrap=True),
    )


def _begun(plan: CanaryPlan) -> str:
    once = f"on {plan.target}, as soon as its gateway (`milton-serve`) has seen it"
    if plan.recording is not None:
        least = f"up to {plan.recording.requests} requests are recorded {once}"
        return (
            f"{plan.id}: {least}, and asked of {plan.challenger_version} and {plan.incumbent_version} while nobody asks"
        )
    share = f"{plan.share:.0%} of the requests of {plan.incumbent_version}"
    return f"{plan.id}: {plan.challenger_version} is to get {share} {once}"


def status(
    target: TargetOption = None,
    target_path: TargetPathOption = None,
    canary: CanaryOption = None,
    fleet: FleetOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a canary's requests say so far, or how it ended; a verdict is kept here, signed, as field evidence.

    Exits 1 when the challenger went back.

    Example: milton canary status --target kitchen
    """
    from milton_assets.usecases.canaries import canaries_on

    if fleet is not None:
        from milton_assets.usecases.fleet_canaries import look

        _tell_fleet(look(_reach(), fleet), as_json=as_json)
        return
    _, place = place_of(target, target_path)
    _tell(place, canaries_on(place).canary_told(canary), as_json=as_json)


def stop(
    target: TargetOption = None,
    target_path: TargetPathOption = None,
    canary: CanaryOption = None,
    fleet: FleetOption = None,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a canary as it stands: all requests go to the release in service. Exits 1 when the challenger went back.

    Over a fleet, the devices that have the challenger go back to what they served, unless its verdict is promote.

    Example: milton canary stop --target kitchen
    """
    from milton_assets.usecases.canaries import canaries_on

    if fleet is not None:
        from milton_assets.usecases.fleet_canaries import stop as stop_fleet

        _tell_fleet(stop_fleet(_reach(), fleet, actor=acting(actor)), as_json=as_json)
        return
    _, place = place_of(target, target_path)
    _tell(place, canaries_on(place).canary_stop(canary, actor=acting(actor)), as_json=as_json)


def resume(
    fleet: Annotated[str, typer.Argument(metavar="ID", help="A canary over a fleet.")],
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with taking a challenger to its devices, and have those record that do not yet.

    Example: milton canary resume canary_20260111_142500_000_0a1b2c
    """
    from milton_assets.usecases.fleet_canaries import go_on, look

    go_on(_reach(), fleet, actor=acting(actor))
    _tell_fleet(look(_reach(), fleet), as_json=as_json)


def _reach() -> Reach:
    from milton_assets.usecases.rollouts import reach_of

    return reach_of(current_settings())


def _start_over(
    bundle: Path, wanted: WantedArms, over: list[str] | None, device_class: str | None, *, actor: str, as_json: bool
) -> None:
    from dataclasses import replace

    from milton_assets.usecases.fleet_canaries import go_on, look, plan_arms

    reach = _reach()
    which = replace(wanted.rollout, names=tuple(over or ()), device_class=device_class)
    plan = plan_arms(reach, bundle, replace(wanted, rollout=which), actor=actor)
    compared, drawn = sum(len(block.devices) for block in plan.blocks), len(plan.challengers)
    said = f"{plan.id}: {plan.challenger_version} goes to {drawn} of {compared} devices, one of each {plan.size}"
    typer.echo(f"{said}, by the rollout {plan.id}", err=True)
    go_on(reach, plan.id, actor=actor)
    _tell_fleet(look(reach, plan.id), as_json=as_json)


def _tell_fleet(standing: Standing, *, as_json: bool) -> None:
    from milton_assets.edge.canary.verdict import Outcome

    kept = standing.kept
    payload = {
        "plan": standing.plan.model_dump(mode="json"),
        "rollout": standing.stage,
        "told": {name: one.model_dump(mode="json") for name, one in standing.told.items()},
        "silent": standing.silent,
        "judgement": standing.judgement.model_dump(mode="json"),
        "kept": None if kept is None else {"path": str(kept.path), "sha256": kept.sha256, "signer": kept.signer},
        "verdict": None
        if kept is None
        else kept.verdict.model_dump(mode="json", include={"outcome", "reasons", "fact"}),
    }
    answer(payload, as_json=as_json, text=lambda console: _draw_fleet(standing, console))
    if kept is not None and kept.verdict.outcome is Outcome.GO_BACK:
        back = f"`milton canary stop --fleet {standing.plan.id}` takes it back"
        raise say_no(f"{standing.plan.challenger_version} is not to stay: {back}")


def _draw_fleet(standing: Standing, console: Console) -> None:
    plan, kept = standing.plan, standing.kept

    def say(line: str) -> None:
        console.print(printable(line), markup=False, soft_wrap=True)

    say(f"{plan.id}: {plan.challenger_version} on one of each {plan.size} devices; its rollout is {standing.stage}")
    for number, block in enumerate(plan.blocks, 1):
        told = (standing.told.get(name) for name in block.devices)
        counts = [one.figures.requests if one is not None and one.figures is not None else 0 for one in told]
        left = [
            f"{name} ({count} of {plan.requests})"
            for name, count in zip(block.devices, counts, strict=True)
            if count < plan.requests
        ]
        done = f"{plan.size - len(left)} of {plan.size} have told"
        waits = f"; it waits for {', '.join(left)}" if left and kept is None else ""
        say(f"  block {number} ({block.device_class}): {block.challenger} has it; {done}{waits}")
    for name, why in standing.silent.items():
        say(f"  {name}: {why}")
    for finding in standing.judgement.findings:
        say(f"  {_said(finding)}")
    _draw_verdict(standing.judgement, None if kept is None else kept.verdict, kept, console)


def _tell(place: Any, told: CanaryTold, *, as_json: bool) -> None:
    from milton_assets.edge.canary.verdict import Outcome
    from milton_assets.usecases.canaries import told_and_kept

    kept = told_and_kept(current_settings().state, place, told)
    payload = told.model_dump(mode="json") | {
        "kept": None if kept is None else {"path": str(kept.path), "sha256": kept.sha256, "signer": kept.signer}
    }
    answer(payload, as_json=as_json, text=lambda console: _draw(told, kept, console))
    if told.verdict is not None and told.verdict.outcome is Outcome.GO_BACK:
        raise say_no(f"{told.plan.challenger_version} went back")


def _draw(told: CanaryTold, kept: KeptVerdict | None, console: Console) -> None:
    plan, ours, theirs = told.plan, told.counts.challenger, told.counts.incumbent
    by = f", by {plan.sticky_header}" if plan.sticky_header else ""
    how = f"{plan.share:.0%} of the requests{by}" if plan.recording is None else "recorded requests, asked of both"
    console.print(
        f"{plan.id} on {plan.target}: {plan.challenger_version} beside {plan.incumbent_version}, {how}",
        markup=False,
        soft_wrap=True,
    )
    for name, one in (("challenger", ours), ("incumbent", theirs)):
        rated = f", {one.rated_badly} of {one.rated} ratings bad" if one.rated else ""
        console.print(
            f"  {name:<11} {one.requests} requests, {one.erred} errors, {one.failed} failures{rated}", markup=False
        )
    if alike_or_not := told.counts.answers_alike + told.counts.answers_differ:
        console.print(f"  {told.counts.answers_alike} of {alike_or_not} answers were the same, letter for letter")
    for name, one in (("challenger", ours), ("incumbent", theirs)):
        if one.marked:
            console.print(f"  {name:<11} {one.right} of {one.marked} answers to golden questions right", markup=False)
    for finding in told.judgement.findings:
        console.print(f"  {_said(finding)}", markup=False)
    _draw_verdict(told.judgement, told.verdict, kept, console)


def _draw_verdict(
    judgement: Judgement,
    verdict: CanaryVerdict | FleetVerdict | None,
    kept: KeptVerdict | KeptFleetVerdict | None,
    console: Console,
) -> None:
    """How it ended, or what it looks like so far; and where the verdict is kept, signed by whom."""
    over = judgement if verdict is None else verdict
    lines = [
        f"  {'so far' if verdict is None else 'verdict'}: {over.outcome.replace('_', ' ')}",
        *(f"    {reason}" for reason in over.reasons),
    ]
    if kept is not None:
        signer = kept.signer or "nobody: `milton keys init` makes a key"
        lines += [f"  kept as {kept.path}, signed by {signer}", f"    sha256 {kept.sha256}"]
    for line in lines:
        console.print(printable(line), markup=False, soft_wrap=True)


_ABOUT = {
    "answer": "time to first token",
    "writing": "time per output token",
    "goldens": "answers to golden questions",
}


def _said(finding: Finding) -> str:
    about = _ABOUT.get(finding.question, finding.question)
    way = {"go_back": "against", "promote": "for"}[finding.speaks_for]
    return f"{about} ({way} it): {max(0.0, finding.log_evidence / finding.needed):.0%} of the evidence"
