"""What a tier returns: metrics, the samples they were computed from, and where they came from, in one table.

What belongs here: `TierResult`, its Parquet layout and the names of the assets that hold it. What does not: which tiers
there are (`tier_spec`) and measuring. A table of a tier that nobody has installed any more is still read.

Layout (`LAYOUT_VERSION`): one Parquet table per tier and model version. `row_kind` is `metric` for a summary row
(columns `metric`, `unit`, `status`, `value`, `ci_low`, `ci_high`, `ci_level`, `ci_method`, `n`, `errors`,
`valid`, `why`) and `sample` for a measured request, case or query (the tier's own columns). Each kind leaves the
other's columns null. The table's schema metadata holds, under `milton`, the tier, the model version, the
artefact's SHA-256 and the provenance as canonical JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, overload

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from milton_assets.vocabulary.columns import described
from milton_assets.vocabulary.digest import canonical_json
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.keys import check_tier_name
from milton_assets.vocabulary.metric import Interval, Metric, Status

LAYOUT_VERSION = 2
"""Version 2 writes the metadata as RFC 8785 has it. Another version is not read."""
_METADATA_KEY = b"milton"
_METRIC_SCHEMA = pa.schema(
    [
        described(
            "row_kind", pa.string(), "`metric`: a figure; `sample`: a request, case or query, in columns of its own"
        ),
        described("metric", pa.string(), "the figure's name"),
        described("unit", pa.string(), "its unit"),
        described("status", pa.string(), "`ok`, `skipped` or `error`"),
        described("value", pa.float64(), "the figure"),
        described("ci_low", pa.float64(), "lower end of its confidence interval"),
        described("ci_high", pa.float64(), "upper end of its confidence interval"),
        described("ci_level", pa.float64(), "the interval's confidence, such as 0.95"),
        described("ci_method", pa.string(), "how the interval was computed"),
        described("n", pa.int64(), "how many requests, cases or queries it is over, failed ones among them"),
        described("errors", pa.int64(), "how many of these failed"),
        described("valid", pa.bool_(), "false when it was measured under conditions that make it unusable"),
        described("why", pa.string(), "why it is skipped, failed or invalid"),
    ]
)
_RESERVED = frozenset(_METRIC_SCHEMA.names)


def asset_of(tier: str) -> str:
    """The name of the asset that holds this tier's tables."""
    return f"{tier}_metrics"


def asset_on_class(tier: str) -> str:
    """The name of the asset that holds what this tier measured on reference devices."""
    return f"{tier}_on_class"


class _Samples:
    """The field `samples`: given as a frame or as the table that a file holds, and a frame when it is asked for.

    A decision reads a few columns of thousands of tables; frames of all of them would take longer than deciding.
    """

    @overload
    def __get__(self, result: None, owner: type) -> Self: ...

    @overload
    def __get__(self, result: TierResult, owner: type) -> pd.DataFrame: ...

    def __get__(self, result: TierResult | None, owner: type) -> pd.DataFrame | Self:
        if result is None:
            return self  # the field's default
        kept = result.__dict__
        if "_frame" not in kept:
            kept["_frame"] = kept["_table"].to_pandas()
        frame: pd.DataFrame = kept["_frame"]
        return frame

    def __set__(self, result: TierResult, given: pd.DataFrame | pa.Table | _Samples) -> None:
        given = pd.DataFrame() if isinstance(given, _Samples) else given
        result.__dict__["_table" if isinstance(given, pa.Table) else "_frame"] = given


@dataclass(frozen=True)
class TierResult:
    """One tier's answer about one model version.

    `metrics` have unique names; `samples` is the per-request, per-case or per-query table, `column` one column of it;
    `provenance` is JSON-able and says with what it was measured (fingerprint, goldens' digests, definitions' version,
    sampling).
    """

    tier: str
    metrics: tuple[Metric, ...]
    samples: _Samples = _Samples()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_tier_name(self.tier)
        names = [metric.name for metric in self.metrics]
        if len(names) != len(set(names)):
            raise BadInput(f"{self.tier}: a metric's name appears twice", expected="unique names")
        if clash := _RESERVED.intersection(self.columns):
            raise BadInput(f"{self.tier}: sample columns {sorted(clash)} are reserved for metric rows")

    @property
    def columns(self) -> list[str]:
        """The names of the samples' columns."""
        table: pa.Table | None = self.__dict__.get("_table")
        return [str(name) for name in self.samples.columns] if table is None else list(table.column_names)

    def column(self, name: str) -> pa.Array | pa.ChunkedArray | None:
        """A column of the samples; None where there is none of that name."""
        table: pa.Table | None = self.__dict__.get("_table")
        if table is not None:
            place = table.schema.get_field_index(name)
            return table.column(place) if place >= 0 else None
        return pa.Array.from_pandas(self.samples[name]) if name in self.samples.columns else None

    def metric(self, name: str) -> Metric:
        """The metric of that name. Raises `BadInput` with the names there are."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise BadInput(f"{self.tier} has no metric {name!r}", expected=f"one of {[m.name for m in self.metrics]}")

    @classmethod
    def skipped(cls, tier: str, metrics: Sequence[tuple[str, str]], why: str) -> TierResult:
        """A tier nobody ran: every `(name, unit)` says `skipped` and why."""
        return cls(tier, tuple(Metric.skipped(name, unit, why) for name, unit in metrics))

    def to_table(self, model_version: str, artefact_sha256: str | None) -> pa.Table:
        """The Parquet layout described at the top of this module."""
        metric_rows = [
            {
                "row_kind": "metric",
                "metric": m.name,
                "unit": m.unit,
                "status": m.status.value,
                "value": m.value,
                "ci_low": m.interval.low if m.interval else None,
                "ci_high": m.interval.high if m.interval else None,
                "ci_level": m.interval.level if m.interval else None,
                "ci_method": m.interval.method if m.interval else None,
                "n": m.n,
                "errors": m.errors,
                "valid": m.valid,
                "why": m.why,
            }
            for m in self.metrics
        ]
        table = pa.Table.from_pylist(metric_rows, schema=_METRIC_SCHEMA)
        samples = self.__dict__.get("_table")
        if samples is None:
            samples = pa.Table.from_pandas(self.samples, preserve_index=False).replace_schema_metadata(None)
        if samples.num_rows:
            kinds = pa.array(["sample"] * samples.num_rows, pa.string())
            table = pa.concat_tables([table, samples.add_column(0, "row_kind", kinds)], promote_options="default")
        metadata = {
            "layout_version": LAYOUT_VERSION,
            "tier": self.tier,
            "model_version": model_version,
            "artefact_sha256": artefact_sha256,
            "provenance": dict(self.provenance),
        }
        return table.replace_schema_metadata({_METADATA_KEY: canonical_json(metadata).encode()})

    @classmethod
    def from_table(cls, table: pa.Table) -> TierResult:
        """The inverse of `to_table`. Raises `BadInput` when the table has another layout."""
        metadata = table_metadata(table)
        try:
            return cls._from_table(table, metadata)
        except (KeyError, ValueError, TypeError) as error:
            raise BadInput(f"the table holds no tier's rows ({error})", expected="a table written by a tier") from error

    @classmethod
    def _from_table(cls, table: pa.Table, metadata: Mapping[str, Any]) -> TierResult:
        metric_rows = table.filter(pc.field("row_kind") == "metric").select(_METRIC_SCHEMA.names)
        # Split as a table: a column of a frame with nulls for the other kind would lose its integers and booleans.
        samples = table.filter(pc.field("row_kind") == "sample").drop_columns(_METRIC_SCHEMA.names)
        metrics = tuple(_metric_of(row) for row in metric_rows.to_pylist())
        return cls(metadata["tier"], metrics, samples.replace_schema_metadata(None), metadata["provenance"])


def table_metadata(table: pa.Table) -> dict[str, Any]:
    """The `milton` metadata of a tier's table: layout_version, tier, model_version, artefact_sha256, provenance."""
    raw = (table.schema.metadata or {}).get(_METADATA_KEY)
    if raw is None:
        raise BadInput("the table carries no milton metadata", expected="a table written by a tier")
    try:
        metadata = json.loads(raw)
    except ValueError as error:
        raise BadInput(f"the table's milton metadata is no JSON ({error})") from error
    layout = metadata.get("layout_version") if isinstance(metadata, dict) else None
    if layout != LAYOUT_VERSION:
        raise BadInput(
            f"the table has layout {layout!r}",
            expected=str(LAYOUT_VERSION),
            remedy="measure the model again with this release",
        )
    found: dict[str, Any] = metadata
    return found


def _metric_of(row: dict[str, Any]) -> Metric:
    interval = None
    if row["ci_low"] is not None:
        interval = Interval(low=row["ci_low"], high=row["ci_high"], level=row["ci_level"], method=row["ci_method"])
    return Metric(
        name=row["metric"],
        unit=row["unit"],
        status=Status(row["status"]),
        value=row["value"],
        interval=interval,
        n=row["n"],
        errors=row["errors"],
        valid=row["valid"],
        why=row["why"],
    )
