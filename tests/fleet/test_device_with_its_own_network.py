"""A device with an address, a HOME and a user of its own, behind cables that are slow, cut and mended.

Where no namespaces can be made these are skipped, and say so: what does not need them is tested over loopback
(`test_ssh_target`, `test_links`, `test_transfer`).
"""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from milton_assets.edge.deployment import DeploymentFailed
from milton_assets.fleet.asking import Asking
from milton_assets.fleet.links import Unreachable, opened, ssh_place
from milton_assets.fleet.ssh import SshTarget
from milton_assets.fleet.target import DeployRequest, RollbackRequest
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.state import StateDir
from tests.support.edge_bundles import gguf_around, make_bundle
from tests.support.namespaces import NoNamespaces
from tests.support.own_network import HOME, UID, USER, OwnNetwork, own_network

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
ASKED = DeployRequest(actor="ada", health_rounds=0)
MB = 1_000_000


@contextmanager
def device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **network: object
) -> Iterator[tuple[OwnNetwork, SshTarget]]:
    """The network, and the target there as the controller sees it."""
    try:
        with own_network(tmp_path / "network", **network) as made:  # type: ignore[arg-type]
            monkeypatch.setenv("PATH", f"{made.client()}{os.pathsep}{os.environ['PATH']}")
            link = ssh_place("ssh://kitchen").link
            line = made.agent_line("kitchen")
            yield (
                made,
                SshTarget("kitchen", "ssh://kitchen", StateDir(tmp_path / "state"), link, line, patience_s=60.0),
            )
    except NoNamespaces as why:
        pytest.skip(f"{why}; over loopback the same is tested without them")


def bundle(tmp_path: Path, version: str, size: int, counter: int = 1) -> Path:
    weights = gguf_around(random.Random(counter).randbytes(size))
    return make_bundle(tmp_path / "bundles", version, counter=counter, weights=weights)


def test_a_device_is_deployed_to_as_its_own_user_in_its_own_home(tmp_path, monkeypatch):
    with device(tmp_path, monkeypatch) as (network, kitchen):
        assert kitchen.inventory().disk.mounted_at == HOME
        for number, version in enumerate(("v1", "v2"), 1):
            assert kitchen.deploy(bundle(tmp_path, version, MB, number), ASKED).outcome == "committed"
        assert kitchen.rollback(RollbackRequest(actor="ada", health_rounds=0)).model_version == "v1"
        there = network.device.path(f"{HOME}/state/deployments/kitchen")
        assert (there / "current").readlink().name == kitchen.status().active.digest
        assert {path.lstat().st_uid for path in there.rglob("*")} == {UID}
        ours = [address.address for card in psutil.net_if_addrs().values() for address in card]
        assert not [address for address in ours if address.startswith("10.213.")]  # its network is not this machine's


def test_where_logins_end_their_processes_attempts_live_on_once_the_user_lingers(tmp_path, monkeypatch):
    with device(tmp_path, monkeypatch, with_systemd=True) as (network, kitchen):
        settings = network.device.path("/run/systemd/logind.conf.d")
        settings.mkdir()
        (settings / "ends.conf").write_text("[Login]\nKillUserProcesses=yes\n")
        network.device.run(["systemctl", "restart", "systemd-logind"])
        made = bundle(tmp_path, "v1", MB)
        with pytest.raises(DeploymentFailed, match="was cut off while activated"):
            kitchen.deploy(made, ASKED)
        network.device.run(["loginctl", "enable-linger", USER])
        assert kitchen.deploy(made, ASKED).outcome == "committed"


def test_a_device_behind_a_jump_host_is_reached_as_ssh_config_says_and_no_other_way(tmp_path, monkeypatch):
    with device(tmp_path, monkeypatch, with_jump_host=True) as (network, kitchen):
        past = ["bash", "-c", f"exec 3<>/dev/tcp/{network.device.address}/22"]
        direct = subprocess.run(network.controller.inside(past), capture_output=True, check=False)
        assert direct.returncode != 0
        assert kitchen.deploy(bundle(tmp_path, "v1", MB), ASKED).outcome == "committed"
        assert kitchen.status().active.model_version == "v1"


def test_a_cable_that_is_pulled_and_put_back_costs_a_transfer_nothing(tmp_path, monkeypatch):
    with device(tmp_path, monkeypatch) as (network, kitchen):
        network.cable.slow("40mbit")
        pulled = threading.Event()

        def pull() -> None:
            came = network.device.path(f"{HOME}/state/agent/kitchen/incoming")
            while not any(path.stat().st_size > MB for path in came.glob("*/model/*.gguf")):
                time.sleep(0.01)
            network.cable.cut()
            pulled.set()
            time.sleep(2.0)
            network.cable.mend()

        threading.Thread(target=pull, daemon=True).start()
        assert kitchen.deploy(bundle(tmp_path, "v1", 8 * MB), ASKED).outcome == "committed"
        assert pulled.is_set()
        assert kitchen.tally.sent_bytes == kitchen.tally.needed_bytes


def test_a_full_disk_there_is_told_and_the_transfer_goes_on_where_it_was_once_there_is_room(tmp_path, monkeypatch):
    size = 8 * MB
    with device(tmp_path, monkeypatch, disk="64m") as (network, kitchen):
        filler = network.device.path(f"{HOME}/filler")

        def fill() -> None:
            came = network.device.path(f"{HOME}/state/agent/kitchen/incoming")
            while not any(path.stat().st_size > MB for path in came.glob("*/model/*.gguf")):
                time.sleep(0.01)
            with filler.open("wb") as stream:
                try:
                    while True:
                        stream.write(bytes(1 << 20))
                        stream.flush()
                except OSError:
                    pass

        network.cable.slow("40mbit")
        threading.Thread(target=fill, daemon=True).start()
        made = bundle(tmp_path, "v1", size)
        with pytest.raises(MiltonError, match="disk is full"):
            kitchen.deploy(made, ASKED)
        sent = kitchen.tally.sent_bytes
        filler.unlink()
        assert kitchen.deploy(made, ASKED).outcome == "committed"
        assert kitchen.tally.sent_bytes - sent < size - MB


def test_a_device_whose_cable_is_out_is_unreachable(tmp_path, monkeypatch):
    with device(tmp_path, monkeypatch) as (network, kitchen):
        network.controller.run(["ip", "link", "set", "near", "down"])
        with pytest.raises(Unreachable, match="cannot be reached"), opened(kitchen.link, kitchen.command) as wire:
            Asking(wire).ask("who")
