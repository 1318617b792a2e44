"""Charts drawn as SVG, to stand in an HTML page.

    svg = draw(chart, {"v1": 0, "v2": 1})

What belongs here: geometry. What does not: what is shown (`milton_assets.vocabulary.chart`) and colours, which the
page's style sheet gives to classes, so that one drawing serves light, dark and paper. Every text goes through
ElementTree, which escapes it; no attribute holds text of others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from milton_assets.vocabulary.chart import Axis, BarChart, Chart, Dot, DotChart, Join, Line, PlaneChart, Rule, Scale
from milton_assets.vocabulary.figure import figure
from milton_assets.vocabulary.terminal import printable

WIDTH = 560
COLOURS = 10
"""Classes `c0` to `c9`; beyond them they begin again."""

_NAME_LENGTH = 30
_CHARACTER = 6.9
_ROW = 22.0
_SERIES_STEP = 9.0
_TOP = 8.0
_BELOW = 44.0
_RIGHT = 24.0
_PLANE_HEIGHT = 260.0
_TICKS = 5
_RADIUS = 4.0
_RULE_LINE = 13.0


def draw(chart: Chart, colours: Mapping[str, int]) -> str:
    """The chart as an `<svg>` element. `colours` numbers names that have one colour on the whole page."""
    if isinstance(chart, DotChart):
        return _text(_dots(chart, colours))
    return _text(_bars(chart, colours) if isinstance(chart, BarChart) else _plane(chart, colours))


def legend(chart: Chart, colours: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """Name and colour of what is told apart by colour alone; nothing where each row bears its name."""
    if isinstance(chart, DotChart):
        names: Sequence[str] = chart.series if len(chart.series) > 1 else ()
    elif isinstance(chart, BarChart):
        names = chart.parts if len(chart.parts) > 1 else ()
    else:
        names = [line.name for line in chart.lines]
    return tuple((name, _colour(name, number, colours)) for number, name in enumerate(names))


def shown(value: float, axis: Axis) -> str:
    """A value as the axis reads it."""
    if axis.scale is Scale.TIME:
        return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M}"
    if axis.scale is Scale.PERCENT:
        return f"{figure(100 * value)} %"
    return f"{figure(value)} {axis.unit}".rstrip()


def axis_title(axis: Axis) -> str:
    """The axis's name, its unit, and which way is better."""
    unit = f" [{axis.unit}]" if axis.unit else ""
    better = {"lower": " · lower is better", "higher": " · higher is better"}.get(axis.better or "", "")
    return f"{axis.label}{unit}{better}"


class _Span:
    """From values to places between two ends of the picture."""

    def __init__(self, axis: Axis, values: Iterable[float], begin: float, end: float) -> None:
        self.log = axis.scale is Scale.LOG
        found = [self._put(value) for value in values if math.isfinite(value)]
        found += [self._put(value) for value in (axis.low, axis.high) if value is not None]
        low, high = (min(found), max(found)) if found else (0.0, 1.0)
        if low == high:
            low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
        room = 0.04 * (high - low)
        self.low = low if low == axis.low else low - room
        self.high = high if high == axis.high else high + room
        self.begin, self.end = begin, end

    def __call__(self, value: float) -> float:
        return self.begin + (self._put(value) - self.low) / (self.high - self.low) * (self.end - self.begin)

    def _put(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self) -> list[float]:
        """Round values between the ends, about `_TICKS` of them."""
        if self.log:
            powers = range(math.floor(self.low), math.ceil(self.high) + 1)
            values = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
            return [value for value in values if self.low <= math.log10(value) <= self.high]
        rough = (self.high - self.low) / _TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
        first = math.ceil(self.low / step)
        ticks = []
        while first * step <= self.high + step * 1e-9:
            ticks.append(first * step)
            first += 1
        return ticks


def _dots(chart: DotChart, colours: Mapping[str, int]) -> ET.Element:
    alone = len(chart.series) == 1
    step = 0.0 if alone else _SERIES_STEP
    row_height = max(_ROW, 12.0 + step * len(chart.series))
    left = _left([row.name for row in chart.rows])
    rules = _RULE_LINE * len({rule.label for rule in chart.rules})
    top = _TOP + rules
    bottom = top + row_height * max(len(chart.rows), 1)
    values = [v for row in chart.rows for dot in row.dots for v in (dot.value, dot.low, dot.high) if v is not None]
    across = _Span(chart.x, [*values, *(rule.value for rule in chart.rules)], left, WIDTH - _RIGHT)
    svg = _svg(chart, bottom + _BELOW)
    _across(svg, chart.x, across, top, bottom)
    _rules(svg, chart.rules, chart.x, across, _TOP, bottom)
    for number, row in enumerate(chart.rows):
        middle = top + row_height * (number + 0.5)
        _name(svg, row.name, left - 8, middle)
        for index, dot in enumerate(row.dots):
            y = middle + step * (index - (len(row.dots) - 1) / 2)
            name = row.name if alone else chart.series[index]
            colour = _colour(name, number if alone else index, colours)
            group = _add(svg, "g", {"class": f"c{colour}"})
            if dot.value is None:
                _absent(group, dot, across, y, "" if alone else name)
            else:
                _dot(group, dot, dot.value, chart.x, across, y, name)
    return svg


def _absent(group: ET.Element, dot: Dot, across: _Span, y: float, name: str) -> None:
    """Why there is no figure: in words where the row is the dot's own, else by a cross that tells it if pointed at."""
    place = {"x": _n(across.begin + 6), "y": _n(y + 4), "class": "cross" if name else "absent"}
    words = _add(group, "text", place)
    if name:
        _add(words, "title", {}).text = printable(f"{name}: {dot.note}")
    words.text = "×" if name else printable(dot.note)[:60]


def _dot(group: ET.Element, dot: Dot, value: float, axis: Axis, across: _Span, y: float, name: str) -> None:
    told = f"{name}: {shown(value, axis)}"
    if dot.low is not None and dot.high is not None:
        told += f" [{shown(dot.low, axis)}, {shown(dot.high, axis)}]"
        _add(
            group,
            "line",
            {"x1": _n(across(dot.low)), "x2": _n(across(dot.high)), "y1": _n(y), "y2": _n(y), "class": "bar"},
        )
    if not dot.valid:
        told += f", {dot.note}"
    _point(group, across(value), y, filled=dot.valid, told=told)


def _bars(chart: BarChart, colours: Mapping[str, int]) -> ET.Element:
    left = _left([row.name for row in chart.rows])
    bottom = _TOP + _ROW * max(len(chart.rows), 1)
    across = _Span(chart.x, (sum(row.values) for row in chart.rows), left, WIDTH - _RIGHT)
    svg = _svg(chart, bottom + _BELOW)
    _across(svg, chart.x, across, _TOP, bottom)
    for number, row in enumerate(chart.rows):
        y = _TOP + _ROW * number
        _name(svg, row.name, left - 8, y + _ROW / 2)
        begin = 0.0
        for index, value in enumerate(row.values):
            if not value:
                continue
            part = chart.parts[index]
            alone = len(chart.parts) == 1
            kind = f"c{_colour(row.name, number, colours)}" if alone else f"p{index % COLOURS}"
            x, width = across(begin), across(begin + value) - across(begin)
            bar = _add(
                svg,
                "rect",
                {"x": _n(x), "y": _n(y + 3), "width": _n(width), "height": _n(_ROW - 6), "class": f"{kind} block"},
            )
            _add(bar, "title", {}).text = printable(f"{row.name}, {part}: {shown(value, chart.x)}")
            label = f"{value:,g}" if value.is_integer() and chart.x.scale is Scale.LINEAR else shown(value, chart.x)
            if width > _CHARACTER * len(label) + 4:
                words = _add(svg, "text", {"x": _n(x + 5), "y": _n(y + _ROW / 2 + 4), "class": "on"})
                words.text = label
            begin += value
    return svg


def _plane(chart: PlaneChart, colours: Mapping[str, int]) -> ET.Element:
    left, top = 64.0, _TOP + _RULE_LINE * len({rule.label for rule in chart.rules})
    bottom = top + _PLANE_HEIGHT
    places = [place for line in chart.lines for place in line.places]
    xs = [v for p in places for v in (p.x, p.x_low, p.x_high) if v is not None] + [rule.value for rule in chart.rules]
    ys = [v for p in places for v in (p.y, p.y_low, p.y_high) if v is not None]
    across = _Span(chart.x, xs, left, WIDTH - _RIGHT)
    up = _Span(chart.y, ys, bottom, top)
    svg = _svg(chart, bottom + _BELOW)
    _across(svg, chart.x, across, top, bottom)
    for tick in up.ticks():
        y = up(tick)
        _add(svg, "line", {"x1": _n(left), "x2": _n(across.end), "y1": _n(y), "y2": _n(y), "class": "grid"})
        words = _add(svg, "text", {"x": _n(left - 6), "y": _n(y + 4), "class": "tick end"})
        words.text = _tick(tick, chart.y)
    words = _add(svg, "text", {"transform": f"translate(13 {_n((top + bottom) / 2)}) rotate(-90)", "class": "axis"})
    words.text = axis_title(chart.y)
    _rules(svg, chart.rules, chart.x, across, _TOP, bottom)
    for number, line in enumerate(chart.lines):
        _line(svg, line, chart, across, up, _colour(line.name, number, colours))
    return svg


def _line(svg: ET.Element, line: Line, chart: PlaneChart, across: _Span, up: _Span, colour: int) -> None:
    group = _add(svg, "g", {"class": f"c{colour}"})
    points = [(across(place.x), up(place.y)) for place in line.places]
    if line.join is not Join.NONE and points:
        path = f"M{_n(points[0][0])} {_n(up(0.0) if line.join is Join.STEPS else points[0][1])}"
        if line.join is Join.STEPS:
            path += "".join(f"H{_n(x)}V{_n(y)}" for x, y in points)
        else:
            path += "".join(f"L{_n(x)} {_n(y)}" for x, y in points[1:])
        _add(_add(group, "path", {"d": path, "class": "curve"}), "title", {}).text = printable(line.name)
    if not line.marked:
        return
    for place, (x, y) in zip(line.places, points, strict=True):
        if place.x_low is not None and place.x_high is not None:
            ends = {"x1": _n(across(place.x_low)), "x2": _n(across(place.x_high)), "y1": _n(y), "y2": _n(y)}
            _add(group, "line", {**ends, "class": "bar thin"})
        if place.y_low is not None and place.y_high is not None:
            ends = {"x1": _n(x), "x2": _n(x), "y1": _n(up(place.y_low)), "y2": _n(up(place.y_high))}
            _add(group, "line", {**ends, "class": "bar thin"})
        told = f"{line.name} {place.label}: {shown(place.x, chart.x)}, {shown(place.y, chart.y)}"
        _point(group, x, y, filled=place.filled, told=told)
        if place.label:
            side = -1 if x > (across.begin + across.end) / 2 else 1
            kind = "label end" if side < 0 else "label"
            words = _add(svg, "text", {"x": _n(x + 7 * side), "y": _n(y - 6), "class": kind})
            words.text = _cut(place.label)


def _across(svg: ET.Element, axis: Axis, across: _Span, top: float, bottom: float) -> None:
    ticks = across.ticks()
    if axis.scale is Scale.TIME:
        ticks = [across.low + (across.high - across.low) * part for part in (0.15, 0.5, 0.85)]
    for tick in ticks:
        x = across(tick)
        _add(svg, "line", {"x1": _n(x), "x2": _n(x), "y1": _n(top), "y2": _n(bottom), "class": "grid"})
        words = _add(svg, "text", {"x": _n(x), "y": _n(bottom + 15), "class": "tick"})
        words.text = _tick(tick, axis)
    ends = {"x1": _n(across.begin), "x2": _n(across.end), "y1": _n(bottom), "y2": _n(bottom)}
    _add(svg, "line", {**ends, "class": "frame"})
    title = axis_title(axis)
    # As far right as the name is long, so that it stays within the frame.
    middle = max((across.begin + across.end) / 2, 0.0)
    half = _CHARACTER * len(title) / 2
    middle = min(max(middle, half), WIDTH - half) if 2 * half < WIDTH else WIDTH / 2
    words = _add(svg, "text", {"x": _n(middle), "y": _n(bottom + 35), "class": "axis"})
    words.text = printable(title)


def _rules(svg: ET.Element, rules: Sequence[Rule], axis: Axis, across: _Span, top: float, bottom: float) -> None:
    levels: dict[str, int] = {}
    for rule in rules:
        x, level = across(rule.value), levels.setdefault(rule.label, len(levels))
        y = top + _RULE_LINE * level
        line = _add(
            svg,
            "line",
            {
                "x1": _n(x),
                "x2": _n(x),
                "y1": _n(y),
                "y2": _n(bottom),
                "class": "rule gate" if rule.gate else "rule",
            },
        )
        told = printable(f"{rule.label}: {shown(rule.value, axis)}")
        _add(line, "title", {}).text = told
        label = _cut(rule.label, 44)
        left = x + _CHARACTER * len(label) > WIDTH
        words = _add(
            svg,
            "text",
            {"x": _n(x - 4 if left else x + 4), "y": _n(y + 9), "class": "label end" if left else "label"},
        )
        words.text = label


def _point(group: ET.Element, x: float, y: float, *, filled: bool, told: str) -> None:
    kind = "dot" if filled else "dot hollow"
    point = _add(group, "circle", {"cx": _n(x), "cy": _n(y), "r": _n(_RADIUS), "class": kind})
    _add(point, "title", {}).text = printable(told)


def _name(svg: ET.Element, name: str, x: float, middle: float) -> None:
    words = _add(svg, "text", {"x": _n(x), "y": _n(middle + 4), "class": "name end"})
    _add(words, "title", {}).text = printable(name)
    cut = _cut(name)
    words.text = cut


def _left(names: Sequence[str]) -> float:
    longest = max((len(_cut(name)) for name in names), default=0)
    return min(16 + _CHARACTER * 1.05 * longest, 0.45 * WIDTH)


def _cut(name: str, length: int = _NAME_LENGTH) -> str:
    plain = printable(name)
    return plain if len(plain) <= length else f"{plain[: length - 1]}…"


def _colour(name: str, number: int, colours: Mapping[str, int]) -> int:
    return colours.get(name, number) % COLOURS


def _tick(value: float, axis: Axis) -> str:
    if axis.scale is Scale.TIME:
        return shown(value, axis)
    return f"{100 * value:g} %" if axis.scale is Scale.PERCENT else f"{round(value, 12):,g}"


def _svg(chart: Chart, height: float) -> ET.Element:
    svg = ET.Element(
        "svg", {"viewBox": f"0 0 {WIDTH} {_n(height)}", "role": "img", "width": str(WIDTH), "height": _n(height)}
    )
    _add(svg, "title", {}).text = printable(chart.title)
    return svg


def _add(parent: ET.Element, tag: str, attributes: dict[str, str]) -> ET.Element:
    return ET.SubElement(parent, tag, attributes)


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _text(svg: ET.Element) -> str:
    # HTML knows no self-closing elements of its own, but those of SVG.
    return ET.tostring(svg, encoding="unicode")


def data_rows(chart: Chart) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The chart's data as a table: its header and its rows."""
    rows: list[tuple[str, ...]]
    if isinstance(chart, DotChart):
        rows = [
            (row.name, series, _raw(dot.value), _raw(dot.low), _raw(dot.high), dot.note)
            for row in chart.rows
            for series, dot in zip(chart.series, row.dots, strict=True)
        ]
        rows += [(rule.label, "line", _raw(rule.value), "", "", "") for rule in chart.rules]
        return ("name", "series", axis_title(chart.x), "low", "high", "note"), rows
    if isinstance(chart, BarChart):
        return ("name", *chart.parts), [(row.name, *map(_raw, row.values)) for row in chart.rows]
    rows = [
        (
            line.name,
            place.label,
            shown(place.x, chart.x) if chart.x.scale is Scale.TIME else _raw(place.x),
            _raw(place.y),
            _raw_span(place.x_low, place.x_high),
            _raw_span(place.y_low, place.y_high),
        )
        for line in chart.lines
        for place in line.places
    ]
    rows += [(rule.label, "line", shown(rule.value, chart.x), "", "", "") for rule in chart.rules]
    return ("name", "at", axis_title(chart.x), axis_title(chart.y), "interval across", "interval up"), rows


def _raw_span(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.6g}–{high:.6g}"


def _raw(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
