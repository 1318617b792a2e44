"""Requests that a canary needs until it notices, and how often it is wrong, judged after every request.

    python benches/fleet/bench_canary.py [--runs 1000]

Simulated requests, the bets of `milton_assets.edge.canary`. Errors are Monte-Carlo standard errors. It fails when more
canaries of the same release go back, or more at a margin are promoted, than 5 % and three standard errors allow.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time

import numpy as np

from milton_assets.edge.canary.verdict import Outcome
from milton_assets.rollout.arms import blocks_needed, size_of_blocks
from tests.support.arms import judged_after_each_block
from tests.support.canaries import NEVER, Ends, World, simulate

ALPHA = 0.05


def shares(ends: Ends, runs: int) -> str:
    """The shares that ended either way, with their errors."""
    told = []
    for name, at in (("back", ends.went_back), ("promoted", ends.promoted)):
        share = float((at != NEVER).mean())
        told.append(f"{name} {share:6.1%} ± {math.sqrt(share * (1 - share) / runs):.1%}")
    return ", ".join(told)


def quantiles(at: np.ndarray) -> str:
    """Median and 80th percentile of the challenger's requests until then."""
    median, most = np.quantile(np.where(at == NEVER, np.inf, at.astype(float)), [0.5, 0.8], method="higher")
    return f"{median:6.0f} {most:6.0f}" if math.isfinite(median) else "  most never"


def over_devices(runs: int) -> bool:
    """Whole devices as arms, up to 12 blocks: blocks until a verdict. Whether more go back than 5 % allow."""
    print(f"\nwhole devices, {runs} comparisons of up to 12 blocks each; median and 80th percentile of blocks")
    allowed, wrong = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / runs), False
    for share in (0.5, 0.25, 0.1):
        size = size_of_blocks(share)
        least = blocks_needed(share, ALPHA, goldens=False)
        print(f"  blocks of {size}: at least {least} until it can go back, {least * size} devices")
        for name, world in (
            ("the same release", {}),
            ("devices much alike", {"spread": 0.05}),
            ("1.5 times slower", {"slower": 1.5}),
            ("the same, devices alike", {"slower": 1.5, "spread": 0.05}),
            ("20 points more errors", {"more_errors": 0.2}),
        ):
            rng, back, promoted = random.Random(1), np.full(runs, NEVER), np.full(runs, NEVER)
            for run in range(runs):
                for blocks, judged in enumerate(judged_after_each_block(rng, share=share, **world), 1):
                    if judged.outcome is not Outcome.NOT_YET:
                        (back if judged.outcome is Outcome.GO_BACK else promoted)[run] = blocks
                        break
            ends = Ends(back, promoted)
            decided = np.minimum(back, promoted)
            print(f"    {name:<24} {quantiles(decided)}   {shares(ends, runs)}")
            wrong |= world in ({}, {"spread": 0.05}) and bool((back != NEVER).mean() > allowed)
    return wrong


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs
    began, allowed = time.perf_counter(), ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / runs)
    wrong = False
    print(f"{runs} canaries each; the challenger's requests: median, 80th percentile\n\nwell, up to 2,000 requests:")
    for share in (0.5, 0.1):
        ends = simulate(World(), runs=runs, requests=2000, share=share)
        wrong |= bool((ends.went_back != NEVER).mean() > allowed)
        print(
            f"  the same release, share {share:3.0%}: {shares(ends, runs)}; promoted after {quantiles(ends.promoted)}"
        )
    ends = simulate(World(golden=0.5), runs=runs, requests=2000)
    wrong |= bool((ends.went_back != NEVER).mean() > allowed)
    print(f"  half of it golden questions:  {shares(ends, runs)}; promoted after {quantiles(ends.promoted)}")
    print("\nat a margin, up to 1,500 requests:")
    for name, world in (
        ("2 points more errors", World(challenger_fails=0.03)),
        ("1.2 times slower", World(slower=1.2)),
        ("1.5 times longer", World(longer=1.5)),
        ("5 points more wrong", World(golden=0.5, forgets=0.07)),
    ):
        ends = simulate(world, runs=runs, requests=1500)
        wrong |= bool((ends.promoted != NEVER).mean() > allowed)
        print(f"  {name:<22} {shares(ends, runs)}")
    print("\nworse, share 50%: until it goes back")
    for name, world, requests in (
        ("errors 1% to 3%", World(challenger_fails=0.03), 6000),
        ("errors 1% to 5%", World(challenger_fails=0.05), 2500),
        ("errors 1% to 10%", World(challenger_fails=0.1), 800),
        ("failures 5% to 10%", World(incumbent_fails=0.05, challenger_fails=0.1), 3000),
        ("failures 5% to 25%", World(incumbent_fails=0.05, challenger_fails=0.25), 300),
        ("1.5 times slower", World(slower=1.5), 2000),
        ("2 times slower", World(slower=2.0), 800),
        ("3 times longer", World(longer=3.0), 800),
        ("disliked 2% to 20%", World(challenger_disliked=0.2), 800),
        ("forgets a fifth", World(golden=0.5, forgets=0.2), 4000),
        ("forgets a half", World(golden=0.5, forgets=0.5), 1500),
    ):
        ends = simulate(world, runs=max(100, runs // 4), requests=requests)
        print(f"  {name:<22} {quantiles(ends.went_back)}   {shares(ends, max(100, runs // 4))}")
    wrong |= over_devices(max(100, runs // 2))
    print(f"\n{time.perf_counter() - began:.0f} s")
    if wrong:
        sys.exit("more are judged wrongly than 5 % and three standard errors allow")


if __name__ == "__main__":
    main()
