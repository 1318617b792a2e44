"""`milton policy`: the policies that decisions are taken under.

What belongs here: listing, showing, checking and scaffolding them. What does not: reading one and what it means
(`milton_assets.selection`), and which bundles a device admits (`milton device-policy`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from milton_assets.cli.common import JsonOption, answer, current_settings
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console

    from milton_assets.selection.policy import Policy

PolicyArgument = Annotated[str, typer.Argument(metavar="POLICY", help="A shipped policy's name, or a YAML file.")]


def register(app: typer.Typer) -> None:
    """Add `policy` and its verbs to the command line."""
    verbs = typer.Typer(help="The policies that decisions are taken under.", no_args_is_help=True)
    verbs.command("list")(list_policies)
    verbs.command()(show)
    verbs.command()(check)
    verbs.command()(init)
    app.add_typer(verbs, name="policy")


def list_policies(as_json: JsonOption = False) -> None:
    """List the policies that ship, and say which one a campaign takes now.

    Example: milton policy list
    """
    from milton_assets.selection.policy_file import load_policy, shipped_policies
    from milton_assets.usecases.compose import chosen_of

    taken = chosen_of(current_settings()).policy
    found = [load_policy(name) for name in shipped_policies()]
    payload = [
        {"name": one.name, "version": one.version, "summary": one.summary, "taken": one.name == taken} for one in found
    ]

    def text(console: Console) -> None:
        from rich.padding import Padding

        for one in found:
            mark = "*" if one.name == taken else " "
            console.print(f"{mark} {one.name} v{one.version}", markup=False)
            console.print(Padding(printable(one.summary), (0, 0, 0, 4)), markup=False)
        if taken not in {one.name for one in found}:
            console.print(f"* {taken}", markup=False, soft_wrap=True)
        console.print("* is taken by the next campaign; the setting `policy` changes it", markup=False)

    answer(payload, as_json=as_json, text=text)


def show(policy: PolicyArgument, as_json: JsonOption = False) -> None:
    """Show a policy: its gates, weights, tie-breaks, when a winner is clear, and when an incumbent is replaced.

    Example: milton policy show seed
    """
    from milton_assets.selection.policy_file import load_policy

    read = load_policy(policy)
    payload = {**read.model_dump(mode="json"), "sha256": read.sha256}
    answer(payload, as_json=as_json, text=lambda console: _draw(read, console))


def check(policy: PolicyArgument, as_json: JsonOption = False) -> None:
    """Check that a policy reads, and that the installed tiers measure every metric it names. Exits 1 when not.

    Example: milton policy check ours.yaml
    """
    from milton_assets.selection.policy_file import check_metrics, load_policy
    from milton_assets.tiers.discovery import installed_tiers

    read = check_metrics(load_policy(policy), installed_tiers())
    payload = {"name": read.name, "version": read.version, "sha256": read.sha256}
    answer(
        payload,
        as_json=as_json,
        text=lambda console: console.print(f"{read.name} v{read.version} holds, SHA-256 {read.sha256}", soft_wrap=True),
    )


def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, help="The YAML file to write.")],
    like: Annotated[str, typer.Option("--from", metavar="POLICY", help="The shipped policy to begin with.")] = "seed",
    as_json: JsonOption = False,
) -> None:
    """Write a policy of your own to begin with: a shipped one, comments and all, under the file's name as version 1.

    A file that is there is never overwritten.

    Example: milton policy init ours.yaml --from anchored
    """
    from milton_assets.selection.policy_file import parse_policy, policy_like
    from milton_assets.vocabulary.files import write_atomic
    from milton_assets.vocabulary.keys import check_key

    if file.suffix not in {".yaml", ".yml"}:
        raise BadInput(f"{file} does not end in .yaml", expected="a YAML file", remedy="name it ours.yaml, say")
    if file.exists():
        raise BadInput(f"{file} is there already", expected="a new file", remedy="choose another name")
    text = policy_like(like, check_key(file.stem, "policy name"))
    read = parse_policy(text, str(file))
    write_atomic(file.absolute(), text)
    payload = {"path": str(file.absolute()), "name": read.name, "sha256": read.sha256}
    answer(
        payload,
        as_json=as_json,
        text=lambda console: console.print(
            f"wrote {file}; next: edit it, `milton policy check {file}`, then set `policy: {file.absolute()}`",
            markup=False,
            soft_wrap=True,
        ),
    )


def _draw(policy: Policy, console: Console) -> None:
    rows = [("policy", f"{policy.name} v{policy.version}"), ("", policy.summary), ("SHA-256", policy.sha256)]
    rows += [("gate", f"{gate} ({gate.mode}), tier {gate.tier}") for gate in policy.gates]
    rows += [
        ("weighs", f"{c.weight:g} {c.label}: {c.metric} of {c.tier}, {c.direction} is better") for c in policy.criteria
    ]
    rows.append(("normalised", policy.normalisation))
    rows += [("tie-break", f"{tie.metric}, {tie.direction} first") for tie in policy.tie_breaks]
    clear = policy.certainty
    rows.append(("clear at", f"{clear.clear_at:.0%} of {clear.draws} resamplings; when unclear: {clear.when_unclear}"))
    if policy.incumbent is not None:
        rows += [
            ("incumbent", f"may be worse on {m.metric} by {m.margin:g} ({m.kind})") for m in policy.incumbent.margins
        ]
    for label, text in rows:
        console.print(f"{label:<11} {text}", markup=False, soft_wrap=True)
