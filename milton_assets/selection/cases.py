"""The same cases, candidate by candidate: what paired comparisons and resampling start from.

What belongs here: lining samples up. What does not: which column a metric is the mean of, which its tier's spec says,
tests and resampling.

A metric can be paired when its tier keeps a row per case, when the metric is the mean of a column of those rows, and
when the candidates were asked the same cases in the same way (goldens, plan, prompts, code, pools). Whatever hinders
that is said, never passed over.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

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

_FLOATS_AT_ONCE = 1 << 20


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
    rows = reader.read([candidate.tiers[reference.tier] for candidate in candidates])
    keys = Counter(row.key for row in rows if not isinstance(row, str))
    chosen = keys.most_common(1)[0][0] if keys else -1
    known = list(reader.keys)
    ids, made = known[chosen] if keys else ((), -1)
    values = np.zeros((len(rows), len(ids)))
    paired = np.zeros(len(rows), dtype=bool)
    why = []
    for index, row in enumerate(rows):
        if isinstance(row, str):
            why.append(row)
        elif row.key == chosen:
            values[index], paired[index] = row.values, True
            why.append("")
        elif (mine := known[row.key][1]) != made:
            how = differences(reader.procedures[mine], reader.procedures[made])
            why.append(f"{reference.tier} was measured in another way than most candidates': {how}")
        else:
            why.append(f"{reference.tier} was measured on other cases than most candidates'")
    return Cases(values, paired, tuple(why))


class _Row(NamedTuple):
    """The values of one table's cases, sorted by id. `key` is the number of who was asked what, and how."""

    key: int
    values: Array


@dataclass(frozen=True, eq=False)
class _Asked:
    """The cases of tables that hold the same: the columns that name them, the rows that count, sorted by id, and their
    ids. `kind` is the type of the column that is read."""

    labels: _Arrow
    parts: _Arrow | None
    kind: pa.DataType
    rows: npt.NDArray[np.intp]
    ids: tuple[str, ...]

    def are(self, labels: _Arrow, parts: _Arrow | None, kind: pa.DataType) -> bool:
        """Whether a table with those columns holds the same cases in the same order."""
        return _same(labels, self.labels) and _same(parts, self.parts) and bool(kind == self.kind)


class _Reader:
    """Reads one column of many results: at once of those that hold the same cases, which nearly all do.

    `keys` number who was asked what and how: the ids of the cases, and the number of the procedure.
    """

    def __init__(self, columns: CaseColumns, metric: str) -> None:
        self.columns = columns
        self.metric = metric
        self.keys: dict[tuple[tuple[str, ...], int], int] = {}
        self.procedures: list[Procedure] = []

    def read(self, results: Sequence[TierResult]) -> list[_Row | str]:
        """For each result the values of its cases; or why there are none."""
        found: list[_Row | str] = [""] * len(results)
        alike: dict[_Asked, list[tuple[int, _Arrow]]] = {}
        asked: _Asked | None = None
        for place, result in enumerate(results):
            labels, figures = result.column(self.columns.case), result.column(self.columns.value)
            if labels is None or figures is None:
                named = {self.columns.case: labels, self.columns.value: figures}
                missing = [name for name, column in named.items() if column is None]
                found[place] = f"the {result.tier} samples hold no {' and no '.join(missing)}"
                continue
            parts = None if self.columns.part is None else result.column("part")
            if asked is None or not asked.are(labels, parts, figures.type):
                new = self._asked(labels, parts, figures.type)
                if isinstance(new, str):
                    found[place] = f"the {result.tier} samples hold {new}"
                    continue
                asked = new
            alike.setdefault(asked, []).append((place, figures))
        for asked, some in alike.items():
            step = max(1, _FLOATS_AT_ONCE // len(asked.labels))
            for start in range(0, len(some), step):
                places, columns = zip(*some[start : start + step], strict=True)
                values = _floats(columns).reshape(len(columns), -1).take(asked.rows, axis=1)
                for place, row in zip(places, self._rows(asked, [results[at] for at in places], values), strict=True):
                    found[place] = row
        return found

    def _asked(self, labels: _Arrow, parts: _Arrow | None, kind: pa.DataType) -> _Asked | str:
        """The cases that such columns name; or what is wrong with them."""
        ids = labels.to_pandas().to_numpy(dtype=object).astype(str)
        chosen = np.arange(len(ids))
        if parts is not None:
            chosen = np.flatnonzero(parts.to_pandas().to_numpy(dtype=object) == self.columns.part)
        if not chosen.size:
            return "no rows"
        rows = chosen[np.argsort(ids[chosen], kind="stable")]
        if len(np.unique(ids[rows])) != len(rows):
            return f"a {self.columns.case} twice"
        return _Asked(labels, parts, kind, rows, tuple(ids[rows].tolist()))

    def _rows(self, asked: _Asked, results: Sequence[TierResult], values: Array) -> Iterator[_Row | str]:
        """The rows of `values` (results, cases), NaN where there is nothing, each as its result states it."""
        # Nearly always every case has a value: their sum says so.
        for result, row, total in zip(results, values, values.sum(axis=1).tolist(), strict=True):
            ids, counted = asked.ids, row
            if math.isnan(total):
                counted = np.where(np.isnan(row), self.columns.missing, row)
                there = ~np.isnan(counted)
                ids, counted = tuple(itertools.compress(ids, there.tolist())), counted[there]
                total = float(counted.sum())
            stated = next((m.value for m in result.metrics if m.name == self.metric), None)
            mean = total / counted.size if counted.size else math.nan
            if stated is None or not abs(mean - stated) <= _MEAN_TOLERANCE:
                yield f"{self.metric} is {stated}, but the mean over its {result.tier} samples is {mean:.6g}"
            else:
                key = (ids, self._number(procedure(result)))
                yield _Row(self.keys.setdefault(key, len(self.keys)), counted)

    def _number(self, made: Procedure) -> int:
        for number, known in enumerate(self.procedures):
            if known == made:
                return number
        self.procedures.append(made)
        return len(self.procedures) - 1


def _same(one: _Arrow | None, other: _Arrow | None) -> bool:
    """Whether two columns are equal, and kept alike: one that is not is read anew, which costs time and no more."""
    if one is None or other is None:
        return one is other
    return isinstance(one, pa.ChunkedArray) is isinstance(other, pa.ChunkedArray) and bool(one.equals(other))


def _floats(columns: Sequence[_Arrow]) -> Array:
    """Columns of one type, one after the other, as floats, NaN where there is nothing."""
    whole = pa.chunked_array([chunk for column in columns for chunk in _chunks(column)], columns[0].type)
    if whole.type != _FLOAT64 and whole.null_count:
        whole = whole.cast(_FLOAT64, safe=False)
    floats: Array = whole.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    return floats


def _chunks(column: _Arrow) -> list[pa.Array]:
    return list(column.chunks) if isinstance(column, pa.ChunkedArray) else [column]
