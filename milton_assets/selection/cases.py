"""The same cases, candidate by candidate: what paired comparisons and resampling start from.

What belongs here: which column of a tier's samples a metric is the mean of, and lining the samples up. What does
not: tests and resampling.

A metric can be paired when its tier keeps a row per case, when the metric is the mean of a column of those rows, and
when the candidates were asked the same cases of the same goldens. Whatever hinders that is said, never passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from milton_assets.selection.candidate import Candidate
from milton_assets.selection.policy import MetricRef
from milton_assets.selection.scoring import Array
from milton_assets.vocabulary.tier import Tier, TierResult

_MEAN_TOLERANCE = 1e-6

_Key = tuple[tuple[str, ...], str]


@dataclass(frozen=True)
class _Columns:
    """`part`: only rows of that part count, where the samples have parts. `missing`: what no value counts as."""

    case: str
    value: str
    missing: float
    part: str | None = None


def _columns_of(reference: MetricRef) -> _Columns | None:
    """The tiers' layouts: a reasoning case without an answer did not pass; a query without a value has no relevant
    document and is no case."""
    if reference.tier is Tier.RETRIEVAL:
        return _Columns("query_id", reference.metric, missing=np.nan)
    if reference.tier is Tier.REASONING and (column := _REASONING_COLUMN.get(reference.metric)):
        return _Columns("case_id", column, missing=0.0, part="cove")
    return None


_REASONING_COLUMN = {"cove_pass_rate": "final_right", "baseline_pass_rate": "baseline_right"}


@dataclass(frozen=True)
class Cases:
    """`values` (candidates, cases); `paired` (candidates,) says whose row holds, `why` (candidates,) why not."""

    values: Array
    paired: npt.NDArray[np.bool_]
    why: tuple[str, ...]


def line_up(candidates: Sequence[Candidate], reference: MetricRef) -> Cases:
    """Line up the samples behind one metric. Where candidates were asked different cases, the majority counts."""
    columns = _columns_of(reference)
    if columns is None:
        reason = f"{reference.metric} is no mean over cases"
        return Cases(np.empty((len(candidates), 0)), np.zeros(len(candidates), dtype=bool), (reason,) * len(candidates))
    reader = _Reader(columns, reference.metric)
    rows = [reader.read(candidate.tiers[reference.tier]) for candidate in candidates]
    keys = Counter(row[0] for row in rows if not isinstance(row, str))
    chosen = keys.most_common(1)[0][0] if keys else ((), "")
    values = np.zeros((len(rows), len(chosen[0])))
    paired = np.zeros(len(rows), dtype=bool)
    why = []
    for index, row in enumerate(rows):
        if isinstance(row, str):
            why.append(row)
        elif row[0] != chosen:
            why.append(f"{reference.tier} was measured on other cases than most candidates'")
        else:
            values[index], paired[index] = row[1], True
            why.append("")
    return Cases(values, paired, tuple(why))


class _Reader:
    """Reads one column of many results. Remembers the case ids last seen, as they are nearly always the same."""

    def __init__(self, columns: _Columns, metric: str) -> None:
        self.columns = columns
        self.metric = metric
        self.raw_ids: npt.NDArray[np.object_] = np.empty(0, dtype=object)
        self.order: npt.NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self.keys: dict[tuple[bytes, str], _Key] = {}

    def read(self, result: TierResult) -> tuple[_Key, Array] | str:
        """The cases' key and their values, ordered by case id; or why there are none."""
        frame, column = result.samples, self.columns.value
        missing = [name for name in (self.columns.case, column) if name not in frame.columns]
        if missing or not len(frame):
            return f"the {result.tier} samples hold no {' and no '.join(missing) or 'rows'}"
        if self.columns.part is not None and "part" in frame.columns:
            frame = frame[frame["part"].to_numpy(dtype=object) == self.columns.part]
        ids = frame[self.columns.case].to_numpy(dtype=object)
        if not np.array_equal(ids, self.raw_ids):
            if len(set(ids)) != len(ids):
                return f"the {result.tier} samples hold a {self.columns.case} twice"
            self.raw_ids, self.order = ids, np.argsort(ids.astype(str), kind="stable")
            self.keys.clear()
        values = frame[column].to_numpy(dtype=np.float64, na_value=np.nan)
        values = np.where(np.isnan(values), self.columns.missing, values)[self.order]
        counted = ~np.isnan(values)
        stated = next((m.value for m in result.metrics if m.name == self.metric), None)
        mean = float(values[counted].mean()) if counted.any() else np.nan
        if stated is None or not abs(mean - stated) <= _MEAN_TOLERANCE:
            return f"{self.metric} is {stated}, but the mean over its {result.tier} samples is {mean:.6g}"
        return self._key(counted, str(result.provenance.get("goldens", ""))), values[counted]

    def _key(self, counted: npt.NDArray[np.bool_], goldens: str) -> _Key:
        return self.keys.setdefault(
            (counted.tobytes(), goldens), (tuple(self.raw_ids[self.order][counted].astype(str)), goldens)
        )
