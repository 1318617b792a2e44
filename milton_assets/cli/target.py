"""`milton target`: which targets there are, what each is and serves, and whose it is.

What belongs here: the verbs' arguments and what they print. What does not: changing what a target serves
(`milton_assets.cli.deploy`).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from milton_assets.cli.common import JsonOption, answer, current_settings
from milton_assets.cli.which_target import ActorOption, WaitOption, acting
from milton_assets.vocabulary.digest import short
from milton_assets.vocabulary.errors import BadInput, MiltonError, one_of
from milton_assets.vocabulary.fingerprint import GpuFingerprint
from milton_assets.vocabulary.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console

    from milton_assets.fleet.target import Health, Target
    from milton_assets.fleet.targets import Targets
    from milton_assets.vocabulary.inventory import Inventory, Runtime

TargetName = Annotated[str, typer.Argument(metavar="NAME", help="A target, as `milton target list` names it.")]


def register(app: typer.Typer) -> None:
    """Add `target` and its verbs to the command line."""
    verbs = typer.Typer(help="Which targets there are, what each is, and whose.", no_args_is_help=True)
    verbs.command("list")(list_targets)
    for verb in (add, remove, show, adopt, forget):
        verbs.command()(verb)
    app.add_typer(verbs, name="target")


def list_targets(as_json: JsonOption = False) -> None:
    """Every target: where it is, its device class, what it serves since when, and whether that is well.

    Example: milton target list
    """
    targets = _targets()
    rows = [_told(targets, name) for name in targets.names()]
    answer(rows, as_json=as_json, text=lambda console: _show_list(rows, console))


def add(
    name: TargetName,
    url: Annotated[str, typer.Argument(metavar="URL", help="ssh://user@host, with :port and /folder where wanted.")],
    device_class: Annotated[
        str | None, typer.Option("--class", metavar="CLASS", help="Its device class; `local` by default.")
    ] = None,
    accept_new_host_key: Annotated[
        bool, typer.Option("--accept-new-host-key", help="Believe and keep the host's key if it is not known yet.")
    ] = False,
    wheelhouse: Annotated[
        Path | None, typer.Option("--wheelhouse", metavar="DIR", help="Take the wheels from this folder, not by pip.")
    ] = None,
    model_server: Annotated[
        bool, typer.Option("--model-server/--no-model-server", help="Bring the CPU build of llama.cpp too.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Make a device a target: looks, says what it found, installs the agent there without root, has it trust our key.

    Again, it brings the device this release of the agent. A new agent that does not come up is never switched to.

    Example: milton target add kitchen ssh://pi@kitchen.local --class pi5
    """
    from milton_assets.usecases.devices import Added, add_device

    def say(found: Any) -> None:
        python = ".".join(map(str, found.python))
        text = f"{found.host}: {found.system}, {found.machine}, Python {python}, {found.free_bytes / 1e9:.1f} GB free"
        typer.echo(printable(f"found {text}; installing the agent …"), err=True)

    def show_added(added: Added, console: Console) -> None:
        lines = [
            f"{added.name} is {printable(added.url)}, class {added.device_class} ({added.settings_file})",
            f"  agent      {added.installed.version[:12]}, {added.installed.size_bytes / 1e6:.0f} MB on the device",
            f"  trusts     {added.trusted_key or 'any key: `milton keys init`, then add it again'}",
        ]
        for line in lines:
            console.print(line, markup=False, soft_wrap=True)
        _show_inventory(added.inventory, console)
        console.print("to let our key open nothing but the agent, put this before it in authorized_keys there:")
        console.print(f"  {printable(added.restriction)}", markup=False, soft_wrap=True)

    added = add_device(
        current_settings(),
        name,
        url,
        device_class=device_class,
        accept_new_host_key=accept_new_host_key,
        wheelhouse=wheelhouse,
        model_server=model_server,
        on_found=say,
    )
    told = {
        "name": added.name,
        "url": added.url,
        "class": added.device_class,
        "found": added.found.model_dump(mode="json"),
        "installed": added.installed.model_dump(mode="json"),
        "inventory": added.inventory.model_dump(mode="json"),
        "trusted_key": None if added.trusted_key is None else str(added.trusted_key),
        "authorized_keys_options": added.restriction,
    }
    answer(told, as_json=as_json, text=lambda console: show_added(added, console))


def remove(name: TargetName, as_json: JsonOption = False) -> None:
    """Take a named target out of the settings. Its history is kept; on the device nothing changes, it goes on serving.

    Example: milton target remove kitchen
    """
    from milton_assets.usecases.devices import remove_device

    file = remove_device(current_settings(), name)
    answer(
        {"removed": name},
        as_json=as_json,
        text=lambda console: console.print(f"{name} is no target any more ({file})", markup=False, soft_wrap=True),
    )


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
    said = target.recover(RecoverRequest(actor=acting(actor), wait_s=wait, adopt=True))
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
    target = _open(targets, name)
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
            expected=one_of(targets.names()) if targets.names() else "a target, and there is none yet",
            remedy="`milton target list` shows them, `milton target add` makes a device one",
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
    _show_inventory(inventory, console)


def _gpu_memory(gpu: GpuFingerprint) -> str:
    return "memory unknown" if gpu.memory_bytes is None else f"{gpu.memory_bytes / 1e9:.1f} GB"


def _offload(runtime: Runtime) -> str:
    return "" if runtime.gpu_layers is None else f", {runtime.gpu_layers} layers on the GPU"


def _show_inventory(inventory: Inventory, console: Console) -> None:
    processor, memory, disk = inventory.processor, inventory.memory, inventory.disk
    lines = {
        "host": f"{inventory.host}, {inventory.operating_system}, {inventory.kernel}, Python {inventory.python}",
        "processor": f"{processor.model or 'unknown'} ({processor.architecture}), {processor.usable_cores} cores",
        "features": " ".join(processor.features) or "none told",
        "memory": f"{memory.available_bytes / 1e9:.1f} of {memory.total_bytes / 1e9:.1f} GB available"
        + (f", {memory.lendable_bytes / 1e9:.1f} GB more to try a release" if memory.lendable_bytes else ""),
        "disk": f"{disk.free_bytes / 1e9:.1f} of {disk.total_bytes / 1e9:.1f} GB free at {disk.mounted_at}",
        "gpu": ", ".join(f"{gpu.name}, {_gpu_memory(gpu)}" for gpu in inventory.gpus)
        or str(inventory.gpus_absent_because),
        "runtime": f"{inventory.runtime.name}, {inventory.runtime.build}{_offload(inventory.runtime)}"
        if inventory.runtime
        else str(inventory.runtime_absent_because),
        "power": str(inventory.power_source or inventory.power_source_absent_because),
        "clock": f"{inventory.clock:%Y-%m-%d %H:%M:%S} UTC",
    }
    for label, text in lines.items():
        console.print(f"  {label:<10} {printable(text)}", markup=False, soft_wrap=True)
