"""`milton deploy`, `rollback`, `recover`, `gc`: taking a release to a target, back, and what is left over.

What belongs here: these verbs' arguments and what they print. What does not: what runs where (`deployed`), which target
is meant (`which_target`), and deployments themselves, which a target does (`milton_assets.fleet.target`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
)
from milton_assets.cli.deployed import history, release_named, status
from milton_assets.cli.which_target import (
    ActorOption,
    TargetOption,
    TargetPathOption,
    WaitOption,
    acting,
    place_of,
)
from milton_assets.settings import Settings
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.errors import BadInput, EvidenceMismatch, MiltonError
from milton_assets.vocabulary.registry import ArtefactKind
from milton_assets.vocabulary.terminal import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from milton_assets.edge.deployment import Collection, Deployment
    from milton_assets.fleet.targets import Targets


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
        "release": f"{release_named(done.release)}, before it {release_named(done.from_release)}",
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
