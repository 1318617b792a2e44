"""`milton target`: which targets there are, what each is and serves, and whose it is.

What belongs here: the verbs' arguments and what they print. What does not: changing what a target serves
(`milton_assets.cli.deploy`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from milton_assets.cli.common import JsonOption, answer, current_settings
from milton_assets.cli.deploy import ActorOption, WaitOption, who_runs_this
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.errors import BadInput, MiltonError
from milton_assets.vocabulary.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console

    from milton_assets.fleet.target import Health, Target
    from milton_assets.fleet.targets import Targets
    from milton_assets.vocabulary.inventory import Inventory

TargetName = Annotated[str, typer.Argument(metavar="NAME", help="A target, as `milton target list` names it.")]


def register(app: typer.Typer) -> None:
    """Add `target` and its verbs to the command line."""
    verbs = typer.Typer(help="Which targets there are, what each is, and whose.", no_args_is_help=True)
    verbs.command("list")(list_targets)
    for verb in (show, adopt, forget):
        verbs.command()(verb)
    app.add_typer(verbs, name="target")


def list_targets(as_json: JsonOption = False) -> None:
    """Every target: where it is, its device class, what it serves since when, and whether that is well.

    Example: milton target list
    """
    targets = _targets()
    rows = [_told(targets, name) for name in targets.names()]
    answer(rows, as_json=as_json, text=lambda console: _show_list(rows, console))


def show(name: TargetName, as_json: JsonOption = False) -> None:
    """One target: the same, and what the device is.

    Example: milton target show local
    """
    targets = _targets()
    row = _told(targets, name)
    inventory = _open(targets, name).inventory()
    answer(
        {**row, "inventory": inventory.model_dump(mode="json")},
        as_json=as_json,
        text=lambda console: _show_one(row, inventory, console),
    )


def adopt(name: TargetName, actor: ActorOption = None, wait: WaitOption = 0.0, as_json: JsonOption = False) -> None:
    """Take a target over from the state folder that it belongs to; that one then refuses to touch it.

    Example: milton target adopt kit
    """
    from milton_assets.fleet.target import RecoverRequest

    target = _targets().named(name)
    said = target.recover(RecoverRequest(actor=actor or who_runs_this(), wait_s=wait, adopt=True))
    told = [f"the target {target.name} ({target.url}) is this state folder's", *said]
    answer(told, as_json=as_json, text=lambda console: console.print("\n".join(map(printable, told)), markup=False))


def forget(name: TargetName, as_json: JsonOption = False) -> None:
    """Forget where a target was that is gone for good, so that a new one can be made. Its history is kept.

    Nothing in the target itself changes. A target that is there cannot be forgotten.

    Example: milton target forget kit
    """
    from milton_assets.edge.deployment import NeverDeployed
    from milton_assets.fleet.marks import TargetGone

    targets = _targets()
    target = targets.named(name)
    try:
        target.status()
    except (TargetGone, NeverDeployed):
        pass
    else:
        raise BadInput(f"the target {name} is where it was, {target.url}", expected="one that is gone")
    targets.forget(name)
    answer(
        {"forgotten": name},
        as_json=as_json,
        text=lambda console: console.print(f"the next deployment to {name} makes a new target", markup=False),
    )


def _targets() -> Targets:
    from milton_assets.usecases.compose import targets_of

    return targets_of(current_settings())


def _open(targets: Targets, name: str) -> Target:
    if name not in targets.names():
        raise BadInput(
            f"there is no target {name!r:.100}",
            expected=f"one of {', '.join(targets.names()) or 'those that `milton deploy` makes'}",
            remedy="`milton target list` shows them",
        )
    return targets.named(name)


def _told(targets: Targets, name: str) -> dict[str, Any]:
    """A target as a row; what it cannot tell is None, and `unknown` says why."""
    from milton_assets.edge.deployment import NeverDeployed

    target = _open(targets, name)
    row: dict[str, Any] = {"name": name, "url": target.url, "class": targets.device_class(name)}
    try:
        health = target.health()
    except NeverDeployed:
        return row | {"health": None, "unknown": "nothing was deployed to it yet"}
    except MiltonError as error:
        return row | {"health": None, "unknown": str(error)}
    return row | {"health": health.model_dump(mode="json"), "unknown": None}


def _show_list(rows: list[dict[str, Any]], console: Console) -> None:
    if not rows:
        console.print("there are no targets yet; `milton deploy` makes one")
    for row in rows:
        _show_row(row, console)


def _show_row(row: dict[str, Any], console: Console) -> None:
    from milton_assets.fleet.target import Health

    console.print(f"{row['name']} ({printable(row['url'])}), class {row['class']}", markup=False, soft_wrap=True)
    if row["unknown"]:
        console.print(f"  {printable(row['unknown'])}", markup=False, soft_wrap=True)
        return
    for line in _health_lines(Health.model_validate(row["health"])):
        console.print(f"  {printable(line)}", markup=False, soft_wrap=True)


def _health_lines(health: Health) -> list[str]:
    if health.release is None:
        return ["serves     nothing", *(f"problem    {problem}" for problem in health.problems)]
    since = f", since {health.since:%Y-%m-%d %H:%M} UTC" if health.since else ""
    lines = [f"serves     {health.model_version}, release {short(health.release)}{since}"]
    if health.probe is not None and health.probed_at is not None:
        speed = health.probe.output_tokens_per_s
        told = "" if speed is None else f", {speed:.1f} tokens/s"
        lines.append(f"probed     {health.probed_at:%Y-%m-%d %H:%M} UTC{told}")
    lines.append("health     " + {True: "well", False: "not well", None: "never probed"}[health.well])
    return lines + [f"problem    {problem}" for problem in health.problems]


def _show_one(row: dict[str, Any], inventory: Inventory, console: Console) -> None:
    _show_row(row, console)
    processor, memory, disk = inventory.processor, inventory.memory, inventory.disk
    lines = {
        "host": f"{inventory.host}, {inventory.operating_system}, {inventory.kernel}, Python {inventory.python}",
        "processor": f"{processor.model or 'unknown'} ({processor.architecture}), {processor.usable_cores} cores",
        "features": " ".join(processor.features) or "none told",
        "memory": f"{memory.available_bytes / 1e9:.1f} of {memory.total_bytes / 1e9:.1f} GB available",
        "disk": f"{disk.free_bytes / 1e9:.1f} of {disk.total_bytes / 1e9:.1f} GB free at {disk.mounted_at}",
        "gpu": ", ".join(gpu.name for gpu in inventory.gpus) or str(inventory.gpus_absent_because),
        "runtime": f"{inventory.runtime.name}, {inventory.runtime.build}"
        if inventory.runtime
        else str(inventory.runtime_absent_because),
        "clock": f"{inventory.clock:%Y-%m-%d %H:%M:%S} UTC",
    }
    for label, text in lines.items():
        console.print(f"  {label:<10} {printable(text)}", markup=False, soft_wrap=True)
