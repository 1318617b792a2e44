"""The bundle's attestations and bill of materials, read by the formats' own libraries."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement

from milton_assets.edge.bundle import Bundle
from milton_assets.edge.bundle.attestations import PROVENANCE_FILE, TEST_RESULT_FILE
from milton_assets.edge.manifest import SBOM_FILE
from milton_assets.vocabulary.registry import ArtefactKind
from tests.support.bundles import (
    Ingredients,
    decision_of,
    entry_of,
    evidence_of,
    gguf_artefact,
    hf_artefact,
    hf_folder,
    ingredients,
)
from tests.support.gguf_file import tiny_gguf


@pytest.fixture
def model(tmp_path: Path) -> Ingredients:
    return ingredients(tmp_path)


def read(bundle: Bundle, name: str) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((bundle.path / name).read_text())
    return parsed


def gate(answer: str, *, admits: bool = True) -> dict[str, Any]:
    return {
        "tier": "reasoning",
        "metric": "cove_pass_rate",
        "op": ">=",
        "threshold": 0.9,
        "answer": answer,
        "admits": admits,
    }


def with_gates(model: Ingredients, *gates: dict[str, Any]) -> Ingredients:
    (candidate,) = model.decision["candidates"]
    return replace(model, decision=model.decision | {"candidates": [candidate | {"gates": list(gates)}]})


@pytest.mark.parametrize("name", [TEST_RESULT_FILE, PROVENANCE_FILE])
def test_a_statement_is_one_that_in_toto_accepts(model: Ingredients, tmp_path: Path, name: str) -> None:
    bundle = model.bundle(tmp_path / "bundles")
    parsed = json_format.Parse((bundle.path / name).read_text(), statement_pb2.Statement())
    Statement.copy_from_pb(parsed).validate()
    weights = bundle.manifest.file(bundle.manifest.primary)
    assert [(s.name, s.digest["sha256"]) for s in parsed.subject] == [(weights.path, weights.sha256)]


def test_the_test_result_names_run_policy_evidence_and_figures(model: Ingredients, tmp_path: Path) -> None:
    bundle = with_gates(model, gate("pass")).bundle(tmp_path / "bundles")
    predicate = read(bundle, TEST_RESULT_FILE)["predicate"]
    json_format.ParseDict(predicate, test_result_pb2.TestResult())
    assert predicate["result"] == "PASSED"
    assert predicate["passedTests"] == ["reasoning/cove_pass_rate >= 0.9"]
    policy, evidence, golden = predicate["configuration"]
    assert policy == {"name": "policy seed", "digest": {"sha256": model.evidence.policy_sha256}}
    assert evidence["digest"]["sha256"] == model.evidence.digest()
    assert evidence["annotations"] == {"runId": model.evidence.run_id, "figures": bundle.manifest.figures}
    assert golden["name"] == "golden prompts.json"


@pytest.mark.parametrize(
    ("gates", "result"),
    [
        ([], "PASSED"),
        ([gate("pass"), gate("inconclusive")], "WARNED"),
        ([gate("inconclusive"), gate("fail", admits=False)], "FAILED"),
    ],
)
def test_the_result_is_no_better_than_the_worst_gate(
    model: Ingredients, tmp_path: Path, gates: list[dict[str, Any]], result: str
) -> None:
    bundle = with_gates(model, *gates).bundle(tmp_path / "bundles")
    assert read(bundle, TEST_RESULT_FILE)["predicate"]["result"] == result


def test_the_test_result_speaks_of_what_was_measured_and_not_of_what_is_bundled(tmp_path: Path) -> None:
    measured, bundled = gguf_artefact(tiny_gguf(tmp_path / "m.gguf")), hf_artefact(hf_folder(tmp_path / "hf"))
    entry = entry_of(measured, "v1").model_copy(update={"artefacts": (measured, bundled)})
    evidence = evidence_of(entry, measured)
    model = Ingredients(entry, evidence, decision_of(evidence, "v1"), {}, ArtefactKind.HF_DISTILLED)
    (subject,) = read(model.bundle(tmp_path / "bundles"), TEST_RESULT_FILE)["subject"]
    assert subject["digest"]["sha256"] == measured.sha256
    assert "not in this bundle" in subject["name"]


def test_provenance_leads_from_the_bundle_to_entry_artefact_decision_and_evidence(
    model: Ingredients, tmp_path: Path
) -> None:
    bundle = model.bundle(tmp_path / "bundles")
    predicate = read(bundle, PROVENANCE_FILE)["predicate"]
    json_format.ParseDict(predicate, provenance_pb2.Provenance())
    digests = [found["digest"]["sha256"] for found in predicate["buildDefinition"]["resolvedDependencies"]]
    manifest = bundle.manifest
    assert digests == [
        manifest.artefact_sha256,
        manifest.entry_sha256,
        manifest.decision_sha256,
        manifest.evidence_sha256,
    ]
    assert predicate["buildDefinition"]["externalParameters"]["modelVersion"] == model.entry.version


@pytest.mark.parametrize("kind", list(ArtefactKind))
def test_the_bill_of_materials_is_valid_cyclonedx(model: Ingredients, tmp_path: Path, kind: ArtefactKind) -> None:
    if kind is ArtefactKind.HF_DISTILLED:
        model = model.with_artefact(hf_artefact(hf_folder(tmp_path / "hf")))
    bundle = model.bundle(tmp_path / "bundles")
    raw = (bundle.path / SBOM_FILE).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(raw) is None
    (component,) = json.loads(raw)["components"]
    assert component["hashes"] == [{"alg": "SHA-256", "content": bundle.manifest.artefact_sha256}]
    assert component["pedigree"]["ancestors"][0]["name"] == model.entry.base_model
    files = {file["name"]: file["hashes"][0]["content"] for file in component["components"]}
    assert files == {file.path: file.sha256 for file in bundle.manifest.model_files()}


def test_the_bill_of_materials_has_the_figures_with_their_confidence_intervals(
    model: Ingredients, tmp_path: Path
) -> None:
    raw = (model.bundle(tmp_path / "bundles").path / SBOM_FILE).read_text()
    assert json.loads(raw)["components"][0]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"] == [
        {
            "type": "cove_pass_rate [1]",
            "value": "0.93",
            "slice": "reasoning",
            "confidenceInterval": {"lowerBound": "0.81", "upperBound": "0.975"},
        },
        {"type": "ttft_ms.median [ms]", "value": "41.5", "slice": "inference"},
    ]


def test_the_same_release_has_the_same_bill_of_materials(model: Ingredients, tmp_path: Path) -> None:
    first, second = (model.bundle(tmp_path / name) for name in ("one", "two"))
    assert (first.path / SBOM_FILE).read_bytes() == (second.path / SBOM_FILE).read_bytes()
    assert first.manifest.release_digest == second.manifest.release_digest
