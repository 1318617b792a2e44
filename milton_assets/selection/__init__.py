"""Selection: from measured candidates and a policy to a decision that explains itself.

    from milton_assets.selection import Candidate, decide, load_policy

    decision = decide(run_id=..., candidates=[...], policy=load_policy("seed"), manifest=..., incumbent=None, tiers=...)

What belongs here: policies, gates, scores, comparisons, the decision and how it is shown. What does not: measuring,
the evidence store's writer, Dagster. The definitions are in docs/selection.md.
"""

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.decide import decide
from milton_assets.selection.decision import Decision, Verdict
from milton_assets.selection.policy import Policy
from milton_assets.selection.policy_file import load_policy
from milton_assets.selection.version import code_version

__all__ = ["Candidate", "Decision", "Policy", "Verdict", "code_version", "decide", "load_policy"]
