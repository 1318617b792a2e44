"""What a bundle needs besides its weights, made up for a benchmark and said to be so.

What belongs here: an entry, evidence and a decision for any GGUF. What does not: measuring.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from milton_assets.edge.bundle import Bundle, Making, Order, create_bundle
from milton_assets.vocabulary.digest import sha256_bytes, sha256_file
from milton_assets.vocabulary.evidence import CandidateEvidence, EvidenceManifest
from milton_assets.vocabulary.registry import Artefact, ArtefactKind, EntryStatus, RegistryEntry

NOW = datetime(2026, 1, 11, 14, 25, tzinfo=UTC)
RUN_ID = "benchmark_20260111_142500"


def order_of(gguf: Path, version: str = "bench", sha256: str | None = None) -> Order:
    """What is to be bundled of that GGUF. `sha256` spares reading the file for its digest."""
    digest = sha256 or sha256_file(gguf)
    artefact = Artefact(kind=ArtefactKind.GGUF, path=str(gguf), size_bytes=gguf.stat().st_size, sha256=digest)
    entry = RegistryEntry(
        version=version,
        base_model="made up for a benchmark",
        created_at=NOW,
        status=EntryStatus.CANDIDATE,
        artefacts=(artefact,),
        raw={"base_model": "made up for a benchmark"},
    )
    evidence = EvidenceManifest(
        run_id=RUN_ID,
        created_at=NOW,
        policy_name="none",
        policy_sha256=sha256_bytes(b"none"),
        registry_sha256=sha256_bytes(b"none"),
        goldens={},
        fingerprints={},
        tiers=(),
        candidates=(
            CandidateEvidence(
                model_version=version,
                entry_sha256=entry.entry_sha256,
                artefact_sha256=digest,
                artefact_size_bytes=artefact.size_bytes,
                fingerprint_sha256=None,
                pins=(),
            ),
        ),
    )
    decision = {
        "run_id": RUN_ID,
        "verdict": "promote",
        "winner": version,
        "policy_sha256": evidence.policy_sha256,
        "manifest_sha256": evidence.digest(),
        "candidates": [],
    }
    return Order(entry, ArtefactKind.GGUF, decision=decision, summary={}, evidence=evidence, now=NOW)


def bundled(gguf: Path, into: Path, version: str) -> Bundle:
    """A bundle of that GGUF in `into`."""
    return create_bundle(order_of(gguf, version), Making(into))
