"""A target on a device, spoken to by frames over two pipes: everything that the protocol promises but the network."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from milton_assets.edge.bundle.key_lists import KeyLists, Missing, rotate
from milton_assets.edge.bundle.keys import init_keys, load_private_key
from milton_assets.edge.bundle.signing import add_signature
from milton_assets.edge.deployment import DeploymentFailed, DevicePolicy, NeverDeployed
from milton_assets.edge.deployment.history import read_mirror
from milton_assets.fleet.fit import DoesNotFit
from milton_assets.fleet.target import CollectRequest, DeployRequest, RecoverRequest, RollbackRequest
from milton_assets.vocabulary.edge_target import EdgeTarget, mirror_file
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.llama_build import llama_build
from tests.support.agents import AILING, device
from tests.support.edge_bundles import make_bundle

pytestmark = pytest.mark.slow
ASKED = DeployRequest(actor="ada", health_rounds=1, health_interval_s=0)


@pytest.fixture
def bundles(tmp_path: Path) -> tuple[Path, Path]:
    return make_bundle(tmp_path / "bundles", "v1"), make_bundle(tmp_path / "bundles", "v2", counter=2)


def test_a_device_is_deployed_to_rolled_back_and_cleared_and_its_history_is_mirrored(tmp_path, bundles):
    kitchen = device(tmp_path)
    assert kitchen.history() == ()
    with pytest.raises(NeverDeployed):
        kitchen.status()
    for bundle in bundles:
        assert kitchen.deploy(bundle, ASKED).outcome == "committed"
    assert kitchen.health().model_version == "v2"
    assert (kitchen.verify().release, kitchen.verify().problems) == (kitchen.status().active.digest, ())
    assert kitchen.rollback(RollbackRequest(actor="ada", health_rounds=0)).outcome == "committed"
    assert kitchen.status().active.model_version == "v1"
    assert len(kitchen.collect(CollectRequest(actor="ada")).freed) == 1
    assert kitchen.recover(RecoverRequest(actor="ada")) == ()
    told = kitchen.history()
    assert [one.operation for one in told] == ["deploy", "deploy", "rollback"]
    mirrored = read_mirror(EdgeTarget("kitchen", Path("/"), mirror_file(kitchen.state, "kitchen"), kitchen.state))
    assert [(one.id, one.outcome, one.journal_sha256) for one in mirrored] == [
        (one.id, one.outcome, one.journal_sha256) for one in told
    ]


def test_the_attempts_id_is_the_callers(tmp_path, bundles):
    kitchen = device(tmp_path)
    ours = "deploy_20260111_142500_000_abcdef"
    assert kitchen.deploy(bundles[0], ASKED.model_copy(update={"deployment": ours})).id == ours
    again = kitchen.deploy(bundles[0], ASKED.model_copy(update={"deployment": ours}))
    assert (again.id, len(kitchen.history())) == (ours, 1)


def test_a_release_that_does_not_answer_there_comes_back_with_its_entry(tmp_path, bundles):
    kitchen = device(tmp_path, env={AILING: "1"})
    with pytest.raises(DeploymentFailed, match="it only says baa") as failed:
        kitchen.deploy(bundles[0], ASKED)
    assert failed.value.deployment == kitchen.history()[-1]


def test_what_does_not_fit_is_refused_with_the_figures_before_anything_travels(tmp_path):
    kitchen = device(tmp_path)
    large = make_bundle(tmp_path / "bundles", "v1", ram_bytes=1 << 50)
    with pytest.raises(DoesNotFit, match=r"needs 1048576\.00 GiB of memory, and the device has .* GiB in all"):
        kitchen.deploy(large, ASKED)
    assert kitchen.tally.sent_bytes == 0
    assert not (tmp_path / "device" / "state" / "agent" / "kitchen" / "incoming").exists()


def test_a_model_server_older_than_the_release_asks_for_is_refused_with_both_builds(tmp_path):
    kitchen = device(tmp_path)
    there = llama_build(kitchen.inventory().runtime.build)
    newer = make_bundle(tmp_path / "bundles", "v1", least_llama_build=there + 1)
    with pytest.raises(DoesNotFit, match=f"llama.cpp of build {there + 1} or later, and the device has build {there}"):
        kitchen.deploy(newer, ASKED)
    assert kitchen.tally.sent_bytes == 0
    assert not (tmp_path / "device" / "state" / "agent" / "kitchen" / "incoming").exists()


def test_a_device_whose_caller_does_not_come_back_goes_back(tmp_path, bundles):
    kitchen = device(tmp_path)
    kitchen.deploy(bundles[0], ASKED)
    gone = device(tmp_path, confirm_within_s=1.0)
    job = {"deploy": gone._dump(ASKED), "release": None, "deployment": "deploy_20260111_142500_000_abcdef"}
    with kitchen._connected() as asking:
        from milton_assets.edge.release import Folder, read_documents
        from milton_assets.fleet.sending import Pace, Sending, Tally
        from milton_assets.fleet.transfer import Transfer

        with Folder(bundles[1]) as folder:
            documents = read_documents(folder)
        Transfer(bundles[1], documents, Sending(Pace(), Tally()), tmp_path, lambda _: None).run(asking, {})
        job["release"] = documents.manifest.release_digest
        asking.ask("attempt", request=job)
    until = time.monotonic() + 30
    while len(told := kitchen.history()) < 2 or told[-1].outcome == "in_progress":
        assert time.monotonic() < until
        time.sleep(0.2)
    last = told[-1]
    assert (last.outcome, "nobody came back over a new connection" in last.reason) == ("rolled_back", True)
    assert kitchen.status().active.model_version == "v1"


def test_the_connection_that_asked_for_an_attempt_cannot_confirm_it(tmp_path, bundles):
    kitchen = device(tmp_path)
    with kitchen._connected() as asking:
        job = {
            "rollback": kitchen._dump(RollbackRequest(actor="ada")),
            "deployment": "deploy_20260111_142500_000_abcdef",
        }
        asking.ask("attempt", request=job)
        with pytest.raises(Exception, match="this connection asked for the attempt"):
            asking.ask("confirm", deployment="deploy_20260111_142500_000_abcdef")


def test_what_a_release_in_service_holds_does_not_travel_again(tmp_path, bundles):
    kitchen = device(tmp_path)
    kitchen.deploy(bundles[0], ASKED)
    before = kitchen.tally.sent_bytes
    kitchen.deploy(bundles[1], ASKED)
    shared = (bundles[1] / "model" / "parts" / "tokens.txt").stat().st_size
    size = sum(p.stat().st_size for p in bundles[1].rglob("*") if p.is_file())
    assert kitchen.tally.sent_bytes - before <= size - shared
    assert kitchen.tally.sent_bytes == kitchen.tally.needed_bytes


def test_a_device_learns_of_a_new_key_with_the_deployment_and_names_what_a_revoked_one_signed(tmp_path, bundles):
    kitchen = device(tmp_path)
    keys = init_keys(kitchen.state.keys)
    with pytest.raises(BadInput, match="has no device policy"):
        kitchen.learn_keys(())
    assert kitchen.trust(DevicePolicy(trusted_keys=(keys.public.read_text().strip(),), max_silence_hours=1.0))
    old = load_private_key(keys.private)
    for bundle in bundles:
        add_signature(bundle, old)
    kitchen.deploy(bundles[0], ASKED)
    assert rotate(KeyLists(kitchen.state.keys), now=datetime.now(UTC), reason="stolen") == Missing(0, 0)
    with pytest.raises(DeploymentFailed, match=r"was revoked on .* \(stolen\)"):
        kitchen.deploy(bundles[1], ASKED)
    assert any("in service, is signed by" in problem for problem in kitchen.health().problems)
    assert kitchen.learn_keys(()).version == 1
    add_signature(bundles[1], load_private_key(keys.private))
    assert kitchen.deploy(bundles[1], ASKED).outcome == "committed"
    assert not any("in service, is signed by" in problem for problem in kitchen.health().problems)


def test_a_device_that_heard_nobody_for_too_long_says_so_to_the_first_who_comes(tmp_path, bundles):
    kitchen = device(tmp_path)
    keys = init_keys(kitchen.state.keys)
    kitchen.trust(DevicePolicy(trusted_keys=(keys.public.read_text().strip(),), max_silence_hours=24.0))
    add_signature(bundles[0], load_private_key(keys.private))
    kitchen.deploy(bundles[0], ASKED)
    assert kitchen.health().problems == ()
    heard = tmp_path / "device" / "state" / "deployments" / "kitchen" / "heard.json"
    told = json.loads(heard.read_text())
    heard.write_text(json.dumps(told | {"at": (datetime.now(UTC) - timedelta(days=3)).isoformat()}))
    (said,) = kitchen.health().problems
    assert "the device's policy allows 24" in said
