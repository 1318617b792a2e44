"""The same cases, candidate by candidate: what paired comparisons and resampling start from.

What belongs here: lining samples up. What does not: which column a metric is the mean of, which its tier's spec says,
tests and resampling.

A metric can be paired when its tier keeps a row per case, when the metric is the mean of a column of those rows, and
when the candidates were asked the same cases in the same way (goldens, plan, prompts, code, pools). Whatever hinders
that is said, never passed over.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.comparability import Procedure, differences, procedure
from milton_assets.selection.policy import MetricRef
from milton_assets.selection.scoring import Array
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import CaseColumns, Tiers

_MEAN_TOLERANCE = 1e-6

_Key = tuple[tuple[str, ...], int]
"""The cases' ids, and the number of the procedure that asked them."""


@dataclass(frozen=True)
class Cases:
    """`values` (candidates, cases); `paired` (candidates,) says whose row holds, `why` (candidates,) why not.

    `by_case` is whether the metric is a mean over cases at all.
    """

    values: Array
    paired: npt.NDArray[np.bool_]
    why: tuple[str, ...]
    by_case: bool = True


def line_up(candidates: Sequence[Candidate], reference: MetricRef, tiers: Tiers) -> Cases:
    """Line up the samples behind one metric. Where candidates were asked different cases, the majority counts.

    Raises `NoSuchTier` for a tier that `tiers` lacks: how its cases are paired is then not known.
    """
    stated = tiers[reference.tier].find(reference.metric)
    columns = stated.cases if stated is not None else None
    if columns is None:
        reason = f"{reference.metric} is no mean over cases"
        nobody = np.zeros(len(candidates), dtype=bool)
        return Cases(np.empty((len(candidates), 0)), nobody, (reason,) * len(candidates), by_case=False)
    reader = _Reader(columns, reference.metric)
    rows = [reader.read(candidate.tiers[reference.tier]) for candidate in candidates]
    keys = Counter(row[0] for row in rows if not isinstance(row, str))
    chosen = keys.most_common(1)[0][0] if keys else ((), 0)
    values = np.zeros((len(rows), len(chosen[0])))
    paired = np.zeros(len(rows), dtype=bool)
    why = []
    for index, row in enumerate(rows):
        if isinstance(row, str):
            why.append(row)
        elif row[0][1] != chosen[1]:
            how = differences(reader.procedures[row[0][1]], reader.procedures[chosen[1]])
            why.append(f"{reference.tier} was measured in another way than most candidates': {how}")
        elif row[0] != chosen:
            why.append(f"{reference.tier} was measured on other cases than most candidates'")
        else:
            values[index], paired[index] = row[1], True
            why.append("")
    return Cases(values, paired, tuple(why))


class _Reader:
    """Reads one column of many results. Remembers the rows last chosen, as they are nearly always the same."""

    def __init__(self, columns: CaseColumns, metric: str) -> None:
        self.columns = columns
        self.metric = metric
        self.raw: list[pa.Array | None] = []
        self.rows: npt.NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self.ids: tuple[str, ...] = ()
        self.keys: dict[tuple[bytes, int], _Key] = {}
        self.procedures: list[Procedure] = []

    def read(self, result: TierResult) -> tuple[_Key, Array] | str:
        """The cases' key and their values, ordered by case id; or why there are none."""
        frame = result.samples
        try:
            labels, figures = frame[self.columns.case], frame[self.columns.value]
        except KeyError:
            missing = [name for name in (self.columns.case, self.columns.value) if name not in frame.columns]
            return f"the {result.tier} samples hold no {' and no '.join(missing)}"
        if (problem := self._choose_rows(labels, self._parts(frame))) is not None:
            return f"the {result.tier} samples hold {problem}"
        values = _floats(figures)[self.rows]
        absent = np.isnan(values)
        if absent.any():
            values[absent] = self.columns.missing
            absent = np.isnan(values)
        counted = values[~absent]
        stated = next((m.value for m in result.metrics if m.name == self.metric), None)
        mean = float(counted.mean()) if counted.size else math.nan
        if stated is None or not abs(mean - stated) <= _MEAN_TOLERANCE:
            return f"{self.metric} is {stated}, but the mean over its {result.tier} samples is {mean:.6g}"
        return self._key(absent, self._number(procedure(result))), counted

    def _parts(self, frame: pd.DataFrame) -> pd.Series | None:
        if self.columns.part is None:
            return None
        try:
            return frame["part"]
        except KeyError:
            return None

    def _choose_rows(self, labels: pd.Series, parts: pd.Series | None) -> str | None:
        """Set `rows`, sorted by case id; or say what is wrong with the ids."""
        raw = [_arrow(labels), None if parts is None else _arrow(parts)]
        if len(self.raw) == len(raw) and all(_same(one, other) for one, other in zip(raw, self.raw, strict=True)):
            return None
        ids = labels.to_numpy(dtype=object).astype(str)
        chosen = np.arange(len(ids))
        if parts is not None:
            chosen = np.flatnonzero(parts.to_numpy(dtype=object) == self.columns.part)
        if not chosen.size:
            return "no rows"
        rows = chosen[np.argsort(ids[chosen], kind="stable")]
        if len(np.unique(ids[rows])) != len(rows):
            return f"a {self.columns.case} twice"
        self.raw, self.rows, self.ids = raw, rows, tuple(ids[rows].tolist())
        self.keys.clear()
        return None

    def _number(self, made: Procedure) -> int:
        if made not in self.procedures:
            self.procedures.append(made)
        return self.procedures.index(made)

    def _key(self, absent: npt.NDArray[np.bool_], made: int) -> _Key:
        known = (absent.tobytes(), made)
        if known not in self.keys:
            self.keys[known] = (tuple(i for i, gone in zip(self.ids, absent, strict=True) if not gone), made)
        return self.keys[known]


def _arrow(series: pd.Series) -> pa.Array:
    """The column for a fast comparison: strings are kept in Arrow already."""
    array = pa.array(series.array)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _same(one: pa.Array | None, other: pa.Array | None) -> bool:
    return one is other if one is None or other is None else bool(one.equals(other))


def _floats(series: pd.Series) -> Array:
    """The column as floats, NaN where there is nothing. Columns that came through Parquet may hold objects."""
    if isinstance(series.dtype, np.dtype) and series.dtype.kind in "bif":
        plain: Array = series.to_numpy().astype(np.float64)
        return plain
    converted: Array = series.to_numpy(dtype=np.float64, na_value=np.nan)
    return converted
