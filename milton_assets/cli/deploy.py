"""`milton deploy`, `rollback`, `history`, `status`, `recover`, `gc`: what runs where, how it got there, and back.

What belongs here: the verbs' arguments and what they print. What does not: deployments themselves, which a target does
(`milton_assets.fleet.target`).
"""

from __future__ import annotations

import getpass
import textwrap
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from milton_assets.cli.common import (
    EXIT_NO,
    JsonOption,
    answer,
    check_evidence_files,
    current_settings,
    progress_on_stderr,
    registry_of,
    say_no,
    text_given,
)
from milton_assets.settings import Settings
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.errors import BadInput, EvidenceMismatch, MiltonError
from milton_assets.vocabulary.figure import counted
from milton_assets.vocabulary.registry import ArtefactKind
from milton_assets.vocabulary.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from milton_assets.edge.deployment import Collection, Deployment, Release, TargetStatus, Verification
    from milton_assets.fleet.target import Target
    from milton_assets.fleet.targets import Targets

T = TypeVar("T")
_WITHIN_S = 60.0
"""How long one of many targets may take to say what it serves."""

TargetOption = Annotated[
    str | None, typer.Option("--target", metavar="NAME", help="A named target; `local` when nothing is given.")
]
TargetPathOption = Annotated[
    Path | None, typer.Option("--target-path", metavar="DIR", help="Any folder: empty, absent, or a target already.")
]
ActorOption = Annotated[str | None, typer.Option("--actor", help="Who does this, for the history; you by default.")]
WaitOption = Annotated[float, typer.Option("--wait", metavar="SECONDS", min=0, help="Wait for another deployer.")]
LoadTestOption = Annotated[
    bool,
    typer.Option("--load-test/--no-load-test", help="Serve the release and have it generate before it is current."),
]
HealthRoundsOption = Annotated[
    int, typer.Option("--health-rounds", metavar="N", min=0, help="Probe it so often once it is current.")
]
HealthIntervalOption = Annotated[
    float, typer.Option("--health-interval", metavar="SECONDS", min=0, help="Time between two of these probes.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Check everything, change nothing, say what would be.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of deployment to the command line."""
    for verb in (deploy, rollback, history, status, recover, gc):
        app.command()(verb)


def deploy(
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="Deploy that benchmark run's bundle; else the newest.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", metavar="DIR", help="Deploy the bundle in this folder.")
    ] = None,
    artifact: Annotated[
        ArtefactKind | None,
        typer.Option("--artifact", help="Which kind of bundle, when none is named; by default the setting `artifact`."),
    ] = None,
    target: TargetOption = None,
    target_path: TargetPathOption = None,
    load_test: LoadTestOption = True,
    health_rounds: HealthRoundsOption = 3,
    health_interval: HealthIntervalOption = 5.0,
    accept_clock: Annotated[
        bool, typer.Option("--accept-clock", help="Deploy although the clock is behind the target's journal.")
    ] = False,
    device_policy: Annotated[
        Path | None,
        typer.Option(
            "--device-policy", metavar="FILE", help="Admit only what this policy does, besides the target's own policy."
        ),
    ] = None,
    actor: ActorOption = None,
    wait: WaitOption = 0.0,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take a bundle into service on a target: verified on its disk, load tested, activated in one step, watched.

    Whatever fails, the target goes on serving what it served. Exits 1 when the deployment did not stand.

    Example: milton deploy --run benchmark_20260111_142500 --target local --dry-run
    """
    from milton_assets.edge.deployment.admission import load_device_policy
    from milton_assets.edge.deployment.choosing import choose_bundle
    from milton_assets.fleet.target import DeployRequest
    from milton_assets.usecases.aliases import name_champion
    from milton_assets.vocabulary.keys import check_run_id, class_of

    if run is not None and bundle is not None:
        raise typer.BadParameter("give --run or --bundle, not both")
    if run is not None:
        check_run_id(run)
    settings = current_settings()
    targets, place = place_of(target, target_path)
    if bundle is None:
        _bring(settings, run, settings.class_decided_for(place.name))
        choice = choose_bundle(
            targets.state.bundles,
            kind=artifact or settings.artifact,
            run_id=run,
            device_class=settings.class_decided_for(place.name),
        )
        for sentence in choice.unreadable:
            typer.echo(f"warning: passed over {sentence}", err=True)
        bundle = choice.path
    check_bundle_evidence(settings, bundle)
    request = DeployRequest(
        actor=acting(actor),
        wait_s=wait,
        load_test=load_test,
        health_rounds=health_rounds,
        health_interval_s=health_interval,
        dry_run=dry_run,
        accept_clock=accept_clock,
        device_policy=load_device_policy(device_policy) if device_policy else None,
    )
    with _telling(as_json=as_json), _handing_on(settings, targets, place.name):
        done = place.deploy(bundle, request, on_progress=progress_on_stderr())
    if not dry_run and done.model_version is not None:
        name_champion(
            registry_of(settings),
            done.model_version,
            lambda said: typer.echo(f"note: {said}", err=True),
            class_of(done.run_id or ""),
        )
    answer(done.model_dump(mode="json"), as_json=as_json, text=lambda console: _show_deployment(done, console))


def rollback(
    target: TargetOption = None,
    target_path: TargetPathOption = None,
    load_test: LoadTestOption = True,
    health_rounds: HealthRoundsOption = 3,
    health_interval: HealthIntervalOption = 5.0,
    actor: ActorOption = None,
    wait: WaitOption = 0.0,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Go back to the release before the one in service. It is verified whole, byte for byte, first.

    Example: milton rollback --target local
    """
    from milton_assets.fleet.target import RollbackRequest

    settings = current_settings()
    targets, place = place_of(target, target_path)
    request = RollbackRequest(
        actor=acting(actor),
        wait_s=wait,
        load_test=load_test,
        health_rounds=health_rounds,
        health_interval_s=health_interval,
        dry_run=dry_run,
    )
    with _telling(as_json=as_json), _handing_on(settings, targets, place.name):
        done = place.rollback(request, on_progress=progress_on_stderr())
    answer(done.model_dump(mode="json"), as_json=as_json, text=lambda console: _show_deployment(done, console))


def history(
    target: TargetOption = None,
    target_path: TargetPathOption = None,
    as_json: JsonOption = False,
) -> None:
    """Every attempt, the failed ones too: who, when, from what, to what, how it ended. All targets by default.

    Example: milton history --target local
    """
    from milton_assets.fleet.links import Unreachable

    targets, _ = place_of(target, target_path)
    found: list[Deployment] = []
    for place in _those_meant(target, target_path):
        try:
            found += place.history()
        except Unreachable as error:  # what it told last is kept here; whether it is still all, only the device knows
            found += targets.mirrored(place.name)
            typer.echo(f"warning: {place.name}: {error.problem}; below is what it told last", err=True)
    found.sort(key=lambda deployment: deployment.started_at)
    payload = [deployment.model_dump(mode="json") for deployment in found]
    answer(payload, as_json=as_json, text=lambda console: _show_history(found, console))


def status(
    target: TargetOption = None,
    target_path: TargetPathOption = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read the release in service whole, and hold it against its digests.")
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="Every target there is, as without a target.")] = False,
    within: Annotated[
        float | None,
        typer.Option(
            "--within", metavar="SECONDS", min=0.1, help="How long each of many may take; 60, with --verify no end."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What each target serves now, and what it could go back to. Exits 1 when a target is not as its journal says.

    Looks at the journal, at the links and at whether their releases are there; with --verify also at every byte of the
    release in service. Many targets are asked at once, and one that does not answer in time keeps no other from it.

    Example: milton status --all --within 10
    """

    def ask(place: Target) -> tuple[TargetStatus, Verification | None]:
        return place.status(), place.verify(on_progress=progress_on_stderr()) if verify else None

    if every and (target is not None or target_path is not None):
        raise typer.BadParameter("give --all or one target, not both")
    within_s = within if within is not None or verify else _WITHIN_S
    found, unknown = _of_those_deployed_to(ask, target, target_path, within_s=within_s)
    payload = [
        one.model_dump(mode="json") | ({"verification": read.model_dump(mode="json")} if read else {})
        for one, read in found
    ]
    waiting = ", ".join(place_of(None, None)[0].names()) if not found and not unknown else ""
    answer(payload, as_json=as_json, text=lambda console: _show_status(found, waiting, console))
    broken = [one.target for one, _ in found if one.problems]
    changed = [one.target for one, read in found if read and read.problems]
    said = [f"{name}: {error}" for name, error in unknown]
    if changed:
        said.append(
            f"not what was deployed: {', '.join(changed)}; deploy the bundle again, or `milton rollback --target NAME`"
        )
    if broken:
        said.append(f"not as their journals say: {', '.join(broken)}; `milton recover --target NAME` settles it")
    if said:
        raise say_no("\n".join(said))


def recover(
    target: TargetOption = None,
    target_path: TargetPathOption = None,
    every: Annotated[bool, typer.Option("--all", help="Every target there is; none is fine too.")] = False,
    actor: ActorOption = None,
    wait: WaitOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Settle what a crash left behind, as every other verb does first. Meant for a device's start-up.

    With `--all`, a target that cannot be recovered keeps no other from it; then the exit code is 1.

    Example: milton recover --target local
    """
    from milton_assets.edge.deployment import NeverDeployed
    from milton_assets.fleet.target import RecoverRequest

    if every and (target is not None or target_path is not None):
        raise typer.BadParameter("give --all or one target, not both")
    request = RecoverRequest(actor=acting(actor), wait_s=wait)
    done: list[str] = []
    failed: list[str] = []
    recovered: list[str] = []
    settings = current_settings()
    targets, place = place_of(target, target_path)
    for one in targets.all() if every else (place,):
        try:
            said = one.recover(request)
            one.history()  # what a device tells of it is mirrored
        except NeverDeployed:
            if not every:
                raise
        except MiltonError as error:
            if not every:
                raise
            failed.append(f"{one.name}: {error}")
        else:
            done += [f"{one.name}: {sentence}" for sentence in said] if every else said
            recovered.append(one.name)
    for name in recovered:  # once all are settled: the others may not be reachable when a device starts
        try:
            _hand_on(settings, targets, name)
        except (OSError, BadInput) as error:
            typer.echo(f"warning: other hosts do not know the history of {name} yet: {error}", err=True)
    shown = done or ["nothing was left to settle"]
    answer(done, as_json=as_json, text=lambda console: console.print("\n".join(shown), markup=False))
    if failed:
        raise say_no("\n".join(failed))


def gc(
    target: TargetOption = None,
    target_path: TargetPathOption = None,
    keep: Annotated[int, typer.Option("--keep", metavar="N", min=0, help="Keep so many releases to roll back to.")] = 0,
    actor: ActorOption = None,
    wait: WaitOption = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be freed.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Free the releases that are neither in service nor last known good, and say what was freed.

    Example: milton gc --target local --keep 1 --dry-run
    """
    from milton_assets.fleet.target import CollectRequest

    request = CollectRequest(actor=acting(actor), wait_s=wait, keep=keep, dry_run=dry_run)
    targets, place = place_of(target, target_path)
    done = place.collect(request)
    place.history()  # what a crash left behind was settled first, and what a device tells of that is mirrored
    _hand_on(current_settings(), targets, place.name)
    answer(done.model_dump(mode="json"), as_json=as_json, text=lambda console: _show_collection(done, console))


def place_of(name: str | None, path: Path | None) -> tuple[Targets, Target]:
    """The targets there are, and the one that `--target` and `--target-path` mean."""
    from milton_assets.usecases.compose import targets_of

    if name is not None and path is not None:
        raise typer.BadParameter("give --target or --target-path, not both")
    targets = targets_of(current_settings())
    return targets, targets.resolve(name=name, path=path)


def target_of(name: str | None, path: Path | None) -> Target:
    """The target that `--target` and `--target-path` mean."""
    return place_of(name, path)[1]


def _those_meant(name: str | None, path: Path | None) -> tuple[Target, ...]:
    """The target that is meant; every one there is where none is."""
    targets, place = place_of(name, path)
    return targets.all() if name is None and path is None else (place,)


def _of_those_deployed_to(
    ask: Callable[[Target], T], name: str | None, path: Path | None, *, within_s: float | None
) -> tuple[list[T], list[tuple[str, MiltonError]]]:
    """What the targets that are meant answer. Where none is named, one that cannot answer keeps no other from it: the
    second list says which and why; those that wait for their first release are left out."""
    from milton_assets.edge.deployment import NeverDeployed
    from milton_assets.fleet.many import ask_each

    there = _those_meant(name, path)
    if name is not None or path is not None:
        return [ask(there[0])], []
    answers, failed = [], []
    for place, told in zip(there, ask_each(there, ask, within_s=within_s), strict=True):
        if not isinstance(told, MiltonError):
            answers.append(told)
        elif not isinstance(told, NeverDeployed):
            failed.append((place.name, told))
    return answers, failed


def check_bundle_evidence(settings: Settings, bundle: Path) -> None:
    """Hold the bundle's evidence against the files it pins, where this machine has them; say so where it has not."""
    from milton_assets.edge.release import read_manifest

    try:
        manifest = read_manifest(bundle)
    except BadInput:
        return  # no bundle, as the deployment is going to say, in its history too
    from milton_assets.selection.summary import read_summary, run_ids

    runs = settings.runs
    if manifest.run_id not in run_ids(runs):
        typer.echo(f"note: {manifest.run_id} was not decided here, so its evidence is not looked at", err=True)
        return
    evidence = read_summary(runs, manifest.run_id).manifest
    if evidence.digest() != manifest.evidence_sha256:
        raise EvidenceMismatch(
            f"the bundle rests on the evidence manifest {manifest.evidence_sha256}",
            expected=f"{evidence.digest()}, that of {manifest.run_id} here",
            remedy="bundle the run again",
        )
    check_evidence_files(settings, evidence)


def _bring(settings: Settings, run: str | None, device_class: str | None) -> None:
    """Fetch the bundle that is meant, where another host may have made it."""
    if settings.evidence_url is not None:
        from milton_assets.usecases.compose import evidence_store_of
        from milton_assets.usecases.shared_bundles import bring

        bring(evidence_store_of(settings), settings.state.bundles, run_id=run, device_class=device_class)


def _handing_on(settings: Settings, targets: Targets, name: str) -> AbstractContextManager[None]:
    """Have other hosts find the target's history once the attempt in the block ended."""
    if settings.evidence_url is None:
        return nullcontext()
    from milton_assets.usecases.compose import evidence_store_of
    from milton_assets.usecases.shared_history import handing_on

    return handing_on(evidence_store_of(settings), targets, name)


def _hand_on(settings: Settings, targets: Targets, name: str) -> None:
    """Have other hosts find the target's history as it is."""
    if settings.evidence_url is not None:
        from milton_assets.usecases.compose import evidence_store_of
        from milton_assets.usecases.shared_history import hand_on_history

        hand_on_history(evidence_store_of(settings), targets, name)


def acting(actor: str | None) -> str:
    """Who does this, for the history: whoever was given, else this process's user. Raises `BadInput` without a name."""
    if actor:
        return text_given(actor)
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise BadInput(
            "this process has no user name", expected="a name for the history", remedy="pass --actor NAME"
        ) from None


@contextmanager
def _telling(*, as_json: bool) -> Iterator[None]:
    """When the attempt in the block did not stand, machines get its entry as well as people the reason."""
    from milton_assets.edge.deployment import DeploymentFailed

    try:
        yield
    except DeploymentFailed as error:
        if as_json:
            answer(error.deployment.model_dump(mode="json"), as_json=True, text=lambda _: None)
        typer.echo(f"milton: {error}", err=True)
        raise typer.Exit(EXIT_NO) from None


def _show_deployment(done: Deployment, console: Console) -> None:
    lines = {
        "deployment": done.id,
        "outcome": done.outcome + (f" ({done.reason})" if done.reason else ""),
        "target": f"{done.target}, {done.target_path}",
        "model": f"{done.model_version}, {done.bundle}",
        "release": f"{_name(done.release)}, before it {_name(done.from_release)}",
    }
    for name, text in lines.items():
        console.print(f"{name:<11} {printable(text)}", markup=False, soft_wrap=True)
    for note in done.notes:
        console.print(f"{'note':<11} {printable(note)}", markup=False, soft_wrap=True)


def _show_collection(done: Collection, console: Console) -> None:
    verb = "would free" if done.dry_run else "freed"
    for digest in done.freed:
        console.print(f"{verb} release {short(digest)}")
    for digest in done.kept:
        console.print(f"kept release {short(digest)}")
    for name in done.foreign:
        console.print(f"left {name!r}, which is no release", markup=False)
    console.print(f"{verb} {done.freed_bytes / 1e6:.1f} MB on {done.target}", markup=False)


_INDENT = 18


def _show_history(found: list[Deployment], console: Console) -> None:
    """Two lines an attempt, the first of which has date and id whole in 80 columns, and a third for its reason. Words
    are kept whole, however long: a digest or a path is to be copied."""
    if not found:
        console.print("nothing was ever deployed")
        return
    for one in found:
        console.print(f"{one.started_at:%Y-%m-%d %H:%M}  {one.id}  {one.outcome}", markup=False)
        told = [
            f"{one.operation} {one.model_version or 'of nothing that was accepted'} on {one.target} by {one.actor}: "
            f"{_name(one.from_release)} → {_name(one.release)}"
        ]
        told += [_in_brief(one.reason)] if one.reason else []
        for text in told:
            lines = textwrap.wrap(
                printable(text),
                max(console.width - _INDENT, _INDENT),
                break_long_words=False,
                break_on_hyphens=False,
            )
            for line in lines:
                console.print(f"{'':{_INDENT}}{line}", markup=False, soft_wrap=True)


def _in_brief(reason: str) -> str:
    """The reason's first line: the others are what a server said before it ended, say."""
    first, *others = reason.splitlines()
    return f"{first} … ({counted(len(others), 'more line')} with --json)" if others else first


def _name(digest: str | None) -> str:
    return short(digest) if digest else "nothing"


def _show_status(found: list[tuple[TargetStatus, Verification | None]], waiting: str, console: Console) -> None:
    if waiting:
        console.print(f"nothing was deployed yet to: {printable(waiting)}", markup=False, soft_wrap=True)
    elif not found:
        console.print("there are no targets yet; `milton deploy` makes one")
    lines = []
    for one, read in found:
        lines.append(f"{one.target} ({printable(one.target_path)})")
        rows: dict[str, Any] = {
            **({"owner": one.belongs_to} if one.belongs_to else {}),
            "serves": _release(one.active),
            "known good": _release(one.known_good),
            "before it": _release(one.previous),
        }
        if one.last is not None:
            rows["last"] = f"{one.last.id}, {one.last.operation} by {one.last.actor}, {one.last.outcome}"
        if one.locked:
            rows["busy"] = "someone is working on it now"
        if read is not None and read.release and not read.problems:
            rows["verified"] = f"{read.files} files, {read.size_bytes / 1e6:,.1f} MB, byte for byte what was deployed"
        lines += [f"  {name:<10} {printable(text)}" for name, text in rows.items()]
        lines += [f"  problem    {printable(problem)}" for problem in (*one.problems, *(read.problems if read else ()))]
    if lines:  # at once: of a thousand targets, a line at a time takes a second
        console.print("\n".join(lines), markup=False, soft_wrap=True)
    if found and not any(read for _, read in found):
        console.print("looked at: journals, links, releases; not at their bytes (`--verify` does)")


def _release(release: Release | None) -> str:
    return f"{release.model_version}, release {short(release.digest)}" if release else "nothing"
