"""`milton bundle pack`, `push`, `delta` and their ways back: taking bundles from one place to another.

What belongs here: the verbs' arguments and what they print. What does not: archives and deltas, which are
`milton_assets.edge.bundle`'s, and an OCI registry (`milton_assets.usecases.sharing`). What arrives is believed by the
keys that signed it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from milton_assets.cli.bundle_common import (
    AnySignerOption,
    BundleArgument,
    IntoOption,
    TrustOption,
    find_bundle,
    folder_for,
    tell_received,
    trusted_by,
)
from milton_assets.cli.common import JsonOption, answer, progress_on_stderr

if TYPE_CHECKING:
    from rich.console import Console

ReferenceArgument = Annotated[
    str,
    typer.Argument(metavar="oci://HOST/NAME[:TAG]", help="A repository of an OCI registry, and a tag or @DIGEST."),
]
PlainHttpOption = Annotated[
    bool, typer.Option("--plain-http", help="Speak HTTP without TLS, as is done on this machine anyway.")
]
CaFileOption = Annotated[Path | None, typer.Option("--ca-file", help="Certificates to trust instead, in PEM form.")]


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
    output: IntoOption = None,
    trust: TrustOption = None,
    any_signer: AnySignerOption = False,
    as_json: JsonOption = False,
) -> None:
    """Unpack a bundle, creating only the files its manifest names, and checking every byte.

    Example: milton bundle unpack model.tar --trust signing_key.pub
    """
    from milton_assets.edge.bundle import unpack_bundle

    into = folder_for(output)
    trusted = trusted_by(trust, any_signer=any_signer)
    path = unpack_bundle(archive, into, trusted=trusted, on_progress=progress_on_stderr())
    tell_received("unpacked", path, as_json=as_json)


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
    output: IntoOption = None,
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

    into = folder_for(output)
    trusted = trusted_by(trust, any_signer=any_signer)
    with OciRepository(OciReference.parse(reference), plain_http=plain_http, ca_file=ca_file) as repository:
        path = pull_bundle(repository, into, trusted=trusted, on_progress=progress_on_stderr())
    tell_received("pulled", path, as_json=as_json)


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
    output: IntoOption = None,
    trust: TrustOption = None,
    any_signer: AnySignerOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make the new bundle from a delta and the old one; every tensor and file is checked against the new manifest.

    Example: milton bundle apply new.delta --from milton_edge_bundle_v1_20260111_150000 --trust signing_key.pub
    """
    from milton_assets.edge.bundle.delta import apply_delta

    into = folder_for(output)
    before = None if old is None else find_bundle(old)
    trusted = trusted_by(trust, any_signer=any_signer)
    path = apply_delta(file, before, into, trusted=trusted, on_progress=progress_on_stderr())
    tell_received("made", path, as_json=as_json)
