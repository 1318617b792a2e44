"""How long and how much memory it takes to decide among many candidates.

    python -m benches.selection.bench_selection [--candidates 10000] [--policy anchored]

Makes that many candidates with 150 reasoning cases and 60 queries each and figures with intervals, decides with an
incumbent (gates, ranking, resampling, paired comparisons with Holm, Pareto front, sensitivity), and fails when it
takes 5 seconds or more, or 1 GB or more. The first decision counts, with whatever only the first one pays for; beside
it stands one among a tenth of the candidates, taken in the same process.

Memory is the process's highest resident set after deciding, with the candidates themselves included.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decide import decide
from milton_assets.selection.policy import Policy
from milton_assets.selection.policy_file import load_policy, shipped_policies
from milton_assets.selection.simulate import RUN_ID, Design, TrueModel, campaign, pinned
from milton_assets.tiers.discovery import installed_tiers

TIERS = installed_tiers()

LIMIT_S = 5.0
LIMIT_BYTES = 1_000_000_000


def candidates(count: int, seed: int = 0) -> list[Candidate]:
    """Candidates about as good as each other, so that nearly all are eligible and compared."""
    rng = np.random.default_rng(seed)
    models = [
        (f"v1.{index:05}", TrueModel(float(rng.lognormal(4.6, 0.3)), float(rng.lognormal(4.4, 0.3)), 0.96, 0.65))
        for index in range(count)
    ]
    return campaign(rng, models, Design())


def peak_bytes() -> int:
    """The highest resident set of this process so far (`ru_maxrss` is in KiB on Linux)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclass(frozen=True)
class Taken:
    """What came of a decision, and the seconds that it took by the wall and of this process's processor time."""

    verdict: str
    eligible: int
    wall_s: float
    cpu_s: float


def timed_decision(stood: Sequence[Candidate], policy: Policy) -> Taken:
    """Decide among `stood`, the first of whom serves."""
    evidence = pinned(stood, policy)
    wall, cpu = time.perf_counter(), time.process_time()
    decision = decide(
        run_id=RUN_ID, candidates=stood, policy=policy, manifest=evidence, incumbent=stood[0].version, tiers=TIERS
    )
    took = time.perf_counter() - wall, time.process_time() - cpu
    return Taken(decision.verdict, len(decision.eligible), *took)


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
        taken = timed_decision(stood, policy)
        peak = peak_bytes()
        fewer = timed_decision(stood[: max(2, len(stood) // 10)], policy)
        print(
            f"{name}: {len(stood):,} candidates, {taken.eligible:,} eligible, "
            f"{policy.certainty.draws:,} resamplings: {taken.wall_s:.2f} s (limit {LIMIT_S:g} s), of processor time "
            f"{taken.cpu_s:.2f} s, {taken.wall_s / fewer.wall_s:.1f} times what a tenth of them take; "
            f"peak memory {peak / 1e9:.2f} GB (limit {LIMIT_BYTES / 1e9:g} GB), verdict {taken.verdict}",
            flush=True,
        )
        within &= taken.wall_s < LIMIT_S and peak < LIMIT_BYTES
    print("within the limits" if within else "OVER THE LIMITS")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
