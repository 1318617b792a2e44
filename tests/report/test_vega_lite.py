"""Every chart as a Vega-Lite specification: valid under Vega-Lite's own schema, with the chart's data."""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from milton_assets.report.vega_lite import MEDIA_TYPE, SCHEMA, vega_lite
from milton_assets.vocabulary.chart import (
    Axis,
    BarChart,
    BarRow,
    Chart,
    Dot,
    DotChart,
    DotRow,
    Join,
    Line,
    Place,
    PlaneChart,
    Rule,
    Scale,
)
from milton_assets.vocabulary.metric import Direction
from tests.support.browser import NEEDS_BROWSER, browser_page

DOTS = DotChart(
    key="dots",
    title="Dots",
    about="What it says.",
    x=Axis(label="time", unit="ms", better=Direction.LOWER, scale=Scale.LOG),
    series=("a", "b"),
    rows=(DotRow(name="one", dots=(Dot(value=2.5, low=2.0, high=3.25), Dot(note="failed: no answer"))),),
    rules=(Rule(value=4.0, label="gate <= 4", gate=True),),
)
BARS = BarChart(
    key="bars",
    title="Bars",
    x=Axis(label="share", scale=Scale.PERCENT, low=0, high=1),
    parts=("kept", "broken"),
    rows=(BarRow(name="one", values=(0.75, 0.25)),),
)
STEPS = PlaneChart(
    key="steps",
    title="Steps",
    x=Axis(label="ms", low=0),
    y=Axis(label="share of requests", scale=Scale.PERCENT, low=0, high=1),
    lines=(Line(name="one", places=(Place(x=1.0, y=0.5), Place(x=2.0, y=1.0)), join=Join.STEPS, marked=False),),
)
TREND = PlaneChart(
    key="trend",
    title="Trend",
    x=Axis(label="decided", scale=Scale.TIME),
    y=Axis(label="rate"),
    lines=(Line(name="one", join=Join.LINE, places=(Place(x=0.0, y=0.5, y_low=0.4, y_high=0.6, label="first"),)),),
    rules=(Rule(value=86_400.0, label="deployed"),),
)


@cache
def schema() -> jsonschema.Draft7Validator:
    """Vega-Lite's own schema, as Altair ships it."""
    pytest.importorskip("altair")
    path = distribution("altair").locate_file("altair/vegalite/v6/schema/vega-lite-schema.json")
    return jsonschema.Draft7Validator(json.loads(Path(str(path)).read_text(encoding="utf-8")))


@pytest.mark.parametrize("chart", [DOTS, BARS, STEPS, TREND], ids=lambda chart: chart.key)
def test_each_form_of_chart_is_valid_vega_lite(chart: Chart) -> None:
    spec = vega_lite(chart)
    assert spec["$schema"] == SCHEMA
    schema().validate(json.loads(json.dumps(spec, allow_nan=False)))


def test_the_schema_refuses_what_is_no_vega_lite() -> None:
    with pytest.raises(jsonschema.ValidationError):
        schema().validate(vega_lite(BARS) | {"mark": "hologram"})


def test_a_specification_has_the_charts_figures_unrounded() -> None:
    assert vega_lite(DOTS)["data"]["values"] == [
        {"name": "one", "series": "a", "value": 2.5, "low": 2.0, "high": 3.25, "valid": True},
        {"name": "one", "series": "b", "valid": True, "note": "failed: no answer"},
    ]
    assert vega_lite(BARS)["data"]["values"][1] == {"name": "one", "order": 1, "part": "broken", "value": 0.25}
    assert vega_lite(STEPS)["data"]["values"][1] == {"name": "one", "order": 1, "x": 2.0, "y": 1.0}


def test_an_instant_is_told_in_iso_8601_and_an_event_beside_it() -> None:
    spec = vega_lite(TREND)
    assert spec["data"]["values"][0]["x"] == "1970-01-01T00:00:00+00:00"
    assert spec["layer"][-1]["data"]["values"] == [
        {"rule": "deployed", "at": "1970-01-02T00:00:00+00:00", "gate": False}
    ]


def test_text_of_others_reverses_nothing_where_a_specification_is_opened() -> None:
    hostile = BARS.model_copy(update={"title": "\u202egnp.exe \x1b[2J"})
    assert vega_lite(hostile)["title"] == "\\u202egnp.exe \\x1b[2J"


@NEEDS_BROWSER
def test_a_browser_saves_a_pictures_specification(tmp_path: Path) -> None:
    from milton_assets.report.data import TrendData
    from milton_assets.report.page import trend_page
    from tests.support.reported import NOW

    path = tmp_path / "trend.html"
    trend = TrendData(made_at=NOW, release="0", metric="rate", chart=TREND, runs=("benchmark_20260110_000000",))
    path.write_text(trend_page(trend), encoding="utf-8")
    with browser_page() as page:
        page.goto(path.as_uri())
        page.locator("summary").click()
        with page.expect_download() as saving:
            page.get_by_role("button", name="Vega-Lite").click()
        saved: dict[str, Any] = json.loads(saving.value.path().read_text(encoding="utf-8"))
        assert saving.value.suggested_filename == "trend.vl.json"
        assert page.locator(f'script[type="{MEDIA_TYPE}"]').count() == 1
    assert saved == vega_lite(TREND)
