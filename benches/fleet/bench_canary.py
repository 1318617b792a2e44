"""Requests that a canary needs until it notices, and how often it is wrong, judged after every request.

    python benches/fleet/bench_canary.py [--runs 1000]

Simulated requests, the bets of `milton_assets.edge.canary`. Errors are Monte-Carlo standard errors. Beside a figure
that something was promised of stands what was: at most 5 % of canaries of the same release go back; errors of 10 %
beside 1 % are noticed within 150 requests of the challenger in 80 % of canaries, failures of 25 % beyond a limit of 5 %
within 30. It fails when a promise is not kept, or more than 5 % at a margin are promoted, three standard errors
allowed.
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
NOTICED_IN = 0.8
"""The share of canaries in which a worse challenger is to be noticed within the requests that were promised."""


def three_errors(share: float, runs: int) -> float:
    """Three Monte-Carlo standard errors of a share of so many runs."""
    return 3 * math.sqrt(share * (1 - share) / runs)


def held(is_kept: bool, is_possible: bool) -> str:
    """What is printed of a promise: whether the figure keeps it, or could within three standard errors."""
    return "kept" if is_kept else "not quite, within three standard errors" if is_possible else "NOT KEPT"


def shares(ends: Ends, runs: int) -> str:
    """The shares that ended either way, with their errors."""
    told = []
    for name, at in (("back", ends.went_back), ("promoted", ends.promoted)):
        share = float((at != NEVER).mean())
        told.append(f"{name} {share:6.1%} ± {math.sqrt(share * (1 - share) / runs):.1%}")
    return ", ".join(told)


def false_aborts(ends: Ends, runs: int) -> tuple[str, bool]:
    """What is said of the canaries of one release that went back, and whether they are few enough."""
    wrong = float((ends.went_back != NEVER).mean())
    few_enough = wrong <= ALPHA + three_errors(ALPHA, runs)
    return f"false aborts {wrong:.1%}, wanted at most {ALPHA:.0%}: {held(wrong <= ALPHA, few_enough)}", few_enough


def quantiles(at: np.ndarray) -> str:
    """Median and 80th percentile of the challenger's requests until then."""
    told = np.quantile(np.where(at == NEVER, np.inf, at.astype(float)), [0.5, 0.8], method="higher")
    return " ".join(f"{one:6.0f}" if math.isfinite(one) else " never" for one in told)


def over_devices(runs: int) -> bool:
    """Whole devices as arms, up to 12 blocks: blocks until a verdict. Whether more go back than 5 % allow."""
    print(f"\nwhole devices, {runs} comparisons of up to 12 blocks each; median and 80th percentile of blocks")
    wrong = False
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
            told = f"    {name:<24} {quantiles(decided)}   {shares(ends, runs)}"
            if world in ({}, {"spread": 0.05}):
                said, few_enough = false_aborts(ends, runs)
                told, wrong = f"{told}; {said}", wrong or not few_enough
            print(told)
    return wrong


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs
    began = time.perf_counter()
    wrong = False
    print(f"{runs} canaries each; the challenger's requests: median, 80th percentile\n\nwell, up to 2,000 requests:")
    for name, world, share in (
        ("the same release, share 50%", World(), 0.5),
        ("the same release, share 10%", World(), 0.1),
        ("half of it golden questions", World(golden=0.5), 0.5),
    ):
        ends = simulate(world, runs=runs, requests=2000, share=share)
        said, few_enough = false_aborts(ends, runs)
        wrong |= not few_enough
        print(f"  {name}: {said}; {shares(ends, runs)} after {quantiles(ends.promoted)}")
    print("\nat a margin, up to 1,500 requests: wanted at most 5% promoted")
    for name, world in (
        ("2 points more errors", World(challenger_fails=0.03)),
        ("1.2 times slower", World(slower=1.2)),
        ("1.5 times longer", World(longer=1.5)),
        ("5 points more wrong", World(golden=0.5, forgets=0.07)),
    ):
        ends = simulate(world, runs=runs, requests=1500)
        promoted = float((ends.promoted != NEVER).mean())
        few_enough = promoted <= ALPHA + three_errors(ALPHA, runs)
        wrong |= not few_enough
        print(f"  {name:<22} {shares(ends, runs)}: {held(promoted <= ALPHA, few_enough)}")
    print("\nworse, share 50%: until it goes back")
    fewer = max(100, runs // 4)
    for name, world, requests, promised in (
        ("errors 1% to 3%", World(challenger_fails=0.03), 6000, None),
        ("errors 1% to 5%", World(challenger_fails=0.05), 2500, None),
        ("errors 1% to 10%", World(challenger_fails=0.1), 800, 150),
        ("failures 5% to 10%", World(incumbent_fails=0.05, challenger_fails=0.1), 3000, None),
        ("failures 5% to 25%", World(incumbent_fails=0.05, challenger_fails=0.25), 300, 30),
        ("1.5 times slower", World(slower=1.5), 2000, None),
        ("2 times slower", World(slower=2.0), 800, None),
        ("3 times longer", World(longer=3.0), 800, None),
        ("disliked 2% to 20%", World(challenger_disliked=0.2), 800, None),
        ("forgets a fifth", World(golden=0.5, forgets=0.2), 4000, None),
        ("forgets a half", World(golden=0.5, forgets=0.5), 1500, None),
    ):
        some = fewer if promised is None else runs
        ends = simulate(world, runs=some, requests=requests)
        told = f"  {name:<22} {quantiles(ends.went_back)}   {shares(ends, some)}"
        if promised is not None:
            within = float((ends.went_back <= promised).mean())
            noticed = within >= NOTICED_IN - three_errors(NOTICED_IN, some)
            wrong |= not noticed
            told += f"; {within:.1%} within {promised}, wanted {NOTICED_IN:.0%}: {held(within >= NOTICED_IN, noticed)}"
        print(told)
    wrong |= over_devices(max(100, runs // 2))
    print(f"\n{time.perf_counter() - began:.0f} s")
    if wrong:
        sys.exit("a promise is not kept: see what stands beside the figures")


if __name__ == "__main__":
    main()
