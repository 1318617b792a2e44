"""Candidates, tier results and manifests for tests of selection, made by the real nouns.

What belongs here: builders with readable arguments. What does not: assertions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.contamination import readings
from milton_assets.selection.decision import VariantsReading
from milton_assets.selection.policy import Policy
from milton_assets.selection.policy_file import load_policy
from milton_assets.vocabulary.digest import sha256_bytes, sha256_file
from milton_assets.vocabulary.evidence import CandidateEvidence, EvidenceManifest, EvidencePin
from milton_assets.vocabulary.metric import Interval, Metric
from milton_assets.vocabulary.tier import TierResult
from tests.support.tiers import BUILT_IN, TIERS

RUN_ID = "benchmark_20260111_142500"

LATENCY = ("inference", "ttft_ms.median", "ms")
THROUGHPUT = ("inference", "output_tokens_per_s", "tokens/s")
COVE = ("reasoning", "cove_pass_rate", "share")
NDCG = ("retrieval", "nDCG@10", "score")
HEADLINES = (LATENCY, THROUGHPUT, COVE, NDCG)

Figure = float | tuple[float, float, float]
"""A value, or a value with the low and high end of its 95 % interval."""


def metric(name: str, unit: str, figure: Figure, *, n: int = 100, errors: int = 0) -> Metric:
    """A measured metric."""
    if isinstance(figure, tuple):
        value, low, high = figure
        return Metric.measured(
            name, unit, value, n=n, errors=errors, interval=Interval(low=low, high=high, method="bootstrap")
        )
    return Metric.measured(name, unit, figure, n=n, errors=errors)


def candidate(
    version: str,
    latency: Figure | Metric = 20.0,
    throughput: Figure | Metric = 50.0,
    cove: Figure | Metric = 0.95,
    ndcg: Figure | Metric = 0.6,
    *,
    passed: Sequence[bool] | None = None,
    ndcg_by_query: Sequence[float] | None = None,
    size_bytes: int = 1000,
    excluded: str | None = None,
) -> Candidate:
    """A candidate with the four headline figures; with samples per case where `passed`, `ndcg_by_query` are given."""
    figures = dict(zip(HEADLINES, (latency, throughput, cove, ndcg), strict=True))
    samples = {
        "reasoning": cases(passed) if passed is not None else pd.DataFrame(),
        "retrieval": queries(ndcg_by_query) if ndcg_by_query is not None else pd.DataFrame(),
    }
    tiers = {
        tier: TierResult(
            tier,
            tuple(
                figure if isinstance(figure, Metric) else metric(name, unit, figure)
                for (of_tier, name, unit), figure in figures.items()
                if of_tier == tier
            ),
            samples.get(tier, pd.DataFrame()),
        )
        for tier in BUILT_IN
        if tier != "fidelity"
    }
    tiers["fidelity"] = TIERS["fidelity"].skipped("it names no reference")
    return Candidate(version, tiers, size_bytes, excluded)


def variants_reading(result: TierResult) -> VariantsReading:
    """What fresh variants say of that result, of a candidate that stands alone."""
    one = Candidate("v1", {result.tier: result})
    ((reading,),) = readings([one], manifest([one]), TIERS).values()
    return reading


def cases(passed: Sequence[bool]) -> pd.DataFrame:
    """Reasoning samples."""
    ids = [f"c{i:03}" for i in range(len(passed))]
    return pd.DataFrame({"part": "cove", "case_id": ids, "final_right": list(passed)})


def queries(ndcg: Sequence[float]) -> pd.DataFrame:
    """Retrieval samples."""
    return pd.DataFrame({"query_id": [f"q{i:03}" for i in range(len(ndcg))], "nDCG@10": list(ndcg)})


def store(root: Path, candidates: Sequence[Candidate]) -> dict[tuple[str, str], str]:
    """Write every tier as Parquet where `manifest` pins it; the files' digests."""
    digests = {}
    for one in candidates:
        for tier, result in one.tiers.items():
            path = root / _uri(one.version, tier)
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(result.to_table(one.version, "f" * 64), path)
            digests[one.version, tier] = sha256_file(path)
    return digests


def _uri(version: str, tier: str) -> str:
    return f"{tier}/{version}.parquet"


def manifest(
    candidates: Sequence[Candidate],
    policy: Policy | None = None,
    *,
    run_id: str = RUN_ID,
    fingerprints: Mapping[str, Mapping[str, Any]] | None = None,
    fingerprint_of: Mapping[str, str] | None = None,
    sha256_of: Mapping[tuple[str, str], str] | None = None,
) -> EvidenceManifest:
    """A manifest that pins every tier of every candidate that is not excluded."""
    chosen = policy or load_policy("seed")
    return EvidenceManifest(
        run_id=run_id,
        created_at=datetime(2026, 1, 11, 14, 25, tzinfo=UTC),
        policy_name=chosen.name,
        policy_sha256=chosen.sha256,
        registry_sha256="a" * 64,
        tiers=BUILT_IN,
        goldens={"cases.jsonl": "b" * 64},
        fingerprints={key: dict(value) for key, value in (fingerprints or {}).items()},
        candidates=tuple(
            CandidateEvidence(
                model_version=one.version,
                entry_sha256=sha256_bytes(one.version.encode()),
                artefact_sha256=sha256_bytes(b"weights of " + one.version.encode()),
                artefact_size_bytes=one.artefact_size_bytes,
                fingerprint_sha256=(fingerprint_of or {}).get(one.version),
                pins=() if one.excluded else tuple(_pin(one.version, tier, sha256_of) for tier in one.tiers),
            )
            for one in candidates
        ),
    )


def _pin(version: str, tier: str, sha256_of: Mapping[tuple[str, str], str] | None) -> EvidencePin:
    return EvidencePin(
        model_version=version,
        tier=tier,
        dagster_run_id="run",
        storage_id=1,
        data_version="1",
        uri=_uri(version, tier),
        sha256=(sha256_of or {}).get((version, tier), "c" * 64),
    )
