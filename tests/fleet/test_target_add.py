"""docs/devices.md, word for word: over a real sshd a device that has nothing but Python becomes a target and serves.

Every command of its shell blocks is run, in order, but for what `LEFT_OUT` names and why; `ADDED` is what is said
besides, so that it takes seconds.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from milton_assets.cli.app import main
from milton_assets.edge.bundle.keys import KeyFiles, load_private_key
from milton_assets.edge.bundle.signing import signer
from milton_assets.fleet.remote_shell import AGENT
from milton_assets.settings import load_settings
from resources.servers.process import free_port
from tests.graph.test_docs import ROOT, shell_lines
from tests.support.edge_bundles import make_bundle
from tests.support.stub_llama_server import program
from tests.support.watching import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
PAGE = ROOT / "docs" / "devices.md"
LEFT_OUT = {
    "systemctl --user": "the device here has no service manager; tests/systemd has systemd judge the unit",
    "loginctl": "it wants root, and a login manager",
}
ADDED = {
    "milton target add": "--no-model-server --json",  # 100 MB, which test_installing finds wheels of
    "milton deploy": "--health-rounds 1 --json",
    "milton status": "--json",
    "milton history": "--json",
    "milton rollback": "--health-rounds 1 --json",
}
Run = Callable[[str], str]


@pytest.fixture
def person(sshd, tmp_path, monkeypatch) -> Path:
    """A person's HOME, whose `ssh` reaches `kitchen.local` and has a key that it lets in."""
    client = sshd.client(tmp_path / "client")
    sshd.know(client)
    with (client / "config").open("a") as config:
        config.write("Host kitchen.local\n  HostName 127.0.0.1\n")
    home = tmp_path / "person"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    for name, part in (("id", "id_ed25519"), ("id.pub", "id_ed25519.pub")):
        shutil.copy(sshd.root / name, home / ".ssh" / part)
    monkeypatch.setenv("PATH", f"{client}{os.pathsep}{os.environ['PATH']}")
    return home


@pytest.fixture
def run(sshd, person, monkeypatch, capsys) -> Run:
    """Run a line of the page as that person; what it says. It fails the test when the line does not do."""

    def run(line: str) -> str:
        line = line.replace("pi@", f"{sshd.user}@")
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


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def served(line: str, person: Path, user: str) -> str:
    """Which version answers a user at the device's address, after that line, which goes on until Ctrl-C."""
    port = free_port()
    line = line.replace("pi@", f"{user}@").replace("8080", str(port)).replace("0.0.0.0", "127.0.0.1")
    process = subprocess.Popen(shlex.split(line), env={**os.environ, "HOME": str(person)}, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        until(lambda: answers(f"{address}/health"))
        body = {"model": "any", "messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 4}
        response = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60)
        assert response.status_code == 200, response.text
        return str(response.headers["x-milton-model-version"])
    finally:
        process.kill()
        process.wait()
        for one in psutil.process_iter(["cmdline"]):
            if {"gateway", str(port)} <= set(one.info["cmdline"] or ()):
                one.kill()


def bundle(version: str, counter: int) -> None:
    """A signed bundle in the person's state folder: what a campaign makes."""
    state = load_settings().state
    made = make_bundle(state.bundles, version, counter=counter)
    signer(load_private_key(KeyFiles(state.keys).private))(made)


def test_the_page_takes_a_device_from_nothing_to_a_served_model(sshd, person, run, state, tmp_path):
    device = sshd.home / ".local/state/milton"
    device.mkdir(parents=True)
    (device / "milton.yaml").write_text(f"edge_server:\n  binary: {program(tmp_path / 'bin')}\n")
    agent = sshd.home / AGENT
    ran, deployment = [], ""
    for line in shell_lines(PAGE):
        if any(left_out in line for left_out in LEFT_OUT):
            continue
        ran.append(line)
        if line.startswith("milton deploy"):
            bundle("v1", 1)
            run(line)
            bundle("v2", 2)  # so that there is something to go back to
            deployment = json.loads(run(line))["id"]
        elif " gateway " in line:
            assert served(line, person, sshd.user) == "v1"
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
            assert seen["target_path"].startswith(str(sshd.home))
        elif line.startswith("milton history"):
            assert [told["outcome"] for told in json.loads(said)] == ["committed", "committed"]
        elif line.startswith("milton rollback"):
            assert json.loads(said)["model_version"] == "v1"
        elif " unit " in line:
            assert (sshd.home / ".config/systemd/user/milton-gateway-kitchen.service").exists()
    assert len(ran) > 10, ran
    assert "kitchen" not in (state.root / "milton.yaml").read_text()
    assert agent.exists()  # the device goes on
