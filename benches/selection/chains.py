"""A year of campaigns: how often unchanged models are promoted over one another, and what is found of a better one.

    python -m benches.selection.chains [--chains 400] [--quick]

The first table is about chains of 200 campaigns in which nothing changes: the share of chains that ever promote a model
that is equal to the one that serves, or worse (5 % slower and 2 points lower on both qualities). The noise of speeds
between campaigns follows an AR(1) process; in some rows a candidate is slowed in 5 % of its campaigns. Beside the rule
as it is stands the same rule with each campaign tested for itself at an assumed noise of 3 %.

The second is about one campaign of `selection.simulate`, whole decisions: how often a better challenger is promoted
when it first stands, beside how often the tests alone, looking once, would have shown it.

The third is about challengers each of which is 30 % faster than what serves and a little worse, whole decisions again:
how much of both qualities is lost in the end, beside the same rule held to the incumbent alone.

Beside the first two stands what rounds in turn with the incumbent make of them: chains in which speeds drift by 10 %
for both alike and each start of a server adds a noise of its own, up to three times what is assumed; and the power when
the noise is assumed.

Shares are told with the interval that so few repetitions leave open. Exits 1 when more than 5 % of the chains promote
an equal model, more than 1 % a worse one, a power is more than 5 points below the textbook's where the noise is
measured, or a chain of a little worse ones loses more than a margin and the step that may be taken at its edge.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from dataclasses import replace

from benches.selection.shown import share, timed
from milton_assets.selection import load_policy
from milton_assets.selection.chains import QUALITY_MARGIN, Chain, ever_promoted
from milton_assets.selection.simulate import Design, TrueModel, creep, power
from milton_assets.tiers.discovery import installed_tiers

MOST_EQUAL = 0.05
MOST_WORSE = 0.01
BELOW_TEXTBOOK = 0.05
NOISES = (0.03, 0.06, 0.10)
POOLS = (2, 5, 20, 100)
STARTS = (0.01, 0.03)
"""Noise of each start of a server; 1 % is assumed."""

MOST_CANDIDATES_CHAINS = 100
"""So many chains at least, however many candidates there are."""
FIRST = TrueModel(pass_rate=0.98, ndcg=0.75)
HISTORY = 8
"""Campaigns in which the incumbent was measured before its challenger comes, where the noise is measured."""

UNSURE = TrueModel(pass_rate=0.92)
LARGE = Design(cases=2000, queries=500)
BETTER = (
    ("output_tokens_per_s", 0.30, LARGE),
    ("output_tokens_per_s", 0.30, Design()),
    ("ttft_ms.median", 0.50, LARGE),
    ("ttft_ms.median", 0.50, Design()),
    ("cove_pass_rate", 0.05, LARGE),
    ("nDCG@10", 0.05, LARGE),
)


def chains_table(chains: int, pools: tuple[int, ...], noises: tuple[float, ...]) -> bool:
    """Print the first table; whether every row is within its limit."""
    print("chains of 200 unchanged campaigns that ever promote; in brackets: each campaign tested for itself")
    print(
        f"{'candidates':>10} {'noise':>6} {'outliers':>8} {'AR(1)':>6} {'chains':>6} "
        f"{'an equal model':>30} {'a worse model':>30}"
    )
    held = True
    for candidates, noise, outliers in itertools.product(pools, noises, (0.0, 0.05)):
        count = max(MOST_CANDIDATES_CHAINS, chains * 10 // max(10, candidates))
        chain = Chain(noise=noise, candidates=candidates, outliers=outliers)
        equal = ever_promoted(chain, chains=count, seed=1)
        worse = ever_promoted(replace(chain, slower=0.05, down=0.02), chains=count, seed=2)
        print(
            f"{candidates:>10} {noise:>6.0%} {outliers:>8.0%} {chain.memory:>6g} {count:>6} "
            f"{share(round(equal.spending * count), count):>21} ({equal.each_for_itself:>6.1%}) "
            f"{share(round(worse.spending * count), count):>21} ({worse.each_for_itself:>6.1%})",
            flush=True,
        )
        held &= equal.spending <= MOST_EQUAL and worse.spending <= MOST_WORSE
    return held


def in_turn_table(chains: int, pools: tuple[int, ...]) -> bool:
    """Print the first table for rounds in turn; whether every row is within its limit."""
    print("\nthe same, measured beside the incumbent in rounds in turn; both drift by 10 % alike")
    print(f"{'candidates':>10} {'starts':>6} {'chains':>6} {'an equal model':>21} {'a worse model':>21}")
    held = True
    for candidates, starts in itertools.product(pools, STARTS):
        count = max(MOST_CANDIDATES_CHAINS, chains * 10 // max(10, candidates))
        chain = Chain(noise=0.10, starts=starts, candidates=candidates)
        equal = ever_promoted(chain, chains=count, seed=1).spending
        worse = ever_promoted(replace(chain, slower=0.05, down=0.02), chains=count, seed=2).spending
        print(
            f"{candidates:>10} {starts:>6.0%} {count:>6} {share(round(equal * count), count):>21} "
            f"{share(round(worse * count), count):>21}",
            flush=True,
        )
        held &= equal <= MOST_EQUAL and worse <= MOST_WORSE
    return held


def power_table(campaigns: int) -> bool:
    """Print the second table; whether the power is near the textbook's where the noise is measured."""
    print(f"\na better challenger, in the first of its campaigns, of {campaigns} each; textbook: the tests alone, once")
    print(
        f"{'better on':>20} {'by':>5} {'cases':>6} {'textbook':>22} {'promoted, noise measured':>25} "
        f"{'noise assumed':>22} {'in rounds in turn':>22}"
    )
    policy, held = load_policy("seed"), True
    for metric, step, design in BETTER:
        better = UNSURE.better(metric, step)
        known, assumed = (
            power(policy, UNSURE, better, tiers=TIERS, campaigns=campaigns, seed=5, design=design, history=history)
            for history in (HISTORY, 0)
        )
        beside = replace(design, starts=STARTS[0])
        turned = power(policy, UNSURE, better, tiers=TIERS, campaigns=campaigns, seed=5, design=beside)
        print(
            f"{metric:>20} {step:>5g} {design.cases:>6} {share(known.shown, campaigns):>22} "
            f"{share(known.promoted, campaigns):>25} {share(assumed.promoted, campaigns):>22} "
            f"{share(turned.promoted, campaigns):>22}",
            flush=True,
        )
        held &= known.promoted >= known.shown - BELOW_TEXTBOOK * campaigns
    return held


def creep_table(chains: int, challengers: int, designs: tuple[Design, ...], steps: tuple[float, ...]) -> bool:
    """Print the third table; whether no chain lost more than one margin and one step on any quality."""
    print(f"\n{challengers} challengers in a row, each 30 % faster and a little worse, {chains} chains a row")
    print("pass rate lost in the end, held to the best that was deployed; and held to the incumbent alone")
    print(f"{'cases':>6} {'queries':>8} {'step':>5} {'mean':>6} {'most':>6} {'alone: mean':>12} {'most':>6}")
    policy, held = load_policy("seed"), True

    def lost(design: Design, step: float, seed: int, *, anchored: bool) -> float:
        served = creep(
            policy,
            FIRST,
            tiers=TIERS,
            faster=0.30,
            step=step,
            challengers=challengers,
            seed=seed,
            design=design,
            history=HISTORY,
            anchored=anchored,
        )
        return FIRST.pass_rate - served[-1].pass_rate

    for design, step in itertools.product(designs, steps):
        held_to_best = [lost(design, step, seed, anchored=True) for seed in range(chains)]
        alone = [lost(design, step, seed, anchored=False) for seed in range(chains)]
        print(
            f"{design.cases:>6} {design.queries:>8} {step:>5g} {sum(held_to_best) / chains:>6.3f} "
            f"{max(held_to_best):>6.3f} {sum(alone) / chains:>12.3f} {max(alone):>6.3f}",
            flush=True,
        )
        held &= max(held_to_best) <= QUALITY_MARGIN + step + 1e-9
    return held


TIERS = installed_tiers()


def main() -> int:
    """Print the tables; 0 when every row is within its limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chains", type=int, default=400, help="chains a row; fewer with many candidates")
    parser.add_argument("--campaigns", type=int, default=60, help="campaigns a row of the second table")
    parser.add_argument("--quick", action="store_true", help="few chains and rows, for CI")
    parser.add_argument("--table", choices=("chains", "power", "creep"), action="append", help="default: all three")
    arguments = parser.parse_args()
    wanted, quick, held = arguments.table or ["chains", "power", "creep"], arguments.quick, True
    if "chains" in wanted:
        with timed("the chains"):
            held &= chains_table(100, (2, 20), (0.03, 0.10)) if quick else chains_table(arguments.chains, POOLS, NOISES)
            held &= in_turn_table(100, (2,)) if quick else in_turn_table(arguments.chains, POOLS)
    if "power" in wanted and not quick:
        with timed("the power"):
            held &= power_table(arguments.campaigns)
    if "creep" in wanted:
        with timed("the chains of a little worse ones"):
            if quick:
                held &= creep_table(1, 8, (LARGE,), (0.02,))
            else:
                held &= creep_table(4, 20, (LARGE, Design(cases=500, queries=200)), (0.01, 0.02))
    print("within the limits" if held else "OVER THE LIMITS")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
