"""Who knows the answers: how often an honest model is named, and how often one that has them by heart.

    python -m benches.selection.contamination [--trials 2000]

The test that decisions use (`statistics.variants`, after Holm over the candidates) on drawn answers. The first table is
about honest candidates, whose published and fresh variants are alike, whatever the difficulty of the templates: the
share of decisions in which anybody is named, which is to be at most 1 %. The second is about one of three candidates
that knows 95 % of the published answers and could itself solve a share of the variants: how often it is named.

Exits 1 when more honest candidates are named than 1 % and chance explain.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import bdtrc

from benches.selection.shown import share, timed
from milton_assets.statistics.multiplicity import holm
from milton_assets.statistics.variants import KNOWS_AT, published_excess

FRESH = 2
"""Fresh variants a template, as the reasoning tier asks them."""

BY_HEART = 0.95
TEMPLATES = {"smoke": 9, "full": 24}
ABLE = (0.1, 0.2, 0.4, 0.6, 0.8)
BY_CHANCE = 0.001
"""So improbable must an excess of alarms be to count as one."""

Rates = npt.NDArray[np.float64]
HONEST: dict[str, Callable[[np.random.Generator, int], Rates]] = {
    "hard and easy templates": lambda rng, templates: rng.beta(0.4, 0.8, templates),
    "all as hard": lambda _, templates: np.full(templates, 0.35),
    "nearly all right": lambda rng, templates: rng.beta(8, 1, templates),
    "nearly all wrong": lambda rng, templates: rng.beta(0.3, 8, templates),
}


def p_value(rng: np.random.Generator, published: Rates, fresh: Rates) -> float:
    """The p-value of one candidate that answers each template's published and fresh variants at those rates."""
    right, others = rng.random(len(published)) < published, rng.binomial(FRESH, fresh)
    return published_excess(right.tolist(), others.tolist(), [FRESH] * len(published))


def honest_table(trials: int) -> bool:
    """Print how often honest candidates are named; whether that is at most as often as promised."""
    print(f"honest candidates: decisions in which anybody is named, of {trials}; promised: at most {KNOWS_AT:.0%}")
    print(f"{'difficulty':>24} {'templates':>10} {'candidates':>11} {'named':>20}")
    rng, held = np.random.default_rng(11), True
    for kind, able in HONEST.items():
        for templates, candidates in ((9, 3), (24, 20)):
            named = 0
            for _ in range(trials):
                rates = [able(rng, templates) for _ in range(candidates)]
                p_values = np.array([p_value(rng, mine, mine) for mine in rates])
                named += bool((holm(p_values) <= KNOWS_AT).any())
            print(f"{kind:>24} {templates:>10} {candidates:>11} {share(named, trials):>20}", flush=True)
            held &= named == 0 or bool(bdtrc(named - 1, trials, KNOWS_AT) > BY_CHANCE)
    return held


def power_table(trials: int) -> None:
    """Print how often one of three candidates is named that knows the published answers by heart."""
    print(f"one of three knows {BY_HEART:.0%} of the published answers, and solves a share itself; named, of {trials}")
    print(f"{'templates':>12} " + " ".join(f"{f'solves {able:.0%}':>22}" for able in ABLE))
    rng = np.random.default_rng(5)
    for profile, templates in TEMPLATES.items():
        told = []
        for able in ABLE:
            known, solved = np.full(templates, BY_HEART), np.full(templates, able)
            # Holm's first step over three candidates, of whom the others are honest.
            named = sum(3 * p_value(rng, known, solved) <= KNOWS_AT for _ in range(trials))
            told.append(f"{share(named, trials):>22}")
        print(f"{f'{templates} ({profile})':>12} {' '.join(told)}", flush=True)


def main() -> int:
    """Print the tables; 0 when honest candidates are named as seldom as promised."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    trials = parser.parse_args().trials
    with timed("contamination"):
        held = honest_table(trials)
        print()
        power_table(trials)
    print("within the limits" if held else "OVER THE LIMITS")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
