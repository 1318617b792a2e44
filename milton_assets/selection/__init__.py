"""Selection: from measured candidates and a policy to a decision that explains itself.

    from milton_assets.selection.decide import decide
    from milton_assets.selection.policy_file import load_policy

    decision = decide(run_id=..., candidates=[...], policy=load_policy("seed"), manifest=..., incumbent=None, tiers=...)

What belongs here: policies, gates, scores, comparisons, the decision and how it is shown. What does not: measuring,
the evidence store's writer, Dagster. The definitions are in docs/selection.md. The package itself loads nothing:
whoever reads a decision needs none of the libraries that it takes to make one.
"""
