"""A device's own policy decides which bundles it takes, whoever deploys."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from milton_assets.edge.bundle.keys import init_keys
from milton_assets.edge.bundle.signing import default_signer
from milton_assets.edge.deployment import (
    ClockSetBack,
    DeploymentFailed,
    EdgeTarget,
    HealthWindow,
    Outcome,
    deploy,
    rollback,
)
from milton_assets.edge.deployment.admission import NotAdmitted
from milton_assets.edge.deployment.fileops import FileOps
from milton_assets.edge.deployment.lock import Holder, locked
from milton_assets.edge.release.disk import Fd
from milton_assets.vocabulary.errors import BadInput
from tests.support.crashing import clock, healthy
from tests.support.edge_bundles import MADE_AT, make_bundle, read_manifest, write_manifest

Make = Callable[..., Path]


@pytest.fixture
def signed(tmp_path: Path, target: EdgeTarget) -> Make:
    """Makes signed bundles; the target's policy trusts their key."""
    keys = init_keys(tmp_path / "keys")
    target.path.mkdir()
    policy = {"trusted_keys": [keys.public.read_text().strip()], "policies": ["smoke"]}
    (target.path / "device-policy.yaml").write_text(yaml.safe_dump(policy))
    sign = default_signer(tmp_path / "keys")
    assert sign is not None

    def make(version: str, counter: int, *, policy_name: str = "smoke", **changes: object) -> Path:
        bundle = make_bundle(tmp_path / "bundles", version, counter=counter, policy_name=policy_name)
        write_manifest(bundle, read_manifest(bundle).model_copy(update=changes))
        sign(bundle)
        return bundle

    return make


def put(bundle: Path, target: EdgeTarget, **options: object) -> Outcome:
    return deploy(bundle, target, load_test=healthy, actor="ada", now=clock, **options).outcome


def refusal(bundle: Path, target: EdgeTarget) -> str:
    with pytest.raises(DeploymentFailed) as raised:
        put(bundle, target)
    assert isinstance(raised.value.__cause__, NotAdmitted)
    with pytest.raises(NotAdmitted):
        put(bundle, target, dry_run=True)
    return str(raised.value)


def test_a_signed_bundle_is_taken(signed: Make, target: EdgeTarget) -> None:
    assert put(signed("v1", 1), target) is Outcome.COMMITTED


def test_an_unsigned_bundle_is_refused(signed: Make, target: EdgeTarget, tmp_path: Path) -> None:
    assert "bears no signature" in refusal(make_bundle(tmp_path / "others", "v1"), target)


def test_a_bundle_signed_by_another_is_refused(signed: Make, target: EdgeTarget, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "others", "v1")
    init_keys(tmp_path / "other-keys")
    sign = default_signer(tmp_path / "other-keys")
    assert sign is not None
    sign(bundle)
    assert "a key this device does not trust" in refusal(bundle, target)


def test_a_bundle_changed_after_it_was_signed_is_refused(signed: Make, target: EdgeTarget) -> None:
    bundle = signed("v1", 1)
    write_manifest(bundle, read_manifest(bundle).model_copy(update={"counter": 9}))
    assert "signature does not hold" in refusal(bundle, target)


def test_an_expired_bundle_is_refused(signed: Make, target: EdgeTarget) -> None:
    assert "it expired at" in refusal(signed("v1", 1, expires_at=MADE_AT + timedelta(days=1)), target)


def test_the_journals_last_record_judges_expiry_when_it_is_later_than_the_clock(
    signed: Make, target: EdgeTarget
) -> None:
    soon = clock() + timedelta(seconds=30)
    bundle = signed("v2", 2, expires_at=soon)
    deploy(signed("v1", 1), target, load_test=healthy, actor="ada", now=lambda: soon + timedelta(seconds=1))
    with pytest.raises(DeploymentFailed, match="it expired at"):
        deploy(bundle, target, load_test=healthy, actor="ada", now=lambda: soon - timedelta(seconds=10))


def test_a_clock_that_was_once_in_the_future_does_not_poison_expiry_for_ever(signed: Make, target: EdgeTarget) -> None:
    wrong = clock() + timedelta(days=3650)
    deploy(signed("v1", 1), target, load_test=healthy, actor="ada", now=lambda: wrong)
    bundle = signed("v2", 2, expires_at=clock() + timedelta(days=1))
    with pytest.raises(ClockSetBack, match="--accept-clock"):
        put(bundle, target)
    assert put(bundle, target, accept_clock=True, dry_run=True) is Outcome.WOULD_COMMIT
    assert put(bundle, target, accept_clock=True) is Outcome.COMMITTED


def test_a_replayed_bundle_is_refused(signed: Make, target: EdgeTarget) -> None:
    old = signed("v1", 1)
    put(old, target)
    put(signed("v2", 2), target)
    assert "it is a replay: its counter 1 is below 2" in refusal(old, target)


def test_going_back_is_no_replay(signed: Make, target: EdgeTarget) -> None:
    put(signed("v1", 1), target)
    put(signed("v2", 2), target)
    assert rollback(target, actor="ada", now=clock).model_version == "v1"


def test_a_bundle_decided_under_another_policy_is_refused(signed: Make, target: EdgeTarget) -> None:
    assert "decided under the policy lax" in refusal(signed("v1", 1, policy_name="lax"), target)


def test_a_policy_that_does_not_hold_stops_every_deployment(signed: Make, target: EdgeTarget) -> None:
    (target.path / "device-policy.yaml").write_text("trusted_keys: []")
    with pytest.raises(BadInput, match="does not hold"):
        put(signed("v1", 1), target)


# What the deployer cannot leave out


def demand(target: EdgeTarget, **fields: object) -> None:
    path = target.path / "device-policy.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | fields))


def test_a_deployer_cannot_skip_the_load_test_that_the_device_demands(signed: Make, target: EdgeTarget) -> None:
    demand(target, require_load_test=True)
    with pytest.raises(DeploymentFailed, match="without a load test, which this device demands"):
        deploy(signed("v1", 1), target, load_test=None, actor="ada", now=clock)
    assert put(signed("v2", 2), target) is Outcome.COMMITTED


def test_a_deployer_cannot_shorten_the_watch_that_the_device_demands(signed: Make, target: EdgeTarget) -> None:
    demand(target, min_health_rounds=2)
    short, long = (HealthWindow(healthy, rounds, interval_s=0, detached=False) for rounds in (1, 2))
    with pytest.raises(DeploymentFailed, match="watched for 1 rounds, and this device demands 2"):
        put(signed("v1", 1), target, health=short)
    assert put(signed("v2", 2), target, health=long) is Outcome.COMMITTED


class ToldWhenOpened(FileOps):
    """Tells when it opens its first folder, which a deployer does before it asks for the lock."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def open_folder(self, path: str | Path, parent: Fd | None = None) -> Fd:
        self.opened.set()
        return super().open_folder(path, parent)


def test_a_policy_that_came_while_the_deployer_waited_for_the_lock_binds_it(target: EdgeTarget, tmp_path: Path) -> None:
    put(make_bundle(tmp_path / "bundles", "v1"), target)
    ops = ToldWhenOpened()
    failures: list[BaseException] = []

    def wait_and_deploy() -> None:
        try:
            put(make_bundle(tmp_path / "bundles", "v2", counter=2), target, wait_s=60, ops=ops)
        except DeploymentFailed as error:
            failures.append(error)

    deployer = threading.Thread(target=wait_and_deploy)
    with locked(target.path, Holder.me("the device's owner", clock())):
        deployer.start()
        assert ops.opened.wait(60)
        keys = init_keys(tmp_path / "keys")
        (target.path / "device-policy.yaml").write_text(
            yaml.safe_dump({"trusted_keys": [keys.public.read_text().strip()]})
        )
    deployer.join(60)
    (failure,) = failures
    assert "bears no signature" in str(failure)


# Without a policy


def test_without_a_policy_an_unsigned_bundle_is_taken(target: EdgeTarget, tmp_path: Path) -> None:
    assert put(make_bundle(tmp_path / "bundles", "v1"), target) is Outcome.COMMITTED


def test_without_a_policy_a_signature_that_does_not_hold_is_refused_all_the_same(
    target: EdgeTarget, tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "bundles", "v1")
    init_keys(tmp_path / "keys")
    sign = default_signer(tmp_path / "keys")
    assert sign is not None
    sign(bundle)
    write_manifest(bundle, read_manifest(bundle).model_copy(update={"counter": 9}))
    assert "signature does not hold" in refusal(bundle, target)


def test_without_a_policy_an_expired_bundle_is_refused_all_the_same(target: EdgeTarget, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundles", "v1")
    write_manifest(bundle, read_manifest(bundle).model_copy(update={"expires_at": MADE_AT + timedelta(days=1)}))
    assert "it expired at" in refusal(bundle, target)


def test_without_a_policy_a_replay_is_refused_all_the_same(target: EdgeTarget, tmp_path: Path) -> None:
    old = make_bundle(tmp_path / "bundles", "v1")
    put(old, target)
    put(make_bundle(tmp_path / "bundles", "v2", counter=2), target)
    assert "it is a replay: its counter 1 is below 2" in refusal(old, target)
