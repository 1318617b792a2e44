"""Durations without end in constant memory.

What belongs here: a histogram with logarithmic bins (after Gil Tene's HdrHistogram), its quantiles, and groups of
them for resampling. What does not: figures of which there is one a request; those are kept exactly.
"""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray

_FLOOR_NS = 1_000
_MAX_RECENT = 4096
_CEILING_NS = 3_600_000_000_000
_LOG_WIDTH = float(np.log(1.002))
BINS = int(np.ceil(np.log(_CEILING_NS / _FLOOR_NS) / _LOG_WIDTH)) + 2

Counts = NDArray[np.int64]


class LogHistogram:
    """Counts of durations. Quantiles are within 0.1 % (below 1 µs they read 0); mean and deviation are exact."""

    def __init__(self) -> None:
        self.counts: Counts = np.zeros(BINS, dtype=np.int64)
        self.n = 0
        self._mean_ns = 0.0
        self._squares = 0.0

    def add(self, durations_ns: array[int] | Counts) -> None:
        """Count durations (ns, at least 0)."""
        values = np.asarray(durations_ns, dtype=np.float64)
        if not values.size:
            return
        self.counts += np.bincount(_bins(values), minlength=BINS)
        self._merge_moments(values.size, float(values.mean()), float(((values - values.mean()) ** 2).sum()))

    def merge(self, other: LogHistogram) -> None:
        """Count everything that `other` counted."""
        if other.n:
            self.counts += other.counts
            self._merge_moments(other.n, other._mean_ns, other._squares)

    def _merge_moments(self, n: int, mean: float, squares: float) -> None:
        total = self.n + n
        delta = mean - self._mean_ns
        self._squares += squares + delta * delta * self.n * n / total
        self._mean_ns += delta * n / total
        self.n = total

    @property
    def mean_ns(self) -> float:
        """Arithmetic mean; NaN of nothing."""
        return self._mean_ns if self.n else float("nan")

    @property
    def std_ns(self) -> float:
        """Sample standard deviation; NaN of fewer than two."""
        return float(np.sqrt(self._squares / (self.n - 1))) if self.n > 1 else float("nan")

    def quantile_ns(self, q: float) -> float:
        """The smallest duration that at least a share `q` of the durations does not exceed; NaN of nothing."""
        return float(quantiles_ns(self.counts[np.newaxis, :], q)[0])


def quantiles_ns(counts: Counts | NDArray[np.float64], q: float, bins: Counts | None = None) -> NDArray[np.float64]:
    """The `q` quantile of each row of counts, shape (rows, bins) to (rows,), in ns; NaN where a row is empty.

    `bins` says which bin each column counts, ascending; None, that there is a column for every bin.
    """
    centres = _CENTRES if bins is None else _CENTRES[bins]
    cumulated = counts.cumsum(axis=1)
    totals = cumulated[:, -1]
    wanted = np.maximum(np.ceil(q * totals), 1)
    index = (cumulated >= wanted[:, np.newaxis]).argmax(axis=1)
    return np.where(totals > 0, centres[index], np.nan)


def _bins(values: NDArray[np.float64]) -> Counts:
    clipped = np.clip(values, _FLOOR_NS, _CEILING_NS)
    index = (np.log(clipped / _FLOOR_NS) / _LOG_WIDTH).astype(np.int64) + 1
    return np.where(values < _FLOOR_NS, 0, index)


_CENTRES: NDArray[np.float64] = np.concatenate([[0.0], _FLOOR_NS * np.exp((np.arange(BINS - 1) + 0.5) * _LOG_WIDTH)])


class Collector:
    """Collects single durations cheaply, in constant memory."""

    def __init__(self) -> None:
        self._recent: array[int] = array("q")
        self._histogram = LogHistogram()

    def add(self, duration_ns: int) -> None:
        """Count one duration."""
        self._recent.append(duration_ns)
        if len(self._recent) >= _MAX_RECENT:
            self._flush()

    def histogram(self) -> LogHistogram:
        """Everything counted so far."""
        self._flush()
        return self._histogram

    def _flush(self) -> None:
        self._histogram.add(self._recent)
        self._recent = array("q")


class GroupedHistogram:
    """The gaps of many requests: all of them together, and in at most `GROUPS` random groups of whole requests.

    Gaps within one request are alike, so an interval must resample requests, not gaps. Keeping every request's gaps
    would grow without end; groups of requests stand for them (the method of random groups).
    """

    GROUPS = 64

    def __init__(self) -> None:
        self.total = LogHistogram()
        self.groups: list[LogHistogram] = []
        self._requests = 0

    def add_request(self, gaps: LogHistogram) -> None:
        """Count one request's gaps."""
        self.total.merge(gaps)
        if len(self.groups) < self.GROUPS:
            self.groups.append(LogHistogram())
        self.groups[self._requests % self.GROUPS].merge(gaps)
        self._requests += 1
