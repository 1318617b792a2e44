"""The decision as a table: one row per candidate, for Parquet and for whoever queries it.

What belongs here: that table's layout. What does not: the decision's JSON, which holds everything.
"""

from __future__ import annotations

import pyarrow as pa

from milton_assets.selection.decision import Decision

SCHEMA = pa.schema(
    [
        ("run_id", pa.string()),
        ("verdict", pa.string()),
        ("version", pa.string()),
        ("winner", pa.bool_()),
        ("standing", pa.string()),
        ("rank", pa.int64()),
        ("score", pa.float64()),
        ("probability_best", pa.float64()),
        ("pareto_optimal", pa.bool_()),
        ("artefact_size_bytes", pa.int64()),
        ("why", pa.string()),
        ("policy_sha256", pa.string()),
        ("manifest_sha256", pa.string()),
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
