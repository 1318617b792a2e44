"""`milton target add`, over a real sshd: a device that has nothing but Python becomes a target and is deployed to."""

from __future__ import annotations

import json

import pytest

from milton_assets.cli.app import main
from tests.support.edge_bundles import make_bundle

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


def test_a_device_is_added_deployed_to_and_removed(device_url, sshd, state, milton):
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
    before = (sshd.home / ".local/share/milton/agent/current").readlink()
    assert milton("target", "remove", "kitchen")[0] == 0
    assert "kitchen" not in (state.root / "milton.yaml").read_text()
    assert (sshd.home / ".local/share/milton/agent/current").readlink() == before
