"""How long and how much memory it takes to decide among many candidates.

    python benches/selection/bench_selection.py [--candidates 10000] [--policy anchored]

Makes that many candidates with 150 reasoning cases and 60 queries each and figures with intervals, decides with an
incumbent (gates, ranking, resampling, paired comparisons with Holm, Pareto front, sensitivity), and fails when it
takes 5 seconds or more, or when the process grows by 1 GB or more while deciding.

Memory is the process's highest resident set after deciding, with the candidates themselves included.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from milton_assets.selection import Candidate, Policy, decide, load_policy
from milton_assets.selection.policy_file import shipped_policies
from milton_assets.vocabulary.evidence import CandidateEvidence, EvidenceManifest, EvidencePin
from milton_assets.vocabulary.metric import Interval, Metric
from milton_assets.vocabulary.tier import Tier, TierResult

RUN_ID = "benchmark_20260111_142500"
LIMIT_S = 5.0
LIMIT_BYTES = 1_000_000_000
CASES, QUERIES = 150, 60


def candidates(count: int, seed: int = 0) -> list[Candidate]:
    """Candidates about as good as each other, so that nearly all are eligible and compared."""
    rng = np.random.default_rng(seed)
    case_ids = [f"case-{i:03}" for i in range(CASES)]
    query_ids = [f"query-{i:03}" for i in range(QUERIES)]
    hard = rng.uniform(0.3, 0.9, QUERIES)
    made = []
    for index in range(count):
        passed = rng.random(CASES) < 0.96
        ndcg = np.clip(hard + rng.normal(0, 0.1, QUERIES), 0, 1)
        latency, rate = rng.lognormal(4.6, 0.3), rng.lognormal(4.4, 0.3)
        made.append(
            Candidate(
                f"v1.{index:05}",
                {
                    Tier.INFERENCE: TierResult(
                        Tier.INFERENCE,
                        (
                            figure("ttft_ms.median", "ms", latency, 0.03 * latency),
                            figure("output_tokens_per_s", "tokens/s", rate, 0.02 * rate),
                        ),
                    ),
                    Tier.REASONING: TierResult(
                        Tier.REASONING,
                        (figure("cove_pass_rate", "fraction", float(passed.mean()), 0.03),),
                        pd.DataFrame({"part": "cove", "case_id": case_ids, "final_right": passed}),
                    ),
                    Tier.RETRIEVAL: TierResult(
                        Tier.RETRIEVAL,
                        (figure("nDCG@10", "fraction", float(ndcg.mean()), 0.05),),
                        pd.DataFrame({"query_id": query_ids, "nDCG@10": ndcg}),
                    ),
                },
                100_000_000,
            )
        )
    return made


def figure(name: str, unit: str, value: float, half: float) -> Metric:
    """A measured figure with an interval of `half` on each side."""
    interval = Interval(low=max(value - half, 0), high=value + half, method="bootstrap")
    return Metric.measured(name, unit, value, n=100, interval=interval)


def manifest(stood: list[Candidate], policy: Policy) -> EvidenceManifest:
    """A manifest that pins every tier of every candidate."""
    return EvidenceManifest(
        run_id=RUN_ID,
        created_at=datetime(2026, 1, 11, 14, 25, tzinfo=UTC),
        policy_name=policy.name,
        policy_sha256=policy.sha256,
        registry_sha256="a" * 64,
        goldens={},
        fingerprints={},
        candidates=tuple(
            CandidateEvidence(
                model_version=one.version,
                entry_sha256="b" * 64,
                artefact_sha256="c" * 64,
                artefact_size_bytes=one.artefact_size_bytes,
                fingerprint_sha256=None,
                pins=tuple(
                    EvidencePin(
                        model_version=one.version,
                        tier=tier,
                        dagster_run_id="run",
                        storage_id=1,
                        data_version="1",
                        uri=f"{tier}/{one.version}.parquet",
                        sha256="d" * 64,
                    )
                    for tier in one.tiers
                ),
            )
            for one in stood
        ),
    )


def peak_bytes() -> int:
    """The highest resident set of this process so far (`ru_maxrss` is in KiB on Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    """Run the bench; 0 when within the limits."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--policy", choices=shipped_policies(), action="append", help="default: seed and anchored")
    arguments = parser.parse_args()
    stood = candidates(arguments.candidates)
    within = True
    for name in arguments.policy or ["seed", "anchored"]:
        policy = load_policy(name)
        pinned = manifest(stood, policy)
        start = time.perf_counter()
        decision = decide(run_id=RUN_ID, candidates=stood, policy=policy, manifest=pinned, incumbent=stood[0].version)
        seconds, peak = time.perf_counter() - start, peak_bytes()
        print(
            f"{name}: {len(stood):,} candidates, {len(decision.eligible):,} eligible, "
            f"{policy.certainty.draws:,} resamplings: {seconds:.2f} s (limit {LIMIT_S:g} s), "
            f"peak memory {peak / 1e9:.2f} GB (limit {LIMIT_BYTES / 1e9:g} GB), verdict {decision.verdict}"
        )
        within &= seconds < LIMIT_S and peak < LIMIT_BYTES
    print("within the limits" if within else "OVER THE LIMITS")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
