"""What every evidence asset returns: a table, the data version that is its digest, and metadata for the UI.

What belongs here: making that `Output`, and running one tier against the served model. What does not: measuring.
"""

import os
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
from dagster import AssetExecutionContext, MetadataValue, Output

from milton_assets.assets.young_features import versioned_output
from milton_assets.tiers import BUILT_IN
from milton_assets.vocabulary import markdown
from milton_assets.vocabulary.chat import ChatModel
from milton_assets.vocabulary.digest import sha256_bytes
from milton_assets.vocabulary.entry_paths import placed
from milton_assets.vocabulary.entry_table import entry_from_table
from milton_assets.vocabulary.figure import figure, span
from milton_assets.vocabulary.metric import Metric
from milton_assets.vocabulary.progress import OnProgress
from milton_assets.vocabulary.registry import Artefact
from milton_assets.vocabulary.server import RunningServer
from milton_assets.vocabulary.tier import TierResult
from resources.answer_cache import CachedChatModel, CacheKey
from resources.campaign import Campaign
from resources.evidence_store import EvidenceFile, to_parquet_bytes
from resources.hardware import fingerprint
from resources.model_server import ModelServerResource
from resources.progress import meter
from resources.servers.client import OpenAIChatModel
from resources.servers.repeatable import repeatable_options

CAMPAIGN_TAG = "milton/campaign"
CANDIDATE_TAG = "milton/candidate"


def evidence_output(table: pa.Table, **metadata: Any) -> Output[pa.Table]:
    """The table with its content digest as data version, so that equal evidence is equal downstream."""
    return versioned_output(table, sha256_bytes(to_parquet_bytes(table)), metadata)


def measure_tier(
    context: AssetExecutionContext,
    tier: str,
    registry_entry: EvidenceFile,
    model_server: ModelServerResource,
    campaign: Campaign,
    measure: Callable[[RunningServer, Artefact, OnProgress], TierResult],
    draw: Callable[[TierResult], dict[str, bytes]] | None = None,
) -> Output[pa.Table]:
    """Serve the partition's model, let `measure` ask it, and keep the answer with the environment it was given in."""
    entry = placed(entry_from_table(registry_entry.read()), campaign.state)
    artefact = entry.artefact(model_server.artefact_kind)
    with model_server.serve(artefact, entry.version) as served:
        result = measure(served, artefact, progress_of(context, tier))
        environment = fingerprint(served)
    result = replace(result, provenance={**result.provenance, "fingerprint": environment.model_dump(mode="json")})
    return evidence_output(
        result.to_table(entry.version, artefact.sha256),
        metrics=MetadataValue.md(metrics_markdown(result.metrics)),
        server=environment.server.name if environment.server else "unknown",
        **pictures(draw(result) if draw else {}),
        **{m.name: MetadataValue.float(m.value) for m in result.metrics if m.value is not None},
    )


def ask_tier(
    context: AssetExecutionContext,
    tier: str,
    registry_entry: EvidenceFile,
    model_server: ModelServerResource,
    campaign: Campaign,
    ask: Callable[[ChatModel, int, OnProgress], TierResult],
) -> Output[pa.Table]:
    """`measure_tier` for a tier that only asks: `ask` gets a chat model and how many questions it takes at once.

    What the same weights on the same server were asked before is answered from the cache, and the table says so.
    """

    def measure(served: RunningServer, artefact: Artefact, on_progress: OnProgress) -> TierResult:
        # What is cached by content may depend on nothing else.
        with OpenAIChatModel(served.endpoint, extra=repeatable_options(served.fingerprint)) as model:
            environment = {**os.environ, **getattr(model_server, "env", {})}
            key = CacheKey.of(artefact.sha256, served.fingerprint, environment) if campaign.reuse_answers else None
            if key is None:
                return ask(model, served.endpoint.slots, on_progress)
            cached = CachedChatModel(model, campaign.state.answers, key)
            result = ask(cached, served.endpoint.slots, on_progress)
        return replace(result, provenance={**result.provenance, "answer_cache": cached.provenance()})

    return measure_tier(context, tier, registry_entry, model_server, campaign, measure)


def pictures(drawn: dict[str, bytes]) -> dict[str, MetadataValue]:
    """PNGs by name, as Markdown that the UI shows in place."""
    return {
        name: MetadataValue.md(f"![{name}](data:image/png;base64,{b64encode(png).decode()})")
        for name, png in drawn.items()
    }


def progress_of(context: AssetExecutionContext, tier: str) -> OnProgress:
    """A listener that knows the candidate's place in its campaign from the run's tags."""
    tags = context.run.tags
    index, _, count = tags.get(CANDIDATE_TAG, "1/1").partition("/")
    shown = meter(tags.get(CAMPAIGN_TAG, context.run.run_id), BUILT_IN, int(count))
    return shown.listener(context.partition_key, int(index), tier, also=context.log.info)


def metrics_markdown(metrics: tuple[Metric, ...]) -> str:
    """The metrics as a Markdown table for the UI: figures with their unit, the interval in a column of its own."""
    header = ("metric", "value", "95 % interval", "status", "attempts", "errors")
    return markdown.table(header, map(_metric_row, metrics))


def _metric_row(metric: Metric) -> tuple[str, ...]:
    value = "–" if metric.value is None else f"{figure(metric.value)} {metric.unit}".rstrip()
    interval = span(metric.interval.low, metric.interval.high) if metric.interval else "–"
    status = metric.status.value + ("" if metric.valid else ", invalid") + (f": {metric.why}" if metric.why else "")
    return (metric.name, value, interval, status, str(metric.n), str(metric.errors))
