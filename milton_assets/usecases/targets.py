"""The targets of a state folder, with what a target on this machine works with: the same for graph and command line.

What belongs here: putting `fleet.targets` together with the model server and the hardware of this machine. What does
not: any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from milton_assets.edge.deployment import LoadTest
from milton_assets.fleet.local import LocalMeans
from milton_assets.fleet.measuring import Bench
from milton_assets.fleet.target import Target
from milton_assets.fleet.targets import SCHEMES, Address, Targets
from milton_assets.vocabulary.inventory import Inventory
from milton_assets.vocabulary.state import StateDir

if TYPE_CHECKING:
    from resources.edge_server import EdgeServer


def open_targets(
    state: StateDir,
    elsewhere: Mapping[str, str],
    *,
    server: Callable[[], EdgeServer],
    classes: Mapping[str, str] | None = None,
) -> Targets:
    """The targets of `state`, those in `elsewhere` (name to path or URL) included; releases are tried with `server`.

    `classes` gives the named ones a device class.
    """

    def load_test() -> LoadTest:
        from milton_assets.usecases.probe import edge_probe

        return edge_probe(server())

    def bench() -> Bench:
        from milton_assets.usecases.bench import EdgeBench

        return EdgeBench(server())

    def inventory(folder: Path) -> Inventory:
        from resources.inventory import inventory_of

        return inventory_of(folder, lambda: server().llama_server())

    return Targets(
        state, LocalMeans(load_test, inventory, bench=bench), elsewhere, classes or {}, {"ssh": _ssh_target} | SCHEMES
    )


def _ssh_target(address: Address, means: LocalMeans) -> Target:
    from milton_assets.fleet.ssh import ssh_target

    return ssh_target(address, means)
