"""`milton bundle`: make, sign, check and read bundles.

What belongs here: these verbs' arguments and what they print, and which verbs there are. What does not: taking bundles
elsewhere (`bundle_transport`), finding and mending damage (`bundle_mending`), which bundle is meant (`bundle_common`),
and bundles themselves (`milton_assets.edge.bundle`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from milton_assets.cli.bundle_common import BundleArgument, IntoOption, find_bundle, fingerprints, folder_for
from milton_assets.cli.bundle_mending import repair, scrub
from milton_assets.cli.bundle_transport import apply, delta, pack, pull, push, unpack
from milton_assets.cli.common import (
    JsonOption,
    answer,
    check_evidence_files,
    current_settings,
    current_state,
    progress_on_stderr,
    registry_of,
    say_no,
)
from milton_assets.settings import Settings
from milton_assets.vocabulary.registry import ArtefactKind

if TYPE_CHECKING:
    from rich.console import Console

    from milton_assets.edge.bundle import Bundle
    from milton_assets.edge.manifest import HealthContract
    from milton_assets.edge.release import VerificationReport
    from milton_assets.usecases.bundling import Winner


def register(app: typer.Typer) -> None:
    """Add `bundle` and its verbs to the command line."""
    verbs = typer.Typer(help="Make, check and read bundles.", no_args_is_help=True)
    for verb in (create, verify, inspect, sign, pack, unpack, push, pull, scrub, repair, delta, apply):
        verbs.command()(verb)
    app.add_typer(verbs, name="bundle")


def create(
    run: Annotated[
        str | None,
        typer.Option("--run", metavar="RUN", help="The benchmark run whose winner it is; by default the latest."),
    ] = None,
    artifact: Annotated[
        ArtefactKind | None, typer.Option("--artifact", help="What to bundle; by default the setting `artifact`.")
    ] = None,
    output: IntoOption = None,
    hard_link: Annotated[
        bool,
        typer.Option(
            "--hard-link",
            help="Link the weights, don't copy them: instant, but editing the source in place damages the bundle.",
        ),
    ] = False,
    sync: Annotated[
        bool,
        typer.Option("--sync/--no-sync", help="Wait until the disk has everything, so that a power cut harms nothing."),
    ] = True,
    sign: Annotated[
        bool, typer.Option("--sign/--no-sign", help="Sign it with the key of `milton keys init`, if there is one.")
    ] = True,
    expires_in_days: Annotated[
        float | None,
        typer.Option(
            "--expires-in-days",
            min=0.001,
            help="After that, devices refuse to start with it; by default the setting `bundle_expires_days`.",
        ),
    ] = None,
    previous_release: Annotated[
        str | None,
        typer.Option(
            "--previous-release",
            metavar="DIGEST",
            help="The release it follows; by default that of the newest bundle in the same folder.",
        ),
    ] = None,
    health_contract: Annotated[
        bool,
        typer.Option(
            "--health-contract/--no-health-contract",
            help="Serve the model here and promise its answers and speed; without, a device takes any answer.",
        ),
    ] = True,
    same_answers: Annotated[
        bool,
        typer.Option(
            "--same-answers/--any-answers",
            help="Promise each answer byte for byte; leave it out for devices with another kind of processor.",
        ),
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Bundle the winner of a run: its weights, registry entry, evidence, decision, health contract and digests.

    Example: milton bundle create --run benchmark_20260111_142500
    """
    from milton_assets.edge.bundle import LinkMode, Making, default_signer
    from milton_assets.edge.manifest import DEFAULT_HEALTH
    from milton_assets.selection.summary import read_summary
    from milton_assets.usecases.bundling import Winner, bundle_winner
    from milton_assets.usecases.reporting import sources_of

    settings = current_settings()
    summary = read_summary(settings.runs, run)
    if summary.decision.winner is None:
        raise say_no(f"{summary.run_id} promoted nothing ({summary.decision.verdict}): there is nothing to bundle")
    check_evidence_files(settings, summary.manifest)
    winner = Winner(summary, registry_of(settings).entry(summary.decision.winner), artifact or settings.artifact)
    making = Making(
        folder_for(output),
        previous_release=previous_release,
        sign=default_signer(settings.state.keys) if sign else None,
        link=LinkMode.HARD if hard_link else LinkMode.AUTO,
        durable=sync,
    )
    if health_contract:
        health = _measured_contract(settings, winner, same_answers=same_answers)
    else:
        health = DEFAULT_HEALTH
        typer.echo("note: no health contract was measured: devices take any answer, at any speed", err=True)

    def warn(warning: str) -> None:
        typer.echo(f"warning: {warning}", err=True)

    bundle = bundle_winner(
        winner,
        health,
        sources_of(settings),
        making,
        expires_in_days=settings.bundle_expires_days if expires_in_days is None else expires_in_days,
        on_progress=progress_on_stderr(),
        on_warning=warn,
    )
    told = {
        "path": str(bundle.path),
        "name": bundle.manifest.name,
        "release_digest": bundle.manifest.release_digest,
        "size_bytes": bundle.manifest.payload_bytes,
        "signed": making.sign is not None,
        "warnings": list(bundle.warnings),
    }
    answer(told, as_json=as_json, text=lambda console: _show_made(bundle, console))


def _measured_contract(settings: Settings, winner: Winner, *, same_answers: bool) -> HealthContract:
    from milton_assets.edge.deployment.contract import LEAST_SPEED
    from milton_assets.usecases.bundling import Contracts
    from milton_assets.usecases.compose import edge_server_of, targets_of

    on = winner.device_class
    where = f" on {settings.class_references.get(on, 'no device')}" if on else ""
    name = Path(winner.artefact.path).name
    told = f"measuring the health contract{where}: serving {name} (--no-health-contract leaves it out)"
    typer.echo(told, err=True)
    contracts = Contracts(lambda: edge_server_of(settings), targets_of(settings), settings.class_references)
    return contracts.measured(winner, least_speed=LEAST_SPEED, same_answers=same_answers)


def verify(
    bundle: BundleArgument = None,
    trust: Annotated[
        list[Path] | None,
        typer.Option(
            "--trust", metavar="KEY.pub", help="A public key; one of those given must have signed the bundle."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check every byte of a bundle against its manifest, and its signature if it has one.

    Exits 1 when anything is missing, changed, extra or odd, or a signature does not hold.

    Example: milton bundle verify milton_edge_bundle_v1.20260111.1425_20260111_150000 --trust signing_key.pub
    """
    from milton_assets.edge.release import verify_release

    report = verify_release(find_bundle(bundle), trusted=fingerprints(trust), on_progress=progress_on_stderr())
    answer(report.to_json(), as_json=as_json, text=lambda console: _show_report(report, console))
    if not report.ok:
        raise say_no(f"{report.path} is not a whole bundle: {len(report.problems)} problem(s)")


def inspect(bundle: BundleArgument = None, as_json: JsonOption = False) -> None:
    """Show what a bundle says of itself: model, decision, figures, needs, files. Checks nothing; `verify` does.

    Example: milton bundle inspect
    """
    from milton_assets.edge.bundle.describe import described, show
    from milton_assets.edge.release import read_manifest

    manifest = read_manifest(find_bundle(bundle))
    answer(described(manifest), as_json=as_json, text=lambda console: show(manifest, console))


def sign(
    bundle: BundleArgument = None,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", metavar="FILE", help="The private key to sign with; by default that of `milton keys init`."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Add a signature to a bundle: for devices that want more than one, or once a key was revoked.

    Example: milton bundle sign --key ~/keys/second
    """
    from milton_assets.edge.bundle.keys import KeyFiles, load_private_key
    from milton_assets.edge.bundle.signing import add_signature

    path = find_bundle(bundle)
    signers = add_signature(path, load_private_key(key or KeyFiles(current_state().keys).private))
    said = f"{path} is signed by {' and '.join(signers)}"
    answer(
        {"path": str(path), "signers": list(signers)},
        as_json=as_json,
        text=lambda console: console.print(said, markup=False, soft_wrap=True),
    )


def _show_made(bundle: Bundle, console: Console) -> None:
    console.print(f"made {bundle.path}", markup=False, soft_wrap=True)
    console.print(f"release {bundle.manifest.release_digest}, {bundle.manifest.payload_bytes / 1e6:.1f} MB")
    console.print(f"next: milton bundle verify {bundle.manifest.name}", markup=False, soft_wrap=True)


def _show_report(report: VerificationReport, console: Console) -> None:
    console.print(
        f"{'OK' if report.ok else 'NOT OK'}: {report.files_checked} files, {report.bytes_checked / 1e6:.1f} MB read"
    )
    if report.signers:
        console.print(f"  signed by {' and '.join(report.signers)}", markup=False, soft_wrap=True)
    for problem in report.problems:
        console.print(f"  {problem.kind}: {problem}", markup=False, soft_wrap=True)
    for note in report.notes:
        console.print(f"  note: {note}", markup=False, soft_wrap=True)
