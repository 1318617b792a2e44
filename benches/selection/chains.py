"""A year of campaigns: how often unchanged models are promoted over one another, and what is found of a better one.

    python -m benches.selection.chains [--chains 4000] [--quick] [--table chains]

The first table is about chains of 200 campaigns in which nothing changes: the share of chains that ever promote a model
that is equal to the one that serves, or worse (5 % slower and 2 points lower on both qualities). The noise of speeds
between campaigns follows an AR(1) process; in some rows a candidate is slowed in 5 % of its campaigns. Beside the rule
as it is stands the same rule with each campaign tested for itself at an assumed noise of 3 %. What rounds in turn with
the incumbent make of it stands below: speeds drift by 10 % for both alike, and each start of a server adds a noise of
its own, up to three times what is assumed. Then, of all these chains, those in which the incumbent was ever shown to
miss its gate while a challenger reached it, as nothing protects it then and the rule is not asked; and, as it was,
those in which it missed the gate as measured. The noisiest rows stand once more with as many cases as the second table
has: with few, the margins on quality keep out half of those whose speed looks better.

The second is about one campaign of `selection.simulate`, whole decisions: how often a better challenger is promoted
when it first stands, beside how often the tests alone, looking once, would have shown it, two-sided at the same 5 %;
in how many campaigns they would and it was not; and power where the noise is assumed, and in rounds in turn.

The third is about challengers each of which is 30 % faster than what serves and a little worse, whole decisions again:
how much of both qualities is lost in the end, beside the same rule held to the incumbent alone.

Beside every share of chains stands what the true one is at most, 95 % sure (Clopper and Pearson, one-sided), beside
others their 95 % interval. Exits 1 unless that is at most 5 % for an equal model and 1 % for a worse one in every row,
or when a power may be more than 5 points below the textbook's where the noise is measured, or a chain of a little worse
ones loses more than a margin and the step that may be taken at its edge.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from benches.selection.processes import Each, processes
from benches.selection.shown import at_most, share, timed
from milton_assets.selection.chains import QUALITY_MARGIN, Chain, each_for_itself, ever_promoted
from milton_assets.selection.policy_file import load_policy
from milton_assets.selection.simulate import Design, Power, TrueModel, creep, power
from milton_assets.statistics.failure_rate import highest_rate
from milton_assets.tiers.discovery import installed_tiers

MOST_EQUAL = 0.05
MOST_WORSE = 0.01
BELOW_TEXTBOOK = 0.05
NOISES = (0.03, 0.06, 0.10)
POOLS = (2, 5, 20, 100)
STARTS = (0.01, 0.03)
"""Noise of each start of a server; 1 % is assumed."""

FIRST = TrueModel(pass_rate=0.98, ndcg=0.75)
HISTORY = 8
"""Campaigns in which the incumbent was measured before its challenger comes, where the noise is measured."""

UNSURE = TrueModel(pass_rate=0.92)
LARGE = Design(cases=2000, queries=500)
BETTER = (
    ("output_tokens_per_s", 0.30, LARGE),
    ("output_tokens_per_s", 0.20, LARGE),
    ("output_tokens_per_s", 0.15, LARGE),
    ("output_tokens_per_s", 0.30, Design()),
    ("ttft_ms.median", 0.50, LARGE),
    ("ttft_ms.median", 0.50, Design()),
    ("cove_pass_rate", 0.05, LARGE),
    ("cove_pass_rate", 0.02, LARGE),
    ("nDCG@10", 0.05, LARGE),
    ("nDCG@10", 0.03, LARGE),
)
"""Large differences, and some that a textbook finds now and then: there a smaller share of alpha costs most."""

CAMPAIGNS_A_JOB = 20
CHAINS_A_JOB = 500
MANY = 8000
"""Chains a row with many cases."""
TIERS = installed_tiers()


class Row(NamedTuple):
    """Counts of chains with equal challengers and with worse ones: those that promote by the rule, those by the gate,
    as shown and as measured, and, of `compared`, those with each campaign tested for itself."""

    chains: int = 0
    equal: int = 0
    worse: int = 0
    equal_by_gate: int = 0
    worse_by_gate: int = 0
    equal_as_measured: int = 0
    worse_as_measured: int = 0
    compared: int = 0
    equal_alone: int = 0
    worse_alone: int = 0

    @property
    def within(self) -> bool:
        """Whether both are within their limits, 95 % sure."""
        limits = ((self.equal, MOST_EQUAL), (self.worse, MOST_WORSE))
        return all(highest_rate(promoted, self.chains) <= most for promoted, most in limits)


def chains_table(each: Each, rows: Sequence[Chain], chains: int, compared: int) -> list[Row]:
    """Print the first table, and give its rows; `compared` chains are tested each campaign for itself, too."""
    print(
        f"chains of 200 unchanged campaigns that ever promote, of {chains}: the share, and what it is at most, 95 % "
        f"sure; in brackets each campaign tested for itself, of {compared} chains"
    )
    print(
        f"{'candidates':>10} {'noise':>6} {'outliers':>8} {'AR(1)':>6} "
        f"{f'equal (goal {MOST_EQUAL:.0%})':>26} {f'worse (goal {MOST_WORSE:.0%})':>26}"
    )
    found = []
    for chain, row in zip(rows, _rows(each, rows, chains, compared), strict=True):
        print(
            f"{chain.candidates:>10} {chain.noise:>6.0%} {chain.outliers:>8.0%} {chain.memory:>6g} "
            f"{at_most(row.equal, chains):>17} {_bracketed(row.equal_alone, compared):>8} "
            f"{at_most(row.worse, chains):>17} {_bracketed(row.worse_alone, compared):>8}",
            flush=True,
        )
        found.append(row)
    return found


def _bracketed(promoted: int, compared: int) -> str:
    return f"({promoted / compared:>6.1%})" if compared else "not run"


def in_turn_table(each: Each, rows: Sequence[Chain], chains: int) -> list[Row]:
    """Print the first table for rounds in turn, and give its rows."""
    print(f"\nthe same, measured beside the incumbent in rounds in turn, of {chains}; both drift by 10 % alike")
    print(
        f"{'candidates':>10} {'starts':>6} {f'equal (goal {MOST_EQUAL:.0%})':>17} "
        f"{f'worse (goal {MOST_WORSE:.0%})':>17}"
    )
    found = []
    for chain, row in zip(rows, _rows(each, rows, chains, 0), strict=True):
        print(
            f"{chain.candidates:>10} {chain.starts:>6.0%} {at_most(row.equal, chains):>17} "
            f"{at_most(row.worse, chains):>17}",
            flush=True,
        )
        found.append(row)
    return found


def gate_table(rows: Sequence[Chain], found: Sequence[Row]) -> bool:
    """Print in how many of the chains the incumbent's gate let somebody in, which no noise of speeds changes; whether
    every row is within its limit."""
    print(
        f"\nof the same chains, those in which an incumbent that passes {Chain.pass_rate:.0%} of {Chain.cases} cases, "
        f"answering anew each time, was ever shown to miss the gate at {Chain.gate:.0%} and a challenger reached it; "
        "in brackets: ever missed it as measured"
    )
    print(
        f"{'candidates':>10} {'chains':>7} {f'equal (goal {MOST_EQUAL:.0%})':>35} "
        f"{f'worse (goal {MOST_WORSE:.0%})':>35}"
    )
    within = True
    for candidates in dict.fromkeys(chain.candidates for chain in rows):
        row = _added(one for chain, one in zip(rows, found, strict=True) if chain.candidates == candidates)
        print(
            f"{candidates:>10} {row.chains:>7} "
            f"{at_most(row.equal_by_gate, row.chains):>17} ({at_most(row.equal_as_measured, row.chains):>15}) "
            f"{at_most(row.worse_by_gate, row.chains):>17} ({at_most(row.worse_as_measured, row.chains):>15})",
            flush=True,
        )
        within &= highest_rate(row.equal_by_gate, row.chains) <= MOST_EQUAL
        within &= highest_rate(row.worse_by_gate, row.chains) <= MOST_WORSE
    return within


def _rows(each: Each, rows: Sequence[Chain], chains: int, compared: int) -> Iterator[Row]:
    parts = max(1, chains // CHAINS_A_JOB)
    found = each(
        [
            partial(_row, chain, chains // parts, compared // parts, seed=number * parts + part)
            for number, chain in enumerate(rows)
            for part in range(parts)
        ]
    )
    for _ in rows:
        yield _added(itertools.islice(found, parts))


def _row(chain: Chain, chains: int, compared: int, *, seed: int) -> Row:
    worse = replace(chain, slower=0.05, down=0.02)
    equals, worses = (ever_promoted(one, chains=chains, seed=seed) for one in (chain, worse))
    alone = (each_for_itself(one, chains=compared, seed=seed) for one in (chain, worse))
    return Row(
        chains,
        equals.by_rule,
        worses.by_rule,
        equals.by_gate,
        worses.by_gate,
        equals.as_measured,
        worses.as_measured,
        compared,
        *alone,
    )


def _added(parts: Iterable[Row]) -> Row:
    return Row(*map(sum, zip(*parts, strict=True)))


def _larger(rows: Sequence[Chain]) -> list[Chain]:
    """The noisiest of the rows, with many cases and queries."""
    worst = max((row.starts or 0.0, row.noise, row.outliers) for row in rows)
    return [
        replace(row, cases=LARGE.cases, queries=LARGE.queries)
        for row in rows
        if (row.starts or 0.0, row.noise, row.outliers) == worst
    ]


def power_table(each: Each, campaigns: int, aside: int) -> bool:
    """Print the second table, of `campaigns` a row where the noise is measured and `aside` where it is not; whether the
    power is near the textbook's where it is."""
    print(
        f"a better challenger, in the first of its campaigns; textbook: the tests alone, once; missed: what it would "
        f"show and the policy does not promote, and what that is at most, 95 % sure (goal: {BELOW_TEXTBOOK:.0%}), of "
        f"{campaigns} campaigns; assumed noise, and that in rounds in turn, of {aside}"
    )
    print(
        f"{'better on':>20} {'by':>5} {'cases':>6} {'textbook':>22} {'noise measured':>22} {'points':>7} "
        f"{'missed':>16} {'noise assumed':>22} {'in rounds in turn':>22}"
    )
    near = True
    columns = ((HISTORY, None, campaigns), (0, None, aside), (0, STARTS[0], aside))
    jobs = [
        partial(_power, metric, step, replace(design, starts=starts), history, CAMPAIGNS_A_JOB, seed=5 + part)
        for metric, step, design in BETTER
        for history, starts, count in columns
        for part in range(count // CAMPAIGNS_A_JOB)
    ]
    found = each(jobs)
    for metric, step, design in BETTER:
        known, assumed, turned = (
            Power(*map(sum, zip(*itertools.islice(found, count // CAMPAIGNS_A_JOB), strict=True)))
            for _, _, count in columns
        )
        print(
            f"{metric:>20} {step:>5g} {design.cases:>6} {share(known.shown, campaigns):>22} "
            f"{share(known.promoted, campaigns):>22} {100 * (known.promoted - known.shown) / campaigns:>+7.1f} "
            f"{at_most(known.missed, campaigns):>16} {share(assumed.promoted, aside):>22} "
            f"{share(turned.promoted, aside):>22}",
            flush=True,
        )
        near &= highest_rate(known.missed, campaigns) <= BELOW_TEXTBOOK
    return near


def _power(metric: str, step: float, design: Design, history: int, campaigns: int, *, seed: int) -> Power:
    """What comes of a challenger that is so much better on one metric."""
    better = UNSURE.better(metric, step)
    return power(
        load_policy("seed"),
        UNSURE,
        better,
        tiers=TIERS,
        campaigns=campaigns,
        seed=seed,
        design=design,
        history=history,
    )


def creep_table(each: Each, chains: int, challengers: int, designs: Sequence[Design], steps: Sequence[float]) -> bool:
    """Print the third table; whether no chain lost more than one margin and one step on any quality."""
    print(f"{challengers} challengers in a row, each 30 % faster and a little worse, {chains} chains a row")
    print("pass rate lost in the end, held to the best that was deployed; and held to the incumbent alone")
    print(f"{'cases':>6} {'queries':>8} {'step':>5} {'mean':>6} {'most':>6} {'alone: mean':>12} {'most':>6}")
    rows = list(itertools.product(designs, steps))
    found = each(
        [
            partial(_lost, design, step, challengers, seed, anchored=anchored)
            for design, step in rows
            for anchored in (True, False)
            for seed in range(chains)
        ]
    )
    bounded = True
    for design, step in rows:
        held_to_best, alone = (list(itertools.islice(found, chains)) for _ in range(2))
        print(
            f"{design.cases:>6} {design.queries:>8} {step:>5g} {sum(held_to_best) / chains:>6.3f} "
            f"{max(held_to_best):>6.3f} {sum(alone) / chains:>12.3f} {max(alone):>6.3f}",
            flush=True,
        )
        bounded &= max(held_to_best) <= QUALITY_MARGIN + step + 1e-9
    return bounded


def _lost(design: Design, step: float, challengers: int, seed: int, *, anchored: bool) -> float:
    """The pass rate that such a chain loses."""
    served = creep(
        load_policy("seed"),
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


def main() -> int:
    """Print the tables; 0 when every row is within its limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chains", type=int, default=4000, help="chains a row")
    parser.add_argument("--compared", type=int, default=400, help="chains a row with each campaign tested for itself")
    parser.add_argument("--campaigns", type=int, default=300, help="campaigns a row of the second table")
    parser.add_argument("--aside", type=int, default=100, help="the same, where the noise is not measured")
    parser.add_argument("--quick", action="store_true", help="few chains and rows, for CI")
    parser.add_argument("--table", choices=("chains", "power", "creep"), action="append", help="default: all three")
    arguments = parser.parse_args()
    wanted, quick, within = arguments.table or ["chains", "power", "creep"], arguments.quick, True
    if "chains" in wanted:
        with timed("the chains"), processes() as each:
            pools, noises = ((2, 20), (0.03, 0.10)) if quick else (POOLS, NOISES)
            chains, compared = (1000, 0) if quick else (arguments.chains, arguments.compared)
            rows = [
                Chain(noise=noise, candidates=candidates, outliers=outliers)
                for candidates, noise, outliers in itertools.product(pools, noises, (0.0, 0.05))
            ]
            beside = [
                Chain(noise=0.10, starts=starts, candidates=candidates)
                for candidates, starts in itertools.product(pools[:1] if quick else pools, STARTS)
            ]
            found = chains_table(each, rows, chains, compared)
            found += in_turn_table(each, beside, chains)
            within &= gate_table([*rows, *beside], found) and all(row.within for row in found)
            if not quick:
                print(f"\nwith {LARGE.cases:,} cases and {LARGE.queries} queries:")
                larger = chains_table(each, _larger(rows), MANY, 0)
                larger += in_turn_table(each, _larger(beside), MANY)
                within &= all(row.within for row in larger)
    if "power" in wanted and not quick:
        with timed("the power"), processes() as each:
            within &= power_table(each, arguments.campaigns, arguments.aside)
    if "creep" in wanted:
        with timed("the chains of a little worse ones"), processes() as each:
            if quick:
                within &= creep_table(each, 1, 8, (LARGE,), (0.02,))
            else:
                within &= creep_table(each, 8, 20, (LARGE, Design(cases=500, queries=200)), (0.01, 0.02))
    print("within the limits" if within else "OVER THE LIMITS")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
