"""A tier's result, and its table."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.metric import Interval, Metric, Status
from milton_assets.vocabulary.tier import LAYOUT_VERSION, TierResult, asset_of, table_metadata

finite = st.floats(allow_nan=False, allow_infinity=False, width=64)
# Beyond 2^53 canonical JSON writes a double's shortest digits as an integer, which is read back as that very integer.
told = st.floats(-(2.0**53), 2.0**53, allow_nan=False)
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@st.composite
def metrics(draw: st.DrawFn, name: str) -> Metric:
    n = draw(st.integers(0, 1000))
    errors = draw(st.integers(0, n))
    status = draw(st.sampled_from(Status))
    unit = draw(st.sampled_from(["ms", "tokens/s", ""]))
    if status is Status.SKIPPED:
        return Metric.skipped(name, unit, draw(words))
    if status is Status.ERROR:
        return Metric.failed(name, unit, draw(words), n=n, errors=errors)
    low, high = sorted([draw(finite), draw(finite)])
    interval = draw(st.none() | st.just(Interval(low=low, high=high, level=0.9, method="wilson")))
    metric = Metric.measured(name, unit, draw(finite), n=n, errors=errors, interval=interval)
    return metric.invalidated(draw(words)) if draw(st.booleans()) else metric


@st.composite
def results(draw: st.DrawFn) -> TierResult:
    names = draw(st.lists(words, unique=True, max_size=4))
    count = draw(st.integers(0, 4))
    columns = {
        "text": st.text(st.characters(codec="utf-8"), max_size=8),
        "tokens": st.integers(-(2**63), 2**63 - 1),
        "seconds": finite,
        "passed": st.booleans(),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(columns)), unique=True, min_size=1)) if count else []
    samples = pd.DataFrame({name: [draw(columns[name]) for _ in range(count)] for name in chosen})
    provenance = draw(
        st.dictionaries(words, st.integers(-(2**53) + 1, 2**53 - 1) | words | st.lists(told, max_size=2), max_size=3)
    )
    tier = draw(st.from_regex(r"[a-z][a-z0-9_]{0,39}", fullmatch=True))
    return TierResult(tier, tuple(draw(metrics(name)) for name in names), samples, provenance)


@settings(max_examples=60, deadline=None)
@given(results())
def test_a_result_comes_back_from_parquet_as_it_was(result: TierResult) -> None:
    stored = io.BytesIO()
    pq.write_table(result.to_table("v1", "0" * 64), stored)
    table = pq.read_table(stored)
    back = TierResult.from_table(table)
    assert (back.tier, back.metrics, back.provenance) == (result.tier, result.metrics, result.provenance)
    assert len(back.samples) == len(result.samples)
    for name in result.samples.columns:
        assert back.samples[name].tolist() == result.samples[name].tolist()
        assert back.samples[name].dtype == result.samples[name].dtype
    assert table_metadata(table)["model_version"] == "v1"


def result(**changes: Any) -> TierResult:
    fields: dict[str, Any] = {
        "tier": "reasoning",
        "metrics": (Metric.measured("cove_pass_rate", "", 0.5, n=2), Metric.skipped("x", "ms", "not asked for")),
        "samples": pd.DataFrame({"case": ["a", "b"], "passed": [True, None]}),
    }
    return TierResult(**{**fields, **changes})


def test_a_column_is_the_same_of_a_frame_and_of_the_table_that_a_file_holds() -> None:
    framed = result()
    kept = TierResult.from_table(framed.to_table("v1", None))
    assert framed.columns == kept.columns == ["case", "passed"]
    for name, values in {"case": ["a", "b"], "passed": [True, None]}.items():
        assert [one.column(name).to_pylist() for one in (framed, kept)] == [values, values]
    assert framed.column("nobody") is kept.column("nobody") is None
    assert kept.samples["case"].tolist() == ["a", "b"]
    assert kept.columns == ["case", "passed"]


def test_each_kind_of_row_leaves_the_others_columns_empty() -> None:
    rows = result().to_table("v1", None).to_pylist()
    assert [row["row_kind"] for row in rows] == ["metric", "metric", "sample", "sample"]
    assert {row["case"] for row in rows if row["row_kind"] == "metric"} == {None}
    assert {row["metric"] for row in rows if row["row_kind"] == "sample"} == {None}


def test_the_table_says_what_it_is_about() -> None:
    assert table_metadata(result(provenance={"seed": 1}).to_table("v1", "f" * 64)) == {
        "layout_version": LAYOUT_VERSION,
        "tier": "reasoning",
        "model_version": "v1",
        "artefact_sha256": "f" * 64,
        "provenance": {"seed": 1},
    }


def test_a_metric_is_found_by_name_or_the_names_are_given() -> None:
    assert result().metric("x").status is Status.SKIPPED
    with pytest.raises(BadInput, match=r"no metric 'y'.*cove_pass_rate"):
        result().metric("y")


def test_a_name_that_appears_twice_is_refused() -> None:
    with pytest.raises(BadInput, match="appears twice"):
        result(metrics=(Metric.skipped("x", "", "a"), Metric.skipped("x", "", "b")))


def test_sample_columns_may_not_hide_metric_columns() -> None:
    with pytest.raises(BadInput, match=r"\['n', 'value'\] are reserved"):
        result(samples=pd.DataFrame({"n": [1], "value": [2], "case": ["a"]}))


def test_a_tier_nobody_ran_says_skipped_everywhere() -> None:
    skipped = TierResult.skipped("inference", [("ttft_ms.median", "ms"), ("success_rate", "")], "dry run")
    assert [(m.name, m.unit, m.status, m.why) for m in skipped.metrics] == [
        ("ttft_ms.median", "ms", Status.SKIPPED, "dry run"),
        ("success_rate", "", Status.SKIPPED, "dry run"),
    ]
    assert TierResult.from_table(skipped.to_table("v", None)).metrics == skipped.metrics


def test_provenance_that_json_does_not_have_is_refused() -> None:
    with pytest.raises(BadInput, match="no canonical JSON: nan"):
        result(provenance={"seconds": math.nan}).to_table("v1", None)


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        (None, "carries no milton metadata"),
        (b"{", "is no JSON"),
        (b"[]", "has layout None"),
        (json.dumps({"layout_version": 0}).encode(), "has layout 0"),
        (json.dumps({"layout_version": LAYOUT_VERSION}).encode(), "holds no tier's rows"),
        (
            json.dumps({"layout_version": LAYOUT_VERSION, "tier": "SPEED!", "provenance": {}}).encode(),
            "holds no tier's rows",
        ),
    ],
)
def test_a_table_of_another_kind_is_refused(metadata: bytes | None, problem: str) -> None:
    table = result().to_table("v1", None).replace_schema_metadata(None if metadata is None else {b"milton": metadata})
    with pytest.raises(BadInput, match=problem):
        TierResult.from_table(table)


def test_a_table_without_metric_columns_is_refused() -> None:
    table = pa.table({"row_kind": ["metric"]}).replace_schema_metadata(result().to_table("v", None).schema.metadata)
    with pytest.raises(BadInput, match="holds no tier's rows"):
        TierResult.from_table(table)


def test_a_tiers_asset_is_named_for_it() -> None:
    assert asset_of("reasoning") == "reasoning_metrics"


@pytest.mark.parametrize("name", ["", "Reasoning", "json-answers", "1st", "a/b", "..", "a" * 41, "é"], ids=repr)
def test_what_cannot_name_an_asset_cannot_name_a_tier(name: str) -> None:
    with pytest.raises(BadInput, match="cannot name a tier"):
        TierResult(name, ())


def test_a_table_of_a_tier_that_nobody_has_installed_is_still_read() -> None:
    table = TierResult("long_gone", (Metric.measured("score", "share", 0.5, n=4),)).to_table("v1", None)
    assert TierResult.from_table(table).metric("score").value == 0.5
