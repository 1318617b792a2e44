"""`milton target add`, over a real sshd: a device that has nothing but Python becomes a target and is deployed to."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import httpx
import pytest

from milton_assets.cli.app import main
from milton_assets.fleet.remote_shell import AGENT
from resources.servers.process import free_port
from tests.support.edge_bundles import make_bundle
from tests.support.stub_llama_server import program
from tests.support.watching import until

pytestmark = pytest.mark.slow


@pytest.fixture
def milton(monkeypatch, capsys):
    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["milton", *arguments])
        with pytest.raises(SystemExit) as done:
            main()
        said = capsys.readouterr()
        return int(done.value.code or 0), said.out + ("" if not done.value.code else said.err)

    return run


def served_by_the_device(home) -> str:
    """Which version answers a user at the address of the device's own gateway, which a Ctrl-C ends."""
    port = free_port()
    command = [home / AGENT, "--target", "kitchen", "gateway", "--port", str(port)]
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "MILTON_SERVER_BINARY": str(program(home / "bin"))}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        address = f"http://127.0.0.1:{port}"
        until(lambda: answers(f"{address}/health"))
        body = {"model": "any", "messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 4}
        response = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=60)
        assert response.status_code == 200, response.text
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 0, said
        return str(response.headers["x-milton-model-version"])
    finally:
        process.kill()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code < 500
    except httpx.TransportError:
        return False


def test_a_device_is_added_deployed_to_serves_users_and_is_removed(device_url, sshd, state, milton):
    code, said = milton("target", "add", "kitchen", device_url, "--no-model-server", "--json")
    assert code == 0, said
    added = json.loads(said)
    assert added["installed"]["size_bytes"] < 60e6
    assert (sshd.home / ".local/share/milton/agent/current/milton-agent").exists()
    make_bundle(state.bundles, "v1")
    deploy = ("deploy", "--target", "kitchen", "--no-load-test", "--health-rounds", "0", "--json")
    code, said = milton(*deploy)
    assert code == 0, said
    (seen,) = json.loads(milton("status", "--json")[1])
    assert (seen["target"], seen["active"]["model_version"]) == ("kitchen", "v1")
    assert seen["target_path"].startswith(str(sshd.home))
    (told,) = json.loads(milton("history", "--target", "kitchen", "--json")[1])
    assert told["outcome"] == "committed"
    assert milton("target", "list")[0] == 0
    assert served_by_the_device(sshd.home) == "v1"
    before = (sshd.home / ".local/share/milton/agent/current").readlink()
    assert milton("target", "remove", "kitchen")[0] == 0
    assert "kitchen" not in (state.root / "milton.yaml").read_text()
    assert (sshd.home / ".local/share/milton/agent/current").readlink() == before
