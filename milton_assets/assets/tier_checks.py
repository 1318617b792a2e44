"""Checks on the tiers' tables: nothing failed, skipped or invalid goes unseen.

What belongs here: one check per tier for the UI. What does not: gates, which the policy holds; a failed check here
warns, because a decision must still be able to name the metric that is missing.
"""

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
)

from milton_assets.assets.young_features import partition_check
from milton_assets.partitions import MODEL_VERSIONS
from milton_assets.tiers import BUILT_IN
from milton_assets.vocabulary.metric import Status
from milton_assets.vocabulary.tier import TierResult, asset_of
from resources.evidence_store import EvidenceFile


def _complete(tier: str) -> AssetChecksDefinition:
    @partition_check(
        asset_of(tier),
        MODEL_VERSIONS,
        name=f"{tier}_is_complete",
        description="Every metric that was tried has a value that may be relied on, and no attempt failed.",
    )
    def check(context: AssetCheckExecutionContext, table: EvidenceFile) -> AssetCheckResult:
        metrics = TierResult.from_table(table.read()).metrics
        wanting = {m.name: m.why for m in metrics if m.status is Status.ERROR or not m.valid}
        skipped = {m.name: m.why for m in metrics if m.status is Status.SKIPPED}
        errors = max((m.errors for m in metrics), default=0)
        return AssetCheckResult(
            passed=not wanting and not errors,
            severity=AssetCheckSeverity.WARN,
            metadata={"metrics_wanting": wanting, "metrics_skipped": skipped, "failed_attempts": errors},
        )

    return check


TIER_CHECKS = [_complete(tier) for tier in BUILT_IN]
