"""A device becomes a target, and ceases to be one.

    added = add_device(settings, "kitchen", "ssh://pi@kitchen.local")

What belongs here: the order of it: look, install the agent, ask it what the device is, have it trust our key, name the
target in milton.yaml. What does not: any of these steps.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import milton_assets
import resources
from milton_assets.edge.bundle.keys import KeyFiles, load_public_key
from milton_assets.edge.deployment.admission import DevicePolicy
from milton_assets.edge.release.sshsig import public_line
from milton_assets.fleet.installing import Found, Installed, install, look, wheels_for
from milton_assets.fleet.links import ssh_place
from milton_assets.fleet.remote_shell import authorized_keys_options
from milton_assets.fleet.ssh import ssh_target
from milton_assets.fleet.targets import Address
from milton_assets.settings import Settings, TargetSettings
from milton_assets.settings.editing import add_target, remove_target
from milton_assets.usecases.compose import targets_of
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.inventory import Inventory
from milton_assets.vocabulary.keys import check_key


@dataclass(frozen=True)
class Added:
    """What came of it. `trusted_key` is our signing key's file, None when there is none; `restriction` what may stand
    before our key in the device's `authorized_keys`."""

    name: str
    url: str
    device_class: str
    found: Found
    installed: Installed
    inventory: Inventory
    trusted_key: Path | None
    restriction: str
    settings_file: Path


def add_device(
    settings: Settings,
    name: str,
    url: str,
    *,
    device_class: str | None = None,
    accept_new_host_key: bool = False,
    wheelhouse: Path | None = None,
    model_server: bool = True,
    on_found: Callable[[Found], None] = lambda _: None,
) -> Added:
    """Make the device at that `ssh:` URL the target `name`; again, to bring it another release of the agent.

    Raises `BadInput` when the name is taken, the device cannot run an agent, or trusts other keys than ours; and as
    `fleet.links`. What fails leaves the settings as they were, and the agent that was there before at work.
    """
    check_key(name, "target name")
    place = ssh_place(url)
    known = settings.targets.get(name)
    if known is not None and known.at != url:
        raise BadInput(
            f"the target {name} is {known.at}",
            expected="a name that is free, or the same place",
            remedy=f"`milton target remove {name}` first, or choose another name",
        )
    target_class = device_class or (known.device_class if known else TargetSettings(at=url).device_class)
    link = replace(place.link, accept_new=accept_new_host_key)
    found = look(link)
    on_found(found)
    with tempfile.TemporaryDirectory() as folder:
        wheels = wheels_for(found, Path(folder), _packages(), wheelhouse=wheelhouse, model_server=model_server)
        installed = install(link, found, wheels)
    target = ssh_target(Address(name, url, settings.state), targets_of(settings).means)
    inventory = target.inventory()
    key = KeyFiles(settings.state.keys).public
    if key.exists():
        line = public_line(load_public_key(key))
        target.trust(DevicePolicy(trusted_keys=(line,), require_load_test=True, min_health_rounds=1))
    wanted = TargetSettings.model_validate({"at": url, "class": target_class})
    file = add_target(settings, name, wanted) if known is None else settings.state.root / "milton.yaml"
    return Added(
        name=name,
        url=url,
        device_class=target_class,
        found=found,
        installed=installed,
        inventory=inventory,
        trusted_key=key if key.exists() else None,
        restriction=authorized_keys_options(name, place.folder),
        settings_file=file,
    )


def _packages() -> tuple[Path, ...]:
    """The folders of our own packages."""
    return tuple(Path(str(package.__file__)).parent for package in (milton_assets, resources))


def remove_device(settings: Settings, name: str) -> Path:
    """Take the target out of milton.yaml; its history stays, and the device goes on serving. Raises `BadInput`."""
    return remove_target(settings, name)
