"""Pictures of a measurement, as PNG or SVG bytes.

    png = latency_distribution({"v1": result.samples, "v2": other.samples})

What belongs here: drawing. What does not: measuring, and where pictures are kept or shown.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from milton_assets.tiers.inference.load_curve import sweep_of
from milton_assets.tiers.inference.sweep import LoadPoint
from milton_assets.vocabulary.errors import BadInput
from milton_assets.vocabulary.tier import TierResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 1000
"""Pixels across every picture: what the web UI's dialogue shows without scrolling."""

_DOTS_PER_INCH = 100
_NAMES_ABREAST = 2

Format = Literal["png", "svg"]
LATENCIES = {"ttft_ms": "time to first token, ms", "tpot_ms": "time per output token, ms", "e2e_ms": "end to end, ms"}


def pictures_of(results: Mapping[str, TierResult]) -> dict[str, bytes]:
    """What there is to draw of results of the inference tier by name, as PNG: `latency` and `throughput_latency`.

    A picture for which no result has a figure is left out.
    """
    answered = {name: result for name, result in results.items() if len(_successful(result.samples))}
    curves = {name: curve.points for name, result in answered.items() if (curve := sweep_of(result))}
    drawn = {}
    if answered:
        drawn["latency"] = latency_distribution({name: result.samples for name, result in answered.items()})
    if curves:
        drawn["throughput_latency"] = throughput_against_latency(curves)
    return drawn


def latency_distribution(samples: Mapping[str, pd.DataFrame], *, picture: Format = "png") -> bytes:
    """The share of requests at or below each latency, a panel per latency and a line per name.

    `samples` are tables of the inference tier by name (a model version, say); only measured, successful requests are
    drawn. A dotted line marks each median. Raises `BadInput` when no table has a successful request.
    """
    good = {name: _successful(table) for name, table in samples.items()}
    if not any(len(table) for table in good.values()):
        raise BadInput("there is no successful request to draw", expected="at least one")
    figure, axes = _figure(columns=len(LATENCIES))
    for axis, (column, label) in zip(axes, LATENCIES.items(), strict=True):
        for number, (name, table) in enumerate(good.items()):
            values = np.sort(table[column].dropna().to_numpy(dtype=float)) if len(table) else np.empty(0)
            if values.size:
                shares = np.arange(1, values.size + 1) / values.size
                axis.step(values, shares, where="post", label=f"{name} (n={values.size})", color=f"C{number}")
                axis.axvline(float(np.median(values)), color=f"C{number}", linestyle=":", linewidth=1)
        axis.set_xlabel(label)
        axis.set_ylim(0, 1.02)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share of requests")
    _legend(figure, axes[0])
    return _bytes(figure, picture)


def throughput_against_latency(sweeps: Mapping[str, Sequence[LoadPoint]], *, picture: Format = "png") -> bytes:
    """`load_figure` as a picture. Raises `BadInput` when no point has both figures."""
    return _bytes(load_figure(sweeps), picture)


def load_figure(sweeps: Mapping[str, Sequence[LoadPoint]]) -> Figure:
    """Output tokens a second against the median time to first token, a point per load.

    A line joins the loads of one name, never those of two. Bars are 95 % intervals; a hollow point was invalid. A
    load's label stands on the side of its point that has more room. Raises `BadInput` when no point has both figures.
    """
    figure, (axis,) = _figure(columns=1)
    labels: list[tuple[str, float, float]] = []
    for number, (name, points) in enumerate(sweeps.items()):
        whole = [point for point in points if point.throughput.value is not None and point.ttft.value is not None]
        x = [point.ttft.value or 0.0 for point in whole]
        y = [point.throughput.value or 0.0 for point in whole]
        axis.plot(x, y, color=f"C{number}", label=name, linewidth=1)
        for point, at_x, at_y in zip(whole, x, y, strict=True):
            valid = point.throughput.valid and point.ttft.valid
            axis.plot(at_x, at_y, marker="o", color=f"C{number}", fillstyle="full" if valid else "none")
            labels.append((point.label, at_x, at_y))
            if point.throughput.interval:
                axis.vlines(at_x, point.throughput.interval.low, point.throughput.interval.high, color=f"C{number}")
            if point.ttft.interval:
                axis.hlines(at_y, point.ttft.interval.low, point.ttft.interval.high, color=f"C{number}")
    if not labels:
        raise BadInput("there is no load with a throughput and a latency to draw", expected="at least one")
    axis.margins(x=0.08, y=0.1)
    middle = sum(axis.get_xlim()) / 2
    top = sum(axis.get_ylim()) / 2
    for label, at_x, at_y in labels:
        left, below = at_x > middle, at_y > top
        axis.annotate(
            label,
            (at_x, at_y),
            textcoords="offset points",
            xytext=(-5 if left else 5, -4 if below else 4),
            ha="right" if left else "left",
            va="top" if below else "bottom",
            fontsize="small",
        )
    axis.set_xlabel("time to first token, median, ms")
    axis.set_ylabel("output tokens/s")
    axis.grid(alpha=0.3)
    _legend(figure, axis)
    return figure


def _legend(figure: Figure, axis: Axes) -> None:
    """The names below the panels, where they cover no curve and long ones have room."""
    handles, names = axis.get_legend_handles_labels()
    shown = [name if len(name) <= 60 else f"{name[:59]}…" for name in names]
    figure.legend(handles, shown, loc="outside lower center", ncols=_NAMES_ABREAST, fontsize="small", frameon=False)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.22 * -(-len(names) // _NAMES_ABREAST))


def _successful(table: pd.DataFrame) -> pd.DataFrame:
    if not len(table):
        return table
    return table[(table["phase"] == "measured") & table["ok"].astype(bool)]


def _figure(*, columns: int) -> tuple[Figure, list[Axes]]:
    # Imported here because it costs half a second; `Figure` alone needs no display and no global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / _DOTS_PER_INCH, 3.6 if columns > 1 else 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, squeeze=False)
    return figure, list(axes[0])


def _bytes(figure: Figure, picture: Format) -> bytes:
    buffer = io.BytesIO()
    # Without a date, the same figures give the same bytes.
    figure.savefig(buffer, format=picture, dpi=_DOTS_PER_INCH, metadata={"Date": None} if picture == "svg" else None)
    return buffer.getvalue()
