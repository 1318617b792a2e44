"""The decision as a table: one row per candidate, for Parquet and for whoever queries it.

What belongs here: that table's layout. What does not: the decision's JSON, which holds everything.
"""

from __future__ import annotations

import pyarrow as pa

from milton_assets.selection.decision import Decision
from milton_assets.vocabulary.columns import described

SCHEMA = pa.schema(
    [
        described("run_id", pa.string(), "the benchmark run"),
        described("verdict", pa.string(), "what was decided: promote, reject or no_verdict"),
        described("version", pa.string(), "the candidate"),
        described("winner", pa.bool_(), "whether it is what the run promotes"),
        described("standing", pa.string(), "after the gates: eligible, failed, inconclusive or no_evidence"),
        described("rank", pa.int64(), "its place, 1 is best; null where it was not ranked"),
        described("score", pa.float64(), "its weighted score between 0 and 1"),
        described("probability_best", pa.float64(), "the share of resamplings of the evidence in which it leads"),
        described("pareto_optimal", pa.bool_(), "whether no other candidate is at least as good in everything"),
        described("artefact_size_bytes", pa.int64(), "the size of its weights in bytes"),
        described("why", pa.string(), "why it stands there"),
        described("policy_sha256", pa.string(), "SHA-256 of the policy that was applied"),
        described("manifest_sha256", pa.string(), "SHA-256 of the evidence manifest"),
    ]
)


def ranking_table(decision: Decision) -> pa.Table:
    """The candidates in the decision's order, with `SCHEMA`; a run without candidates has no rows."""
    return pa.Table.from_pylist(
        [
            {
                "run_id": decision.run_id,
                "verdict": decision.verdict.value,
                "version": report.version,
                "winner": report.version == decision.winner,
                "standing": report.standing.value,
                "rank": report.rank,
                "score": report.score,
                "probability_best": report.probability_best,
                "pareto_optimal": report.pareto_optimal,
                "artefact_size_bytes": report.artefact_size_bytes,
                "why": report.excluded or report.why,
                "policy_sha256": decision.policy_sha256,
                "manifest_sha256": decision.manifest_sha256,
            }
            for report in decision.candidates
        ],
        schema=SCHEMA,
    )
