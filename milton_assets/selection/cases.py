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
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.comparability import Procedure, differences, procedure
from milton_assets.selection.policy import MetricRef
from milton_assets.selection.scoring import Array
from milton_assets.vocabulary.tier import TierResult
from milton_assets.vocabulary.tier_spec import CaseColumns, Tiers

_MEAN_TOLERANCE = 1e-6

_FLOAT64 = pa.float64()
_Arrow: TypeAlias = pa.Array | pa.ChunkedArray

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
        self.raw: list[_Arrow | None] = []
        self.rows: npt.NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self.ids: tuple[str, ...] = ()
        self.none_absent: npt.NDArray[np.bool_] = np.empty(0, dtype=bool)
        self.keys: dict[tuple[bytes, int], _Key] = {}
        self.procedures: list[Procedure] = []

    def read(self, result: TierResult) -> tuple[_Key, Array] | str:
        """The cases' key and their values, ordered by case id; or why there are none."""
        labels, figures = result.column(self.columns.case), result.column(self.columns.value)
        if labels is None or figures is None:
            named = {self.columns.case: labels, self.columns.value: figures}
            missing = [name for name, column in named.items() if column is None]
            return f"the {result.tier} samples hold no {' and no '.join(missing)}"
        parts = None if self.columns.part is None else result.column("part")
        if (problem := self._choose_rows(labels, parts)) is not None:
            return f"the {result.tier} samples hold {problem}"
        counted = values = _floats(figures)[self.rows]
        total = float(values.sum())
        absent = self.none_absent
        # Nearly always every case has a value: their sum says so in one pass.
        if math.isnan(total):
            absent = np.isnan(values)
            values[absent] = self.columns.missing
            absent = np.isnan(values)
            counted = values[~absent]
            total = float(counted.sum())
        stated = next((m.value for m in result.metrics if m.name == self.metric), None)
        mean = total / counted.size if counted.size else math.nan
        if stated is None or not abs(mean - stated) <= _MEAN_TOLERANCE:
            return f"{self.metric} is {stated}, but the mean over its {result.tier} samples is {mean:.6g}"
        return self._key(absent, self._number(procedure(result))), counted

    def _choose_rows(self, labels: _Arrow, parts: _Arrow | None) -> str | None:
        """Set `rows`, sorted by case id; or say what is wrong with the ids."""
        raw = [labels, parts]
        if len(self.raw) == len(raw) and all(_same(one, other) for one, other in zip(raw, self.raw, strict=True)):
            return None
        ids = labels.to_pandas().to_numpy(dtype=object).astype(str)
        chosen = np.arange(len(ids))
        if parts is not None:
            chosen = np.flatnonzero(parts.to_pandas().to_numpy(dtype=object) == self.columns.part)
        if not chosen.size:
            return "no rows"
        rows = chosen[np.argsort(ids[chosen], kind="stable")]
        if len(np.unique(ids[rows])) != len(rows):
            return f"a {self.columns.case} twice"
        self.raw, self.rows, self.ids = raw, rows, tuple(ids[rows].tolist())
        self.none_absent = np.zeros(len(rows), dtype=bool)
        self.keys.clear()
        return None

    def _number(self, made: Procedure) -> int:
        for number, known in enumerate(self.procedures):
            if known == made:
                return number
        self.procedures.append(made)
        return len(self.procedures) - 1

    def _key(self, absent: npt.NDArray[np.bool_], made: int) -> _Key:
        known = (absent.tobytes(), made)
        if known not in self.keys:
            self.keys[known] = (tuple(i for i, gone in zip(self.ids, absent, strict=True) if not gone), made)
        return self.keys[known]


def _same(one: _Arrow | None, other: _Arrow | None) -> bool:
    """Whether two columns are equal, and kept alike: one that is not is read anew, which costs time and no more."""
    if one is None or other is None:
        return one is other
    return isinstance(one, pa.ChunkedArray) is isinstance(other, pa.ChunkedArray) and bool(one.equals(other))


def _floats(column: _Arrow) -> Array:
    """The column as floats, NaN where there is nothing."""
    if column.type != _FLOAT64 and column.null_count:
        column = column.cast(_FLOAT64, safe=False)
    floats: Array = column.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    return floats
