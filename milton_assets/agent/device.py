"""This device as the agent sees it: its target, what it probes with, and where transfers and attempts lie.

What belongs here: putting them together from the device's settings. What does not: any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from milton_assets.agent.attempts import Attempts
from milton_assets.agent.candidates import Candidates
from milton_assets.agent.incoming import Incoming
from milton_assets.edge.deployment.layout import RELEASES
from milton_assets.edge.deployment.loadtest import LoadTest
from milton_assets.fleet.local import LocalMeans, LocalTarget
from milton_assets.fleet.measuring import Bench
from milton_assets.vocabulary.edge_target import target_in
from milton_assets.vocabulary.inventory import Inventory
from milton_assets.vocabulary.state import StateDir

if TYPE_CHECKING:
    from resources.edge_server import EdgeServer


@dataclass(frozen=True)
class Device:
    """One target of this device. `program` starts an attempt's process; it is given the attempt's id."""

    target: LocalTarget
    program: Sequence[str]

    @property
    def work(self) -> Path:
        """Where the agent keeps what is not the target's: transfers and attempts."""
        return self.target.state.agent / self.target.name

    @property
    def attempts(self) -> Attempts:
        """The attempts on the target."""
        return Attempts(self.work / "attempts", self.target, self.program)

    def incoming(self) -> Incoming:
        """What is on its way to the target, for one connection."""
        releases = self.target.place.path / RELEASES
        return Incoming(self.work / "incoming", releases, self.candidates().file)

    def candidates(self) -> Candidates:
        """Weights that were sent to be measured."""
        return Candidates(self.work / "candidates", self.target.place.path / RELEASES)


def device_of(state: StateDir, name: str, folder: Path | None, means: LocalMeans, program: Sequence[str]) -> Device:
    """The target `name` of this device, in `folder` or else in the device's state folder."""
    return Device(LocalTarget(target_in(state, name, folder), state, means), program)


def means_of_this_device() -> LocalMeans:
    """What the device's settings say it works with."""
    return LocalMeans(_load_test, _inventory, bench=_bench)


def _load_test() -> LoadTest:
    from milton_assets.usecases.probe import edge_probe

    return edge_probe(_edge_server())


def _bench() -> Bench:
    from milton_assets.usecases.bench import EdgeBench

    return EdgeBench(_edge_server())


def _inventory(folder: Path) -> Inventory:
    from resources.inventory import inventory_of

    return inventory_of(folder, lambda: _edge_server().llama_server())


def _edge_server() -> EdgeServer:
    from milton_assets.settings import load_settings
    from resources.servers.launching import edge_server

    settings = load_settings()
    return edge_server(settings.edge_server, settings.edge_program)
