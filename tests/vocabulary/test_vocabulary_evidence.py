"""The evidence manifest: what is pinned, and the comparison that names every difference at once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from milton_assets.vocabulary.errors import BadInput, EvidenceMismatch
from milton_assets.vocabulary.evidence import CandidateEvidence, EvidenceManifest, EvidencePin, Found

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def pin(version: str, tier: str, sha256: str) -> EvidencePin:
    return EvidencePin(
        model_version=version,
        tier=tier,
        dagster_run_id="run",
        storage_id=7,
        data_version="d",
        uri=f"{tier}/{version}.parquet",
        sha256=sha256,
    )


def candidate(version: str, *pins: EvidencePin) -> CandidateEvidence:
    return CandidateEvidence(
        model_version=version,
        entry_sha256=A,
        artefact_sha256=B,
        artefact_size_bytes=1,
        fingerprint_sha256=None,
        pins=pins,
    )


V1 = candidate("v1", pin("v1", "inference", A), pin("v1", "reasoning", B))
V2 = candidate("v2", pin("v2", "inference", C))


def manifest(**changes: Any) -> EvidenceManifest:
    fields: dict[str, Any] = {
        "run_id": "benchmark_20260111_142500",
        "created_at": datetime(2026, 1, 11, 14, 25, tzinfo=UTC),
        "policy_name": "seed",
        "policy_sha256": A,
        "registry_sha256": A,
        "goldens": {"cases.jsonl": B},
        "fingerprints": {C: {"host": {}}},
        "candidates": (V1, V2),
        "tiers": ("inference", "reasoning"),
    }
    return EvidenceManifest(**{**fields, **changes})


def found(pinned: EvidencePin, **changes: Any) -> Found:
    fields = {"file_sha256": pinned.sha256, "logged_sha256": pinned.sha256, **changes}
    return Found(model_version=pinned.model_version, tier=pinned.tier, **fields)


def test_evidence_that_is_as_it_was_holds() -> None:
    assert manifest().check(found(pinned) for pinned in manifest().pins()) is None


def test_every_difference_is_named_in_one_message() -> None:
    first, second, third = manifest().pins()
    with pytest.raises(EvidenceMismatch) as raised:
        manifest().check([found(first, file_sha256=C), found(second, logged_sha256=None)])
    message = str(raised.value)
    assert f"v1/inference (inference/v1.parquet): the file is {C}, pinned was {A}" in message
    assert "v1/reasoning (reasoning/v1.parquet): event 7 of run run is not in the log" in message
    assert f"v2/inference ({third.uri}): the file is missing" in message
    assert "event 7 of run run" in message
    assert "benchmark and decide again" in message


def test_a_log_that_says_otherwise_is_a_mismatch() -> None:
    pinned = V2.pins[0]
    with pytest.raises(EvidenceMismatch, match=f"the event log says {A}, pinned was {C}"):
        manifest(candidates=(V2,)).check([found(pinned, logged_sha256=A)])


def test_evidence_of_others_does_not_matter() -> None:
    extra = found(pin("v3", "retrieval", A))
    assert manifest(candidates=(V2,)).check([found(V2.pins[0]), extra]) is None


def test_a_candidate_and_its_pins_are_found_by_name() -> None:
    assert manifest().candidate("v2") == V2
    assert V1.pin("reasoning") == V1.pins[1]
    assert V1.pin("retrieval") is None
    with pytest.raises(BadInput, match=r"v3 is no candidate.*'v1', 'v2'"):
        manifest().candidate("v3")


def test_the_digest_survives_json_and_follows_every_part() -> None:
    same = EvidenceManifest.model_validate_json(manifest().model_dump_json())
    assert same.digest() == manifest().digest()
    changed = [manifest(policy_sha256=B), manifest(goldens={}), manifest(candidates=(V1,)), manifest(fingerprints={})]
    assert len({each.digest() for each in [manifest(), *changed]}) == 5


@pytest.mark.parametrize(
    "changes",
    [
        {"run_id": "run"},
        {"created_at": datetime(2026, 1, 1)},
        {"policy_sha256": "x"},
        {"goldens": {"a": "x"}},
        {"signature": "unknown field"},
    ],
)
def test_a_manifest_that_does_not_hold_does_not_exist(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        manifest(**changes)
