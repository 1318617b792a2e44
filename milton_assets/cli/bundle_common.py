"""Which bundle a verb means, whose signatures it believes, and what it tells of one that arrived.

What belongs here: the arguments that several verbs of `milton bundle` take, and what is made of them. What does not:
the verbs (`bundle`, `bundle_mending`, `bundle_transport`), and what the whole command line shares (`common`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from milton_assets.cli.common import answer, current_state
from milton_assets.vocabulary.errors import BadInput

if TYPE_CHECKING:
    from rich.console import Console

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

IntoOption = Annotated[
    Path | None, typer.Option("--output", metavar="DIR", help="Where to; by default bundles/ in the state folder.")
]


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


def folder_for(output: Path | None) -> Path:
    """The folder that a bundle shall lie in."""
    return (output or current_state().bundles).absolute()


def trusted_by(trust: list[Path] | None, *, any_signer: bool) -> set[str] | None:
    """The fingerprints of the keys that may have signed what is received; None for any signer, or nobody."""
    from milton_assets.edge.bundle.keys import KeyFiles

    if any_signer and trust:
        raise typer.BadParameter("give --trust or --any-signer, not both")
    own = KeyFiles(current_state().keys).public
    return None if any_signer else fingerprints(trust or ([own] if own.exists() else None))


def fingerprints(trust: list[Path] | None) -> set[str] | None:
    """The fingerprints of those public keys; None where none are given."""
    from milton_assets.edge.bundle.keys import load_public_key
    from milton_assets.edge.release.sshsig import fingerprint

    return {fingerprint(load_public_key(path)) for path in trust} if trust else None


def tell_received(what: str, path: Path, *, as_json: bool) -> None:
    """Say where a bundle lies now that arrived, and who signed it."""
    from milton_assets.edge.release import signed_by
    from milton_assets.edge.release.sshsig import fingerprint

    signers = [fingerprint(key) for key in signed_by(path)]

    def show(console: Console) -> None:
        console.print(f"{what} {path}", markup=False, soft_wrap=True)
        said = f"signed by {' and '.join(signers)}" if signers else "nobody signed it"
        console.print(said, markup=False, soft_wrap=True)

    answer({"path": str(path), "signers": signers}, as_json=as_json, text=show)
