"""A/A trials: how often a policy promotes a model over itself, and the smallest true difference that it finds.

    python benches/selection/aa_trials.py [--campaigns 1000] [--policy anchored]

The same model is registered twice and measured in that many simulated campaigns (`milton_assets.selection.simulate`);
each promotion of the second registration over the first is a false one. Then the challenger is made truly better on
one metric, a step at a time, until it is promoted in 80 % of the campaigns. Exits 1 when a policy with an incumbent
rule promotes falsely in more than 5 % of the campaigns. Policies without one let the score decide, and are shown for
contrast.
"""

from __future__ import annotations

import argparse
import sys

from scipy.special import bdtri

from milton_assets.selection import Policy, load_policy
from milton_assets.selection.policy_file import shipped_policies
from milton_assets.selection.simulate import TrueModel, promotions

MOST_FALSE = 0.05
POWER = 0.8
STEPS = {
    "ttft_ms.median": (0.10, 0.15, 0.20, 0.25, 0.30, 0.40, 0.50),
    "output_tokens_per_s": (0.10, 0.15, 0.20, 0.25, 0.30, 0.40, 0.50),
    "cove_pass_rate": (0.03, 0.04, 0.05, 0.06, 0.07, 0.08),
    "nDCG@10": (0.03, 0.04, 0.05, 0.06, 0.08, 0.10),
}
MODEL = TrueModel(pass_rate=0.95)
UNSURE = TrueModel(pass_rate=0.92)
"""The incumbent when differences are looked for: one that leaves room above it."""


def false_promotions(policy: Policy, campaigns: int, seed: int) -> float:
    """The share of A/A campaigns that promote, printed."""
    promoted = promotions(policy, MODEL, MODEL, campaigns=campaigns, seed=seed)
    # Clopper-Pearson's upper end at 97.5 %.
    upper = 1.0 if promoted >= campaigns else float(bdtri(promoted, campaigns, 0.025))
    rule = "" if policy.incumbent else " (no incumbent rule: the score alone decides)"
    print(
        f"{policy.name}: {promoted} false promotions in {campaigns} A/A campaigns, "
        f"{promoted / campaigns:.1%} (95 % interval up to {upper:.1%}){rule}",
        flush=True,
    )
    return promoted / campaigns


def smallest_found(policy: Policy, metric: str, campaigns: int, seed: int) -> None:
    """Print the smallest true difference on `metric` that is promoted in `POWER` of the campaigns."""
    trail = []
    for step in STEPS[metric]:
        share = promotions(policy, UNSURE, UNSURE.better(metric, step), campaigns=campaigns, seed=seed) / campaigns
        trail.append(f"{step:g}: {share:.0%}")
        if share >= POWER:
            break
    found = f"{step:g}" if share >= POWER else f"none up to {step:g}"
    print(
        f"{policy.name}: smallest true difference on {metric} found {POWER:.0%} of the time: {found} "
        f"({', '.join(trail)})",
        flush=True,
    )


def main() -> int:
    """Run the trials; 0 when no policy with an incumbent rule promotes falsely too often."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--campaigns", type=int, default=1000)
    parser.add_argument("--policy", choices=shipped_policies(), action="append", help="default: anchored and seed")
    parser.add_argument("--power-campaigns", type=int, default=200, help="campaigns per step; 0 leaves this part out")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    held = True
    for name in arguments.policy or ["anchored", "seed"]:
        policy = load_policy(name)
        share = false_promotions(policy, arguments.campaigns, arguments.seed)
        if policy.incumbent is None:
            continue
        held &= share <= MOST_FALSE
        for metric in STEPS if arguments.power_campaigns else ():
            smallest_found(policy, metric, arguments.power_campaigns, arguments.seed + 1)
    print("at most 5 % false promotions: held" if held else "MORE THAN 5 % FALSE PROMOTIONS")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
