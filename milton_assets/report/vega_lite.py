"""Charts as Vega-Lite specifications with their data, to be drawn or reckoned with elsewhere.

    spec = vega_lite(chart)
    json.dumps(spec)  # for the Vega editor, Altair, Jupyter, Observable, Quarto

What belongs here: the same figures and the same form as `drawing` draws, in Vega-Lite's words (version 6,
https://vega.github.io/vega-lite/docs/). What does not: what is shown (`milton_assets.vocabulary.chart`).

Figures are as they were measured, unrounded; instants are ISO 8601 in UTC; a share is between 0 and 1. What has no
value is absent. Names of fields are ours, so that no text of others is ever read as an expression.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from milton_assets.report.drawing import axis_title
from milton_assets.vocabulary.chart import Axis, BarChart, Chart, DotChart, Join, Line, PlaneChart, Rule, Scale
from milton_assets.vocabulary.terminal import printable

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
MEDIA_TYPE = "application/vnd.vegalite.v6+json"

_POINT = {"type": "point", "size": 60}
_BLUE = {"value": "#4c78a8"}
_ROW_PIXELS = 22
_PLANE_PIXELS = (480, 280)

_Spec = dict[str, Any]


def vega_lite(chart: Chart) -> _Spec:
    """The chart as one specification that holds its data."""
    if isinstance(chart, DotChart):
        drawn = _dots(chart)
    else:
        drawn = _bars(chart) if isinstance(chart, BarChart) else _plane(chart)
    head = {"$schema": SCHEMA, "title": printable(chart.title)}
    if chart.about:
        head["description"] = printable(chart.about)
    return head | drawn


def _dots(chart: DotChart) -> _Spec:
    several = len(chart.series) > 1
    values = [
        _present(
            name=row.name,
            series=series if several else None,
            value=dot.value,
            low=dot.low,
            high=dot.high,
            valid=dot.valid,
            note=dot.note or None,
        )
        for row in chart.rows
        for series, dot in zip(chart.series, row.dots, strict=True)
    ]
    across = _axis(chart.x, "value")
    rows: _Spec = {"y": {"field": "name", "type": "nominal", "sort": None, "title": None}}
    if several:
        rows |= {
            "yOffset": {"field": "series", "type": "nominal", "sort": None},
            "color": {"field": "series", "type": "nominal", "sort": None, "title": None},
        }
    told = [_tooltip(field) for field in ("name", *(("series",) if several else ()), "value", "low", "high", "note")]
    return {
        "width": _PLANE_PIXELS[0],
        "height": {"step": _ROW_PIXELS if not several else _ROW_PIXELS / 2},
        "data": {"values": values},
        "layer": [
            {"mark": {"type": "rule", "opacity": 0.5, "size": 3}, "encoding": rows | _between("x", across)},
            {
                "mark": _POINT,
                "encoding": {**rows, "x": across, "fill": _hollow_unless("valid", rows.get("color")), "tooltip": told},
            },
            *_rules(chart.rules, chart.x),
        ],
    }


def _bars(chart: BarChart) -> _Spec:
    values = [
        _present(name=row.name, order=order, part=part, value=value)
        for row in chart.rows
        for order, (part, value) in enumerate(zip(chart.parts, row.values, strict=True))
    ]
    return {
        "width": _PLANE_PIXELS[0],
        "height": {"step": _ROW_PIXELS},
        "data": {"values": values},
        "mark": "bar",
        "encoding": {
            "y": {"field": "name", "type": "nominal", "sort": None, "title": None},
            "x": _axis(chart.x, "value"),
            "color": {"field": "part", "type": "nominal", "sort": None, "title": None},
            "order": {"field": "order", "type": "quantitative"},
            "tooltip": [_tooltip(field) for field in ("name", "part", "value")],
        },
    }


def _plane(chart: PlaneChart) -> _Spec:
    values = [value for line in chart.lines for value in _places(line, chart.x)]
    across, up = _axis(chart.x, "x"), _axis(chart.y, "y")
    colour = {"field": "name", "type": "nominal", "sort": None, "title": None}
    joins = {line.join for line in chart.lines}
    layers: list[_Spec] = []
    if joins != {Join.NONE}:
        curve = {"type": "line", "interpolate": "step-after" if Join.STEPS in joins else "linear"}
        # In the order given, which is a load's or a time's and not always that of the axis.
        order = {"field": "order", "type": "quantitative"}
        layers.append({"mark": curve, "encoding": {"x": across, "y": up, "color": colour, "order": order}})
    for field, axis, other in (("x", across, {"y": up}), ("y", up, {"x": across})):
        if any(f"{field}_low" in value for value in values):
            ends = _between(field, axis, f"{field}_low", f"{field}_high")
            layers.append({"mark": {"type": "rule", "opacity": 0.5}, "encoding": {**other, **ends, "color": colour}})
    if any(line.marked for line in chart.lines):
        told = [_tooltip("name"), _tooltip("label"), {"field": "x", "type": across["type"]}, _tooltip("y")]
        marks = {"x": across, "y": up, "color": colour}
        layers.append(
            {
                "mark": _POINT,
                "encoding": {**marks, "fill": _hollow_unless("filled", colour), "tooltip": told},
            }
        )
        if any("label" in value for value in values):
            text = {"type": "text", "align": "left", "dx": 7, "dy": -6}
            layers.append({"mark": text, "encoding": {**marks, "text": {"field": "label", "type": "nominal"}}})
    width, height = _PLANE_PIXELS
    return {
        "width": width,
        "height": height,
        "data": {"values": values},
        "layer": [*layers, *_rules(chart.rules, chart.x)],
    }


def _places(line: Line, across: Axis) -> Iterator[_Spec]:
    for order, place in enumerate(line.places):
        yield _present(
            name=line.name,
            order=order if line.join is not Join.NONE else None,
            x=_at(place.x, across),
            y=place.y,
            x_low=None if place.x_low is None else _at(place.x_low, across),
            x_high=None if place.x_high is None else _at(place.x_high, across),
            y_low=place.y_low,
            y_high=place.y_high,
            label=place.label or None,
            filled=place.filled if line.marked else None,
        )


def _rules(rules: Iterable[Rule], axis: Axis) -> Iterator[_Spec]:
    """What figures are read against, as a layer with data of its own."""
    values = [_present(rule=rule.label, at=_at(rule.value, axis), gate=rule.gate) for rule in rules]
    if not values:
        return
    at = {"field": "at", "type": "temporal" if axis.scale is Scale.TIME else "quantitative"}
    dashes = {"domain": [False, True], "range": [[1, 0], [5, 4]]}
    dashed = {"field": "gate", "type": "nominal", "scale": dashes, "legend": None}
    yield {
        "data": {"values": values},
        "mark": {"type": "rule", "color": "gray"},
        "encoding": {"x": at, "strokeDash": dashed, "tooltip": [_tooltip("rule"), at]},
    }


def _axis(axis: Axis, field: str) -> _Spec:
    found: _Spec = {"field": field, "type": "quantitative", "title": printable(axis_title(axis))}
    if axis.scale is Scale.TIME:
        return found | {"type": "temporal", "scale": {"type": "utc"}}
    if axis.scale is Scale.PERCENT:
        found["axis"] = {"format": "~%"}
    scale: _Spec = {"type": "log"} if axis.scale is Scale.LOG else {"zero": axis.low == 0}
    if axis.low is not None:
        scale["domainMin"] = axis.low
    if axis.high is not None:
        scale["domainMax"] = axis.high
    return found | {"scale": scale}


def _hollow_unless(field: str, colour: _Spec | None) -> _Spec:
    """A mark's inside: as its rim where the field is true, else white."""
    as_its_rim = _BLUE if colour is None else colour | {"legend": None}
    return {"condition": {"test": {"field": field, "equal": True}, **as_its_rim}, "value": "white"}


def _between(channel: str, axis: _Spec, low: str = "low", high: str = "high") -> _Spec:
    return {channel: axis | {"field": low}, f"{channel}2": {"field": high}}


def _at(value: float, axis: Axis) -> float | str:
    return datetime.fromtimestamp(value, UTC).isoformat() if axis.scale is Scale.TIME else value


def _tooltip(field: str) -> _Spec:
    return {"field": field, "type": "quantitative" if field in {"value", "low", "high", "y"} else "nominal"}


def _present(**fields: Any) -> _Spec:
    return {
        name: printable(value) if isinstance(value, str) else value
        for name, value in fields.items()
        if value is not None
    }
