"""A device's own policy decides which bundles it takes, whoever deploys."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from milton_assets.edge.bundle.admission import NotAdmitted
from milton_assets.edge.bundle.keys import init_keys
from milton_assets.edge.bundle.signing import default_signer
from milton_assets.edge.deployment import DeploymentFailed, EdgeTarget, Outcome, deploy, rollback
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

    def make(version: str, counter: int, **changes: object) -> Path:
        bundle = make_bundle(tmp_path / "bundles", version, counter=counter)
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


def test_a_clock_set_back_does_not_revive_an_expired_bundle(signed: Make, target: EdgeTarget) -> None:
    put(signed("v1", 1), target)
    soon = clock() + timedelta(hours=1)
    bundle = signed("v2", 2, expires_at=soon)
    deploy(signed("v3", 3), target, load_test=healthy, actor="ada", now=lambda: soon + timedelta(hours=1))
    with pytest.raises(DeploymentFailed, match="it expired at"):
        deploy(bundle, target, load_test=healthy, actor="ada", now=clock, accept_clock=True)


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
