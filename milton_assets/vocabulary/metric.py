"""A measured figure that cannot pretend: value, unit, status, sample size, errors and interval.

What belongs here: `Metric`, `Interval` and `Direction`. What does not: how a figure is computed.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Status(StrEnum):
    """Whether a metric has a value: `ok`; `skipped`, nobody tried; `error`, it was tried and failed."""

    OK = "ok"
    SKIPPED = "skipped"
    ERROR = "error"


class Direction(StrEnum):
    """Which way a metric is better."""

    LOWER = "lower"
    HIGHER = "higher"


class Interval(BaseModel):
    """A confidence interval and how it was made, e.g. `wilson`, `bootstrap`, `student_t`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    level: float = Field(default=0.95, gt=0, lt=1)
    method: str

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"an interval's low end {self.low} is above its high end {self.high}")
        return self


class Metric(BaseModel):
    """One figure about one model version.

    `n` counts what was attempted (requests, cases, queries), `errors` those of them that failed and are still
    in the denominator. `valid` is false when the figure exists but may not be relied on (the client was the
    bottleneck, say); a gate that needs it then answers no_verdict. `why` explains every status but `ok`, and
    every invalid figure.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    unit: str
    status: Status = Status.OK
    value: float | None = Field(default=None, allow_inf_nan=False)
    interval: Interval | None = None
    n: int = Field(default=0, ge=0)
    errors: int = Field(default=0, ge=0)
    valid: bool = True
    why: str | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.status is Status.OK and self.value is None:
            raise ValueError(f"metric {self.name}: status ok needs a value")
        if self.status is not Status.OK and self.value is not None:
            raise ValueError(f"metric {self.name}: status {self.status} must not carry a value")
        if (self.status is not Status.OK or not self.valid) and not self.why:
            raise ValueError(f"metric {self.name}: status {self.status} (valid={self.valid}) needs a reason")
        if self.errors > self.n:
            raise ValueError(f"metric {self.name}: {self.errors} errors in {self.n} attempts")
        return self

    @classmethod
    def measured(
        cls,
        name: str,
        unit: str,
        value: float,
        *,
        n: int,
        errors: int = 0,
        interval: Interval | None = None,
    ) -> Metric:
        """A figure that was measured. A value that is not finite becomes an error with that reason."""
        if not math.isfinite(value):
            return cls.failed(name, unit, f"the computed value is {value}", n=n, errors=errors)
        return cls(name=name, unit=unit, value=value, n=n, errors=errors, interval=interval)

    @classmethod
    def skipped(cls, name: str, unit: str, why: str) -> Metric:
        """A figure nobody tried to measure, and why."""
        return cls(name=name, unit=unit, status=Status.SKIPPED, why=why)

    @classmethod
    def failed(cls, name: str, unit: str, why: str, *, n: int = 0, errors: int = 0) -> Metric:
        """A figure that was tried and could not be had, and what went wrong."""
        return cls(name=name, unit=unit, status=Status.ERROR, why=why, n=n, errors=errors)

    def invalidated(self, why: str) -> Metric:
        """The same figure, marked as not to be relied on."""
        return self.model_copy(update={"valid": False, "why": why})
