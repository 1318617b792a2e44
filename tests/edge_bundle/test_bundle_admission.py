"""What a device admits: the pure question, the policy file, and the check of a real folder."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from milton_assets.edge.bundle import Bundle, default_signer
from milton_assets.edge.bundle.keys import init_keys, load_public_key
from milton_assets.edge.deployment.admission import (
    DevicePolicy,
    NotAdmitted,
    Trial,
    admission,
    admit,
    load_device_policy,
)
from milton_assets.edge.release.sshsig import fingerprint
from milton_assets.vocabulary.errors import BadInput
from tests.support.bundles import NOW, ingredients

TRIED = Trial(load_test=True, health_rounds=3)


@pytest.fixture
def key_line(tmp_path: Path) -> str:
    return init_keys(tmp_path / "keys").public.read_text().strip()


@pytest.fixture
def signer(tmp_path: Path, key_line: str) -> str:
    return fingerprint(load_public_key(tmp_path / "keys" / "signing_key.pub"))


@pytest.fixture
def bundle(tmp_path: Path, key_line: str) -> Bundle:
    return ingredients(tmp_path).bundle(
        tmp_path / "bundles", sign=default_signer(tmp_path / "keys"), expires_at=NOW + timedelta(days=7)
    )


def reasons(
    bundle: Bundle,
    signer: str | None,
    policy: DevicePolicy | None,
    *,
    counter: int = 0,
    days: int = 1,
    trial: Trial = TRIED,
) -> list[str]:
    signers = () if signer is None else {signer}
    return admit(bundle.manifest, policy, counter, NOW + timedelta(days=days), signers=signers, trial=trial)


def policy_of(key_line: str, **fields: Any) -> DevicePolicy:
    return DevicePolicy(trusted_keys=(key_line,), **fields)


def test_a_bundle_signed_by_a_trusted_key_is_admitted(bundle: Bundle, signer: str, key_line: str) -> None:
    policy = policy_of(
        key_line,
        policies=("seed",),
        policy_sha256=(bundle.manifest.policy_sha256,),
        min_figures={"cove_pass_rate": 0.9},
        max_figures={"ttft_ms.median": 50},
        artefact_kinds=("gguf",),
        require_expiry=True,
    )
    assert reasons(bundle, signer, policy, counter=bundle.manifest.counter) == []


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"policies": ("strict",)}, "decided under the policy seed"),
        ({"policy_sha256": ("0" * 64,)}, "policy's digest"),
        ({"min_figures": {"cove_pass_rate": 0.95}}, "cove_pass_rate is 0.93, below 0.95"),
        ({"max_figures": {"ttft_ms.median": 40}}, "ttft_ms.median is 41.5, above 40"),
        ({"min_figures": {"nDCG@10": 0.1}}, "states no nDCG@10"),
        ({"artefact_kinds": ("hf-distilled",)}, "holds gguf"),
    ],
)
def test_each_demand_refuses_with_its_own_reason(
    bundle: Bundle, signer: str, key_line: str, fields: dict[str, Any], why: str
) -> None:
    (reason,) = reasons(bundle, signer, policy_of(key_line, **fields))
    assert why in reason


def test_unsigned_foreign_expired_and_replayed_are_all_told(bundle: Bundle, key_line: str) -> None:
    policy = policy_of(key_line)
    above = bundle.manifest.counter + 1
    told = reasons(bundle, None, policy, counter=above, days=7)
    assert [reason.split(":")[0].split(" at ")[0] for reason in told] == [
        "it bears no signature that holds",
        "it expired",
        "it is a replay",
    ]
    assert "does not trust" in reasons(bundle, "SHA256:other", policy)[0]


def test_the_last_instant_before_expiry_is_still_good(bundle: Bundle, signer: str, key_line: str) -> None:
    at = NOW + timedelta(days=7)
    policy = policy_of(key_line)
    assert admit(bundle.manifest, policy, 0, at - timedelta(microseconds=1), signers={signer}, trial=TRIED) == []
    assert admit(bundle.manifest, policy, 0, at, signers={signer}, trial=TRIED) != []


def test_a_device_may_ask_for_an_expiry(tmp_path: Path, signer: str, key_line: str) -> None:
    for_ever = ingredients(tmp_path).bundle(tmp_path / "others")
    (reason,) = reasons(for_ever, signer, policy_of(key_line, require_expiry=True))
    assert "never expires" in reason


def test_a_device_may_demand_how_a_release_is_tried(bundle: Bundle, signer: str, key_line: str) -> None:
    policy = policy_of(key_line, require_load_test=True, min_health_rounds=3)
    assert reasons(bundle, signer, policy) == []
    told = reasons(bundle, signer, policy, trial=Trial(load_test=False, health_rounds=2))
    assert ["without a load test" in told[0], "watched for 2 rounds" in told[1]] == [True, True]


def test_a_device_without_a_policy_takes_no_expired_and_no_replayed_bundle(bundle: Bundle) -> None:
    assert reasons(bundle, None, None, trial=Trial(load_test=False, health_rounds=0)) == []
    told = reasons(bundle, None, None, counter=bundle.manifest.counter + 1, days=8)
    assert [reason.split(":")[0].split(" at ")[0] for reason in told] == ["it expired", "it is a replay"]


# The file


def test_a_policy_is_read_from_yaml(tmp_path: Path, key_line: str) -> None:
    path = tmp_path / "device.yaml"
    path.write_text(f"trusted_keys:\n  - {key_line}\npolicies: [seed]\nmin_figures: {{cove_pass_rate: 0.9}}\n")
    policy = load_device_policy(path)
    assert policy.policies == ("seed",)
    assert policy.min_figures == {"cove_pass_rate": 0.9}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "trusted_keys: []",
        "trusted_keys: [nonsense]",
        "trusted_keys: KEY\n",
        "trusted_keys: [KEY]\nsurprise: 1",
        "trusted_keys: [KEY]\nmin_figures: {a: .nan}",
        "trusted_keys: [KEY]\nmin_figures: {a: 2}\nmax_figures: {a: 1}",
        "trusted_keys: [",
        "a: 1\n" * 400_000,
    ],
)
def test_a_policy_that_does_not_hold_is_refused(tmp_path: Path, key_line: str, content: str) -> None:
    path = tmp_path / "device.yaml"
    path.write_text(content.replace("KEY", key_line))
    with pytest.raises(BadInput, match="device policy"):
        load_device_policy(path)


def test_a_policy_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        load_device_policy(tmp_path / "none.yaml")


# A real folder


def test_a_deployment_is_let_through_or_stopped_with_every_reason(bundle: Bundle, key_line: str) -> None:
    check = admission(policy_of(key_line))
    check(bundle.path, now=NOW, highest_counter=0, trial=TRIED)
    with pytest.raises(NotAdmitted, match=r"expired.*replay"):
        check(bundle.path, now=NOW + timedelta(days=8), highest_counter=bundle.manifest.counter + 1, trial=TRIED)


def test_a_signature_that_does_not_hold_is_told_apart_from_none(bundle: Bundle, key_line: str) -> None:
    check = admission(policy_of(key_line))
    (bundle.path / "SHA256SUMS.sig").write_text("garbage")
    with pytest.raises(NotAdmitted, match="its signature does not hold: it is no armoured SSH signature"):
        check(bundle.path, now=NOW, highest_counter=0, trial=TRIED)
    (bundle.path / "SHA256SUMS.sig").unlink()
    with pytest.raises(NotAdmitted, match="bears no signature"):
        check(bundle.path, now=NOW, highest_counter=0, trial=TRIED)


def test_a_manifest_that_the_signed_list_does_not_cover_is_refused(bundle: Bundle, key_line: str) -> None:
    forged = bundle.manifest.model_copy(update={"counter": bundle.manifest.counter + 1000})
    (bundle.path / "manifest.json").write_bytes(forged.to_json())
    with pytest.raises(NotAdmitted, match=r"manifest\.json: SHA256SUMS says"):
        admission(policy_of(key_line))(bundle.path, now=NOW, highest_counter=0, trial=TRIED)
