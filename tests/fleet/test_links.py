"""What carries the protocol: the system's own OpenSSH against a real sshd, and what its failures mean."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from milton_assets.fleet.asking import Asking
from milton_assets.fleet.links import NoAgent, NotLetIn, Unreachable, opened, ssh_place
from milton_assets.fleet.local import LocalMeans
from milton_assets.fleet.remote_shell import authorized_keys_options
from milton_assets.fleet.ssh import ssh_target
from milton_assets.fleet.target import DeployRequest
from milton_assets.fleet.targets import Address
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.state import StateDir
from resources.inventory import inventory_of
from tests.support.agents import agent_line, put_agent
from tests.support.crashing import healthy
from tests.support.edge_bundles import make_bundle
from tests.support.own_sshd import OwnSshd


def ask(url: str, line: str) -> str:
    with opened(ssh_place(url).link, line) as wire:
        return str(Asking(wire).ask("who")["target"])


@pytest.fixture
def line(sshd: OwnSshd) -> str:
    return agent_line("kitchen", sshd.home)


def test_an_agent_is_asked_over_ssh(device_url, line):
    assert ask(device_url, line) == "kitchen"


def test_a_banner_and_what_a_login_shell_prints_do_no_harm(device_url, line, sshd):
    assert ask(device_url, f"echo welcome to the kitchen; {line}") == "kitchen"


def test_a_host_that_is_not_known_is_not_believed(device_url, line, tmp_path):
    (tmp_path / "client" / "known_hosts").unlink()
    with pytest.raises(NotLetIn, match="the host's key is not known here"):
        ask(device_url, line)


def test_a_host_that_changed_its_key_is_refused(device_url, line, sshd, tmp_path):
    known = tmp_path / "client" / "known_hosts"
    other = (sshd.root / "id.pub").read_text().split()[1]
    known.write_text(f"[127.0.0.1]:{sshd.port} ssh-ed25519 {other}\n")
    with pytest.raises(NotLetIn, match="the host's key is another than the one that is known"):
        ask(device_url, line)


def test_a_device_that_wants_a_password_says_so(device_url, line, sshd):
    (sshd.root / "authorized_keys").write_text("")
    with pytest.raises(NotLetIn, match="lets nobody in without a password"):
        ask(device_url, line)


def test_a_device_without_an_agent_says_how_to_install_it(device_url):
    with pytest.raises(NoAgent, match="milton target add"):
        ask(device_url, ".local/share/milton/agent/current/milton-agent --target kitchen serve")


def test_a_device_that_is_off_is_unreachable(device_url, line, sshd):
    sshd.stop()
    with pytest.raises(Unreachable, match="cannot be reached"):
        ask(device_url, line)


def test_an_agent_that_ends_by_itself_is_told_apart_from_a_device_that_is_off(device_url):
    line = "echo 'milton-agent: the setting server is a list' >&2; exit 1"
    with pytest.raises(Unreachable, match="the agent there ended: milton-agent: the setting server is a list"):
        ask(device_url, line)


def test_a_restricted_key_opens_nothing_but_the_agent(device_url, line, sshd):
    escaped = line.replace("\\", "\\\\").replace('"', '\\"')
    sshd.authorize(f'restrict,command="{escaped}"')
    assert ask(device_url, "cat /etc/passwd") == "kitchen"


@pytest.mark.parametrize(
    "url",
    [
        "ssh://",
        "ssh://-oProxyCommand=x/",
        "ssh://-x@host",
        "ssh://user:secret@host",
        "ssh://host:port",
        "ssh://host/a/../b",
        "ssh://host?max_mbit_per_s=0",
        "ssh://host?compress=yes",
        "http://host",
    ],
)
def test_what_is_no_address_of_a_device_is_refused(url):
    with pytest.raises(BadInput):
        ssh_place(url)


def test_an_address_says_user_host_port_folder_and_rate():
    place = ssh_place("ssh://pi@kitchen.local:2222/srv/edge?max_mbit_per_s=2.5")
    command = place.link.command("x")
    assert (place.folder, place.max_mbit_per_s) == ("/srv/edge", 2.5)
    assert command[-6:] == ["2222", "-l", "pi", "--", "kitchen.local", "x"]
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes"} <= set(command)


def test_the_history_of_a_device_that_is_off_is_what_it_told_last(device_url, sshd, state, monkeypatch, capsys):
    from milton_assets.cli.app import main
    from milton_assets.settings import TargetSettings, load_settings
    from milton_assets.settings.editing import add_target

    add_target(load_settings(), "kitchen", TargetSettings(at=device_url))
    sshd.stop()
    monkeypatch.setattr("sys.argv", ["milton", "history", "--json"])
    with pytest.raises(SystemExit) as done:
        main()
    said = capsys.readouterr()
    assert (done.value.code or 0, said.out.strip()) == (0, "[]")
    assert "kitchen: the device cannot be reached" in said.err


def test_with_the_line_that_target_add_prints_a_controller_deploys_and_does_nothing_else(sshd, device_url, tmp_path):
    put_agent(sshd.home)
    sshd.authorize(authorized_keys_options("kitchen", None))
    means = LocalMeans(lambda: healthy, inventory_of)
    target = ssh_target(Address("kitchen", device_url, StateDir(tmp_path / "state")), means)
    bundle = make_bundle(tmp_path / "bundles", "v1")
    assert target.deploy(bundle, DeployRequest(actor="ada", health_rounds=0)).outcome == "committed"
    link = ssh_place(device_url).link
    made = sshd.home / "made by another command"
    subprocess.run(link.command(f"touch {shlex.quote(str(made))}"), stdin=subprocess.DEVNULL, timeout=30, check=False)
    assert not made.exists()
    through = ["ssh", "-p", str(sshd.port), "-W", f"127.0.0.1:{sshd.port}", f"{sshd.user}@127.0.0.1"]
    refused = subprocess.run(through, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
    assert refused.returncode != 0
    assert b"SSH-2.0" not in refused.stdout
