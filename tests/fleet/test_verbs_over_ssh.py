"""A controller's verbs against a device behind a real sshd: what is tested over pipes elsewhere holds over the wire."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from milton_assets.cli.app import main
from milton_assets.edge.bundle.keys import KeyFiles, init_keys, load_private_key
from milton_assets.edge.bundle.signing import add_signature
from milton_assets.edge.deployment import DevicePolicy
from milton_assets.fleet.ssh import SshTarget
from milton_assets.settings import load_settings
from milton_assets.usecases.compose import targets_of
from tests.support.agents import put_agent
from tests.support.edge_bundles import gguf_around, make_bundle

pytestmark = pytest.mark.slow
RATE_MBIT_PER_S = 2
UNPROBED = ("--no-load-test", "--health-rounds", "0")
Verb = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def milton(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verb:
    """Run a verb: its exit code, what it tells machines, and what it says on standard error."""

    def run(*words: str | Path) -> tuple[int, Any, str]:
        monkeypatch.setattr("sys.argv", ["milton", *map(str, words), "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), json.loads(said.out) if said.out else None, said.err

    return run


def test_the_rate_the_reasons_and_a_revoked_key_are_the_same_over_the_wire(sshd, device_url, state, milton):
    put_agent(sshd.home)
    state.root.mkdir(exist_ok=True)
    address = f"{device_url}?max_mbit_per_s={RATE_MBIT_PER_S}"
    (state.root / "milton.yaml").write_text(json.dumps({"targets": {"kitchen": address}}))
    keys = init_keys(state.keys)
    kitchen = targets_of(load_settings()).named("kitchen")
    assert isinstance(kitchen, SshTarget)
    assert kitchen.trust(DevicePolicy(trusted_keys=(keys.public.read_text().strip(),)))
    size = 1_500_000  # six seconds at that rate, without it less than half
    first = make_bundle(state.bundles, "v1", weights=gguf_around(bytes(size)))
    second, third = (make_bundle(state.bundles, version, counter=n) for n, version in ((2, "v2"), (3, "v3")))
    for bundle in (first, second, third):
        add_signature(bundle, load_private_key(KeyFiles(state.keys).private))

    began = time.monotonic()
    assert milton("deploy", "--bundle", first, "--target", "kitchen", *UNPROBED)[1]["outcome"] == "committed"
    assert size / (time.monotonic() - began) < 1.1 * RATE_MBIT_PER_S * 1e6 / 8
    deployed = milton("deploy", "--bundle", second, "--target", "kitchen", *UNPROBED)[1]

    assert milton("keys", "rotate", "--revoke", "stolen")[0] == 0
    refused, told, _ = milton("deploy", "--bundle", third, "--target", "kitchen", *UNPROBED)
    assert (refused, told["outcome"]) == (1, "failed")
    assert "(stolen)" in told["reason"]
    not_well, why, _ = milton("why", "kitchen")
    assert (not_well, why["model_version"], why["before"], why["deployment"]) == (1, "v2", "v1", deployed["id"])
    assert any("in service, is signed by" in problem for problem in why["health"]["problems"])
    refused, told, _ = milton("rollback", "--target", "kitchen", *UNPROBED)
    assert (refused, told["outcome"], told["model_version"]) == (1, "failed", "v1")  # the same hand signed it
    assert "milton rollback" not in told["reason"]
    add_signature(third, load_private_key(KeyFiles(state.keys).private))
    assert milton("deploy", "--bundle", third, "--target", "kitchen", *UNPROBED)[1]["outcome"] == "committed"
