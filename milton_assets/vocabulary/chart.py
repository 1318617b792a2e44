"""Charts as data: what a picture shows, before anybody draws it.

    DotChart(key="pass_rate", title="Pass rate by kind", x=Axis(label="pass rate"), series=("a", "b"), rows=rows)

What belongs here: the three forms that the project's figures take, and what must hold of them. What does not: drawing
(`milton_assets.report.drawing`) and where figures come from (a tier's `charts`, `milton_assets.report.charts`).

Names of series and rows are shown as text, whoever wrote them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from milton_assets.vocabulary.keys import Slug
from milton_assets.vocabulary.metric import Direction, Metric


class _Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Scale(StrEnum):
    """How an axis's values read: figures, figures above 0 by their ratio, shares shown as percentages, or instants in
    seconds since 1970 (UTC)."""

    LINEAR = "linear"
    LOG = "log"
    PERCENT = "percent"
    TIME = "time"


class Axis(_Noun):
    """What an axis shows. `better` says which way is; `low` and `high` are ends that it must at least reach."""

    label: str
    unit: str = ""
    better: Direction | None = None
    scale: Scale = Scale.LINEAR
    low: float | None = None
    high: float | None = None


class Rule(_Noun):
    """A line across the chart that figures are read against: a gate, a baseline, an event."""

    value: float
    label: str
    gate: bool = False


class Dot(_Noun):
    """One figure with its interval. Without a value, `note` says why; a value that is not valid is drawn hollow."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    valid: bool = True
    note: str = ""

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.value is None and not self.note:
            raise ValueError("a dot without a value needs a note that says why")
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has two ends")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"an interval's low end {self.low} is above its high end {self.high}")
        return self

    @classmethod
    def of(cls, metric: Metric) -> Dot:
        """The metric as a dot."""
        interval = metric.interval
        return cls(
            value=metric.value,
            low=interval.low if interval else None,
            high=interval.high if interval else None,
            valid=metric.valid,
            note="" if metric.value is not None and metric.valid else f"{metric.status}: {metric.why}",
        )


class DotRow(_Noun):
    """A row's name, and a dot for each series."""

    name: str
    dots: tuple[Dot, ...]


class BarRow(_Noun):
    """A row's name, and the length of each part of its bar."""

    name: str
    values: tuple[Annotated[float, Field(ge=0)], ...]


class Join(StrEnum):
    """How the places of one line belong together: not at all, one after the other, or as steps."""

    NONE = "none"
    LINE = "line"
    STEPS = "steps"


class Place(_Noun):
    """A point on a plane, with the intervals of both coordinates; `filled` is False for what is not valid or leads to
    nothing."""

    x: float
    y: float
    x_low: float | None = None
    x_high: float | None = None
    y_low: float | None = None
    y_high: float | None = None
    label: str = ""
    filled: bool = True

    @classmethod
    def of(cls, x: Metric, y: Metric, *, label: str = "", filled: bool = True) -> Place | None:
        """Where two figures meet, with their intervals; None where one has no value."""
        if x.value is None or y.value is None:
            return None
        return cls(
            x=x.value,
            y=y.value,
            x_low=x.interval.low if x.interval else None,
            x_high=x.interval.high if x.interval else None,
            y_low=y.interval.low if y.interval else None,
            y_high=y.interval.high if y.interval else None,
            label=label,
            filled=filled,
        )


class Line(_Noun):
    """Places that belong to one name."""

    name: str
    places: tuple[Place, ...]
    join: Join = Join.NONE
    marked: bool = True


class _Chart(_Noun):
    """`key` names the chart in the page and in files; `about` is the sentence that tells how to read it."""

    key: Slug
    title: str = Field(min_length=1)
    about: str = ""


class DotChart(_Chart):
    """Figures with their intervals, a row a name, a colour a series."""

    kind: Literal["dots"] = "dots"
    x: Axis
    series: tuple[str, ...] = Field(min_length=1)
    rows: tuple[DotRow, ...]
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if any(len(row.dots) != len(self.series) for row in self.rows):
            raise ValueError(f"chart {self.key}: every row needs {len(self.series)} dots")
        return self


class BarChart(_Chart):
    """Parts of a whole, a bar a row."""

    kind: Literal["bars"] = "bars"
    x: Axis
    parts: tuple[str, ...] = Field(min_length=1)
    rows: tuple[BarRow, ...]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if any(len(row.values) != len(self.parts) for row in self.rows):
            raise ValueError(f"chart {self.key}: every row needs {len(self.parts)} values")
        return self


class PlaneChart(_Chart):
    """Points and lines over two axes; `rules` stand upright."""

    kind: Literal["plane"] = "plane"
    x: Axis
    y: Axis
    lines: tuple[Line, ...]
    rules: tuple[Rule, ...] = ()


Chart = Annotated[DotChart | BarChart | PlaneChart, Field(discriminator="kind")]
