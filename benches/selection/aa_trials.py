"""A/A trials: how often a policy promotes a model over itself, and the smallest true difference that it finds.

    python -m benches.selection.aa_trials [--campaigns 1000] [--policy seed]

The same model is registered twice and measured in that many simulated campaigns (`milton_assets.selection.simulate`);
each promotion of the second registration over the first is a false one. This is done with the noise between campaigns
that the policies assume, and again with twice that. Then the challenger is made truly better on one metric, a step at a
time, until it is promoted in 80 % of the campaigns, the machine's noise being known from eight campaigns before. Says
of every policy whether it held, and exits 1 when one with as much noise as it assumes promotes falsely in more than 5 %
of the campaigns.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from dataclasses import replace
from functools import partial

from benches.selection.processes import Each, processes
from benches.selection.shown import share, timed
from milton_assets.selection.policy import Policy
from milton_assets.selection.policy_file import load_policy, shipped_policies
from milton_assets.selection.simulate import Design, TrueModel, power
from milton_assets.statistics.failure_rate import highest_rate
from milton_assets.tiers.discovery import installed_tiers

TIERS = installed_tiers()

MOST_FALSE = 0.05
POWER = 0.8
HISTORY = 8
NOISIER = 2
"""How many times the noise between campaigns is what the policies assume, in the second trial."""
STEPS = {
    "ttft_ms.median": (0.10, 0.15, 0.20, 0.25, 0.30, 0.40, 0.50),
    "output_tokens_per_s": (0.10, 0.15, 0.20, 0.25, 0.30, 0.40, 0.50),
    "cove_pass_rate": (0.03, 0.04, 0.05, 0.06, 0.07, 0.08),
    "nDCG@10": (0.03, 0.04, 0.05, 0.06, 0.08, 0.10),
}
DESIGNS = (Design(), Design(cases=1000, queries=300))
CAMPAIGNS_A_JOB = 100
MODEL = TrueModel(pass_rate=0.95)
UNSURE = TrueModel(pass_rate=0.92)
"""The incumbent when differences are looked for: one that leaves room above it."""


def false_promotions(each: Each, policy: Policy, campaigns: int, seed: int, design: Design) -> float:
    """The share of A/A campaigns that promote, printed."""
    parts = max(1, campaigns // CAMPAIGNS_A_JOB)
    jobs = [partial(_promoted, policy, campaigns // parts, design, seed=seed + part) for part in range(parts)]
    promoted = sum(each(jobs))
    print(
        f"{policy.name}, noise of {design.between:.0%} between campaigns: {promoted} false promotions in {campaigns} "
        f"A/A campaigns, {share(promoted, campaigns)}, 95 % sure to be {highest_rate(promoted, campaigns):.1%} at most "
        f"(goal {MOST_FALSE:.0%})",
        flush=True,
    )
    return promoted / campaigns


def _promoted(policy: Policy, campaigns: int, design: Design, *, seed: int) -> int:
    """How many A/A campaigns promote."""
    return power(policy, MODEL, MODEL, campaigns=campaigns, seed=seed, design=design, tiers=TIERS).promoted


def smallest_found(policy: Policy, metric: str, campaigns: int, seed: int, design: Design) -> str:
    """What to print of the smallest true difference on `metric` that is promoted in `POWER` of the campaigns."""
    trail = []
    for step in STEPS[metric]:
        better = UNSURE.better(metric, step)
        found = power(
            policy, UNSURE, better, campaigns=campaigns, seed=seed, tiers=TIERS, design=design, history=HISTORY
        ).promoted
        trail.append(f"{step:g}: {share(found, campaigns)}")
        if found >= POWER * campaigns:
            break
    smallest = f"{step:g}" if found >= POWER * campaigns else f"none up to {step:g}"
    return (
        f"{policy.name}, {design.cases} cases and {design.queries} queries: smallest true difference on {metric} found "
        f"{POWER:.0%} of the time: {smallest} ({', '.join(trail)})"
    )


def main() -> int:
    """Run the trials; 0 when no policy promotes falsely too often."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--campaigns", type=int, default=600)
    parser.add_argument("--policy", choices=shipped_policies(), action="append", help="default: seed and anchored")
    parser.add_argument("--power-campaigns", type=int, default=60, help="campaigns per step; 0 leaves this part out")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    policies = [load_policy(name) for name in arguments.policy or ["seed", "anchored"]]
    assumed = Design()
    noisier = replace(assumed, between=NOISIER * assumed.between)
    held = {}
    with timed("false promotions"), processes() as each:
        for policy in policies:
            false = false_promotions(each, policy, arguments.campaigns, arguments.seed, assumed)
            held[policy.name] = false <= MOST_FALSE
            false_promotions(each, policy, arguments.campaigns, arguments.seed, noisier)
    if arguments.power_campaigns:
        with timed("smallest differences"), processes() as each:
            jobs = [
                partial(smallest_found, policy, metric, arguments.power_campaigns, arguments.seed + 1, design)
                for policy, metric, design in itertools.product(policies, STEPS, DESIGNS)
            ]
            for told in each(jobs):
                print(told, flush=True)
    for name, did in held.items():
        print(f"{name}: {'held' if did else 'MORE THAN 5 % FALSE PROMOTIONS'}")
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
