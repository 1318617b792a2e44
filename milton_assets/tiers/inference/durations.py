"""Durations without end in constant memory, counted as they come, without any library.

What belongs here: the logarithmic bins (after Gil Tene's HdrHistogram) and counting one duration. What does not:
joining many such counts and resampling them (`histogram`), which a device that measures leaves to whoever asked it to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

FLOOR_NS = 1_000
CEILING_NS = 3_600_000_000_000
LOG_WIDTH = math.log(1.002)
BINS = math.ceil(math.log(CEILING_NS / FLOOR_NS) / LOG_WIDTH) + 2


def bin_of(duration_ns: int) -> int:
    """The bin, 0 to `BINS` - 1, that counts durations of so many ns; bin 0 counts those below 1 µs."""
    if duration_ns < FLOOR_NS:
        return 0
    return int(math.log(min(duration_ns, CEILING_NS) / FLOOR_NS) / LOG_WIDTH) + 1


def centre_ns(index: int) -> float:
    """The duration that stands for a bin."""
    return FLOOR_NS * math.exp((index - 0.5) * LOG_WIDTH) if index else 0.0


@dataclass
class Durations:
    """Counts of durations by bin. Quantiles are within 0.1 % (below 1 µs they read 0); mean and deviation are exact.

    `squares` is the sum of squared deviations from the mean (Welford).
    """

    counts: dict[int, int] = field(default_factory=dict)
    n: int = 0
    mean_ns: float = 0.0
    squares: float = 0.0

    def add(self, duration_ns: int) -> None:
        """Count one duration (ns, at least 0)."""
        index = bin_of(duration_ns)
        self.counts[index] = self.counts.get(index, 0) + 1
        self.n += 1
        delta = duration_ns - self.mean_ns
        self.mean_ns += delta / self.n
        self.squares += delta * (duration_ns - self.mean_ns)

    def quantile_ns(self, q: float) -> float:
        """The smallest duration that at least a share `q` of the durations does not exceed; NaN of nothing."""
        wanted, cumulated = max(math.ceil(q * self.n), 1), 0
        for index in sorted(self.counts):
            cumulated += self.counts[index]
            if cumulated >= wanted:
                return centre_ns(index)
        return math.nan
