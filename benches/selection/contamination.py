"""Who knows the answers: how often an honest model is named, and how often one that has them by heart.

    python -m benches.selection.contamination [--trials 2000]

The test that decisions use (`statistics.variants`, after Holm over the candidates) on drawn answers. The first table is
about honest candidates, whose published and fresh variants are alike, whatever the difficulty of the templates: the
share of decisions in which anybody is named, which is to be at most 1 %. The second is about one of three candidates
that knows 95 % of the published answers and could itself solve a share of the variants: how often it is named. In
retrieval a model that does not read solves one variant in four. The third is why retrieval asks as it does: what the
same calls find with other numbers of passages and of fresh variants.

Exits 1 when more honest candidates are named than 1 % and chance explain.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import bdtrc

from benches.selection.shown import share, timed
from milton_assets.statistics.multiplicity import holm
from milton_assets.statistics.variants import KNOWS_AT, published_excess


class Asks(NamedTuple):
    """What a tier asks: so many templates, so many `fresh` variants of each, in decisions on so many `tiers`."""

    templates: int
    fresh: int
    tiers: int


BY_HEART = 0.95
CANDIDATES = 3
ASKS = {
    "reasoning, smoke": Asks(9, 2, tiers=1),
    "reasoning, full": Asks(24, 2, tiers=2),
    "retrieval, full": Asks(24, 1, tiers=2),
}
ABLE = (0.1, 0.25, 0.4, 0.6, 0.8)
CALLS = 192
"""What the variants of the retrieval tier take: a call a passage."""
SHAPES = ((2, 1), (3, 1), (4, 1), (6, 1), (2, 2), (4, 2))
"""Passages a variant, and fresh variants a template."""
SKILLS = (0.0, 0.5, 1.0, 1.5, 2.0)
"""Log-odds of the answering passage against each other one; 0 is a model that does not read."""
BY_CHANCE = 0.001
"""So improbable must an excess of alarms be to count as one."""

Rates = npt.NDArray[np.float64]
HONEST: dict[str, Callable[[np.random.Generator, int], Rates]] = {
    "hard and easy templates": lambda rng, templates: rng.beta(0.4, 0.8, templates),
    "all as hard": lambda _, templates: np.full(templates, 0.35),
    "nearly all right": lambda rng, templates: rng.beta(8, 1, templates),
    "nearly all wrong": lambda rng, templates: rng.beta(0.3, 8, templates),
}


def p_value(rng: np.random.Generator, published: Rates, fresh: Rates, asks: Asks) -> float:
    """The p-value of one candidate that answers each template's published and fresh variants at those rates."""
    right, others = rng.random(len(published)) < published, rng.binomial(asks.fresh, fresh)
    return published_excess(right.tolist(), others.tolist(), [asks.fresh] * len(published))


def honest_table(trials: int) -> bool:
    """Print how often honest candidates are named; whether that is at most as often as promised."""
    print(f"honest candidates: decisions in which anybody is named, of {trials}; promised: at most {KNOWS_AT:.0%}")
    print(f"{'difficulty':>24} {'asked':>18} {'candidates':>11} {'named':>20}")
    rng, held = np.random.default_rng(11), True
    for kind, able in HONEST.items():
        for (tier, asks), candidates in zip(ASKS.items(), (3, 20, 20), strict=True):
            named = 0
            for _ in range(trials):
                rates = [able(rng, asks.templates) for _ in range(candidates)]
                p_values = np.array([p_value(rng, mine, mine, asks) for mine in rates])
                named += bool((holm(p_values) <= KNOWS_AT).any())
            print(f"{kind:>24} {tier:>18} {candidates:>11} {share(named, trials):>20}", flush=True)
            held &= named == 0 or bool(bdtrc(named - 1, trials, KNOWS_AT) > BY_CHANCE)
    return held


def power_table(trials: int) -> None:
    """Print how often one of three candidates is named that knows the published answers by heart."""
    print(f"one of three knows {BY_HEART:.0%} of the published answers, and solves a share itself; named, of {trials}")
    print(f"{'asked':>18} " + " ".join(f"{f'solves {able:.0%}':>22}" for able in ABLE))
    rng = np.random.default_rng(5)
    for tier, asks in ASKS.items():
        row = [f"{share(_named(rng, asks, able, trials), trials):>22}" for able in ABLE]
        print(f"{tier:>18} {' '.join(row)}", flush=True)


def shape_table(trials: int) -> None:
    """Print how often the same is named in retrieval, for one budget of calls spent in different ways."""
    print(f"the same with {CALLS} calls a candidate, by how much the model itself can tell; named, of {trials}")
    shown = " ".join(f"{f'log-odds {skill:g}':>22}" for skill in SKILLS)
    print(f"{'passages':>9} {'fresh':>6} {'templates':>10} {shown}")
    rng = np.random.default_rng(7)
    for passages, fresh in SHAPES:
        asks = Asks(CALLS // (passages * (1 + fresh)), fresh, tiers=2)
        row = []
        for skill in SKILLS:
            able = float(np.exp(skill) / (np.exp(skill) + passages - 1))
            row.append(f"{share(_named(rng, asks, able, trials), trials):>22}")
        print(f"{passages:>9} {fresh:>6} {asks.templates:>10} {' '.join(row)}", flush=True)


def _named(rng: np.random.Generator, asks: Asks, able: float, trials: int) -> int:
    """In how many decisions a key is named: Holm's first step over all candidates and tiers, the others honest."""
    known, solved = np.full(asks.templates, BY_HEART), np.full(asks.templates, able)
    tests = CANDIDATES * asks.tiers
    return sum(tests * p_value(rng, known, solved, asks) <= KNOWS_AT for _ in range(trials))


def main() -> int:
    """Print the tables; 0 when honest candidates are named as seldom as promised."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    trials = parser.parse_args().trials
    with timed("contamination"):
        held = honest_table(trials)
        print()
        power_table(trials)
        print()
        shape_table(trials)
    print("within the limits" if held else "OVER THE LIMITS")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
