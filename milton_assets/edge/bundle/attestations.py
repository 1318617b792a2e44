"""What was tested and how the bundle came to be, as in-toto Statements that others' tools read.

What belongs here: the two Statements' content. What does not: signing them; they are files of the bundle, and its
signature covers them.

Formats: in-toto Statement v1; the test-result predicate v0.1; the provenance predicate of SLSA v1. Provenance is
"SLSA-style": it has the fields, and claims no build level.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from milton_assets import __version__
from milton_assets.edge.manifest import ATTESTATIONS_DIR, EVIDENCE_FILE, REGISTRY_ENTRY_FILE, FileEntry
from milton_assets.vocabulary.registry import Artefact, RegistryEntry

if TYPE_CHECKING:
    from milton_assets.vocabulary.evidence import EvidenceManifest

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
TEST_RESULT_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
PROVENANCE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:milton-autobench:bundle:v1"
BUILDER_ID = "urn:milton-autobench:bundle-create"

TEST_RESULT_FILE = f"{ATTESTATIONS_DIR}/test-result.intoto.json"
PROVENANCE_FILE = f"{ATTESTATIONS_DIR}/provenance.intoto.json"


def test_result(
    weights: Sequence[FileEntry],
    artefact: Artefact,
    evidence: EvidenceManifest,
    decision: Mapping[str, Any],
    figures: Mapping[str, float],
) -> bytes:
    """The Statement that the measured artefact passed the policy's gates, naming run, policy, evidence and figures.

    Its subject is what was *measured*: the bundle's weights, or, when another artefact of the model was measured, that
    one's digest and not theirs.
    """
    winner = decision["winner"]
    measured = evidence.candidate(winner).artefact_sha256
    subject = (
        [_resource(entry.path, entry.sha256) for entry in weights]
        if measured == artefact.sha256
        else [_resource(f"{winner} (the measured artefact, not in this bundle)", measured)]
    )
    gates = [g for c in decision.get("candidates", ()) if c["version"] == winner for g in c.get("gates", ())]
    passed, warned, failed = _by_answer(gates)
    predicate = {
        "result": "FAILED" if failed else "WARNED" if warned else "PASSED",
        "configuration": [
            _resource(f"policy {evidence.policy_name}", evidence.policy_sha256),
            _resource(EVIDENCE_FILE, evidence.digest(), {"runId": evidence.run_id, "figures": dict(figures)}),
            *(_resource(f"golden {name}", digest) for name, digest in sorted(evidence.goldens.items())),
        ],
        "passedTests": passed,
        "warnedTests": warned,
        "failedTests": failed,
    }
    return _statement(subject, TEST_RESULT_TYPE, predicate)


def provenance(
    weights: Sequence[FileEntry],
    entry: RegistryEntry,
    artefact: Artefact,
    evidence: EvidenceManifest,
    decision_sha256: str,
    now: datetime,
) -> bytes:
    """The Statement of what the bundle was made from: the registry entry, its artefact, and the decision."""
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "runId": evidence.run_id,
                "modelVersion": entry.version,
                "artefactKind": artefact.kind.value,
            },
            "resolvedDependencies": [
                _resource(f"{artefact.kind} of {entry.version}", artefact.sha256, {"baseModel": entry.base_model}),
                _resource(REGISTRY_ENTRY_FILE, entry.entry_sha256),
                _resource("decision", decision_sha256),
                _resource(EVIDENCE_FILE, evidence.digest()),
            ],
        },
        "runDetails": {
            "builder": {"id": BUILDER_ID, "version": {"milton-autobench": __version__}},
            "metadata": {"invocationId": evidence.run_id, "finishedOn": now.isoformat()},
        },
    }
    return _statement([_resource(file.path, file.sha256) for file in weights], PROVENANCE_TYPE, predicate)


def _by_answer(gates: Iterable[Mapping[str, Any]]) -> tuple[list[str], list[str], list[str]]:
    """Names of the gates that passed, that admit without the evidence being sure, and that were not reached."""
    passed: list[str] = []
    warned: list[str] = []
    failed: list[str] = []
    for gate in gates:
        name = f"{gate['tier']}/{gate['metric']} {gate['op']} {gate['threshold']:g}"
        (failed if not gate["admits"] else passed if gate["answer"] == "pass" else warned).append(name)
    return passed, warned, failed


def _resource(name: str, sha256: str, annotations: Mapping[str, Any] | None = None) -> dict[str, Any]:
    resource: dict[str, Any] = {"name": name, "digest": {"sha256": sha256}}
    return resource | {"annotations": dict(annotations)} if annotations else resource


def _statement(subject: list[dict[str, Any]], predicate_type: str, predicate: Mapping[str, Any]) -> bytes:
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": subject,
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }
    return (json.dumps(statement, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
