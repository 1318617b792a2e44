"""Whoever speaks to a target speaks the protocol: on this machine, or to an engine in another process.

`tests/support/stdio_target.py` is the second kind of target. It is one module and one entry in `SCHEMES`; what is asked
here is asked of both kinds.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from milton_assets.cli.app import main
from milton_assets.edge.deployment import DeploymentFailed, NeverDeployed
from milton_assets.fleet.local import LocalMeans
from milton_assets.fleet.target import (
    CollectRequest,
    DeployRequest,
    KeepsPolicy,
    RecoverRequest,
    RollbackRequest,
    Target,
)
from milton_assets.fleet.targets import SCHEMES, Targets
from milton_assets.usecases.incumbent import incumbent_of
from milton_assets.vocabulary.state import StateDir
from resources.inventory import inventory_of
from tests.support.crashing import ailing, healthy
from tests.support.edge_bundles import make_bundle
from tests.support.stdio_target import stdio_target

pytestmark = pytest.mark.slow
BY_HAND = DeployRequest(actor="ada", health_rounds=0)


@pytest.fixture(params=["file", "stdio"])
def kit(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    """A target named `kit`, on this machine or in another process."""
    monkeypatch.chdir(Path(__file__).parents[2])
    device = tmp_path / "device"
    place = {"file": device.as_uri(), "stdio": f"stdio://device{device}"}[request.param]
    means = LocalMeans(lambda: healthy, inventory_of)
    schemes = SCHEMES | {"stdio": stdio_target}
    return Targets(StateDir(tmp_path / "state"), means, {"kit": place}, schemes=schemes).named("kit")


@pytest.fixture
def bundles(tmp_path: Path) -> tuple[Path, Path]:
    return make_bundle(tmp_path / "bundles", "v1"), make_bundle(tmp_path / "bundles", "v2", counter=2)


def test_a_target_is_deployed_to_rolled_back_and_cleared(kit: Target, bundles: tuple[Path, Path]) -> None:
    assert kit.history() == ()
    with pytest.raises(NeverDeployed):
        kit.status()
    for bundle in bundles:
        assert kit.deploy(bundle, BY_HAND).outcome == "committed"
    assert incumbent_of([kit], mirrored=lambda _: (), on_note=pytest.fail) == "v2"
    verified = kit.verify()
    assert (verified.release, verified.problems) == (kit.status().active.digest, ())
    assert verified.size_bytes > 0
    before = str(kit.status().previous.digest)
    assert (kit.verify(before).release, kit.verify(before).problems) == (before, ())
    assert kit.documents(before)["manifest.json"] == (bundles[0] / "manifest.json").read_bytes()
    kit.rollback(RollbackRequest(actor="ada", health_rounds=0))
    health = kit.health()
    assert (health.model_version, health.well) == ("v1", True)
    assert health.since == health.probed_at == kit.history()[-1].finished_at
    assert [one.operation for one in kit.history()] == ["deploy", "deploy", "rollback"]
    assert len(kit.collect(CollectRequest(actor="ada")).freed) == 1
    assert kit.recover(RecoverRequest(actor="ada")) == ()


def test_a_deployment_that_does_not_stand_comes_with_its_entry(kit: Target, bundles: tuple[Path, Path]) -> None:
    (bundles[0] / "model" / "weights.gguf").write_bytes(b"short")
    with pytest.raises(DeploymentFailed, match="truncated") as failed:
        kit.deploy(bundles[0], BY_HAND)
    assert failed.value.deployment.outcome == "failed"


def test_what_the_device_is_can_be_asked_before_anything_is_deployed(kit: Target) -> None:
    inventory = kit.inventory()
    assert inventory.memory.total_bytes > 0
    assert inventory.disk.total_bytes >= inventory.disk.free_bytes > 0
    assert inventory.runtime is not None


def test_a_release_that_its_watch_found_ailing_is_not_well(tmp_path: Path, bundles: tuple[Path, Path]) -> None:
    means = LocalMeans(lambda: healthy, inventory_of)
    target = Targets(StateDir(tmp_path / "state"), means).named("kit")
    target.deploy(bundles[0], DeployRequest(actor="ada", load_test=False, health_rounds=0))
    assert target.health().well is None
    target.deploy(bundles[0], BY_HAND)
    assert target.health().well is True
    ill = Targets(StateDir(tmp_path / "state"), LocalMeans(lambda: ailing, inventory_of)).named("kit")
    with pytest.raises(DeploymentFailed):
        ill.deploy(bundles[0], DeployRequest(actor="ada", load_test=False, health_rounds=1, health_interval_s=0))
    assert target.health().well is False
    assert target.health().problems


@pytest.fixture
def kit_by_setting(tmp_path: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder whose settings name the target `kit` in another process; the device's folder."""
    monkeypatch.setitem(SCHEMES, "stdio", stdio_target)
    monkeypatch.setenv("MILTON_TARGETS", f"kit=stdio://device{tmp_path / 'device'}")
    monkeypatch.chdir(Path(__file__).parents[2])
    return tmp_path / "device"


def test_the_command_line_uses_nothing_but_the_protocol(
    kit_by_setting: Path, state: StateDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_bundle(state.bundles, "v1")

    def milton(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["milton", *arguments])
        with pytest.raises(SystemExit) as done:
            main()
        said = capsys.readouterr()
        return int(done.value.code or 0), said.out + ("" if not done.value.code else said.err)

    assert milton("deploy", "--target", "kit", "--health-rounds", "0", "--json")[0] == 0
    for verb in (
        ("status", "--json"),
        ("history", "--json"),
        ("recover", "--target", "kit"),
        ("gc", "--target", "kit"),
        ("target", "list"),
        ("target", "show", "kit"),
    ):
        code, said = milton(*verb)
        assert code == 0, said
    (seen,) = json.loads(milton("status", "--json")[1])
    assert (seen["target"], seen["active"]["model_version"]) == ("kit", "v1")
    assert (kit_by_setting / "current").is_symlink()
    assert not (state.deployments / "kit").exists()
    code, said = milton("device-policy", "show", "--target", "kit")
    assert (code, "run `milton device-policy` on the device" in said) == (1, True)


def test_only_a_target_of_this_machine_keeps_its_policy_here(kit: Target) -> None:
    assert isinstance(kit, KeepsPolicy) == kit.url.startswith("file:")
