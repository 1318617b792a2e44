"""A model, its evidence and its decision, as small files and plain values, for tests of bundles and deployments.

What belongs here: making a valid bundle's ingredients and a bundle of them. What does not: hostile variants, which
stand in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from milton_assets.edge.bundle import Bundle, Making, Order, create_bundle
from milton_assets.vocabulary.digest import sha256_bytes, sha256_file, sha256_listing
from milton_assets.vocabulary.evidence import CandidateEvidence, EvidenceManifest, EvidencePin
from milton_assets.vocabulary.gguf_reader import read_header
from milton_assets.vocabulary.metric import Interval, Metric
from milton_assets.vocabulary.registry import Artefact, ArtefactKind, EntryStatus, RegistryEntry
from tests.support.gguf_file import tiny_gguf
from tests.support.tiers import BUILT_IN

NOW = datetime(2026, 1, 11, 14, 25, tzinfo=UTC)
RUN_ID = "benchmark_20260111_142500"


@dataclass(frozen=True)
class Ingredients:
    """Everything an `Order` needs but the time."""

    entry: RegistryEntry
    evidence: EvidenceManifest
    decision: dict[str, Any]
    summary: dict[str, Any]
    kind: ArtefactKind = ArtefactKind.GGUF

    def bundle(self, into: Path, **overrides: Any) -> Bundle:
        """A bundle of these in `into`; what overrides it is the order's, or how it is made, or who listens."""
        ways = {field.name for field in fields(Making)}
        listeners = {name: overrides.pop(name) for name in ("on_progress", "on_warning") if name in overrides}
        making = Making(into, **{name: overrides.pop(name) for name in ways & overrides.keys()})
        arguments: dict[str, Any] = {
            "entry": self.entry,
            "kind": self.kind,
            "decision": self.decision,
            "summary": self.summary,
            "evidence": self.evidence,
            "now": NOW,
        }
        return create_bundle(Order(**(arguments | overrides)), making, **listeners)

    def with_artefact(self, artefact: Artefact) -> Ingredients:
        """The same model with another artefact, measured and decided on."""
        entry = self.entry.model_copy(update={"artefacts": (artefact,)})
        evidence = evidence_of(entry, artefact)
        return replace(
            self, entry=entry, evidence=evidence, decision=decision_of(evidence, entry.version), kind=artefact.kind
        )


def gguf_artefact(path: Path) -> Artefact:
    """The artefact that a GGUF file is."""
    return Artefact(
        kind=ArtefactKind.GGUF,
        path=str(path),
        size_bytes=path.stat().st_size,
        sha256=sha256_file(path),
        quantization=read_header(path).quantization,
    )


def hf_artefact(folder: Path) -> Artefact:
    """The artefact that a Hugging Face folder is."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return Artefact(
        kind=ArtefactKind.HF_DISTILLED,
        path=str(folder),
        size_bytes=sum(path.stat().st_size for path in files),
        sha256=sha256_listing({path.relative_to(folder).as_posix(): sha256_file(path) for path in files}),
    )


def entry_of(artefact: Artefact, version: str) -> RegistryEntry:
    """A registry entry with that artefact."""
    return RegistryEntry(
        version=version,
        base_model="example/base-135M",
        created_at=NOW,
        status=EntryStatus.CANDIDATE,
        artefacts=(artefact,),
        raw={"base_model": "example/base-135M", "created_at": NOW.isoformat(), "licence": "Apache-2.0"},
    )


def evidence_of(entry: RegistryEntry, artefact: Artefact) -> EvidenceManifest:
    """An evidence manifest in which that entry was the one candidate."""
    version = entry.version
    pins = tuple(
        EvidencePin(
            model_version=version,
            tier=tier,
            dagster_run_id="4b1c",
            storage_id=number,
            data_version="d",
            uri=f"{tier}/{version}.parquet",
            sha256=sha256_bytes(tier.encode()),
        )
        for number, tier in enumerate(BUILT_IN)
    )
    return EvidenceManifest(
        run_id=RUN_ID,
        created_at=NOW,
        policy_name="seed",
        policy_sha256=sha256_bytes(b"policy"),
        registry_sha256=sha256_bytes(b"registry"),
        tiers=BUILT_IN,
        goldens={"prompts.json": sha256_bytes(b"prompts")},
        fingerprints={},
        candidates=(
            CandidateEvidence(
                model_version=version,
                entry_sha256=entry.entry_sha256,
                artefact_sha256=artefact.sha256,
                artefact_size_bytes=artefact.size_bytes,
                fingerprint_sha256=None,
                pins=pins,
            ),
        ),
    )


def ingredients(folder: Path, *, version: str = "v1.20260111.1425", gguf: Path | None = None) -> Ingredients:
    """A model of that version with a tiny GGUF in `folder` (or the given one), measured and decided on."""
    artefact = gguf_artefact(gguf or tiny_gguf(folder / version / "model-q4_0.gguf", quantization=2))
    entry = entry_of(artefact, version)
    evidence = evidence_of(entry, artefact)
    return Ingredients(
        entry=entry,
        evidence=evidence,
        decision=decision_of(evidence, version),
        summary={"run_id": RUN_ID, "candidates": {version: {}}},
    )


def decision_of(evidence: EvidenceManifest, winner: str) -> dict[str, Any]:
    """The parts of a decision's JSON that a bundle reads: that version is promoted on this evidence."""
    interval = Interval(low=0.81, high=0.975, method="wilson")
    measured = {
        "reasoning": Metric.measured("cove_pass_rate", "1", 0.93, n=40, interval=interval),
        "inference": Metric.measured("ttft_ms.median", "ms", 41.5, n=40),
    }
    readings = [{"tier": tier, "metric": metric.model_dump(mode="json")} for tier, metric in measured.items()]
    readings.append(
        {"tier": "retrieval", "metric": Metric.skipped("nDCG@10", "1", "not asked").model_dump(mode="json")}
    )
    return {
        "run_id": evidence.run_id,
        "verdict": "promote",
        "winner": winner,
        "reasons": ["it is the only one"],
        "policy_sha256": evidence.policy_sha256,
        "manifest_sha256": evidence.digest(),
        "candidates": [{"version": winner, "readings": readings}],
    }


def hf_folder(folder: Path) -> Path:
    """A small folder of the shape that `save_pretrained` writes."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "original").mkdir()
    (folder / "original" / "params.json").write_text('{"dim": 8}')
    return folder
