"""The unit that `milton-agent unit` writes, started by a real systemd on a device, with real weights and hardened as
written: it serves, is deployed to, comes back, and leaves nothing.

Where no namespaces can be made this is skipped and says so; that systemd accepts the unit is held by
`test_systemd_units`.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from milton_assets.edge.deployment.journal import parse
from milton_assets.edge.manifest import HealthContract, Probe
from milton_assets.fleet.links import Unreachable, ssh_place
from milton_assets.fleet.remote_shell import AGENT, agent_command
from milton_assets.fleet.ssh import SshTarget
from milton_assets.fleet.target import DeployRequest
from milton_assets.vocabulary.errors import MiltonError
from milton_assets.vocabulary.server import ServingSettings
from milton_assets.vocabulary.state import StateDir
from tests.support import watching
from tests.support.edge_bundles import make_bundle
from tests.support.namespaces import NoNamespaces
from tests.support.own_network import HOME, PYTHON, UID, USER, OwnNetwork, own_network

pytestmark = [pytest.mark.slow, pytest.mark.real_model, pytest.mark.timeout(480)]
UNIT = "milton-gateway-kitchen.service"
CONTRACT = HealthContract(
    probes=(Probe(prompt="Name the capital of France.", max_tokens=4),),
    served_with=ServingSettings(context_tokens=512, slots=1),
)
QUESTION = {"messages": [{"role": "user", "content": "Name the capital of France."}], "max_tokens": 4}
MANAGERS = {"systemd", "(sd-pam)", "dbus-daemon"}
"""What a user's service manager consists of."""


def until(condition: Callable[[], bool]) -> None:
    """Wait until it is so: as long as real weights take to load on a busy machine."""
    watching.until(condition, deadline_s=90.0)


@dataclass
class Device:
    """A device with a service manager, and its target as the controller sees it."""

    network: OwnNetwork
    target: SshTarget

    @property
    def folder(self) -> Path:
        """Where the target lies."""
        return self.network.device.path(f"{HOME}/.local/state/milton/deployments/kitchen")

    def ssh(self, line: str) -> str:
        """What that line says, in a login of its user's."""
        done = subprocess.run(["ssh", "kitchen", line], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done.stdout

    def ask(self) -> httpx.Response:
        """What a user on the network is answered; `httpx.TransportError` where nobody listens."""
        with self.network.controller.network():
            address = f"http://{self.network.device.address}:8080"
            return httpx.post(f"{address}/v1/chat/completions", json=QUESTION, timeout=60)

    def answers(self) -> str | None:
        """Which version answers; None while nobody does."""
        with suppress(httpx.TransportError):
            response = self.ask()
            return response.headers.get("x-milton-model-version") if response.status_code == 200 else None
        return None

    def main_pid(self) -> str:
        """The unit's main process, as the device counts them."""
        return self.ssh(f"systemctl --user show -P MainPID {UNIT}").strip()

    def processes(self) -> set[str]:
        """The names of its user's processes, but for those of a login."""
        told = self.network.device.run(["sh", "-c", f"ps -u {USER} -o comm= || true"]).split("\n")
        return {name.strip() for name in told if name.strip()} - {"sshd", "sh"}


@pytest.fixture
def kitchen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    try:
        with own_network(tmp_path / "network", with_systemd=True, disk="800m") as network:
            monkeypatch.setenv("PATH", f"{network.client()}{os.pathsep}{os.environ['PATH']}")
            home = network.device.path(HOME)
            (home / AGENT).parent.mkdir(parents=True)
            (home / AGENT).write_text(f'#!/bin/sh\nMILTON_WATCH_MACHINE=0 exec {PYTHON} -m milton_assets.agent "$@"\n')
            (home / AGENT).chmod(0o755)
            state = home / ".local/state/milton"
            state.mkdir(parents=True)
            (state / "milton.yaml").write_text("serving: {mode: one}\n")
            network.device.run(["chown", "-R", f"{UID}:{UID}", HOME])
            link, line = ssh_place("ssh://kitchen").link, agent_command("kitchen", None)
            yield Device(network, SshTarget("kitchen", "ssh://kitchen", StateDir(tmp_path / "state"), link, line))
    except NoNamespaces as why:
        pytest.skip(str(why))


def test_a_device_serves_by_its_unit_whatever_is_killed_and_stopped_leaves_nothing(
    kitchen: Device, small_gguf: Path, tmp_path: Path
) -> None:
    weights = small_gguf.read_bytes()
    first, second, third = (
        make_bundle(tmp_path / "bundles", f"v{n}", counter=n, weights=weights, health=CONTRACT) for n in (1, 2, 3)
    )
    kitchen.target.deploy(first, DeployRequest(actor="ada", health_rounds=0))
    kitchen.ssh(f"{AGENT} --target kitchen unit --host 0.0.0.0 --port 8080")
    kitchen.ssh(f"systemctl --user daemon-reload && systemctl --user enable --now {UNIT}")
    kitchen.ssh("sudo loginctl enable-linger $USER")
    until(lambda: kitchen.answers() == "v1")

    # Hardened as written, whatever a kernel lets pass: else nothing that follows would show that it serves so.
    main = kitchen.main_pid()
    status = kitchen.ssh(f"cat /proc/{main}/status")
    assert {"NoNewPrivs:\t1", "Seccomp:\t2", "CapBnd:\t0000000000000000"} <= set(status.splitlines())
    mounts = {line.split()[4]: line.split()[5] for line in kitchen.ssh(f"cat /proc/{main}/mountinfo").splitlines()}
    assert mounts[HOME].startswith("ro,")
    assert mounts[f"{HOME}/.local/state/milton"].startswith("rw,")

    # With memory for one, the next is tried in the memory of the one that serves, while users wait.
    answered: list[tuple[int, str]] = []
    stop = threading.Event()

    def use() -> None:
        while not stop.is_set():
            response = kitchen.ask()
            answered.append((response.status_code, response.headers["x-milton-model-version"]))

    users = [threading.Thread(target=use) for _ in range(2)]
    for user in users:
        user.start()
    done = kitchen.target.deploy(second, DeployRequest(actor="ada", health_rounds=1, health_interval_s=0))
    until(lambda: answered[-1][1] == "v2")
    stop.set()
    for user in users:
        user.join(60)
    assert done.outcome == "committed"
    assert set(answered) == {(200, "v1"), (200, "v2")}

    kitchen.ssh(f"kill -KILL {kitchen.main_pid()}")
    until(lambda: kitchen.answers() == "v2")
    assert kitchen.ssh(f"systemctl --user show -P NRestarts {UNIT}").strip() == "1"

    # The power goes while a release is watched: what is left half done is settled before anybody is answered.
    asked = threading.Thread(target=_deploy_until_the_power_goes, args=(kitchen, third), daemon=True)
    asked.start()
    until(lambda: b'"activated"' in (kitchen.folder / "journal.jsonl").read_bytes().partition(b'"v3"')[2])
    kitchen.network.device.run(["systemctl", "kill", "--signal=KILL", f"user-{UID}.slice"])
    until(lambda: not kitchen.processes())
    kitchen.network.device.run(["systemctl", "start", f"user@{UID}.service"])  # as at boot: nobody logs in
    until(lambda: kitchen.answers() is not None)
    settled = parse((kitchen.folder / "journal.jsonl").read_bytes()).records[-1]
    health = [json.loads(line) for line in (kitchen.folder / "health.jsonl").read_text().splitlines()]
    started = [event["at"] for event in health if event["kind"] == "started"][-1]
    assert settled.kind == "rolled_back"
    assert settled.at.isoformat() < started
    assert kitchen.answers() == "v2"
    asked.join(60)
    assert kitchen.target.history()[-1].outcome == "interrupted"

    kitchen.ssh(f"systemctl --user stop {UNIT}")
    assert kitchen.processes() <= MANAGERS
    with pytest.raises(httpx.ConnectError):
        kitchen.ask()


def _deploy_until_the_power_goes(kitchen: Device, bundle: Path) -> None:
    with suppress(MiltonError, Unreachable):
        kitchen.target.deploy(bundle, DeployRequest(actor="ada", health_rounds=100, health_interval_s=1))
