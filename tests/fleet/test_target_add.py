"""docs/devices.md, word for word: over a real sshd a device that has nothing but Python becomes a target and serves.

Every command of its shell blocks is run, in order; `ADDED` is what is said besides, so that it takes seconds. The
device has a network and a service manager of its own; where no namespaces can be made it is a loopback port of this
machine, and what wants a service manager is left out.
"""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from milton_assets.cli.app import main
from milton_assets.edge.bundle.keys import KeyFiles, load_private_key
from milton_assets.edge.bundle.signing import signer
from milton_assets.fleet.remote_shell import AGENT
from milton_assets.settings import load_settings
from resources.servers.process import free_port
from tests.graph.test_docs import ROOT, shell_lines
from tests.support.edge_bundles import make_bundle
from tests.support.namespaces import NoNamespaces
from tests.support.own_network import HOME, PYTHON, UID, USER, OwnNetwork, own_network
from tests.support.stub_llama_server import program
from tests.support.watching import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
PAGE = ROOT / "docs" / "devices.md"
OF_A_SERVICE_MANAGER = ("systemctl --user", "loginctl")
ADDED = {
    "milton target add": "--no-model-server --json",  # 100 MB, which test_installing finds wheels of
    "milton deploy": "--health-rounds 1 --json",
    "milton status": "--json",
    "milton history": "--json",
    "milton rollback": "--health-rounds 1 --json",
}
Run = Callable[[str], str]


@dataclass
class Kitchen:
    """The device: its HOME as this machine finds it, who logs in, a folder with an `ssh` that reaches it, and with what
    key; `network` where it has one of its own, and a service manager."""

    home: Path
    user: str
    client: Path
    key: Path
    network: OwnNetwork | None = None

    def own(self, path: Path, text: str, *, mode: int = 0o644) -> None:
        """Put a file there that is its user's, as the folders are in which it lies."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        if self.network:
            self.network.device.run(["chown", "-R", f"{UID}:{UID}", HOME])

    def llama_server(self) -> str:
        """A `llama-server` on the device; where it is there."""
        if self.network is None:
            return str(program(self.home / "bin"))
        line = f'#!/bin/sh\nexec {PYTHON} /home/source/tests/support/stub_llama_server.py "$@"\n'
        self.own(self.home / "bin/llama-server", line, mode=0o755)
        return f"{HOME}/bin/llama-server"

    def answered(self, port: int) -> str | None:
        """Which version answers a user of that port; None while nobody does."""
        address = self.network.device.address if self.network else "127.0.0.1"
        body = {"model": "any", "messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 4}
        with self.network.controller.network() if self.network else nullcontext(), suppress(httpx.TransportError):
            response = httpx.post(f"http://{address}:{port}/v1/chat/completions", json=body, timeout=60)
            assert response.status_code == 200, response.text
            return str(response.headers["x-milton-model-version"])
        return None


@pytest.fixture
def kitchen(tmp_path, request) -> Iterator[Kitchen]:
    try:
        with own_network(tmp_path / "network", with_systemd=True) as network:
            home = network.device.path(HOME)
            yield Kitchen(home, USER, network.client(), tmp_path / "network" / "id", network)
    except NoNamespaces:
        sshd = request.getfixturevalue("sshd")
        client = sshd.client(tmp_path / "client")
        sshd.know(client)
        with (client / "config").open("a") as config:
            config.write("Host kitchen.local\n  HostName 127.0.0.1\n")
        yield Kitchen(sshd.home, sshd.user, client, sshd.root / "id")


@pytest.fixture
def person(kitchen, tmp_path, monkeypatch) -> Path:
    """A person's HOME, whose `ssh` reaches `kitchen.local` and has a key that it lets in."""
    home = tmp_path / "person"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    for ending in ("", ".pub"):
        shutil.copy(f"{kitchen.key}{ending}", home / ".ssh" / f"id_ed25519{ending}")
    monkeypatch.setenv("PATH", f"{kitchen.client}{os.pathsep}{os.environ['PATH']}")
    return home


@pytest.fixture
def run(kitchen, person, monkeypatch, capsys) -> Run:
    """Run a line of the page as that person; what it says. It fails the test when the line does not do."""

    def run(line: str) -> str:
        line = line.replace("pi@", f"{kitchen.user}@")
        line += "".join(f" {more}" for words, more in ADDED.items() if line.startswith(words))
        words = shlex.split(line, comments=True)
        if words[0] != "milton":
            done = subprocess.run(
                words, env={**os.environ, "HOME": str(person)}, capture_output=True, text=True, timeout=60, check=False
            )
            assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
            return done.stdout
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert not ended.value.code, f"{line}: {said.out}{said.err}"
        return said.out

    return run


def served(line: str, person: Path, kitchen: Kitchen) -> str:
    """Which version answers a user at the device's address, after that line, which goes on until Ctrl-C."""
    port = 8080
    if kitchen.network is None:
        port = free_port()
        line = line.replace("pi@", f"{kitchen.user}@").replace("8080", str(port)).replace("0.0.0.0", "127.0.0.1")
    keyboard, terminal = pty.openpty()
    process = subprocess.Popen(
        shlex.split(line), env={**os.environ, "HOME": str(person)}, stdin=terminal, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: kitchen.answered(port))
        answered = kitchen.answered(port)
        os.write(keyboard, b"\x03")
        process.wait(30)
        assert kitchen.answered(port) is None
        return str(answered)
    finally:
        process.kill()
        process.wait()
        os.close(keyboard)
        os.close(terminal)


def bundle(version: str, counter: int) -> None:
    """A signed bundle in the person's state folder: what a campaign makes."""
    state = load_settings().state
    made = make_bundle(state.bundles, version, counter=counter)
    signer(load_private_key(KeyFiles(state.keys).private))(made)


def test_the_page_takes_a_device_from_nothing_to_a_served_model(kitchen, person, run, state):
    settings = f"edge_server:\n  binary: {kitchen.llama_server()}\n"
    kitchen.own(kitchen.home / ".local/state/milton/milton.yaml", settings)
    agent = kitchen.home / AGENT
    ran, deployment = [], ""
    for line in shell_lines(PAGE):
        if kitchen.network is None and any(words in line for words in OF_A_SERVICE_MANAGER):
            continue
        ran.append(line)
        if line.startswith("milton deploy"):
            bundle("v1", 1)
            run(line)
            bundle("v2", 2)  # so that there is something to go back to
            deployment = json.loads(run(line))["id"]
        elif " gateway " in line:
            assert served(line, person, kitchen) == "v1"
        elif line.startswith("milton trace"):
            # These bundles were decided on nowhere: the device vouches for its links, and nobody for the others.
            with pytest.raises(AssertionError, match="✓ release"):
                run(re.sub(r"deploy_\w+", deployment, line))
        else:
            said = run(line)
        if line.startswith("milton target add"):
            assert json.loads(said)["installed"]["size_bytes"] < 60e6
            assert json.loads(said)["trusted_key"]
            assert agent.exists()
        elif line.startswith("milton status"):
            (seen,) = json.loads(said)
            assert seen["active"]["model_version"] == "v2"
            assert seen["target_path"].endswith("/.local/state/milton/deployments/kitchen")
        elif line.startswith("milton history"):
            assert [told["outcome"] for told in json.loads(said)] == ["committed", "committed"]
        elif line.startswith("milton rollback"):
            assert json.loads(said)["model_version"] == "v1"
        elif " unit " in line:
            assert (kitchen.home / ".config/systemd/user/milton-gateway-kitchen.service").exists()
        elif "enable --now" in line:
            until(lambda: kitchen.answered(8080) == "v1")
    assert len(ran) > 10, ran
    assert "kitchen" not in (state.root / "milton.yaml").read_text()
    assert agent.exists()
    if kitchen.network:
        # Nobody is logged in, the target is forgotten here: the device goes on.
        assert kitchen.network.device.run(["loginctl", "show-user", USER, "-P", "Linger"]) == "yes\n"
        assert kitchen.answered(8080) == "v1"
