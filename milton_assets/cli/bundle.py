"""`milton bundle`: make, check and read bundles.

What belongs here: the verbs' arguments and what they print. What does not: bundles themselves, which are
`milton_assets.edge.bundle`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.registry import ArtefactKind

if TYPE_CHECKING:
    from rich.console import Console

    from milton_assets.edge.bundle import Bundle, Damage
    from milton_assets.edge.manifest import HealthContract
    from milton_assets.edge.release import VerificationReport
    from milton_assets.vocabulary.registry import Artefact

BundleArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[BUNDLE]", help="A bundle's folder, or its name in the state folder; by default the latest."
    ),
]
TrustOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--trust",
        metavar="KEY.pub",
        help="A public key; one of those given must have signed the bundle. By default your own, once you have one.",
    ),
]
AnySignerOption = Annotated[
    bool, typer.Option("--any-signer", help="Take it whoever signed it, or nobody; who did is said.")
]


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
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="Where to; by default bundles/ in the state folder.")
    ] = None,
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
    from datetime import UTC, datetime, timedelta

    from milton_assets.edge.bundle import LinkMode, create_bundle, default_signer
    from milton_assets.edge.manifest import DEFAULT_HEALTH
    from milton_assets.selection.summary import read_summary
    from milton_assets.usecases.compose import evidence_store_of
    from milton_assets.usecases.reporting import sources_of, summary_for_bundle
    from milton_assets.usecases.shared_bundles import newest_release, reserved_by
    from milton_assets.vocabulary.keys import class_of

    settings = current_settings()
    state, store = settings.state, evidence_store_of(settings)
    kind = artifact or settings.artifact
    days = settings.bundle_expires_days if expires_in_days is None else expires_in_days
    summary = read_summary(settings.runs, run)
    if summary.decision.winner is None:
        raise say_no(f"{summary.run_id} promoted nothing ({summary.decision.verdict}): there is nothing to bundle")
    check_evidence_files(settings, summary.manifest)
    now = datetime.now(UTC)
    signer = default_signer(state.keys) if sign else None
    entry = registry_of(settings).entry(summary.decision.winner)
    if health_contract:
        health = _measured_contract(
            settings, entry.artefact(kind), entry.version, class_of(summary.run_id), same_answers=same_answers
        )
    else:
        health = DEFAULT_HEALTH
        typer.echo("note: no health contract was measured: devices take any answer, at any speed", err=True)

    def warn(warning: str) -> None:
        typer.echo(f"warning: {warning}", err=True)

    as_bundled = summary_for_bundle(sources_of(settings), summary, now=now, on_warning=warn)
    bundle = create_bundle(
        entry=entry,
        kind=kind,
        decision=summary.decision.model_dump(mode="json"),
        summary=as_bundled.model_dump(mode="json"),
        evidence=summary.manifest,
        into=(output or state.bundles).absolute(),
        state=state,
        now=now,
        health=health,
        previous_release=previous_release or newest_release(store),
        reserve=reserved_by(store),
        expires_at=None if days is None else now + timedelta(days=days),
        sign=signer,
        link=LinkMode.HARD if hard_link else LinkMode.AUTO,
        durable=sync,
        on_progress=progress_on_stderr(),
        on_warning=warn,
    )
    told = {
        "path": str(bundle.path),
        "name": bundle.manifest.name,
        "release_digest": bundle.manifest.release_digest,
        "size_bytes": bundle.manifest.payload_bytes,
        "signed": signer is not None,
        "warnings": list(bundle.warnings),
    }
    answer(told, as_json=as_json, text=lambda console: _show_made(bundle, console))


def _measured_contract(
    settings: Settings, artefact: Artefact, model: str, device_class: str | None, *, same_answers: bool
) -> HealthContract:
    from milton_assets.edge.deployment.contract import LEAST_SPEED
    from milton_assets.usecases.classes import contract_on
    from milton_assets.usecases.compose import edge_server_of, targets_of
    from milton_assets.usecases.probe import measured_contract

    weights = Path(artefact.path)
    where = f" on {settings.class_references.get(device_class, 'no device')}" if device_class else ""
    told = f"measuring the health contract{where}: serving {weights.name} (--no-health-contract leaves it out)"
    typer.echo(told, err=True)
    if device_class is None:
        return measured_contract(edge_server_of(settings), weights, model, same_answers=same_answers)
    return contract_on(
        targets_of(settings),
        settings.class_references,
        device_class,
        artefact,
        model,
        least_speed=LEAST_SPEED,
        same_answers=same_answers,
    )


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

    report = verify_release(find_bundle(bundle), trusted=_fingerprints(trust), on_progress=progress_on_stderr())
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


def pack(
    bundle: BundleArgument = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="By default the bundle's name and .tar, here.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a bundle as one file for transport: an uncompressed tar, equal for equal bundles.

    Example: milton bundle pack --output /media/usb/model.tar
    """
    from milton_assets.edge.bundle import pack_bundle

    folder = find_bundle(bundle)
    archive = pack_bundle(folder, output or Path(f"{folder.name}.tar"), on_progress=progress_on_stderr())
    told = {"path": str(archive.absolute()), "size_bytes": archive.stat().st_size}
    answer(told, as_json=as_json, text=lambda console: console.print(f"packed {archive}", markup=False, soft_wrap=True))


def unpack(
    archive: Annotated[Path, typer.Argument(metavar="FILE", help="A packed bundle.")],
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="Where to; by default bundles/ in the state folder.")
    ] = None,
    trust: TrustOption = None,
    any_signer: AnySignerOption = False,
    as_json: JsonOption = False,
) -> None:
    """Unpack a bundle, creating only the files its manifest names, and checking every byte.

    Example: milton bundle unpack model.tar --trust signing_key.pub
    """
    from milton_assets.edge.bundle import unpack_bundle

    into = (output or current_state().bundles).absolute()
    trusted = _trusted(trust, any_signer=any_signer)
    path = unpack_bundle(archive, into, trusted=trusted, on_progress=progress_on_stderr())
    _tell_received("unpacked", path, as_json=as_json)


ReferenceArgument = Annotated[
    str,
    typer.Argument(metavar="oci://HOST/NAME[:TAG]", help="A repository of an OCI registry, and a tag or @DIGEST."),
]
PlainHttpOption = Annotated[
    bool, typer.Option("--plain-http", help="Speak HTTP without TLS, as is done on this machine anyway.")
]
CaFileOption = Annotated[Path | None, typer.Option("--ca-file", help="Certificates to trust instead, in PEM form.")]


def push(
    reference: ReferenceArgument,
    bundle: BundleArgument = None,
    plain_http: PlainHttpOption = False,
    ca_file: CaFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store a bundle in an OCI registry, as a ModelPack artefact: each file a layer as it is, signatures included.

    What the registry has is not sent. Credentials are those of `docker login`. The artefact's digest is printed:
    by that it is the same for ever, wherever a tag moves.

    Example: milton bundle push oci://registry.example/models/lamp:v1
    """
    from milton_assets.usecases.sharing import push_bundle
    from resources.oci_registry import OciReference, OciRepository

    folder = find_bundle(bundle)
    with OciRepository(OciReference.parse(reference), plain_http=plain_http, ca_file=ca_file) as repository:
        pushed = push_bundle(folder, repository, on_progress=progress_on_stderr())
    told = {"artefact": str(pushed.artefact), "digest": pushed.artefact.digest, "sent_bytes": pushed.sent_bytes}

    def show(console: Console) -> None:
        console.print(f"pushed {pushed.artefact}", markup=False, soft_wrap=True)
        console.print(f"{pushed.sent_bytes / 1e6:.1f} of {pushed.size_bytes / 1e6:.1f} MB were not there yet")

    answer(told, as_json=as_json, text=show)


def pull(
    reference: ReferenceArgument,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="Where to; by default bundles/ in the state folder.")
    ] = None,
    trust: TrustOption = None,
    any_signer: AnySignerOption = False,
    plain_http: PlainHttpOption = False,
    ca_file: CaFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch a bundle from an OCI registry, creating only the files its manifest names, and checking every byte.

    Example: milton bundle pull oci://registry.example/models/lamp:v1 --trust signing_key.pub
    """
    from milton_assets.usecases.sharing import pull_bundle
    from resources.oci_registry import OciReference, OciRepository

    into = (output or current_state().bundles).absolute()
    trusted = _trusted(trust, any_signer=any_signer)
    with OciRepository(OciReference.parse(reference), plain_http=plain_http, ca_file=ca_file) as repository:
        path = pull_bundle(repository, into, trusted=trusted, on_progress=progress_on_stderr())
    _tell_received("pulled", path, as_json=as_json)


def scrub(bundle: BundleArgument = None, as_json: JsonOption = False) -> None:
    """Read every byte of a bundle and name what is damaged, down to the tensor. Exits 1 when something is.

    Example: milton bundle scrub
    """
    from milton_assets.edge.bundle import scrub_bundle

    report = scrub_bundle(find_bundle(bundle), on_progress=progress_on_stderr())
    answer(report.to_json(), as_json=as_json, text=lambda console: _show_damages(report.damages, console))
    if not report.ok:
        raise say_no("next: milton bundle repair --from ANOTHER_BUNDLE")


def repair(
    source: Annotated[str, typer.Option("--from", metavar="BUNDLE", help="A bundle that has what is damaged.")],
    bundle: BundleArgument = None,
    as_json: JsonOption = False,
) -> None:
    """Mend a bundle, fetching only the damaged tensors from another one.

    Example: milton bundle repair --from /mnt/store/milton_edge_bundle_v1.20260111.1425_20260111_150000
    """
    from milton_assets.edge.bundle import repair_bundle

    report = repair_bundle(find_bundle(bundle), find_bundle(source), on_progress=progress_on_stderr())
    told = {"repaired": [str(damage) for damage in report.repaired], "fetched_bytes": report.fetched_bytes}

    def show(console: Console) -> None:
        _show_damages(report.repaired, console)
        console.print(f"mended with {report.fetched_bytes / 1e6:.3f} MB from the other bundle")

    answer(told, as_json=as_json, text=show)


def delta(
    old: Annotated[str, typer.Option("--from", metavar="OLD", help="The bundle that the other side has.")],
    new: Annotated[str, typer.Option("--to", metavar="NEW", help="The bundle that it shall have.")],
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="By default the new bundle's name and .delta, here.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write what a new bundle has over an old one, tensor by tensor; the whole bundle where that would not pay.

    Example: milton bundle delta --from milton_edge_bundle_v1_20260111_150000 --to milton_edge_bundle_v2_20260118_150000
    """
    from milton_assets.edge.bundle.delta import create_delta

    before, after = find_bundle(old), find_bundle(new)
    report = create_delta(before, after, output or Path(f"{after.name}.delta"), on_progress=progress_on_stderr())

    def show(console: Console) -> None:
        share = report.size_bytes / report.full_bytes
        console.print(f"made {report.path}", markup=False, soft_wrap=True)
        console.print(
            f"{report.size_bytes / 1e6:.1f} MB, {share:.1%} of the new bundle's {report.full_bytes / 1e6:.1f}"
        )
        console.print(
            f"tensors: {report.same} the same, {report.xor} as a difference, {report.raw} raw"
            if report.pays
            else "a difference would not pay: the file holds the whole bundle and needs no old one"
        )

    answer(report.to_json(), as_json=as_json, text=show)


def apply(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A delta.")],
    old: Annotated[
        str | None, typer.Option("--from", metavar="OLD", help="The bundle it was made from, if it needs one.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="DIR", help="Where to; by default bundles/ in the state folder.")
    ] = None,
    trust: TrustOption = None,
    any_signer: AnySignerOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make the new bundle from a delta and the old one; every tensor and file is checked against the new manifest.

    Example: milton bundle apply new.delta --from milton_edge_bundle_v1_20260111_150000 --trust signing_key.pub
    """
    from milton_assets.edge.bundle.delta import apply_delta

    into = (output or current_state().bundles).absolute()
    before = None if old is None else find_bundle(old)
    trusted = _trusted(trust, any_signer=any_signer)
    path = apply_delta(file, before, into, trusted=trusted, on_progress=progress_on_stderr())
    _tell_received("made", path, as_json=as_json)


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


def _trusted(trust: list[Path] | None, *, any_signer: bool) -> set[str] | None:
    """The fingerprints of the keys that may have signed what is received; None for any signer, or nobody."""
    from milton_assets.edge.bundle.keys import KeyFiles

    if any_signer and trust:
        raise typer.BadParameter("give --trust or --any-signer, not both")
    own = KeyFiles(current_state().keys).public
    return None if any_signer else _fingerprints(trust or ([own] if own.exists() else None))


def _tell_received(what: str, path: Path, *, as_json: bool) -> None:
    from milton_assets.edge.release import signed_by
    from milton_assets.edge.release.sshsig import fingerprint

    signers = [fingerprint(key) for key in signed_by(path)]

    def show(console: Console) -> None:
        console.print(f"{what} {path}", markup=False, soft_wrap=True)
        said = f"signed by {' and '.join(signers)}" if signers else "nobody signed it"
        console.print(said, markup=False, soft_wrap=True)

    answer({"path": str(path), "signers": signers}, as_json=as_json, text=show)


def _fingerprints(trust: list[Path] | None) -> set[str] | None:
    from milton_assets.edge.bundle.keys import load_public_key
    from milton_assets.edge.release.sshsig import fingerprint

    return {fingerprint(load_public_key(path)) for path in trust} if trust else None


def _show_damages(damages: Iterable[Damage], console: Console) -> None:
    sentences = [str(damage) for damage in damages]
    for sentence in sentences or ["nothing is damaged"]:
        console.print(sentence, markup=False, soft_wrap=True)


def find_bundle(named: str | None) -> Path:
    """The bundle that is meant: a path, a name in the state folder, or the latest there. Raises `BadInput`."""
    from milton_assets.edge.manifest import BUNDLE_PREFIX

    bundles = current_state().bundles
    if named is not None:
        candidates = [Path(named), bundles / named]
        found = next((path for path in candidates if path.exists()), None)
        if found is None:
            raise BadInput(
                f"there is no bundle {named!r:.300}",
                expected=f"the path of a bundle's folder, or a name in {bundles}",
                remedy="`milton bundle create` makes one",
            )
        return found.absolute()
    made = [path for path in bundles.glob(f"{BUNDLE_PREFIX}*") if path.is_dir()]
    if not made:
        raise BadInput(f"there are no bundles in {bundles}", remedy="`milton bundle create` makes one")
    return max(made, key=lambda path: (path.stat().st_mtime_ns, path.name))


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
