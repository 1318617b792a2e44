"""A device's own policy decides which bundles it takes, whoever deploys."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import SSHCertificateBuilder, SSHCertificateType
from pydantic import ValidationError

from milton_assets import MADE_ON
from milton_assets.edge.bundle.keys import init_keys, load_private_key
from milton_assets.edge.bundle.signing import default_signer
from milton_assets.edge.deployment import (
    COUNTER_NAMESPACE,
    ClockSetBack,
    DeploymentFailed,
    EdgeTarget,
    HealthWindow,
    Outcome,
    ReleaseDamaged,
    counter_order,
    deploy,
    reset_counter,
    rollback,
    status,
)
from milton_assets.edge.deployment.admission import COUNTERS_APART, DevicePolicy, NotAdmitted, _figures
from milton_assets.edge.deployment.fileops import FileOps
from milton_assets.edge.deployment.lock import Holder, locked
from milton_assets.edge.deployment.report import history
from milton_assets.edge.manifest import SIGNATURE_FILES, BundleManifest
from milton_assets.edge.release import SignatureInvalid, verify_release
from milton_assets.edge.release.disk import Fd
from milton_assets.edge.release.sshsig import sign
from milton_assets.vocabulary.errors import BadInput
from tests.support.crashing import ailing, clock, healthy
from tests.support.edge_bundles import MADE_AT, make_bundle, read_manifest, write_manifest

Make = Callable[..., Path]


@pytest.fixture
def signed(tmp_path: Path, target: EdgeTarget) -> Make:
    """Makes signed bundles; the target's policy trusts their key."""
    keys = init_keys(tmp_path / "keys")
    target.path.mkdir()
    policy = {"trusted_keys": [keys.public.read_text().strip()], "policies": ["smoke"]}
    (target.path / "device-policy.yaml").write_text(yaml.safe_dump(policy))
    add_signature = default_signer(tmp_path / "keys")
    assert add_signature is not None

    def make(version: str, counter: int, *, policy_name: str = "smoke", **changes: object) -> Path:
        bundle = make_bundle(tmp_path / "bundles", version, counter=counter, policy_name=policy_name)
        write_manifest(bundle, read_manifest(bundle).model_copy(update=changes))
        add_signature(bundle)
        return bundle

    return make


def put(bundle: Path, target: EdgeTarget, **options: object) -> Outcome:
    return deploy(bundle, target, load_test=healthy, actor="ada", now=clock, **options).outcome


def refusal(bundle: Path, target: EdgeTarget) -> str:
    with pytest.raises(DeploymentFailed) as raised:
        put(bundle, target)
    assert isinstance(raised.value.__cause__, NotAdmitted | ReleaseDamaged)
    with pytest.raises(type(raised.value.__cause__)):
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


@pytest.mark.parametrize(
    "taken",
    [
        ("model",),
        ("decision.json", "evidence_manifest.json", "registry_entry.json"),
        ("manifest.json",),
        ("SHA256SUMS",),
        ("SHA256SUMS.sig",),
        ("manifest.json", "SHA256SUMS"),
        ("SHA256SUMS", "SHA256SUMS.sig"),
        ("manifest.json", "SHA256SUMS", "SHA256SUMS.sig"),
    ],
    ids=" ".join,
)
def test_parts_of_two_signed_bundles_make_no_third(signed: Make, target: EdgeTarget, taken: tuple[str, ...]) -> None:
    mixed, other = signed("v1", 1), signed("v2", 2)
    for name in taken:
        if (mixed / name).is_dir():
            shutil.rmtree(mixed / name)
            shutil.copytree(other / name, mixed / name)
        else:
            shutil.copyfile(other / name, mixed / name)
    refusal(mixed, target)


@pytest.mark.parametrize("added", ["SHA256SUMS.sig", "model.sig"])
def test_a_signature_that_was_added_by_another_is_refused(
    signed: Make, target: EdgeTarget, tmp_path: Path, added: str
) -> None:
    bundle, others = signed("v1", 1), signed("v1-others", 1)
    init_keys(tmp_path / "other-keys")
    sign_otherwise = default_signer(tmp_path / "other-keys")
    assert sign_otherwise is not None
    shutil.rmtree(others)
    shutil.copytree(bundle, others)
    sign_otherwise(others)
    shutil.copyfile(others / added, bundle / added)
    assert "sign" in refusal(bundle, target)


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


@pytest.mark.parametrize("accept_clock", [False, True])
def test_a_clock_that_stands_before_this_software_was_made_is_not_believed(
    signed: Make, target: EdgeTarget, accept_clock: bool
) -> None:
    before_it_expired = MADE_AT + timedelta(hours=12)
    bundle = signed("v1", 1, expires_at=MADE_AT + timedelta(days=1))
    assert before_it_expired < MADE_ON < clock()
    for dry_run in (True, False):
        with pytest.raises((NotAdmitted, DeploymentFailed), match="it expired at"):
            deploy(
                bundle,
                target,
                load_test=healthy,
                actor="ada",
                now=lambda: before_it_expired,
                accept_clock=accept_clock,
                dry_run=dry_run,
            )


@pytest.mark.parametrize("accept_clock", [False, True])
def test_a_clock_that_stands_before_the_bundle_was_made_is_not_believed(
    signed: Make, target: EdgeTarget, accept_clock: bool
) -> None:
    made_at = clock()
    bundle = signed("v1", 1, created_at=made_at, expires_at=made_at + timedelta(hours=1))
    with pytest.raises(DeploymentFailed, match="which this device's clock has not reached"):
        deploy(
            bundle,
            target,
            load_test=healthy,
            actor="ada",
            now=lambda: made_at - timedelta(days=2),
            accept_clock=accept_clock,
        )


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


# Reading a policy


def test_a_policy_with_a_key_twice_does_not_hold(signed: Make, target: EdgeTarget) -> None:
    path = target.path / "device-policy.yaml"
    path.write_text(path.read_text() + "policies: [anything]\n")
    with pytest.raises(BadInput, match="policies is given twice"):
        put(signed("v1", 1), target)


def test_a_policy_of_aliases_that_stand_for_gigabytes_is_refused_at_once(signed: Make, target: EdgeTarget) -> None:
    bomb = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40))]
    (target.path / "device-policy.yaml").write_text("\n".join(bomb))
    with pytest.raises(BadInput, match="YAML alias"):
        put(signed("v1", 1), target)


def test_a_certificate_is_no_key_whether_it_has_expired_or_not() -> None:
    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    certificate = (
        SSHCertificateBuilder()
        .public_key(key.public_key())
        .type(SSHCertificateType.USER)
        .valid_for_all_principals()
        .valid_after(0)
        .valid_before(1)
        .sign(authority)
    )
    with pytest.raises(ValidationError, match="is a certificate, and no public key"):
        DevicePolicy(trusted_keys=(certificate.public_bytes().decode(),))


# Going back


def revoke(target: EdgeTarget, keys: Path) -> None:
    """Trust only another key from now on."""
    demand(target, trusted_keys=[init_keys(keys).public.read_text().strip()])


def test_a_rollback_does_not_go_to_a_release_of_a_revoked_key(signed: Make, target: EdgeTarget, tmp_path: Path) -> None:
    put(signed("v1", 1), target)
    put(signed("v2", 2), target)
    revoke(target, tmp_path / "new-keys")
    for dry_run in (True, False):
        with pytest.raises((NotAdmitted, DeploymentFailed), match="a key this device does not trust"):
            rollback(target, actor="ada", now=clock, dry_run=dry_run)
    assert status(target).active.model_version == "v2"


def test_a_rollback_leaves_out_nothing_that_the_device_demands(signed: Make, target: EdgeTarget) -> None:
    put(signed("v1", 1), target)
    put(signed("v2", 2), target)
    demand(target, require_load_test=True)
    with pytest.raises(DeploymentFailed, match="without a load test, which this device demands"):
        rollback(target, actor="ada", now=clock)
    assert rollback(target, load_test=healthy, actor="ada", now=clock).model_version == "v1"


def test_a_rollback_takes_an_expired_release_back(signed: Make, target: EdgeTarget) -> None:
    put(signed("v1", 1, expires_at=clock() + timedelta(hours=1)), target)
    put(signed("v2", 2), target)
    tomorrow = clock() + timedelta(days=1)
    assert rollback(target, actor="ada", now=lambda: tomorrow).model_version == "v1"


def test_a_known_good_release_of_a_revoked_key_is_no_refuge(signed: Make, target: EdgeTarget, tmp_path: Path) -> None:
    put(signed("v1", 1), target)
    deploy(signed("v2", 2), target, load_test=None, actor="ada", now=clock)
    assert (status(target).known_good.model_version, status(target).active.model_version) == ("v1", "v2")
    init_keys(tmp_path / "new-keys")
    demand(target, trusted_keys=[(tmp_path / "new-keys" / "signing_key.pub").read_text().strip()])
    newer = make_bundle(tmp_path / "bundles", "v3", counter=3)
    sign = default_signer(tmp_path / "new-keys")
    assert sign is not None
    sign(newer)
    watch = HealthWindow(ailing, rounds=1, interval_s=0, detached=False)
    with pytest.raises(DeploymentFailed, match="was rolled back"):
        deploy(newer, target, load_test=None, health=watch, actor="ada", now=clock)
    assert status(target).active.model_version == "v2"
    assert "was passed over" in history(target)[-1].reason


# Figures


def test_a_bound_on_figures_asks_for_figures_of_this_very_artefact() -> None:
    policy = DevicePolicy.model_construct(min_figures={"speed": 1.0}, max_figures={})
    manifest = read_manifest_of_figures({"speed": 2.0})
    assert _figures(manifest, policy, manifest.artefact_sha256) == []
    assert _figures(manifest, policy, "0" * 64) == [f"its figures were measured on another artefact, {'0' * 64}"]


def read_manifest_of_figures(figures: dict[str, float]) -> BundleManifest:
    return BundleManifest.model_construct(artefact_sha256="a" * 64, figures=figures)


# Counters


def in_2100() -> datetime:
    return datetime(2100, 1, 1, tzinfo=UTC)


def test_a_bundle_from_a_clock_that_is_far_ahead_is_refused(target: EdgeTarget, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundles", "v1", counter=int(in_2100().timestamp()))
    assert "would lock out every bundle that comes after it" in refusal(bundle, target)
    write_manifest(bundle, read_manifest(bundle).model_copy(update={"counter": 1, "created_at": in_2100()}))
    assert "which this device's clock has not reached" in refusal(bundle, target)


def test_a_counter_may_go_on_from_the_highest_where_that_is_ahead_of_the_clock(
    target: EdgeTarget, tmp_path: Path
) -> None:
    counter = int(in_2100().timestamp())
    first = make_bundle(tmp_path / "bundles", "v1", counter=counter)
    deploy(first, target, load_test=healthy, actor="ada", now=in_2100)
    assert put(make_bundle(tmp_path / "bundles", "v2", counter=counter + 1), target, accept_clock=True)
    beyond = make_bundle(tmp_path / "bundles", "v3", counter=counter + 2 + COUNTERS_APART)
    with pytest.raises(DeploymentFailed, match="would lock out"):
        put(beyond, target, accept_clock=True)


@pytest.fixture
def locked_out(signed: Make, target: EdgeTarget) -> EdgeTarget:
    """A target that took a bundle from 2100, and since then none of now."""
    deploy(signed("v1", int(in_2100().timestamp())), target, load_test=healthy, actor="ada", now=in_2100)
    with pytest.raises(DeploymentFailed, match="it is a replay"):
        put(signed("v2", 2), target, accept_clock=True)
    return target


def order(target: EdgeTarget, keys: Path, counter: int = 0) -> tuple[bytes, bytes]:
    raw = counter_order(target, counter, clock())
    return raw, sign(raw, load_private_key(keys / "signing_key"), COUNTER_NAMESPACE)


def test_a_trusted_key_takes_the_counter_back(locked_out: EdgeTarget, signed: Make, tmp_path: Path) -> None:
    record = reset_counter(locked_out, *order(locked_out, tmp_path / "keys"), actor="ada", now=clock)
    assert (record.from_counter, record.counter) == (int(in_2100().timestamp()), 0)
    assert put(signed("v3", 3), locked_out, accept_clock=True) is Outcome.COMMITTED


def test_an_order_works_once(locked_out: EdgeTarget, tmp_path: Path) -> None:
    once = order(locked_out, tmp_path / "keys", counter=5)
    reset_counter(locked_out, *once, actor="ada", now=clock)
    with pytest.raises(BadInput, match="from 5, the highest here"):
        reset_counter(locked_out, *once, actor="ada", now=clock)


def test_an_order_for_another_target_is_refused(locked_out: EdgeTarget, tmp_path: Path) -> None:
    raw, _ = order(locked_out, tmp_path / "keys")
    other = json.dumps(json.loads(raw) | {"journal": "0" * 64}).encode()
    signature = sign(other, load_private_key(tmp_path / "keys" / "signing_key"), COUNTER_NAMESPACE)
    with pytest.raises(BadInput, match="with another journal"):
        reset_counter(locked_out, other, signature, actor="ada", now=clock)


def test_an_order_of_another_key_or_for_another_purpose_is_refused(locked_out: EdgeTarget, tmp_path: Path) -> None:
    init_keys(tmp_path / "other-keys")
    with pytest.raises(NotAdmitted, match="does not trust"):
        reset_counter(locked_out, *order(locked_out, tmp_path / "other-keys"), actor="ada", now=clock)
    raw, _ = order(locked_out, tmp_path / "keys")
    as_bundle = sign(raw, load_private_key(tmp_path / "keys" / "signing_key"), "milton-bundle")
    with pytest.raises(SignatureInvalid, match="was made for"):
        reset_counter(locked_out, raw, as_bundle, actor="ada", now=clock)
    assert status(locked_out).problems == ()


def test_a_target_without_a_policy_takes_no_order(target: EdgeTarget, tmp_path: Path) -> None:
    put(make_bundle(tmp_path / "bundles", "v1", counter=5), target)
    init_keys(tmp_path / "keys")
    with pytest.raises(BadInput, match="has no device policy"):
        reset_counter(target, *order(target, tmp_path / "keys"), actor="ada", now=clock)


# Signatures of what is installed


def test_a_failed_attempt_without_signatures_leaves_those_of_the_release_in_service(
    target: EdgeTarget, tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "bundles", "v1")
    init_keys(tmp_path / "keys")
    add_signature = default_signer(tmp_path / "keys")
    assert add_signature is not None
    add_signature(bundle)
    put(bundle, target)
    for name in SIGNATURE_FILES:
        (bundle / name).unlink()
    watch = HealthWindow(ailing, rounds=1, interval_s=0, detached=False)
    with pytest.raises(DeploymentFailed):
        deploy(bundle, target, load_test=None, health=watch, actor="mallory", now=clock)
    assert verify_release(target.path / "current").signers
    done = deploy(bundle, target, load_test=healthy, actor="ada", now=clock)
    assert "keeps the signatures it has" in " ".join(done.notes)
    assert verify_release(target.path / "current").signers


def test_a_signature_is_added_to_a_release_that_has_none(target: EdgeTarget, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundles", "v1")
    put(bundle, target)
    init_keys(tmp_path / "keys")
    add_signature = default_signer(tmp_path / "keys")
    assert add_signature is not None
    add_signature(bundle)
    put(bundle, target)
    assert verify_release(target.path / "current").signers
