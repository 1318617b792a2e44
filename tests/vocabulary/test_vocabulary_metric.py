"""Metrics: figures that cannot pretend."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from milton_assets.vocabulary.metric import Interval, Metric, Status


def test_a_measured_figure_carries_value_size_and_interval() -> None:
    interval = Interval(low=1, high=3, method="bootstrap")
    metric = Metric.measured("ttft_ms.median", "ms", 2.0, n=10, errors=1, interval=interval)
    assert (metric.status, metric.value, metric.n, metric.errors, metric.valid) == (Status.OK, 2.0, 10, 1, True)
    assert metric.interval == interval


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_becomes_an_error_that_says_so(value: float) -> None:
    metric = Metric.measured("m", "ms", value, n=3)
    assert (metric.status, metric.value, metric.why) == (Status.ERROR, None, f"the computed value is {value}")


def test_skipped_and_failed_say_why() -> None:
    assert Metric.skipped("m", "", "dry run").why == "dry run"
    failed = Metric.failed("m", "", "no answer", n=4, errors=4)
    assert (failed.status, failed.n, failed.errors) == (Status.ERROR, 4, 4)


def test_an_invalidated_figure_keeps_its_value() -> None:
    metric = Metric.measured("m", "", 1.0, n=1).invalidated("the client was the bottleneck")
    assert (metric.value, metric.valid, metric.why) == (1.0, False, "the client was the bottleneck")


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "ok"},
        {"status": "ok", "value": math.nan},
        {"status": "skipped", "value": 1.0, "why": "x"},
        {"status": "error", "value": 1.0, "why": "x"},
        {"status": "skipped"},
        {"status": "error", "why": ""},
        {"value": 1.0, "valid": False},
        {"value": 1.0, "n": 2, "errors": 3},
        {"value": 1.0, "n": -1},
        {"value": 1.0, "name": ""},
        {"value": 1.0, "extra": 1},
        {"value": 1.0, "interval": {"low": 2, "high": 1, "method": "wilson"}},
        {"value": 1.0, "interval": {"low": math.nan, "high": 1, "method": "wilson"}},
        {"value": 1.0, "interval": {"low": 0, "high": 1, "level": 1.0, "method": "wilson"}},
    ],
)
def test_an_incoherent_figure_does_not_exist(fields: dict) -> None:
    with pytest.raises(ValidationError):
        Metric(**{"name": "m", "unit": "ms", **fields})


def test_a_figure_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Metric.measured("m", "", 1.0, n=1).value = 2.0  # type: ignore[misc]


@given(st.floats(), st.integers(0, 50), st.integers(0, 50))
def test_whatever_is_measured_the_figure_is_finite_or_an_error(value: float, n: int, errors: int) -> None:
    if errors > n:
        with pytest.raises(ValidationError):
            Metric.measured("m", "", value, n=n, errors=errors)
        return
    metric = Metric.measured("m", "", value, n=n, errors=errors)
    assert (metric.status is Status.OK) == (metric.value is not None) == math.isfinite(value)
    assert Metric.model_validate_json(metric.model_dump_json()) == metric
