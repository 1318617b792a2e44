"""Gathering evidence from a real event log and store: what is pinned of each candidate."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dagster import AssetMaterialization, DagsterInstance

from milton_assets.vocabulary.entry_table import entry_to_table
from milton_assets.vocabulary.fingerprint import Fingerprint
from milton_assets.vocabulary.registry import Artefact, ArtefactKind, Registry
from milton_assets.vocabulary.state import StateDir
from milton_assets.vocabulary.tier import TierResult, asset_of
from resources.evidence_store import EvidenceFile, EvidenceStore
from resources.gathering import Gathered, LatestFiles, gather
from tests.support.bundles import entry_of
from tests.support.tiers import BUILT_IN

WEIGHTS = "1" * 64
ENTRY = entry_of(Artefact(kind=ArtefactKind.GGUF, path="/models/a.gguf", size_bytes=10, sha256=WEIGHTS), "a")
REGISTRY = Registry({"a": ENTRY}, (), "2" * 64, datetime(2026, 1, 11, tzinfo=UTC))


def environment(cpu: str) -> Fingerprint:
    host = {"cpu_model": cpu, "physical_cores": 2, "logical_cores": 2, "ram_bytes": 1, "kernel": "6"}
    return Fingerprint.model_validate({"host": host})


def gathered(root: Path, measured_in: dict[str, Fingerprint]) -> Gathered:
    store = EvidenceStore(root)
    with DagsterInstance.ephemeral() as instance:

        def written(tier: str) -> EvidenceFile:
            told: dict[str, Any] = {"fingerprint": measured_in[tier].model_dump(mode="json")}
            table = TierResult(tier, (), provenance=told).to_table("a", WEIGHTS)
            file = store.write(asset_of(tier), "a", table, "run")
            event = AssetMaterialization(asset_of(tier), partition="a", metadata={"sha256": file.sha256})
            instance.report_runless_asset_event(event)
            return file

        files = LatestFiles(
            {"a": store.write("registry_entry", "a", entry_to_table(ENTRY, StateDir(root)), "run")},
            {tier: {"a": written(tier)} for tier in BUILT_IN},
            classes={},
        )
        return gather(instance, REGISTRY, ArtefactKind.GGUF, files, timed_by="inference")


def test_a_candidate_whose_tiers_were_measured_in_several_environments_is_known_by_that_of_its_speeds(
    tmp_path: Path,
) -> None:
    one, other = environment("one"), environment("other")
    found = gathered(tmp_path, {"inference": one, "reasoning": other, "retrieval": other, "fidelity": other})
    assert found.candidates[0].excluded is None
    assert found.evidence[0].fingerprint_sha256 == one.digest()
    assert found.fingerprints.keys() == {one.digest(), other.digest()}
