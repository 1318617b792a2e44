"""What every evidence asset returns: a table, the data version that is its digest, and metadata for the UI.

What belongs here: making that `Output`, and who is told how far it is. What does not: measuring.
"""

from base64 import b64encode
from typing import Any

import pyarrow as pa
from dagster import AssetExecutionContext, MetadataValue, Output

from milton_assets.assets.beta_features import versioned_output
from milton_assets.vocabulary import markdown
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.figure import figure, rounded, span
from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.progress import OnProgress
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import TierSpec
from resources.evidence_store import to_parquet_bytes
from resources.progress import meter

CAMPAIGN_TAG = "milton/campaign"
CONDUCTED_TAG = "milton/conducted"
"""Marks the conductor's child runs, which the sensors must leave alone; its value is the conductor's own run."""
CANDIDATE_TAG = "milton/candidate"
ANCHOR_TAG = "milton/anchor"
"""On a run that measures weights that are no candidate: the anchor that they are, as `NamedWeights` are written."""
AGAIN_TAG = "milton/decides_again"
"""On a `promote` run: the campaign that was decided before one of its models was measured."""
VARIANTS_TAG = "milton/variants-seed"
"""The seed that a campaign's fresh variants are drawn by; a run without one mints its own."""


def evidence_output(table: pa.Table, **metadata: Any) -> Output[pa.Table]:
    """The table with its content digest as data version, so that equal evidence is equal downstream."""
    return versioned_output(table, sha256_bytes(to_parquet_bytes(table)), metadata)


def tier_output(
    spec: TierSpec, result: TierResult, version: str, artefact_sha256: str, **told: Any
) -> Output[pa.Table]:
    """A tier's table, with its pictures and figures for the UI; what is `told` stands between these."""
    return evidence_output(
        result.to_table(version, artefact_sha256),
        **pictures(spec.pictures({version: result}) if spec.pictures else {}),
        metrics=MetadataValue.md(metrics_markdown(result.metrics)),
        **told,
        **{m.name: MetadataValue.float(rounded(m.value)) for m in result.metrics if m.value is not None},
    )


def pictures(drawn: dict[str, bytes]) -> dict[str, MetadataValue]:
    """PNGs by name, as Markdown that the UI shows in place."""
    return {
        name: MetadataValue.md(f"![{name}](data:image/png;base64,{b64encode(png).decode()})")
        for name, png in drawn.items()
    }


def progress_of(
    context: AssetExecutionContext, tier: str, tiers: tuple[str, ...], *, named: str | None = None
) -> OnProgress:
    """A listener that knows the candidate's place in its campaign from the run's tags.

    `tiers` are all that it goes through; the candidate is the run's partition unless it is `named` otherwise.
    """
    tags = context.run.tags
    index, _, count = tags.get(CANDIDATE_TAG, "1/1").partition("/")
    shown = meter(tags.get(CAMPAIGN_TAG, context.run.run_id), tiers, int(count))
    return shown.listener(named or context.partition_key, int(index), tier, also=context.log.info)


def metrics_markdown(metrics: tuple[Metric, ...]) -> str:
    """The metrics as a Markdown table for the UI: figures with their unit, the interval in a column of its own."""
    header = ("metric", "value", "95 % interval", "status", "attempts", "errors")
    return markdown.table(header, map(_metric_row, metrics))


def _metric_row(metric: Metric) -> tuple[str, ...]:
    value = "–" if metric.value is None else f"{figure(metric.value)} {metric.unit}".rstrip()
    interval = span(metric.interval.low, metric.interval.high) if metric.interval else "–"
    status = metric.status.value + ("" if metric.valid else ", invalid") + (f": {metric.why}" if metric.why else "")
    return (metric.name, value, interval, status, str(metric.n), str(metric.errors))
