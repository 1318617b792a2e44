"""`milton keys`: the key that bundles are signed with, and whose signatures devices believe from now on.

What belongs here: the verbs' arguments and what they print. What does not: keys (`milton_assets.edge.bundle.keys`) and
key lists (`milton_assets.edge.bundle.key_lists`).
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from milton_assets.cli.common import JsonOption, answer, current_settings, current_state, say_no

if TYPE_CHECKING:
    from rich.console import Console

    from milton_assets.edge.bundle.key_lists import KeyLists, Missing
    from milton_assets.edge.release.sshsig import PrivateKey

KeysOption = Annotated[
    list[Path] | None,
    typer.Option("--key", metavar="FILE", help="A private key to sign with; by default that of `milton keys init`."),
]


def register(app: typer.Typer) -> None:
    """Add `keys` and its verbs to the command line."""
    verbs = typer.Typer(help="The key that bundles are signed with, and whom devices believe.", no_args_is_help=True)
    verbs.command("init")(init_keys)
    verbs.command("show")(show_keys)
    verbs.command()(rotate)
    verbs.command()(change)
    verbs.command("sign-list")(sign_list)
    verbs.command("list")(list_keys)
    verbs.command()(deliver)
    app.add_typer(verbs, name="keys")


def init_keys(as_json: JsonOption = False) -> None:
    """Make the key pair that bundles are signed with from then on. Never overwrites one.

    Example: milton keys init
    """
    from milton_assets.edge.bundle.keys import described
    from milton_assets.edge.bundle.keys import init_keys as make_keys

    files = make_keys(current_state().keys)
    told = described(files.public) | {"allowed_signers": str(files.allowed_signers)}
    answer(told, as_json=as_json, text=lambda console: _show_key(told, console))


def show_keys(as_json: JsonOption = False) -> None:
    """Show the public key that bundles are signed with: its fingerprint, and the line a device's policy lists.

    Example: milton keys show
    """
    from milton_assets.edge.bundle.keys import KeyFiles, described

    files = KeyFiles(current_state().keys)
    told = described(files.public) | {"allowed_signers": str(files.allowed_signers)}
    answer(told, as_json=as_json, text=lambda console: _show_key(told, console))


def rotate(
    revoke: Annotated[
        str | None,
        typer.Option("--revoke", metavar="REASON", help="Revoke the old key too, for instance because it was stolen."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Replace the signing key by a new one that the old one vouches for. Run again, it goes on where it was.

    Devices learn of it with the next deployment, or by `milton keys deliver`.

    Example: milton keys rotate
    """
    from milton_assets.edge.bundle.key_lists import rotate as replace_key

    lists = _lists()
    _tell_signed(lists, replace_key(lists, now=datetime.now(UTC), reason=revoke), as_json=as_json)


def change(
    add: Annotated[list[Path] | None, typer.Option("--add", metavar="KEY.pub", help="A key to believe.")] = None,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", metavar="SHA256:…", help="A key to believe no more.")
    ] = None,
    revoke: Annotated[
        list[str] | None,
        typer.Option("--revoke", metavar="SHA256:…", help="A key to believe no more, for good, whatever it signed."),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for a key that is revoked.")] = "",
    required: Annotated[
        int | None, typer.Option("--required", metavar="N", min=1, help="How many keys have to sign from then on.")
    ] = None,
    key: KeysOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the next key list and sign it; it counts once as many keys have signed as the list before it requires.

    Example: milton keys change --add second.pub --required 2 --key keys/signing_key --key second
    """
    from milton_assets.edge.bundle.keys import load_public_key
    from milton_assets.edge.release.sshsig import public_line

    lists, private = _lists(), _private(key)
    lists.propose(
        now=datetime.now(UTC),
        add=[public_line(load_public_key(path)) for path in add or ()],
        drop=drop or (),
        revoke=revoke or (),
        reason=reason,
        required=required,
    )
    _tell_signed(lists, lists.sign(*private), as_json=as_json)


def sign_list(key: KeysOption = None, as_json: JsonOption = False) -> None:
    """Add a signature to the key list in the making.

    Example: milton keys sign-list --key ~/keys/second
    """
    lists = _lists()
    _tell_signed(lists, lists.sign(*_private(key)), as_json=as_json)


def list_keys(
    targets: Annotated[bool, typer.Option("--targets", help="Ask every target whom it believes.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Whom devices believe that know every key list made here; with --targets, whom each believes.

    Example: milton keys list --targets
    """
    lists = _lists()
    told: dict[str, object] = {"believed": lists.trust().told().model_dump(mode="json")}
    if (making := lists.in_the_making()) is not None:
        told["in_the_making"] = making.parsed().model_dump(mode="json")
    found, refused = _asked(lists, None, bring=False) if targets else ({}, {})
    told["targets"] = found | refused

    def show(console: Console) -> None:
        believed = lists.trust()
        console.print(f"key list {believed.version}: {believed.required} of", markup=False)
        for name in sorted(believed.keys):
            console.print(f"  {name}", markup=False)
        for one in believed.revoked:
            console.print(f"  revoked {one.fingerprint} {one.at:%Y-%m-%d}: {one.reason}", markup=False, soft_wrap=True)
        if making is not None:
            console.print(f"in the making: {lists.next_path}", markup=False, soft_wrap=True)
        _show_targets(found, refused, console)

    answer(told, as_json=as_json, text=show)


def deliver(
    target: Annotated[
        list[str] | None, typer.Option("--target", metavar="NAME", help="A target; by default every one with a policy.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Bring targets the key lists that they do not know yet. Exits 1 when one does not take them.

    Example: milton keys deliver --target kitchen
    """
    found, refused = _asked(_lists(), target, bring=True)

    def text(console: Console) -> None:
        if not found and not refused:
            console.print("there are no targets yet; `milton target add` makes a device one", markup=False)
        _show_targets(found, refused, console)

    answer(found | refused, as_json=as_json, text=text)
    if refused:
        raise say_no(f"not taken by {', '.join(sorted(refused))}")


def _asked(
    lists: KeyLists, names: list[str] | None, *, bring: bool
) -> tuple[dict[str, dict[str, object]], dict[str, dict[str, object]]]:
    """What each target answered, and what was wrong with the others."""
    from milton_assets.usecases.compose import targets_of
    from milton_assets.vocabulary.errors import MiltonError

    targets, chain = targets_of(current_settings()), lists.chain() if bring else ()
    found: dict[str, dict[str, object]] = {}
    refused: dict[str, dict[str, object]] = {}
    for name in names or targets.names():
        try:
            found[name] = targets.named(name).learn_keys(chain).model_dump(mode="json")
        except MiltonError as error:
            refused[name] = {"problem": str(error)}
    return found, refused


def _show_targets(found: dict[str, dict[str, object]], refused: dict[str, dict[str, object]], console: Console) -> None:
    from milton_assets.vocabulary.terminal import printable

    for name, told in found.items():
        console.print(f"{name}: key list {told['version']}, {told['required']} of", markup=False)
        for key in told["keys"]:  # type: ignore[attr-defined]
            console.print(f"  {printable(key)}", markup=False)
    for name, told in refused.items():
        console.print(f"{name}: {printable(str(told['problem']))}", markup=False, soft_wrap=True)


def _lists() -> KeyLists:
    from milton_assets.edge.bundle.key_lists import KeyLists

    return KeyLists(current_state().keys)


def _private(given: list[Path] | None) -> list[PrivateKey]:
    from milton_assets.edge.bundle.keys import KeyFiles, load_private_key

    return [load_private_key(path) for path in given or [KeyFiles(current_state().keys).private]]


def _tell_signed(lists: KeyLists, missing: Missing, *, as_json: bool) -> None:
    told = {
        "in_force": not missing,
        "version": lists.trust().version,
        "lacks": {"of_the_keys_before": missing.before, "of_its_own": missing.own},
    }

    def show(console: Console) -> None:
        if missing:
            console.print(f"{lists.next_path} lacks signatures: {missing}", markup=False, soft_wrap=True)
            console.print("next: milton keys sign-list --key FILE", markup=False)
        else:
            console.print(f"key list {lists.trust().version} is in force")
            console.print("next: milton keys deliver, or the next deployment brings it", markup=False)

    answer(told, as_json=as_json, text=show)


def _show_key(told: dict[str, str], console: Console) -> None:
    console.print(f"key {told['fingerprint']} in {told['path']}", markup=False, soft_wrap=True)
    console.print(told["public_key"], markup=False, soft_wrap=True)
    console.print(
        "check a bundle without milton: sha256sum -c SHA256SUMS && ssh-keygen -Y verify -n milton-bundle -I milton "
        f"-f {told['allowed_signers']} -s SHA256SUMS.sig < SHA256SUMS",
        markup=False,
        soft_wrap=True,
    )
